"""Examples and their three disjoint parts: for weights, for architecture decisions, and for final reports only.

A part lives as one tensor on the device. Examples are mostly images, of 8 bits, which are augmented there, per sample, by a
single gather (torchvision's transforms draw once per batch; DataLoader workers cost more than small networks do). Signals and
rows of tables are floating-point numbers, tokens whole ones; nothing is drawn at random about these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orchestrator.data.images import Scales
from orchestrator.errors import InputError
from orchestrator.registry import Component, nearest
from orchestrator.spaces.parts.inputs import Tokens, in_words
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification

Pixels = NDArray[Any]
"""Images of 8 bits, or what stands for them: signals and rows of float32, tokens of int64."""
Labels = NDArray[Any]
"""Targets: classes of int64, or what another task takes."""
_SHARE = 17
"""Stream of chance that draws a share of the images; it is no search's own, so that all searches see the same ones."""


class Unread(Protocol):
    """Images that are read when it is known which ones are used."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any, /) -> Self:
        """Choose some of them; nothing is read yet."""

    def read(self, *others: Self) -> tuple[list[Pixels], dict[str, str], Scales]:
        """Read these and others, on one scale.

        Returns:
            Images, (n, channels, height, width), of each; what there is to say of all by title; and the scales of images of
            more than 8 bits.
        """


@dataclass(frozen=True)
class Raw:
    """Images as a loader returns them.

    Args:
        images: Images, (n, channels, height, width) uint8, or what reads them; signals, (n, channels, length) float32; rows of
            a table, (n, columns) float32; tokens, (n, length) int64.
        labels: Labels, (n,) in 0..classes-1, or what another task takes.
        test: Images and labels of the official test part, or None to set a share of the images apart.
        classes: Names, in the order of the labels; those of the targets for a task without classes.
        flip: Whether mirrored images show the same class.
        crop: Pixels by which an image may be shifted; None for an eighth of the width.
        valid: Images and labels of an official validation part, or None to set a share of the images apart.
        notes: How the data was understood, by title.
        warnings: What may be wrong with it.
        vocabulary: Number of different tokens, for tokens.
    """

    images: Pixels | Unread
    labels: Labels
    test: tuple[Pixels | Unread, Labels] | None
    classes: tuple[str, ...]
    flip: bool
    crop: int | None
    valid: tuple[Pixels | Unread, Labels] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    vocabulary: int | None = None


@dataclass(frozen=True)
class Part:
    """Images and labels on one device.

    Args:
        images: Images, (n, channels, height, width) uint8, or what stands for them (see `Raw`).
        labels: Labels, (n,) int64, or what another task takes.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str) -> Part:
        return Part(self.images.to(device), self.labels.to(device))


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

    def __post_init__(self) -> None:
        if not hasattr(self.task, "outputs"):
            object.__setattr__(self, "task", _fitted(self.task, self.train.labels, self.classes))

    @property
    def image(self) -> tuple[int, ...]:
        """Shape of an example: (channels, height, width) of images, (channels, length) of signals, (columns,), or `Tokens`."""
        shape = tuple(self.train.images.shape[1:])
        return shape if self.vocabulary is None else Tokens(shape, self.vocabulary)

    @property
    def has_images(self) -> bool:
        """Tell whether examples are images, rather than signals, rows of a table or tokens."""
        return len(self.image) == 3

    @property
    def words(self) -> str:
        """Return the kind of an example."""
        return in_words(self.image)

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
        mean, std = _moments(train.images.numpy())
        task = _fitted(self.task, train.labels, classes)
        return replace(
            self, train=train, valid=valid, test=test, classes=classes, mean=mean, std=std, crop=crop, source=None, task=task
        )

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

    def normalise(self, images: Tensor) -> Tensor:
        """Convert to float32 with mean 0 and deviation 1 per channel or column of the train part; tokens stay what they are."""
        if self.vocabulary is not None:
            return images
        over = [1] * (images.dim() - 2)
        mean = images.new_tensor(self.mean, dtype=torch.float32).view(-1, *over)
        std = images.new_tensor(self.std, dtype=torch.float32).view(-1, *over)
        return ((images.float() / 255 if images.dtype == torch.uint8 else images) - mean) / std

    def augment(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Shift each image by up to `crop` pixels, padded with zeros, and flip it at random where flips are allowed.

        Examples that are no images, and images whose targets are maps of their pixels, stay as they are.
        """
        if not self.has_images or self.task.maps:
            return images
        n, _, height, width = images.shape
        device = images.device
        padded = torch.nn.functional.pad(images, [self.crop] * 4)
        shift = rng.integers(0, 2 * self.crop + 1, (2, n))
        columns = np.broadcast_to(np.arange(width), (n, width))
        if self.flip:
            columns = np.where(rng.random((n, 1)) < 0.5, columns[:, ::-1], columns)
        rows = torch.from_numpy(shift[0][:, None] + np.arange(height)).to(device)
        cols = torch.from_numpy(shift[1][:, None] + columns).to(device)
        sample = torch.arange(n, device=device)[:, None, None]
        return padded[sample, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)


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

    Raises:
        InputError: For a setting out of its range.
    """

    valid: float = 0.5
    test: float = 0.2
    limit: int | None = None
    flip: bool | None = None
    crop: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.valid < 1 or not 0 < self.test < 1:
            raise InputError(f"data.valid = {self.valid}, data.test = {self.test}: both are shares between 0 and 1")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"data.limit = {self.limit}; it is a number of images")
        if self.split_seed < 0 or (self.crop is not None and self.crop < 0):
            raise InputError(f"data.split_seed = {self.split_seed}, data.crop = {self.crop}: neither may be negative")

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
        pixels, read, scales = _pixels(images[train], valid_images[valid], test[0])
        mean, std = _moments(pixels[0])
        crop = pixels[0].shape[-1] // 8 if raw.crop is None else raw.crop
        if self.flip or self.crop:
            key = "flip" if self.flip else "crop"
            why = _unaugmented(task, pixels[0])
            if why:
                raise InputError(f"data.{key} = {getattr(self, key)}: {why}; leave it out")
        return Dataset(
            _part(pixels[0], labels[train]),
            _part(pixels[1], valid_labels[valid]),
            _part(pixels[2], test[1]),
            raw.classes,
            mean,
            std,
            raw.flip if self.flip is None else self.flip,
            crop if self.crop is None else self.crop,
            notes={**raw.notes, **read},
            warnings=raw.warnings,
            scales=scales,
            task=_fitted(task, torch.from_numpy(np.ascontiguousarray(labels[train])), raw.classes),
            vocabulary=raw.vocabulary,
        )


