"""Training of each network from scratch: NSGA-Net's evaluation, and the standard that shared weights are judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.evaluators.base import Evaluator, Measured, Schedule, attempt, run_probes
from orchestrator.objectives.base import Metrics, Probe
from orchestrator.spaces.base import SearchSpace
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import quality
from orchestrator.training.trainer import fit
from searchers.base import Architecture, Mixture, Stage


class FromScratch(Evaluator):
    """Each candidate trained by itself, by SGD with a cosine schedule, and judged on the whole validation set.

    The defaults are NSGA-Net's (arXiv 1810.03522, section 4.2, and the authors' first code).

    Args:
        space: Search space of the architectures.
        data: Images to train and measure on.
        probes: Objectives that run a standalone network on the device.
        epochs: Passes over the training set, for each network.
        batch: Images per weight step.
        lr: Learning rate at the start; it falls to 0.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
        clip: L2 norm that gradients are clipped to.
        averaged: Number of last epochs over which the metric is averaged; 3 in the authors' code.
        channels_last: Whether the channels of a pixel lie side by side in memory.
        seed: Seed of everything that is random.
        device: torch's name of the device.

    Raises:
        InputError: For a setting out of its range.
    """

    shares_weights: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        data: Dataset,
        probes: Sequence[Probe] = (),
        *,
        epochs: int = 25,
        batch: int = 128,
        lr: float = 0.025,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        clip: float = 5.0,
        averaged: int = 3,
        channels_last: bool = True,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if epochs < 1 or batch < 1 or lr <= 0 or clip <= 0 or not 0 <= momentum < 1 or weight_decay < 0 or averaged < 1:
            raise InputError(
                f"[training] epochs = {epochs}, batch = {batch}, lr = {lr}, clip = {clip}, averaged = {averaged}, momentum = "
                f"{momentum}, weight_decay = {weight_decay}: the first five must be positive, momentum in 0..1"
            )
        self.space, self.data, self.probes = space, data, list(probes)
        self.epochs, self.averaged = epochs, min(averaged, epochs)
        self.parts = Parts(
            epochs=epochs,
            batch=batch,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            clip=clip,
            channels_last=channels_last,
        )
        self.seed, self.device = seed, device
        self.steps_each = weight_steps(len(data.train), epochs, batch)
        self._train, self._valid = data.train.to(device), data.valid.to(device)
        self.step = 0

    @classmethod
    def schedule(cls, settings: Mapping[str, Any], *, epochs: float, interval: int, images: int, workers: int) -> Schedule:
        """Plan a search in which each round trains a network on every worker."""
        each, batch = int(settings["epochs"]), min(settings["batch"], images)
        return Schedule(
            math.ceil(epochs / each / workers),
            interval,
            batch,
            portion=workers,
            passes=min(settings["averaged"], each),
            steps_each=weight_steps(images, each, batch),
        )

    def build(self, stage: Stage, steps: int) -> None:
        pass

    def drop(self, stage: Stage) -> None:
        pass

    def train(self, mixtures: Sequence[Mixture]) -> float:
        return math.nan  # there are no shared weights

    def measure(self, architectures: Sequence[Architecture]) -> list[Measured]:
        measured: list[Measured] = []
        for architecture in architectures:
            measured.append(attempt(lambda a=architecture: self._trained(a, self.parts)))  # type: ignore[misc]
            self.step += self.steps_each  # of a failure, too: that many were planned, and actors are not asked how many it took
        return measured

    def train_alone(self, architectures: Sequence[Architecture], epochs: int) -> list[Measured]:
        parts = replace(self.parts, epochs=epochs)
        return [attempt(lambda a=a: self._trained(a, parts)) for a in architectures]  # type: ignore[misc]

    def _trained(self, architecture: Architecture, parts: Parts) -> Metrics:
        """Train one network, and return its accuracy, or what the task has in its place."""
        network = self.space.network(architecture)
        values: list[float] = []

        def judge(epoch: int) -> None:
            if epoch > parts.epochs - min(self.averaged, parts.epochs):
                values.append(quality(network, self.data, self._valid))

        fit(
            network,
            architecture,
            self.data,
            self._train,
            parts,
            seed=self.seed,
            device=self.device,
            key="training.lr",
            fresh=not self.space.pretrained,
            progress=judge,
        )
        return {self.data.task.metric.name: float(np.mean(values))}

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Measured]:
        space, data = self.target or (self.space, self.data)
        return run_probes(space, data, self.probes, architectures, self.device, self.seed)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def weight_steps(images: int, epochs: int, batch: int) -> int:
    """Count the weight steps of one network; an epoch leaves out the images that do not fill a batch."""
    return epochs * (images // min(batch, images))
