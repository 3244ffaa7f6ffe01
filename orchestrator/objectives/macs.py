"""Multiply-accumulate operations of the standalone network."""

from __future__ import annotations

from orchestrator.objectives.base import Metrics, Objective
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture


class Macs(Objective):
    """Count for one image, of convolutions and classifier; half of what torch's FlopCounterMode counts for them."""

    column = "macs"

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.title = "MACs (count, one image)"

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return float(self.space.macs(architecture))

    def additive(self) -> tuple[float, list[list[float]]] | None:
        return self.space.additive("macs")
