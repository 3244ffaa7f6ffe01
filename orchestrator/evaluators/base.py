"""What the coordinator expects of whatever evaluates architectures, be it one object here or actors on a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from orchestrator.objectives.base import Metrics
from searchers.base import Architecture, Cotangents, Mixture, Stage


class Evaluator(ABC):
    """Shared weights that can be trained and asked. step: weight steps so far, over all stages."""

    step: int

    @abstractmethod
    def build(self, stage: Stage, steps: int) -> None:
        """Fresh weights over the stage's surviving options; its learning rate falls to 0 over `steps` weight steps."""

    @abstractmethod
    def train(self, mixtures: Sequence[Mixture]) -> float:
        """One weight step per mixture, each on the next batch; returns their mean loss."""

    @abstractmethod
    def measure(self, architectures: Sequence[Architecture], draw: int | None) -> list[Metrics]:
        """The `accuracy` in percent of each, with the shared weights: on validation batch `draw`, the same for all, or on
        the whole validation part (None)."""

    @abstractmethod
    def probe(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        """What the experiment's probes (latency, ...) find out about each standalone network on this device."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer and position, on the CPU."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""


class Differentiable(Evaluator):
    """An evaluator that also answers for the mixture itself."""

    @abstractmethod
    def differentiate(self, mixture: Mixture, draw: int, unrolled: bool = False) -> tuple[float, Cotangents]:
        """The loss on validation batch `draw`, and d loss / d weight for every option that the mixture wants.

        unrolled: of the loss after one more weight step on the next training batch, that step differentiated too.
        """
