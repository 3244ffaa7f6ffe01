"""Cost that a task minimises: the share of images classified wrongly, or what another metric or task has in its place."""

from __future__ import annotations

from orchestrator.objectives.base import Metrics, Objective
from orchestrator.spaces.base import SearchSpace
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification
from searchers.base import Architecture


class Error(Objective):
    """Percentage of images classified wrongly by the evaluator, or what another task or metric minimises (`task.metric`).

    Hypervolume counts from the error of guessing.

    Args:
        space: Search space of the architectures.
        task: What networks are trained for, fitted to the data; None for the classes of the space, by accuracy.
    """

    def __init__(self, space: SearchSpace, *, task: Task | None = None) -> None:
        super().__init__(space)
        self.task: Task = Classification().restored([str(c) for c in range(space.classes)], {}) if task is None else task
        self.column, self.title = self.task.metric.column, self.task.metric.title

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return self.task.metric.to_cost(metrics[self.task.metric.name])

    def reference(self, metrics: Metrics) -> float:
        return self.task.guessing
