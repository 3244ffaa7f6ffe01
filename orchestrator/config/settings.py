"""Typed sections of an experiment: budget, workers, and the training of the front at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from orchestrator.errors import InputError
from orchestrator.registry import keywords

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
AUTO = "auto"
"""Value that stands for a proxy that is chosen when a search begins."""


def _names(value: Any) -> tuple[str, ...]:
    """Read class names, which on a command line may be one, a list, or numbers."""
    return tuple(str(name) for name in (value if isinstance(value, (list, tuple)) else [value]))


class Section:
    """Base of frozen dataclasses whose values are checked by their annotations, in Python as in a file.

    Raises InputError that names the one setting that is wrong.
    """

    def __init_subclass__(cls, section: str) -> None:
        cls._section = section

    _section: str

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        for name, value in keywords(type(self), given, self._section).items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Budget(Section, section="budget"):
    """Budget of a search.

    Args:
        epochs: Passes over the training set, over the whole search.
        interval: Weight steps per round; each round asks the searcher once.
        seconds: Stop earlier, after so many seconds.
        evaluations: Stop earlier, after so many measured architectures.
        landmarks: Share of the budget for networks trained alone, briefly, so that the judge learns what shared weights get
            wrong; 0 for none. Networks that are trained from scratch anyway need none.
        finalists: Share of the budget for training those alone, longer, that may belong to the front; 0 for none.
        validate: Number of a stage's best networks that are measured again at its end, on more validation images.
        checkpoint: Seconds between checkpoints.

    Example:
        >>> Budget(epochs=4).interval
        4
    """

    epochs: Positive = 75.0
    interval: Count = 4
    seconds: Positive | None = None
    evaluations: Count | None = None
    landmarks: Share = 0.3
    finalists: Share = 0.25
    validate: Count = 32
    checkpoint: Positive = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks + self.finalists >= 1:
            raise InputError(
                f"budget.landmarks = {self.landmarks:g} and budget.finalists = {self.finalists:g} leave "
                "nothing of it for the search; lower them to less than 1 together"
            )


@dataclass(frozen=True)
class Workers(Section, section="workers"):
    """Workers of a search: Ray actors, or this process.

    Args:
        ray: Host the replicas in Ray actors; False runs everything in this process.
        count: Replicas of the supernet.
        cpus: Threads of each.
        gpus: GPUs of each; fractions are allowed.
        address: Address of a running Ray cluster; without it a private one is started on this machine.

    Example:
        >>> Workers(ray=False, count=1).device
        'cpu'
    """

    ray: bool = True
    count: Count = 2
    cpus: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus > 1 and self.gpus != math.floor(self.gpus):
            raise InputError(f"workers.gpus = {self.gpus}; above 1 it must be a whole number")
        if not self.ray and self.count != 1:
            raise InputError("workers.ray = false runs one replica in this process; write workers.count=1, or use Ray")

    @property
    def device(self) -> str:
        """torch's name of the device that replicas run on."""
        return "cuda" if self.gpus else "cpu"

    @property
    def words(self) -> str:
        """Number and size of the workers, for people."""
        where = f"{self.count} Ray actor{'s' * (self.count > 1)}" if self.ray else "one process, without Ray"
        return f"{where}, {self.cpus} CPU thread{'s' * (self.cpus > 1)} and {self.gpus:g} GPUs each"


@dataclass(frozen=True)
class Front(Section, section="front"):
    """Choice of the front from what a search has measured.

    Args:
        members: Networks that are returned at most.
        judge: Choose them by what all measurements together say of each network, and tell the method that; False takes every
            measurement at its word.
        scores: Training-free scores that the judge weighs, by name; none are needed, and one that says nothing gets no weight.

    Example:
        >>> Front(members=5).judge
        True
    """

    members: Count = 10
    judge: bool = True
    scores: tuple[str, ...] = ()


@dataclass(frozen=True)
class Retraining(Section, section="retrain"):
    """Training from scratch of members of the front at the end, on the training and validation sets.

    SGD with a cosine to 0. The defaults are DARTS's settings for CIFAR-10 (arXiv 1806.09055, section 3.2), with fewer epochs.

    Args:
        members: Number of networks of the front that are trained, and tested on the test set; 0 for none.
        epochs: Passes over the images.
        batch: Images per step.
        lr: Learning rate at the start.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
        clip: L2 norm that gradients are clipped to.
        channels_last: Memory layout of images, as for the supernet.
    """

    members: Annotated[int, Field(ge=0)] = 5
    epochs: Count = 100
    batch: Count = 96
    lr: Positive = 0.025
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 3e-4
    clip: Positive = 5.0
    channels_last: bool = True


@dataclass(frozen=True)
class Proxy(Section, section="proxy"):
    """Smaller networks on smaller data, in place of the target's, on which a search trains and judges.

    Shared weights, judgements and short trainings are at the proxy. Prices, limits, measurements on devices, retraining and
    exported networks are those of the target: the experiment's `[space]` and `[data]`. What is not given is as in the target.

    Args:
        size: Pixels of an image's shorter side.
        cells: Cells of a network, as the space counts them.
        channels: Channels of the first layer or group; the others follow in proportion.
        share: Share of the training images, the same for each class.
        without: Classes that are left out, by name.

    Example:
        >>> str(Proxy(size=16, cells=1))
        'size=16,cells=1'
    """

    size: Count | None = None
    cells: Count | None = None
    channels: Count | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    without: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read what `str` writes, `size=8,cells=3`; a name without a key is one more class of `without`. Raises InputError."""
        given: dict[str, Any] = {}
        for part in text.split(",") if text != "target" else ():
            key, equals, value = part.strip().partition("=")
            if not equals and "without" in given:
                given["without"].append(key)
            elif not equals:
                raise InputError(f"proxy {text!r}: write KEY=VALUE, several with commas, as in size=8,cells=3")
            else:
                given[key] = [value] if key == "without" else value
        return cls(**keywords(cls, given, "proxy"))

    def __bool__(self) -> bool:
        """Tell whether it asks for anything but the target."""
        return bool(self.to_dict())

    def __str__(self) -> str:
        listed = {key: ",".join(v) if isinstance(v, list) else f"{v:g}" for key, v in self.to_dict().items()}
        return ",".join(f"{key}={value}" for key, value in listed.items()) or "target"

    @property
    def numbers(self) -> dict[str, int]:
        """Return the settings that a space needs: those of `size`, `channels` and `cells` that are given."""
        return {key: value for key in ("size", "channels", "cells") if (value := getattr(self, key)) is not None}

    @property
    def words(self) -> str:
        """What it is, in words."""
        said = [f"images of {self.size} pixels"] if self.size else []
        said += [f"{n} channel{'s' * (n > 1)}" for n in [self.channels] if n]
        said += [f"{n} cell{'s' * (n > 1)}" for n in [self.cells] if n]
        said += [f"{100 * self.share:.3g} % of the training images"] if self.share < 1 else []
        said += [f"without {', '.join(self.without)}"] if self.without else []
        return ", ".join(said) or "the target"

    def to_dict(self) -> dict[str, Any]:
        """Plain values of what is smaller, as a section of an experiment file."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != field.default}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
