"""Typed sections of an experiment: budget, workers, and the training of the front at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from orchestrator.errors import InputError
from orchestrator.registry import keywords
from orchestrator.training.parts import OptimizerName, Parts, ScheduleName, contradiction
from orchestrator.training.recipe import PLAIN
from orchestrator.training.recipe import recipe as find_recipe

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
AUTO = "auto"
"""Value that stands for a proxy that is chosen when a search begins."""


def _listed(value: Any) -> Any:
    """Read a single value as a list of it, as a command line has it."""
    return value if isinstance(value, (list, tuple)) else [value]


def _names(value: Any) -> tuple[str, ...]:
    """Read names, which on a command line may be one, a list, or numbers."""
    return tuple(str(name) for name in _listed(value))


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
        plateau: End the search itself once its hypervolume has grown by less than 1 % over so large a share of it, the warm-up
            and all stages but the last left out; 0 to spend all of it. Landmarks and finalists are trained all the same.
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
    plateau: Share = 0.0
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
class Sweep(Section, section="sweep"):
    """Successive halving of the searches of a sweep, or of the methods of a benchmark of whole searches.

    The searches are compared at certain shares of their budgets, by the hypervolume of what they have found; one in `halving`
    of them goes on, and the others are stopped. The next comparison is at `halving` times the share,
    up to a `halving`th of the budget.

    Args:
        halving: One of so many searches goes on after each comparison; None to let all of them spend their whole budgets.
        first: Share of the budget at the first comparison.

    Example:
        >>> [round(share, 3) for share in Sweep(halving=3).comparisons]
        [0.1, 0.3]
    """

    halving: Annotated[int, Field(ge=2)] | None = None
    first: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @property
    def comparisons(self) -> list[float]:
        """Shares of the budget at which searches are compared, ascending; none without halving.

        The last one leaves those that go on as much again as `halving` times what they have spent.
        """
        if self.halving is None:
            return []
        shares = [self.first]
        while (share := shares[-1] * self.halving) <= 1 / self.halving:
            shares.append(share)
        return shares

    def remaining(self, count: int) -> int:
        """Return how many of so many searches go on after a comparison."""
        return count if self.halving is None else math.ceil(count / self.halving)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a section of an experiment file; empty without halving."""
        return {} if self.halving is None else {"halving": self.halving, "first": self.first}


@dataclass(frozen=True)
class Workers(Section, section="workers"):
    """Workers of a search: Ray actors, or this process.

    Args:
        ray: Host the replicas in Ray actors; False runs everything in this process.
        count: Replicas of the supernet.
        cpus: Threads of each.
        gpus: GPUs of each; fractions are allowed.
        address: Address of a running Ray cluster; without it a private one is started on this machine.
        min: Workers' worth of room that a search makes do with where there is no more; its replicas then share them, and the
            records stay the same. None for all of `count`.
        patience: Seconds to wait for room for all replicas before it makes do with less, or, at `min`, gives up.

    Example:
        >>> Workers(ray=False, count=1).device
        'cpu'
        >>> Workers(count=8, min=3).most_on_one
        3
    """

    ray: bool = True
    count: Count = 2
    cpus: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0.0
    address: str | None = None
    min: Count | None = None
    patience: Positive = 120.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min is not None and self.min > self.count:
            raise InputError(f"workers.min = {self.min}; it is at most workers.count, which is {self.count}")
        if self.gpus > 1 and self.gpus != math.floor(self.gpus):
            raise InputError(f"workers.gpus = {self.gpus}; above 1 it must be a whole number")
        if not self.ray and self.count != 1:
            raise InputError("workers.ray = false runs one replica in this process; write workers.count=1, or use Ray")

    @property
    def most_on_one(self) -> int:
        """Replicas that share the room of one worker at most."""
        return math.ceil(self.count / (self.min or self.count))

    def bundle(self, sharing: int = 1) -> dict[str, float]:
        """Return the resources of a replica of which `sharing` have the room of one worker."""
        # Ray counts in ten-thousandths; rounded up, three thirds would not fit.
        share = {"CPU": float(self.cpus), "GPU": self.gpus}
        return {name: math.floor(1e4 * amount / sharing) / 1e4 for name, amount in share.items() if amount}

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
    scores: Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=str | tuple[str, ...])] = ()


