"""Examples and their three disjoint parts: for weights, for architecture decisions, and for final reports only.

A part lives as one tensor on the device, or as a stream where it is too large. Examples are mostly images, of 8 bits, which
are augmented on the device, per sample, by a single gather (torchvision's transforms draw once per batch; DataLoader workers
cost more than small networks do). Signals and rows of tables are floating-point numbers, tokens whole ones; nothing is drawn at
random about these, nor about examples of several inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.data.images import Scales, too_deep
from orchestrator.data.stream import Stream, pooled
from orchestrator.errors import InputError
from orchestrator.machine import memory
from orchestrator.registry import Component, nearest
from orchestrator.spaces.parts.inputs import Examples, Inputs, Shapes, Tokens, in_words, joined, mapped, noun
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification

Pixels = NDArray[Any]
"""Images of 8 bits, or what stands for them: signals and rows of float32, tokens of int64."""
Labels = NDArray[Any]
"""Targets: classes of int64, or what another task takes."""
_SHARE, _LOOKED_AT = 17, 18
"""Streams of chance that draw a share of the images, and those that are looked at; they are no search's own, so that all
searches see the same ones."""
LOOKED_AT = 2048
"""Images of files whose mean and deviation are taken for those of the train part, where it has more."""
MEMORY = 8
"""Images of files are streamed if they take more than such a fraction of the memory: every worker has its own."""


class Unread(Protocol):
    """Images that are read when it is known which ones are used, or streamed."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any, /) -> Self:
        """Choose some of them; nothing is read yet."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each."""

    def read(self, *others: Self) -> tuple[list[Pixels], dict[str, str], Scales]:
        """Read these and others, on one scale.

        Returns:
            Images, (n, channels, height, width), of each; what there is to say of all by title; and the scales of images of
            more than 8 bits.
        """

    def stream(self) -> Stream:
        """Return a stream of these. Raises InputError for images that cannot be streamed."""


@dataclass(frozen=True)
class Raw:
    """Images as a loader returns them.

    Args:
        images: Images, (n, channels, height, width) uint8, or what reads them; signals, (n, channels, length) float32; rows of
            a table, (n, columns) float32; tokens, (n, length) int64; or `Inputs` of several of these.
        labels: Labels, (n,) in 0..classes-1, or what another task takes.
        test: Images and labels of the official test part, or None to set a share of the images apart.
        classes: Names, in the order of the labels; those of the targets for a task without classes.
        flip: Whether mirrored images show the same class.
        crop: Pixels by which an image may be shifted; None for an eighth of the width.
        valid: Images and labels of an official validation part, or None to set a share of the images apart.
        notes: How the data was understood, by title.
        warnings: What may be wrong with it.
        vocabulary: Number of different tokens, for tokens; of several inputs one for each.
    """

    images: Pixels | Inputs | Unread
    labels: Labels
    test: tuple[Pixels | Inputs | Unread, Labels] | None
    classes: tuple[str, ...]
    flip: bool
    crop: int | None
    valid: tuple[Pixels | Inputs | Unread, Labels] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    vocabulary: int | tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Part:
    """Images and labels on one device.

    Args:
        images: Images, (n, channels, height, width) uint8, or a stream of them, or what stands for them (see `Raw`).
        labels: Labels, (n,) int64, or what another task takes.
    """

    images: Examples | Stream
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def streamed(self) -> bool:
        """Tell whether images are decoded whenever they are used."""
        return isinstance(self.images, Stream)

    def to(self, device: str) -> Part:
        return Part(self.images.to(device), self.labels.to(device))

    def select(self, indices: NDArray[np.int64]) -> Part:
        """Choose images by their numbers; a stream stays one."""
        if isinstance(self.images, Stream):
            return Part(self.images.select(indices), self.labels[torch.from_numpy(indices)])
        kept = torch.from_numpy(indices).to(self.labels.device)
        return Part(self.images[kept], self.labels[kept])

    def joined(self, other: Part) -> Part:
        """Return the images of this part and of another one."""
        labels = torch.cat([self.labels, other.labels])
        if isinstance(self.images, Stream):
            assert isinstance(other.images, Stream)
            return Part(self.images.joined(other.images), labels)
        assert not isinstance(other.images, Stream)
        return Part(joined([self.images, other.images]), labels)


