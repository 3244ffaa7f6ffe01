"""Interface of objectives, which settle sign and unit; everywhere else a cost is a number, and lower is better."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from orchestrator.errors import RunError
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
        code: Function or class that may raise exceptions of its own, to which these are attributed.
        warning: Reason not to trust its figures blindly; None where there is none.
    """

    column: str
    title: str
    spread: str | None = None
    warning: str | None = None

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    @property
    def code(self) -> Callable[..., object]:
        return type(self)

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


class TrainingFreeScore(Objective):
    """Base of objectives that are a training-free score of the network at initialisation, of which higher is better.

    A cost is positive and lower is better, so it is `best` minus the score: the score's negative, and a constant that changes
    no order.

    Args:
        space: Search space of the architectures.
        best: More than any network scores.
        missing: Score of networks that have none; None to end the search with an error at the first of them.

    Attributes:
        score: Name of the score.
    """

    score: str

    def __init__(self, space: SearchSpace, *, best: float, missing: float | None = None) -> None:
        super().__init__(space)
        self.best, self.missing = best, missing
        shown = f"{best:g} minus {self.score}" if best else f"minus {self.score}"
        self.column = shown.replace(" ", "_")
        self.title = f"{shown} (training-free score)"

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        """Return `best` minus the score. Raises RunError for a network without a score, or with one above `best`."""
        value = metrics[self.score]
        if math.isnan(value):
            if self.missing is None:
                raise RunError(
                    f"{self.space.format(architecture)} has no {self.score} (run.log has the reason); write "
                    f"objectives.{self.score}.missing=NUMBER, the score that such networks shall count as"
                )
            value = self.missing
        if value >= self.best:
            raise RunError(
                f"{self.space.format(architecture)} has a {self.score} of {value:.6g}; write "
                f"objectives.{self.score}.best=NUMBER, more than any network scores"
            )
        return self.best - value

    def reference(self, metrics: Metrics) -> float:
        """Return the cost of a score of 0, or twice that of the largest network where this is more."""
        return max(self.best, 2 * self.cost(self.space.largest(), metrics))


class Probe(ABC):
    """Base of objectives that must run the standalone network on the device where the search runs."""

    def check(self, device: str) -> None:  # noqa: B027, most can measure anywhere
        """Raise InputError where it cannot measure on this machine's `device`, "cpu" or "cuda"."""

    @abstractmethod
    def measure_on_device(self, network: nn.Module, image: Tensor) -> Metrics:
        """Measure `network`; `image` is one image, (1, channels, height, width), on the device."""

    def measure_architecture(self, architecture: Architecture, network: Callable[[], nn.Module], image: Tensor) -> Metrics:
        """Measure an architecture; override it where its notation is needed, or its network is not.

        Args:
            architecture: The architecture.
            network: Returns its network on the device, with random weights, the same one each time.
            image: One image, (1, channels, height, width), on the device.

        Raises:
            NetworkFailed: Where this architecture has no measurement; the search goes on without it.
        """
        return self.measure_on_device(network(), image)