@dataclass(frozen=True)
class Logging(Section, section="logging"):
    """Trackers of experiments that are told of a run as it goes on (docs/logging.md).

    Args:
        tensorboard: Whether to write event files for TensorBoard into the run directory.
        mlflow: Where MLflow keeps runs: a server, as http://localhost:5000, or a database, as sqlite:///mlflow.db; None for
            nowhere. It needs the extra `mlflow`.
        wandb: Mode of Weights & Biases: online, or offline for files that `wandb sync` sends later; None for neither. It needs
            the extra `wandb`.
        project: Name of the experiment in MLflow, and of the project in Weights & Biases.
        entity: Team or user in Weights & Biases; None for the default of the login.

    Example:
        >>> Logging(wandb="offline", project="photos").tensorboard
        True
    """

    tensorboard: bool = True
    mlflow: str | None = None
    wandb: Literal["online", "offline"] | None = None
    project: Annotated[str, Field(min_length=1)] = "paretoray"
    entity: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        local = "sqlite:///"
        if self.mlflow is not None and self.mlflow.startswith(local):  # a run is resumed from any folder
            path = Path(self.mlflow.removeprefix(local)).expanduser().absolute()
            object.__setattr__(self, "mlflow", f"{local}{path}")


@dataclass(frozen=True)
class Retraining(Section, section="retrain"):
    """Training from scratch of members of the front at the end, on the training and validation sets.

    A recipe by name, every part of which can be replaced (docs/training.md). What is None is as in the recipe.

    Args:
        members: Number of networks of the front that are trained, and tested on the test set; 0 for none.
        also: Numbers of further members that are trained, besides those; a front has its numbers once it is searched.
        seeds: Trainings of each network, which begin with other weights and see the images in another order.
        workers: Processes that train one network together, by Ray Train, each on a share of every batch.
        recipe: Name of a recipe, as `paretoray list recipes` shows them.
        teacher: File of weights of the network to distil from, as a run or `paretoray train` writes it; None for the largest
            member that is trained.
        epochs: Passes over the images.
        batch: Images per step, over all workers.
        optimizer: sgd, adamw or rmsprop.
        lr: Learning rate at the start, after the warm-up.
        momentum: Momentum of SGD and RMSprop.
        nesterov: Whether SGD's momentum is Nesterov's.
        weight_decay: L2 penalty; AdamW's is decoupled.
        decay_norm: Whether it holds for the scales and shifts of normalisation, too.
        clip: L2 norm that gradients are clipped to; 0 for no clipping.
        schedule: cosine or linear to 0, step, or constant.
        warmup: Epochs at the start in which the learning rate rises linearly.
        step_epochs: Epochs between two steps of schedule = step.
        step_factor: Factor of the learning rate at each of them.
        label_smoothing: Share of a label that is spread over all classes.
        dropout: Share of the inputs of the last layer that are dropped.
        drop_path: Share of images for which each path of a cell is dropped in the end; it rises from 0 with the epochs.
        auxiliary: Weight of the loss of a second classifier in the middle of the network; 0 for none.
        cutout: Side of a square that is cut out of each image, in pixels; 0 for none.
        resized_crop: Smallest share of an image's area that a random crop may have, in place of shifts; 0 for shifts.
        jitter: Strengths of random changes of brightness, contrast, saturation and hue.
        randaugment: Magnitude of RandAugment's two operations, 0 to 30; 0 for none.
        erasing: Probability that a rectangle of an image is erased.
        mixup: Alpha of mixup; 0 for none. With cutmix, each batch has one of the two.
        cutmix: Alpha of cutmix; 0 for none.
        ema: Decay of an exponential moving average of the weights, which is what is tested; 0 for none.
        distill: Share of the loss that is the divergence from the teacher's scores; 0 for none.
        temperature: Temperature of both scores there.
        amp: Compute in bfloat16 where torch considers it safe.
        compile: Compile the network with torch.compile.
        channels_last: Memory layout of images, as for the supernet.

    Example:
        >>> retraining = Retraining(recipe="darts", cutout=8)
        >>> retraining.parts.epochs, retraining.parts.cutout
        (600, 8)
    """

    members: Annotated[int, Field(ge=0)] = 5
    also: Annotated[tuple[Count, ...], BeforeValidator(_listed, json_schema_input_type=Count | tuple[Count, ...])] = ()
    seeds: Count = 1
    workers: Count = 1
    recipe: str = PLAIN
    teacher: str | None = None
    epochs: Count | None = None
    batch: Count | None = None
    optimizer: OptimizerName | None = None
    lr: Positive | None = None
    momentum: Share | None = None
    nesterov: bool | None = None
    weight_decay: NotNegative | None = None
    decay_norm: bool | None = None
    clip: NotNegative | None = None
    schedule: ScheduleName | None = None
    warmup: NotNegative | None = None
    step_epochs: Count | None = None
    step_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    label_smoothing: Share | None = None
    dropout: Share | None = None
    drop_path: Share | None = None
    auxiliary: NotNegative | None = None
    cutout: Annotated[int, Field(ge=0)] | None = None
    resized_crop: Annotated[float, Field(ge=0, le=1)] | None = None
    jitter: tuple[NotNegative, ...] | None = None
    randaugment: Annotated[int, Field(ge=0, le=30)] | None = None
    erasing: Annotated[float, Field(ge=0, le=1)] | None = None
    mixup: NotNegative | None = None
    cutmix: NotNegative | None = None
    ema: Share | None = None
    distill: Annotated[float, Field(ge=0, le=1)] | None = None
    temperature: Positive | None = None
    amp: bool | None = None
    compile: bool | None = None
    channels_last: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = self.parts
        if (found := contradiction(parts, frozenset(self.given))) is not None:
            raise InputError(f"{self.named(found[0])}: {found[1]}")
        if self.teacher is not None and not parts.distill:
            raise InputError("retrain.teacher: nothing is distilled from it; write retrain.distill=0.5, say, or leave it out")
        if parts.batch % self.workers:
            near = max(1, parts.batch // self.workers) * self.workers
            raise InputError(f"retrain.batch = {parts.batch}: {self.workers} workers take equal shares; write {near}, say")

    @property
    def most(self) -> int:
        """Number of networks that are trained at most."""
        return self.members + len(set(self.also))

    @property
    def given(self) -> dict[str, Any]:
        """The parts that replace those of the recipe."""
        values = {field.name: getattr(self, field.name) for field in fields(Parts)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def parts(self) -> Parts:
        """Settings of a training: all parts, completed by the recipe. Raises InputError for an unknown one."""
        return replace(find_recipe(self.recipe).parts, **self.given)

    def named(self, part: str) -> str:
        """Name a part in a message, as it was given or as the recipe has it."""
        value, of = getattr(self.parts, part), "" if part in self.given else f" (of the recipe {self.recipe})"
        return f"retrain.{part} = {list(value) if isinstance(value, tuple) else value}{of}"

    @property
    def words(self) -> str:
        """The recipe and all its parts, in a line."""
        extra = [f"{self.seeds} seeds"] * (self.seeds > 1) + [f"{self.workers} workers for each network"] * (self.workers > 1)
        return ", ".join([f"recipe {self.recipe}: {self.parts.words}", *extra])


def with_changes(retrain: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a [retrain] section after changes; another recipe drops the parts that were set before."""
    kept = dict(retrain)
    if "recipe" in changes and changes["recipe"] != kept.get("recipe"):
        kept = {key: value for key, value in kept.items() if key not in {field.name for field in fields(Parts)}}
    return kept | dict(changes)


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
    without: Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=str | tuple[str, ...])] = ()

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