@dataclass(frozen=True)
class Scaling:
    """Preprocessing: what examples become before a network sees them.

    Args:
        mean: Per channel of images, in 0..1, or of signals, or per column, in their own unit; none of tokens.
        std: Deviation, likewise.
        vocabulary: Number of different tokens; None for what is normalised.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    vocabulary: int | None = None

    def apply(self, images: Tensor) -> Tensor:
        """Convert to float32 with mean 0 and deviation 1 per channel or column; tokens stay what they are."""
        if self.vocabulary is not None:
            return images
        over = [1] * (images.dim() - 2)
        mean = images.new_tensor(self.mean, dtype=torch.float32).view(-1, *over)
        std = images.new_tensor(self.std, dtype=torch.float32).view(-1, *over)
        return ((images.float() / 255 if images.dtype == torch.uint8 else images) - mean) / std

    def shape(self, images: Tensor) -> tuple[int, ...]:
        """Return the shape of one of these examples."""
        shape = tuple(images.shape[1:])
        return shape if self.vocabulary is None else Tokens(shape, self.vocabulary)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint parts, and how to augment and normalise their images.

    Args:
        train: For weights.
        valid: For decisions about architectures.
        test: For final reports only.
        classes: Names, in the order of the labels.
        mean: Per channel, of the train part, in 0..1; of signals and of a table's columns in their own unit, of tokens none.
        std: Likewise.
        flip: Whether mirrored images show the same class.
        crop: Pixels by which an image may be shifted.
        source: Loader and settings that it came from; None for a dataset that was made in Python.
        notes: How the data was understood, by title.
        warnings: What its loader found that may be wrong.
        scales: Values that became 0 and 255 in images of more than 8 bits.
        task: What networks are trained for; it is fitted to the train part unless it is already.
        vocabulary: Number of different tokens, for tokens.
        resized_crop: Smallest share of an image's area that a random crop of a training image shows; 0 for no such crops.
        inputs: Normalisation of each of several inputs, in the place of `mean`, `std` and `vocabulary`; () for a single one.
    """

    train: Part
    valid: Part
    test: Part
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    crop: int
    source: Component | None = field(default=None, compare=False)
    notes: Mapping[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    scales: Scales = field(default_factory=dict, compare=False)
    task: Task = field(default_factory=Classification, compare=False)
    vocabulary: int | None = None
    resized_crop: float = 0.0
    inputs: tuple[Scaling, ...] = ()

    def __post_init__(self) -> None:
        if not hasattr(self.task, "outputs"):
            object.__setattr__(self, "task", _fitted(self.task, self.train.labels, self.classes))

    @property
    def image(self) -> tuple[int, ...]:
        """Shape of an example: (channels, height, width) of images, (channels, length) of signals, (columns,), or `Tokens`; of
        several inputs their `Shapes`."""
        images = self.train.images
        if isinstance(images, Inputs):
            shapes = [scaling.shape(part) for scaling, part in zip(self.inputs, images.parts, strict=True)]
            return Shapes(shapes if images.names is None else dict(zip(images.names, shapes, strict=True)))
        shape = tuple(images.shape[1:])
        return shape if self.vocabulary is None else Tokens(shape, self.vocabulary)

    @property
    def has_images(self) -> bool:
        """Tell whether examples are images, rather than signals, rows of a table, tokens or several inputs."""
        return noun(self.image) == "image"

    @property
    def words(self) -> str:
        """Return the kind of an example."""
        return in_words(self.image)

    def alone(self) -> dict[str, Dataset]:
        """Return the data of each of several inputs by its name, to be looked at; of a single input under no name."""
        if not isinstance(self.train.images, Inputs):
            return {"": self}
        found = {}
        for number, title in enumerate(self.train.images.titles):
            parts = [
                part.images.parts[number] for part in (self.train, self.valid, self.test) if isinstance(part.images, Inputs)
            ]
            train, valid, test = (
                Part(images, part.labels) for images, part in zip(parts, (self.train, self.valid, self.test), strict=True)
            )
            own = self.inputs[number]
            found[title] = replace(
                self, train=train, valid=valid, test=test, mean=own.mean, std=own.std, vocabulary=own.vocabulary, inputs=()
            )
        return found

    def remaining(self, without: Sequence[str]) -> list[int]:
        """List the classes that are left without those of these names.

        Raises:
            InputError: For a class that there is not, and where fewer than two are left.
        """
        if without and not isinstance(self.task, Classification):
            raise InputError(f"proxy.without: {self.task.name} has no classes that could be left out; leave it out")
        for name in without:
            if name not in self.classes:
                raise InputError(f"proxy.without = {name!r}: the data has no such class{nearest(name, self.classes)}")
        left = [c for c, name in enumerate(self.classes) if name not in without]
        if without and len(left) < 2:
            most = len(self.classes) - 2
            raise InputError(f"proxy.without leaves {len(left)} of {len(self.classes)} classes; leave out at most {most}")
        return left

    def smaller(self, size: int | None = None, share: float = 1.0, without: Sequence[str] = ()) -> Dataset:
        """Return less data for a proxy: smaller images, a share of those for weights, or fewer classes.

        Args:
            size: Pixels of the shorter side; None for what it is. A pixel is the mean of those that it takes the place of.
            share: Share of the train part, of each class; a smaller share is part of a larger one.
            without: Names of the classes that are left out, in all parts.

        Raises:
            InputError: Where a class would have no image left, and as `remaining` does.
        """
        left = self.remaining(without)
        shape, crop = None, self.crop
        if size is not None:
            shape, crop = self._resizing(size)
        train, valid, test = self.train, self.valid, self.test
        if without:
            train, valid, test = (_of_classes(part, left) for part in (train, valid, test))
        classes = tuple(self.classes[c] for c in left)
        if share < 1:
            train = _share_of(train, share, self.task, classes)
        if shape is not None:
            train, valid, test = (Part(_resized(part.images, shape), part.labels) for part in (train, valid, test))
        task, scaled = _fitted(self.task, train.labels, classes), _scaled(_seen(train), self._vocabulary)
        return replace(self, train=train, valid=valid, test=test, classes=classes, crop=crop, source=None, task=task, **scaled)

    @property
    def _vocabulary(self) -> int | tuple[int | None, ...] | None:
        return tuple(scaling.vocabulary for scaling in self.inputs) if self.inputs else self.vocabulary

    def _resizing(self, size: int) -> tuple[tuple[int, int] | None, int]:
        """Return the shape of smaller images, None for their own, and their shift. Raises InputError for other examples."""
        if not self.has_images:
            raise InputError(f"proxy.size: only images can be smaller, and these are {self.words}; leave it out")
        if self.task.maps:
            raise InputError(f"proxy.size: targets of {self.task.name} have the size of the images; leave it out")
        height, width = self.image[1:]
        own = min(height, width)
        if size == own:
            return None, self.crop
        shape = round(height * size / own), round(width * size / own)
        return shape, round(self.crop * min(shape) / own)

    def normalise(self, images: Any) -> Any:
        """Convert to float32 with mean 0 and deviation 1 per channel or column of the train part; tokens stay what they are.

        Args:
            images: A tensor of examples, or `Inputs`; the same is returned.
        """
        if isinstance(images, Inputs):
            return images.like(scaling.apply(part) for scaling, part in zip(self.inputs, images.parts, strict=True))
        return Scaling(self.mean, self.std, self.vocabulary).apply(images)

    def augment(self, images: Any, rng: np.random.Generator) -> Any:
        """Shift each image by up to `crop` pixels, padded with zeros, and flip it at random where flips are allowed.

        Examples that are no images stay as they are, and so do images whose targets are maps of their pixels, which move with
        them in `augment_both`.
        """
        return images if not self.has_images or self.task.maps else self._moved(images, *self._moves(images, rng))

    def augment_both(self, images: Any, targets: Tensor, rng: np.random.Generator) -> tuple[Any, Tensor]:
        """Do what `augment` does to images and, where targets are maps of their pixels, to these likewise.

        Args:
            images: Images, (n, channels, height, width), or other examples.
            targets: Targets; maps (n, height, width) are padded with `Task.padding`.
            rng: Source of chance.
        """
        if not self.task.maps or not self.has_images or not (self.crop or self.flip):
            return self.augment(images, rng), targets
        moves = self._moves(images, rng)
        return self._moved(images, *moves), self._moved(targets[:, None], *moves, padding=self.task.padding)[:, 0]

    def _moves(self, images: Tensor, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Draw by how many rows and columns each image is shifted, (2, n), and whether it is mirrored, (n,)."""
        shift = rng.integers(0, 2 * self.crop + 1, (2, len(images)))
        return shift, rng.random(len(images)) < 0.5 if self.flip else np.zeros(len(images), dtype=bool)

    def _moved(self, images: Tensor, shift: NDArray[np.int64], mirrored: NDArray[np.bool_], padding: float = 0) -> Tensor:
        n, _, height, width = images.shape
        if not self.crop:  # a gather takes several times as long as this does
            turned = torch.from_numpy(mirrored).to(images.device)
            found = images.clone()
            found[turned] = images[turned].flip(-1)
            return found
        across = np.broadcast_to(np.arange(width), (n, width))
        columns = shift[1][:, None] + np.where(mirrored[:, None], across[:, ::-1], across)
        padded = torch.nn.functional.pad(images, [self.crop] * 4, value=padding)
        rows = shift[0][:, None] + np.arange(height)
        down, right = (torch.from_numpy(index).to(images.device) for index in (rows, columns))
        sample = torch.arange(n, device=images.device)[:, None, None]
        return padded[sample, :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


class Batches:
    """Endless, shuffled sequence of batches of one part, each a function of the seed and its number alone.

    So the position in the data is one integer, and replicas that share the seed see the same batches.

    Args:
        size: Number of images of the part.
        batch: Images per batch; all of them where there are fewer.
        seed: Numbers that seed the order.
    """

    def __init__(self, size: int, batch: int, seed: Sequence[int]) -> None:
        self.size, self.batch, self.seed = size, min(batch, size), list(seed)
        self.per_epoch = size // self.batch
        self._epoch = -1
        self._order: NDArray[np.int64] = np.arange(0)

    def __getitem__(self, step: int) -> NDArray[np.int64]:
        """Return the indices of batch `step`; an epoch leaves out the remainder that does not fill a batch."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = np.random.default_rng([*self.seed, epoch]).permutation(self.size), epoch
        return self._order[position * self.batch : (position + 1) * self.batch]


@dataclass(frozen=True)
class Split:
    """Division of images into parts; the settings that every dataset has.

    Args:
        valid: Share of the training images for architecture decisions, where there is no official validation part.
        test: Share that is set apart where there is no official test part.
        limit: Number of training images to use, an equal share of each class and at least two; None for all.
        flip: Whether mirrored images show the same class; None for what the dataset says.
        crop: Pixels by which an image may be shifted; None for what the dataset says.
        split_seed: Seed of the division; it is not the search's seed, so that all searches of a comparison see the same parts.
        stream: Whether images of files are decoded whenever they are used, rather than once; `auto` does so where they would
            take more than an eighth of the memory. The records are the same.
        resized_crop: Smallest share of an image's area that a training image shows, as a random crop that is resized, in the
            place of shifts; 0.08 is usual for photographs. It is drawn from the file anew at each use, so images are streamed.
        decoders: Processes of each worker that decode streamed images, 0 for the worker itself; None for as many as it has
            threads, and 4 at least with a GPU.

    Raises:
        InputError: For a setting out of its range.
    """

    valid: float = 0.5
    test: float = 0.2
    limit: int | None = None
    flip: bool | None = None
    crop: int | None = None
    split_seed: int = 0
    stream: Literal["auto"] | bool = "auto"
    resized_crop: float = 0.0
    decoders: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.valid < 1 or not 0 < self.test < 1:
            raise InputError(f"data.valid = {self.valid}, data.test = {self.test}: both are shares between 0 and 1")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"data.limit = {self.limit}; it is a number of images")
        if self.split_seed < 0 or (self.crop is not None and self.crop < 0):
            raise InputError(f"data.split_seed = {self.split_seed}, data.crop = {self.crop}: neither may be negative")
        if not 0 <= self.resized_crop < 1:
            raise InputError(
                f"data.resized_crop = {self.resized_crop}: it is a share of an image's area, below 1; write 0.08, or 0 for none"
            )
        if self.resized_crop and self.stream is False:
            raise InputError(
                "data.resized_crop crops files anew at each use, which data.stream = false does not; leave one of them out"
            )
        if self.decoders is not None and self.decoders < 0:
            raise InputError(f"data.decoders = {self.decoders}; it is a number of processes, 0 for none")

    def apply(self, raw: Raw, task: Task | None = None) -> Dataset:
        """Divide images into three parts.

        Args:
            raw: Images and labels.
            task: What networks are trained for; None for classification.

        Raises:
            InputError: Where a class has too few images for every part, or the task's settings do not fit the labels.
        """
        task = Classification() if task is None else task
        rng = np.random.default_rng(self.split_seed)
        images, labels = raw.images, raw.labels
        strata = task.strata(labels)
        names = raw.classes if isinstance(task, Classification) else ("",)
        everything = _by_class(strata, len(names), rng)
        needed = 1 + (raw.test is None) + (raw.valid is None)
        for name, indices in zip(names, everything, strict=True):
            if len(indices) < needed and not isinstance(task, Classification):
                raise InputError(f"the data has {len(indices)} examples to train on; every part needs one, so {needed} here")
            if len(indices) < needed:
                count = "1 image" if len(indices) == 1 else f"{len(indices)} images"
                raise InputError(
                    f"class {name!r} has {count}; every part of the data needs at least one, so {needed} here: add "
                    "some, or take the class away"
                )
        if raw.test is None:
            cuts = [min(len(c) - needed + 1, max(1, round(len(c) * self.test))) for c in everything]
            held = np.concatenate([c[:cut] for c, cut in zip(everything, cuts, strict=True)])
            test = (images[held], labels[held])
            everything = [c[cut:] for c, cut in zip(everything, cuts, strict=True)]
        else:
            test = raw.test
        if raw.valid is None:
            if self.limit is not None:
                everything = [c[: max(2, self.limit // len(everything))] for c in everything]
            cuts = [min(len(c) - 1, max(1, round(len(c) * self.valid))) for c in everything]
            deciding = [c[:cut] for c, cut in zip(everything, cuts, strict=True)]
            everything = [c[cut:] for c, cut in zip(everything, cuts, strict=True)]
            valid_images, valid_labels = images, labels
        else:
            valid_images, valid_labels = raw.valid
            deciding = _by_class(task.strata(valid_labels), len(names), rng)
            if self.limit is not None:  # both in their proportion
                most = max(2, self.limit // len(everything))
                shares = [max(1, round(most * len(d) / (len(c) + len(d)))) for c, d in zip(everything, deciding, strict=True)]
                deciding = [d[:share] for d, share in zip(deciding, shares, strict=True)]
                everything = [c[: max(1, most - share)] for c, share in zip(everything, shares, strict=True)]
        # Mixed: it is judged batch by batch, mostly with each batch's own statistics, and folders come class by class.
        valid = rng.permutation(np.concatenate(deciding))
        train = np.sort(np.concatenate(everything))
        loaded = self._loaded(images[train], valid_images[valid], test[0])
        crop = loaded.looked_at.shape[-1] // 8 if raw.crop is None else raw.crop  # type: ignore[union-attr]
        for key in ("flip", "crop", "resized_crop"):
            if getattr(self, key) and (why := _unaugmented(task, loaded.looked_at, key)):
                raise InputError(f"data.{key} = {getattr(self, key)}: {why}; leave it out")
        crop = 0 if self.resized_crop else crop
        return Dataset(
            _part(loaded.parts[0], labels[train]),
            _part(loaded.parts[1], valid_labels[valid]),
            _part(loaded.parts[2], test[1]),
            raw.classes,
            flip=raw.flip if self.flip is None else self.flip,
            crop=crop if self.crop is None else self.crop,
            notes={**raw.notes, **loaded.notes},
            warnings=raw.warnings,
            scales=loaded.scales,
            task=_fitted(task, torch.from_numpy(np.ascontiguousarray(labels[train])), raw.classes),
            resized_crop=self.resized_crop,
            **_scaled(loaded.looked_at, raw.vocabulary),
        )

    def _loaded(self, *parts: Any) -> _Loaded:
        """Read the images of all parts, unless they are read already or to be streamed."""
        if isinstance(parts[0], (np.ndarray, Inputs)):
            if self.stream is True or self.resized_crop:
                key = f"data.resized_crop = {self.resized_crop}" if self.resized_crop else "data.stream = true"
                raise InputError(
                    f"{key}: this data is in memory as it comes; images are streamed from files, and from a function that "
                    "returns a data set of its items"
                )
            return _Loaded(parts, parts[0], {}, {})
        unread: list[Unread] = list(parts)
        looked_at = _looked_at(len(unread[0]), self.split_seed)
        size, most = sum(map(len, unread)) * math.prod(unread[0].shape), memory() // MEMORY
        if self.stream is False or (self.stream == "auto" and not self.resized_crop and size <= most):
            arrays, notes, scales = unread[0].read(*unread[1:])
            notes["memory"] = f"{in_bytes(size)}, read into memory"
            return _Loaded(arrays, arrays[0][looked_at], notes, scales)
        streams = [replace(part.stream(), decoders=self.decoders) for part in unread]
        (pixels,), notes, scales = unread[0][looked_at].read()
        if scales:
            raise too_deep("one of the images")
        if len(looked_at) < len(unread[0]):
            for title in notes:
                notes[title] += f", of {len(looked_at)} images that were looked at"
        why = "as data.stream says" if self.stream is True else f"as {in_bytes(most)} may be read into memory"
        why = "for random crops" if self.resized_crop else why
        notes["memory"] = f"streamed from where it lies: {in_bytes(size)} if it was all decoded, {why}"
        return _Loaded(streams, pixels, notes, {})


@dataclass(frozen=True)
class _Loaded:
    """Images of the three parts.

    Args:
        parts: Pixels, or streams.
        looked_at: Images of the train part, all of them or a sample, (n, channels, height, width).
        notes: What there is to say of them, by title.
        scales: Scales of images of more than 8 bits.
    """

    parts: Sequence[Pixels | Inputs | Stream]
    looked_at: Pixels | Inputs
    notes: dict[str, str]
    scales: Scales


def in_bytes(size: float) -> str:
    """Format a number of bytes."""
    units = ("B", "KB", "MB", "GB", "TB", "PB")
    power = min(len(units) - 1, int(math.log(max(size, 1), 1000)))
    return f"{size / 1000**power:.3g} {units[power]}"


def _fitted(task: Task, targets: Tensor, names: Sequence[str]) -> Task:
    try:
        return task.fitted(targets.cpu().numpy(), names)
    except ValueError as error:
        raise InputError(f"task.{error}") from error


def _unaugmented(task: Task, images: Pixels | Inputs, key: str) -> str:
    """Say why examples cannot be augmented in the way that a key names; "" where they can."""
    if isinstance(images, Inputs):
        return "examples of several inputs are not augmented, as one input would no longer fit the other"
    if images.ndim != 4:
        return "only images are augmented, and these are none"
    maps = task.maps and key == "resized_crop"
    return f"targets of {task.name} would have to move with the pixels; retrain.resized_crop does that" if maps else ""


def _looked_at(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw the images that are looked at where not all are."""
    return np.sort(np.random.default_rng([_LOOKED_AT, seed]).permutation(count)[:LOOKED_AT])


def _seen(part: Part) -> Any:
    """Return the examples of a part in arrays, of a stream those that are looked at."""
    return mapped(Tensor.numpy, part.images[_looked_at(len(part))] if isinstance(part.images, Stream) else part.images)


def _scaled(examples: Pixels | Inputs, vocabulary: int | tuple[int | None, ...] | None) -> dict[str, Any]:
    """Return the fields of a `Dataset` that say how its examples are normalised, by those of the train part."""
    if not isinstance(examples, Inputs):
        mean, std = _moments(examples)
        return {"mean": mean, "std": std, "vocabulary": vocabulary}
    each = vocabulary if isinstance(vocabulary, tuple) else (None,) * len(examples.parts)
    inputs = tuple(Scaling(*_moments(part), size) for part, size in zip(examples.parts, each, strict=True))
    return {"mean": (), "std": (), "inputs": inputs}


def _moments(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel or column: of images in 0..1, of other floating-point numbers in their unit."""
    if np.issubdtype(images.dtype, np.integer) and images.dtype != np.uint8:
        return (), ()  # tokens
    if images.dtype != np.uint8:
        values = images.reshape(*images.shape[:2], -1).swapaxes(0, 1).reshape(images.shape[1], -1).astype(np.float64)
        centre, spread = values.mean(axis=1), values.std(axis=1)
        constant = spread <= 1e-7 * np.abs(centre)  # but for rounding
        return tuple(map(float, centre)), tuple(map(float, np.where(constant, 1.0, spread)))
    # By how often each value occurs, which is exact, and needs no floating-point number for each pixel.
    levels = np.arange(256)
    counts = [np.bincount(images[:, channel].reshape(-1), minlength=256) for channel in range(images.shape[1])]
    mean = [float((count * levels).sum()) / float(count.sum()) for count in counts]
    variance = [float((count * (levels - m) ** 2).sum()) / float(count.sum()) for count, m in zip(counts, mean, strict=True)]
    return tuple(m / 255 for m in mean), tuple(max(math.sqrt(v) / 255, 1e-3) for v in variance)


def _of_classes(part: Part, classes: Sequence[int]) -> Part:
    """Keep the images of some classes, whose labels count from 0 anew."""
    kept = torch.isin(part.labels, torch.tensor(classes))
    if bool(kept.all()):
        return part
    chosen = part.select(np.flatnonzero(kept.numpy()))
    return Part(chosen.images, torch.searchsorted(torch.tensor(classes), chosen.labels))


def _share_of(part: Part, share: float, task: Task, names: Sequence[str]) -> Part:
    """Draw a share of the images of each class."""
    strata = task.strata(part.labels.numpy())
    classes = names if isinstance(task, Classification) else ("",)
    images = [np.flatnonzero(strata == c) for c in range(len(classes))]
    least = min((len(i), name) for i, name in zip(images, classes, strict=True) if len(i))
    if not _rounded(least[0] * share):
        needed = math.ceil(1e4 * 0.5 / least[0]) / 1e4
        raise InputError(f"proxy.share = {share:g} leaves no image of class {least[1]!r}; write at least {needed:g}")
    chance = (np.random.default_rng([_SHARE, c]) for c in range(len(classes)))
    found = [rng.permutation(i)[: _rounded(len(i) * share)] for rng, i in zip(chance, images, strict=False)]
    return part.select(np.sort(np.concatenate(found)))


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)


def _resized(images: Examples | Stream, shape: tuple[int, int]) -> Tensor | Stream:
    if isinstance(images, Stream):
        return images.smaller(shape)
    assert isinstance(images, Tensor)  # `_resizing` refuses anything else
    return torch.cat([pooled(piece, shape) for piece in images.split(4096)])  # type: ignore[no-untyped-call]


def _part(images: Pixels | Inputs | Stream, labels: Labels) -> Part:
    targets = torch.from_numpy(np.ascontiguousarray(labels))
    held = images if isinstance(images, Stream) else mapped(lambda x: torch.from_numpy(np.ascontiguousarray(x)), images)
    return Part(held, targets)


def _by_class(labels: Labels, classes: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    return [rng.permutation(np.flatnonzero(labels == c)) for c in range(classes)]
