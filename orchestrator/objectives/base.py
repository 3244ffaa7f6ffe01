"""Interface of objectives, which settle sign and unit; everywhere else a cost is a number, and lower is better."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture

Metrics = dict[str, float]
"""Measurements of an architecture by an evaluator, by name."""


class Objective(ABC):
    """Base of objectives, each a cost of an architecture, built from the space and settings of its own.

    Args:
        space: Search space of the architectures.

    Attributes:
        column: Name of its column, with the unit.
        title: Name in reports, with unit and protocol.
        spread: Metric with the interquartile range of what was timed; None where nothing was.
        warning: Reason not to trust its figures blindly; None where there is none.
    """

    column: str
    title: str
    spread: str | None = None
    warning: str | None = None

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    @abstractmethod
    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        """Return the cost in the unit of `column`; lower is better."""

    def additive(self) -> tuple[float, list[list[float]]] | None:
        """Return the fixed part, and what each option of each choice adds; None for a cost that is no sum over the options."""
        return None

    def reference(self, metrics: Metrics) -> float:
        """Return the coordinate of the hypervolume's reference point: 1.1 times the cost of the largest network.

        Args:
            metrics: Metrics of that network.
        """
        return 1.1 * max(self.cost(self.space.largest(), metrics), 1e-12)


class Probe(ABC):
    """Base of objectives that must run the standalone network on the device where the search runs."""

    def check(self, device: str) -> None:  # noqa: B027, most can measure anywhere
        """Raise InputError where it cannot measure on this machine's `device`, "cpu" or "cuda"."""

    @abstractmethod
    def measure_on_device(self, network: nn.Module, image: Tensor) -> Metrics:
        """Measure `network`; `image` is one image, (1, channels, height, width), on the device."""
