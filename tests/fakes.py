"""A space and an evaluator whose every answer is known, for tests in which no network has to be trained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from analysis.graphs import Graph
from orchestrator.config.spaces import make_space
from orchestrator.data.dataset import Dataset
from orchestrator.evaluators.base import Differentiable
from orchestrator.objectives.base import Metrics, Probe
from orchestrator.spaces.base import Decision, SearchSpace
from searchers import Architecture, Cotangents, Mixture, Stage

OPTIONS = ("skip", "small", "medium", "large")
GAINS = (0.0, 6.0, 9.0, 10.0)
"""Percentage points that each option adds to the accuracy, with ever smaller returns."""
COUNTS = (0, 1, 3, 9)
"""Thousands of parameters that each option adds, more of them in later choices."""
LEAST = 40.0
"""Accuracy of the network of skips, in percent."""


@dataclass(kw_only=True, eq=False)
class FakeSpace(SearchSpace):
    """Four choices among four options: 256 networks, none of which can be built, and 4,096,000 MACs a thousand parameters."""

    image: tuple[int, int, int] = (1, 8, 8)
    classes: int = 10

    def __post_init__(self) -> None:
        self.choices = tuple(Decision(f"block{number}", OPTIONS) for number in range(1, 5))

    def build(self) -> nn.Module:
        raise AssertionError("a test that needs networks needs a real space")

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        return "-".join(OPTIONS[option] for option in architecture)

    def parse(self, text: str) -> Architecture:
        return tuple(OPTIONS.index(word) for word in text.split("-"))

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        return {}

    def parameters(self, architecture: Architecture) -> int:
        return 500 + sum(1000 * COUNTS[option] * (choice + 1) for choice, option in enumerate(architecture))

    def macs(self, architecture: Architecture) -> int:
        return 4096 * self.parameters(architecture)

    def additive(self, cost: str) -> tuple[float, list[list[float]]]:
        each = 1 if cost == "parameters" else 4096
        rows = [[1000.0 * count * (choice + 1) * each for count in COUNTS] for choice in range(len(self.choices))]
        return 500.0 * each, rows


def true_accuracy(architecture: Architecture) -> float:
    """Return the accuracy of a network in percent, which counts earlier choices a little more."""
    return LEAST + sum(GAINS[option] * (1 + 0.1 * (3 - choice)) for choice, option in enumerate(architecture))


class FakeEvaluator(Differentiable):
    """Shared weights of known quality: true accuracies after `slow` steps of a stage are half of the way from guessing.

    On the validation set every network has the accuracy of these weights; on a batch it is off by up to 3 points, which the
    seed, the batch and the network decide.

    Args:
        batch: Images per weight step.
        slow: Weight steps that halve the distance to the true accuracy.

    Attributes:
        calls: Names of the methods that changed the weights, in order.
    """

    def __init__(
        self,
        space: SearchSpace,
        data: Dataset,
        probes: Sequence[Probe] = (),
        *,
        batch: int = 32,
        slow: int = 4,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.space, self.seed, self.slow = space, seed, slow
        self.step, self._begun = 0, 0
        self.calls: list[str] = []

    def build(self, stage: Stage, steps: int) -> None:
        self.calls.append(f"build {stage.index}")
        self._begun = self.step

    def drop(self, stage: Stage) -> None:
        self.calls.append(f"drop to {max(map(len, stage.options))}")

    def train(self, mixtures: Sequence[Mixture]) -> float:
        self.step += len(mixtures)
        return 1.0

    def _inherited(self, architecture: Architecture) -> float:
        return 10.0 + (true_accuracy(architecture) - 10.0) * (1 - 0.5 ** ((self.step - self._begun) / self.slow))

    def measure(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        return [{"accuracy": self._inherited(a)} for a in architectures]

    def train_alone(self, architectures: Sequence[Architecture], epochs: int) -> list[Metrics]:
        self.calls.append(f"train {len(architectures)} alone for {epochs}")
        return [{"accuracy": true_accuracy(a)} for a in architectures]

    def measure_on_batch(self, architectures: Sequence[Architecture], batch: int) -> list[Metrics]:
        luck = [float(np.random.default_rng([self.seed, batch, *a]).uniform(-3, 3)) for a in architectures]
        return [{"accuracy": self._inherited(a) + off} for a, off in zip(architectures, luck, strict=True)]

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        return [{} for _ in architectures]

    def differentiate(self, mixture: Mixture, batch: int, unrolled: bool = False) -> tuple[float, Cotangents]:
        """Return the error as a share, and its derivative, both of the true accuracy, which is linear in the weights."""
        self.asked += 1
        slopes = tuple(
            tuple(-gain * (1 + 0.1 * (3 - choice)) / 100 for gain in GAINS) for choice in range(len(mixture.weights))
        )
        pairs = (zip(row, slope, strict=True) for row, slope in zip(mixture.weights, slopes, strict=True))
        return 1 - LEAST / 100 + sum(weight * slope for row in pairs for weight, slope in row), slopes

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "begun": self._begun, "asked": self.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self._begun, self.asked = state["step"], state["begun"], state["asked"]


FAKE: dict[str, Any] = {"space": {"name": f"{__name__}:FakeSpace"}, "training": {"name": f"{__name__}:FakeEvaluator"}}
"""Sections of an experiment that names the two, as it names anybody's own."""

DIGITS_TINY = make_space("digits-tiny", {}, (1, 8, 8), 10)


def fake_table() -> pd.DataFrame:
    """Return a table of every architecture of digits-tiny, with random accuracies in percent and true parameters."""
    rng = np.random.default_rng(0)
    found = list(itertools.product(*(range(size) for size in DIGITS_TINY.sizes)))
    return pd.DataFrame(
        {
            "arch": [DIGITS_TINY.format(a) for a in found],
            "val_accuracy": 50 + 40 * rng.random(len(found)),
            "params": [DIGITS_TINY.parameters(a) for a in found],
        }
    )
