"""The training-free score synflow as an objective."""

from __future__ import annotations

from orchestrator.objectives.base import TrainingFreeScore
from orchestrator.spaces.base import SearchSpace


class Synflow(TrainingFreeScore):
    """Log of the synaptic flow (Tanaka et al., arXiv 2006.05467), much of which is the network's size.

    Higher is better; the cost is `best` minus the score. `evaluators/training_free.py` has the definition.

    Args:
        space: Search space of the architectures.
        best: More than any network scores, which keeps costs positive.
        missing: Score of networks that have none; None to end the search with an error at the first of them.
    """

    score = "synflow"

    def __init__(self, space: SearchSpace, *, best: float = 1000.0, missing: float | None = None) -> None:
        super().__init__(space, best=best, missing=missing)