def _pixels(first: Any, *others: Any) -> tuple[list[Pixels], dict[str, str], Scales]:
    """Return the images of all parts, which are read now if they were not."""
    return ([first, *others], {}, {}) if isinstance(first, np.ndarray) else first.read(*others)


def _fitted(task: Task, targets: Tensor, names: Sequence[str]) -> Task:
    try:
        return task.fitted(targets.cpu().numpy(), names)
    except ValueError as error:
        raise InputError(f"task.{error}") from error


def _unaugmented(task: Task, images: Pixels) -> str:
    """Say why examples cannot be shifted and flipped; "" where they can."""
    if images.ndim != 4:
        return "only images are augmented, and these are none"
    return f"targets of {task.name} would have to move with the pixels" if task.maps else ""


def _moments(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel or column: of images in 0..1, of other floating-point numbers in their unit."""
    if np.issubdtype(images.dtype, np.integer) and images.dtype != np.uint8:
        return (), ()  # tokens
    if images.dtype != np.uint8:
        values = images.reshape(*images.shape[:2], -1).swapaxes(0, 1).reshape(images.shape[1], -1).astype(np.float64)
        centre, spread = values.mean(axis=1), values.std(axis=1)
        constant = spread <= 1e-7 * np.abs(centre)  # but for rounding
        return tuple(map(float, centre)), tuple(map(float, np.where(constant, 1.0, spread)))
    scaled = images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1)
    mean = tuple(float(m) / 255 for m in scaled.mean(axis=1, dtype=np.float64))
    return mean, tuple(max(float(s) / 255, 1e-3) for s in scaled.std(axis=1, dtype=np.float64))


def _of_classes(part: Part, classes: Sequence[int]) -> Part:
    """Keep the images of some classes, whose labels count from 0 anew."""
    kept = torch.isin(part.labels, torch.tensor(classes))
    if bool(kept.all()):
        return part
    return Part(part.images[kept], torch.searchsorted(torch.tensor(classes), part.labels[kept]))


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
    kept = torch.from_numpy(np.sort(np.concatenate(found)))
    return Part(part.images[kept], part.labels[kept])


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)


def _resized(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Average pixels, in exact arithmetic but for the last division, so that every processor has the same images."""
    pieces = [nn.functional.adaptive_avg_pool2d(piece.float(), shape).round().byte() for piece in images.split(4096)]  # type: ignore[no-untyped-call]
    return torch.cat(pieces)


def _part(images: Pixels, labels: Labels) -> Part:
    return Part(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.ascontiguousarray(labels)))


def _by_class(labels: Labels, classes: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    return [rng.permutation(np.flatnonzero(labels == c)) for c in range(classes)]
