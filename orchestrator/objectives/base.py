"""An objective settles its sign and its unit; everywhere else a cost is a number, and lower is better."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture

Metrics = dict[str, float]
"""What an evaluator found out about an architecture, by name."""


class Objective(ABC):
    """A cost of an architecture. Built from the space and its own keywords.

    column: the name of its column, with the unit. title: the name for people, with unit and protocol.
    spread: the metric that holds the interquartile range of what was timed, if anything was. warning: why its figures are not
    to be trusted blindly.
    """

    column: str
    title: str
    spread: str | None = None
    warning: str | None = None

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    @abstractmethod
    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        """Lower is better, in the unit of `column`."""

    def additive(self) -> tuple[float, list[list[float]]] | None:
        """For a cost that is a sum over the operations: what is fixed, and what each option of each choice adds."""
        return None

    def reference(self, metrics: Metrics) -> float:
        """The cost where hypervolume begins to count: 1.1 times that of the largest network, which has these metrics."""
        return 1.1 * max(self.cost(self.space.largest(), metrics), 1e-12)


class Probe(ABC):
    """An objective that must run the standalone network on the device where the search runs."""

    def check(self, device: str) -> None:  # noqa: B027, most can measure anywhere
        """Raises InputError where it cannot measure on this machine's `device`, "cpu" or "cuda"."""

    @abstractmethod
    def measure_on_device(self, network: nn.Module, image: Tensor) -> Metrics:
        """Measures `network`; `image` is one image (1, channels, height, width) on the device."""
