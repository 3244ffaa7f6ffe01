"""Multi-objective neural architecture search on a Ray cluster: the whole trade-off in one search.

    import paretoray as pr

    problem = pr.Problem(space="digits-tiny", data="digits", objectives=["error", "parameters"])
    result = pr.search(problem, searcher="random-search", budget=pr.Budget(epochs=4), out="runs/tiny")
    result.front

What is heavy is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from paretoray._guard import check_packages

check_packages()

if TYPE_CHECKING:
    from orchestrator.api import tune as tune
    from orchestrator.api.bench import bench as bench
    from orchestrator.api.callbacks import Callback as Callback
    from orchestrator.api.callbacks import Measured as Measured
    from orchestrator.api.callbacks import StopSearch as StopSearch
    from orchestrator.api.components import data as data
    from orchestrator.api.components import evaluators as evaluators
    from orchestrator.api.components import objectives as objectives
    from orchestrator.api.components import searchers as searchers
    from orchestrator.api.components import spaces as spaces
    from orchestrator.api.components import tasks as tasks
    from orchestrator.api.loading import export as export
    from orchestrator.api.loading import load as load
    from orchestrator.api.result import Result as Result
    from orchestrator.api.search import resume as resume
    from orchestrator.api.search import search as search
    from orchestrator.config.problem import Problem as Problem
    from orchestrator.config.settings import Budget as Budget
    from orchestrator.config.settings import Front as Front
    from orchestrator.config.settings import Logging as Logging
    from orchestrator.config.settings import Proxy as Proxy
    from orchestrator.config.settings import Retraining as Retraining
    from orchestrator.config.settings import Workers as Workers
    from orchestrator.data.dataset import Dataset as Dataset
    from orchestrator.errors import InputError as InputError
    from orchestrator.errors import RunError as RunError
    from orchestrator.evaluators.base import Differentiable as Differentiable
    from orchestrator.evaluators.base import Evaluator as Evaluator
    from orchestrator.evaluators.base import Failure as Failure
    from orchestrator.objectives.base import Objective as Objective
    from orchestrator.objectives.base import Probe as Probe
    from orchestrator.search.progress import Progress as Progress
    from orchestrator.spaces import Choice as Choice
    from orchestrator.spaces.base import SearchSpace as SearchSpace
    from orchestrator.spaces.elastic.space import Elastic as Elastic
    from orchestrator.spaces.elastic.space import elastic as elastic
    from orchestrator.tasks import Metric as Metric
    from orchestrator.tasks import Task as Task
    from searchers import Architecture as Architecture
    from searchers import Evaluation as Evaluation
    from searchers import GradientSearcher as GradientSearcher
    from searchers import Mixture as Mixture
    from searchers import SearchContext as SearchContext
    from searchers import Searcher as Searcher
    from searchers import Stage as Stage

_WHERE = {
    "orchestrator.api.bench": ("bench",),
    "orchestrator.api.callbacks": ("Callback", "Measured", "StopSearch"),
    "orchestrator.api.components": ("data", "evaluators", "objectives", "searchers", "spaces", "tasks"),
    "orchestrator.api.loading": ("export", "load"),
    "orchestrator.api.result": ("Result",),
    "orchestrator.api.search": ("resume", "search"),
    "orchestrator.config.problem": ("Problem",),
    "orchestrator.config.settings": ("Budget", "Front", "Logging", "Proxy", "Retraining", "Workers"),
    "orchestrator.data.dataset": ("Dataset",),
    "orchestrator.errors": ("InputError", "RunError"),
    "orchestrator.evaluators.base": ("Differentiable", "Evaluator", "Failure"),
    "orchestrator.objectives.base": ("Objective", "Probe"),
    "orchestrator.search.progress": ("Progress",),
    "orchestrator.spaces": ("Choice",),
    "orchestrator.spaces.base": ("SearchSpace",),
    "orchestrator.spaces.elastic.space": ("Elastic", "elastic"),
    "orchestrator.tasks": ("Metric", "Task"),
    "searchers": ("Architecture", "Evaluation", "GradientSearcher", "Mixture", "SearchContext", "Searcher", "Stage"),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted([*_HOME, "tune"])

try:
    __version__ = version("paretoray")
except PackageNotFoundError:  # a clone that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "tune":
        return importlib.import_module("orchestrator.api.tune")
    if name not in _HOME:
        # By its name and the module, Python finds a similar one to suggest.
        raise AttributeError(f"module 'paretoray' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
