"""What the coordinator expects of whatever evaluates architectures, be it one object here or actors on a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from orchestrator.machine import Machine, machine
from orchestrator.objectives.base import Metrics, Probe
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture, Cotangents, Mixture, Stage


class Evaluator(ABC):
    """Shared weights that can be trained and asked. step: weight steps so far, over all stages. asked: batches on which it was
    differentiated for architectures' sake. device: where its networks are, "cpu" or "cuda"."""

    step: int
    asked: int = 0
    device: str = "cpu"

    def machines(self) -> list[Machine]:
        """Those whose arithmetic goes into its answers."""
        return [machine(self.device)]

    @abstractmethod
    def build(self, stage: Stage, steps: int) -> None:
        """Fresh weights over the stage's surviving options; its learning rate falls to 0 over `steps` weight steps."""

    @abstractmethod
    def drop(self, stage: Stage) -> None:
        """Go on with the options of `stage` alone, weights as they are."""

    @abstractmethod
    def train(self, mixtures: Sequence[Mixture]) -> float:
        """One weight step per mixture, each on the next batch; returns their mean loss."""

    @abstractmethod
    def measure(self, architectures: Sequence[Architecture], draw: int | None) -> list[Metrics]:
        """The `accuracy` in percent of each: on validation batch `draw`, the same for all, or on the whole validation part
        (None)."""

    @abstractmethod
    def probe(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        """What the experiment's probes (latency, ...) find out about each standalone network on this device."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer and position, on the CPU."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""


def probed(
    space: SearchSpace, probes: Sequence[Probe], architectures: Sequence[Architecture], image: Tensor, seed: int
) -> list[Metrics]:
    """What the probes find out about each standalone network, on the device of `image`, (1, channels, height, width)."""
    if not probes:
        return [{} for _ in architectures]
    found: list[Metrics] = []
    for architecture in architectures:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = space.network(architecture).to(image.device)
        found.append({k: v for probe in probes for k, v in probe.probe(network, image).items()})
    return found


class Differentiable(Evaluator):
    """An evaluator that also answers for the mixture itself."""

    @abstractmethod
    def differentiate(self, mixture: Mixture, draw: int, unrolled: bool = False) -> tuple[float, Cotangents]:
        """The loss on validation batch `draw`, and d loss / d weight for every option that the mixture wants.

        unrolled: of the loss after one more weight step on the next training batch, that step differentiated too.
        """
