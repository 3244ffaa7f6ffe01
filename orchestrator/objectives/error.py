"""Share of images classified wrongly."""

from __future__ import annotations

from orchestrator.objectives.base import Metrics, Objective
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture


class Error(Objective):
    """Percentage of images classified wrongly by the evaluator. Hypervolume counts from the error of guessing."""

    column = "error_percent"

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.title = "error (%, validation set)"

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return 100.0 - metrics["accuracy"]

    def reference(self, metrics: Metrics) -> float:
        return 100.0 * (1 - 1 / self.space.classes)
