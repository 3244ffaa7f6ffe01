"""Plan of measurements on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw_profiles import measure
from orchestrator.config.spaces import make_space
from orchestrator.errors import InputError
from orchestrator.registry import similar
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture

RUNTIMES = ("cpu", "cuda", "onnxruntime")
ROUNDS = 5

Job = str
"""`op` and an operation's name and shapes, or `net` and a network's notation."""
Row = dict[str, Any]
"""round, job, cost (one of `hw_profiles.profile.COLUMNS`) and value, for one batch."""


@dataclass(frozen=True)
class MeasurementPlan:
    """Networks to measure, and how; plain values.

    Args:
        space: Name of the space.
        settings: Settings of the space.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
        device: One of `RUNTIMES`.
        batch: Images per pass.
        threads: CPU threads within an operation.
        dtype: A key of `hw_profiles.measure.DTYPES`.
        networks: Number of random networks that costs are fitted to.
        validation: Number of other random networks that the prediction is validated on.
        rounds: Measurements of each network and operation.
        seconds: Least time of a measurement.
        energy: Whether to read joules, too.
        seed: Seed of the networks.

    Raises:
        InputError: For settings that measure nothing.
    """

    space: str
    settings: dict[str, Any]
    image: tuple[int, int, int]
    classes: int
    device: str = "cpu"
    batch: int = 1
    threads: int = 1
    dtype: str = "float32"
    networks: int = 100
    validation: int = 50
    rounds: int = ROUNDS
    seconds: float = 0.02
    energy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for option, word, known in (("device", self.device, RUNTIMES), ("dtype", self.dtype, measure.DTYPES)):
            if word not in known:
                raise InputError(f"--{option} {word}: known are {', '.join(known)}{similar(word, known)}")
        least = {"batch": 1, "threads": 1, "networks": 10, "validation": 2, "rounds": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"--{name} {getattr(self, name)}; at least {value} is needed")
        if self.seconds <= 0:
            raise InputError(f"--seconds {self.seconds:g}; it must be above 0")
        if self.device == "onnxruntime" and self.dtype != "float32":
            raise InputError(f"--dtype {self.dtype}: through ONNX Runtime float32 alone can be measured")
        if self.device == "cuda" and self.threads != 1:
            raise InputError(f"--threads {self.threads}: a network on a GPU is launched from one thread")

    def build(self) -> SearchSpace:
        return make_space(self.space, self.settings, self.image, self.classes)

    def choose(self, space: SearchSpace) -> list[Architecture]:
        """Draw random networks, all different: those to fit to, then those to validate on."""
        wanted = self.networks + self.validation
        rng = np.random.default_rng(self.seed)
        networks: dict[Any, Architecture] = {}
        for _ in range(50 * wanted):
            architecture = tuple(int(rng.integers(size)) for size in space.sizes)
            networks.setdefault(space.canonical(architecture), architecture)
            if len(networks) == wanted:
                return list(networks.values())
        raise InputError(
            f"--networks {self.networks} --validation {self.validation}: {self.space} has hardly more than {len(networks)} "
            "networks; ask for fewer"
        )
