"""Weights of the standalone network."""

from __future__ import annotations

from orchestrator.objectives.base import Metrics, Objective
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture


class Parameters(Objective):
    """Count of all parameters: convolutions, normalisation and classifier with its bias."""

    column = "parameters"

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.title = "parameters (count)"

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return float(self.space.parameters(architecture))

    def additive(self) -> tuple[float, list[list[float]]] | None:
        return self.space.additive("parameters")
