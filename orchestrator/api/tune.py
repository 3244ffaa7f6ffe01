"""Ray Tune, both ways round: our methods propose networks to a user's own Tuner, and a whole search is a trial of one."""

from orchestrator.api.pareto_search import ParetoSearch
from orchestrator.api.search_trial import trainable
from orchestrator.api.trial_config import architecture, network, param_space

__all__ = ["ParetoSearch", "architecture", "network", "param_space", "trainable"]
