"""Images and their three disjoint parts: for weights, for architecture decisions, and for final reports only.

A part lives as one uint8 tensor on the device and is augmented there, per sample, by a single gather. (torchvision's
transforms draw once per batch; DataLoader workers cost more than small networks do.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.errors import InputError
from orchestrator.registry import import_from, keywords, nearest

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Raw:
    """Images as they come: (n, channels, height, width) uint8 with labels (n,) in 0..classes-1.

    test: the official test part, or None to set a share of the images apart. flip: mirrored images show the same class.
    crop: pixels by which an image may be shifted.
    """

    images: Pixels
    labels: Labels
    test: tuple[Pixels, Labels] | None
    classes: tuple[str, ...]
    flip: bool
    crop: int


@dataclass(frozen=True)
class Part:
    """Images (n, channels, height, width) uint8 and labels (n,) int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str) -> Part:
        return Part(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Three parts and how to augment and normalise them. mean, std: per channel, of the train part, in 0..1."""

    train: Part
    valid: Part
    test: Part
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    crop: int

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        c, h, w = self.train.images.shape[1:]
        return c, h, w

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 to float32 with mean 0 and deviation 1 per channel of the train part."""
        mean = images.new_tensor(self.mean, dtype=torch.float32).view(-1, 1, 1)
        std = images.new_tensor(self.std, dtype=torch.float32).view(-1, 1, 1)
        return (images.float() / 255 - mean) / std

    def augment(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Each image shifted by up to `crop` pixels over zeros and, if flips are allowed, mirrored or not, on its own."""
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
    """An endless, shuffled sequence of batches of one part, each a function of the seed and its number alone.

    So the position in the data is one integer, and replicas that share the seed see the same batches.
    """

    def __init__(self, size: int, batch: int, seed: Sequence[int]) -> None:
        self.size, self.batch, self.seed = size, min(batch, size), list(seed)
        self.per_epoch = size // self.batch
        self._epoch = -1
        self._order: NDArray[np.int64] = np.arange(0)

    def __getitem__(self, step: int) -> NDArray[np.int64]:
        """The indices of batch `step`; an epoch leaves out the remainder that does not fill a batch."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = np.random.default_rng([*self.seed, epoch]).permutation(self.size), epoch
        return self._order[position * self.batch : (position + 1) * self.batch]


@dataclass(frozen=True)
class Split:
    """How images are shared out; the keywords that every dataset has.

    valid: share of the training images for architecture decisions. test: share set apart where there is no official test
    part. limit: use only so many training images, an equal share of each class and at least two. flip, crop: override the
    dataset's augmentation. split_seed: draws the parts; it is not the search's seed, so that all searches of a
    comparison see the same parts.
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

    def apply(self, raw: Raw) -> Dataset:
        """Raises InputError where a class has too few images for every part."""
        rng = np.random.default_rng(self.split_seed)
        images, labels = raw.images, raw.labels
        everything = _by_class(labels, len(raw.classes), rng)
        for name, indices in zip(raw.classes, everything, strict=True):
            if len(indices) < (2 if raw.test is not None else 3):
                raise InputError(f"class {name!r} has {len(indices)} images; every part of the data needs at least one")
        if raw.test is None:
            cuts = [min(len(c) - 2, max(1, round(len(c) * self.test))) for c in everything]
            held = np.concatenate([c[:cut] for c, cut in zip(everything, cuts, strict=True)])
            test_images, test_labels = images[held], labels[held]
            everything = [c[cut:] for c, cut in zip(everything, cuts, strict=True)]
        else:
            test_images, test_labels = raw.test
        if self.limit is not None:
            everything = [c[: max(2, self.limit // len(everything))] for c in everything]
        cuts = [min(len(c) - 1, max(1, round(len(c) * self.valid))) for c in everything]
        # Mixed: it is judged batch by batch, mostly with each batch's own statistics, and folders come class by class.
        valid = rng.permutation(np.concatenate([c[:cut] for c, cut in zip(everything, cuts, strict=True)]))
        train = np.sort(np.concatenate([c[cut:] for c, cut in zip(everything, cuts, strict=True)]))
        scaled = images[train].transpose(1, 0, 2, 3).reshape(images.shape[1], -1)
        return Dataset(
            _part(images[train], labels[train]),
            _part(images[valid], labels[valid]),
            _part(test_images, test_labels),
            raw.classes,
            tuple(float(m) / 255 for m in scaled.mean(axis=1, dtype=np.float64)),
            tuple(max(float(s) / 255, 1e-3) for s in scaled.std(axis=1, dtype=np.float64)),
            raw.flip if self.flip is None else self.flip,
            raw.crop if self.crop is None else self.crop,
        )


def _part(images: Pixels, labels: Labels) -> Part:
    return Part(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.ascontiguousarray(labels)))


def _by_class(labels: Labels, classes: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    return [rng.permutation(np.flatnonzero(labels == c)) for c in range(classes)]


def digits() -> Raw:
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 grey pixels; inside the package, so nothing is downloaded."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images[:, None] * (255 / 16)).astype(np.uint8)
    return Raw(images, bunch.target.astype(np.int64), None, tuple(str(d) for d in range(10)), flip=False, crop=1)


def cifar10(*, root: str = "~/.cache/paretoray", download: bool = True) -> Raw:
    """CIFAR-10, 32x32 colour images of 10 classes; downloaded to `root` by torchvision on first use."""
    return _torchvision("CIFAR10", root, download, flip=True, crop=4)


def cifar100(*, root: str = "~/.cache/paretoray", download: bool = True) -> Raw:
    """CIFAR-100, 32x32 colour images of 100 classes; downloaded to `root` by torchvision on first use."""
    return _torchvision("CIFAR100", root, download, flip=True, crop=4)


def fashion_mnist(*, root: str = "~/.cache/paretoray", download: bool = True) -> Raw:
    """Fashion-MNIST, 28x28 grey images of 10 kinds of clothes; downloaded to `root` by torchvision on first use."""
    return _torchvision("FashionMNIST", root, download, flip=True, crop=2)


def _torchvision(name: str, root: str, download: bool, *, flip: bool, crop: int) -> Raw:
    import torchvision

    def part(train: bool) -> tuple[Pixels, Labels, list[str]]:
        try:
            data = getattr(torchvision.datasets, name)(str(Path(root).expanduser()), train=train, download=download)
        except Exception as error:  # urllib, OSError and RuntimeError, depending on what is missing
            raise InputError(
                f"{name} is not in data.root = {root!r} and could not be fetched ({error}); put it there, or use "
                "data.name=folder with your own images, or data.name=digits, which needs no download"
            ) from error
        pixels = np.asarray(data.data)
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        return pixels, np.asarray(data.targets, dtype=np.int64), list(data.classes)

    images, labels, classes = part(train=True)
    return Raw(images, labels, part(train=False)[:2], tuple(classes), flip, crop)


def folder(*, path: str, size: int = 32) -> Raw:
    """Any folder in torchvision's ImageFolder layout, one folder of images per class.

    path: either holds the classes, or holds `train` and `test` (or `val`), each of which does. size: all images are resized
    to size x size pixels.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"data.path = {path!r} is not a folder")
    if size < 1:
        raise InputError(f"data.size = {size}; it is the side of an image in pixels")
    # A class may be called train, too; a training part holds folders.
    if not any(p.is_dir() for p in (root / "train").glob("*")):
        images, labels, classes = _read_folder(root, size)
        return Raw(images, labels, None, classes, flip=True, crop=size // 8)
    held = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    images, labels, classes = _read_folder(root / "train", size)
    if held is None:
        return Raw(images, labels, None, classes, flip=True, crop=size // 8)
    test_images, test_labels, test_classes = _read_folder(held, size)
    if test_classes != classes:
        raise InputError(f"{root / 'train'} has the classes {', '.join(classes)}; {held} has {', '.join(test_classes)}")
    return Raw(images, labels, (test_images, test_labels), classes, flip=True, crop=size // 8)


def _read_folder(root: Path, size: int) -> tuple[Pixels, Labels, tuple[str, ...]]:
    from PIL import Image
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    try:
        classes, index = find_classes(str(root))
        listed = make_dataset(str(root), index, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise InputError(f"{root} does not hold one folder of images per class: {error}") from error
    if len(classes) < 2:
        raise InputError(f"{root} holds one class only ({classes[0]}); a classifier needs two or more")

    def pixels(item: tuple[str, int]) -> Pixels:
        try:
            with Image.open(item[0]) as file:
                image = file.convert("RGB")
                if image.size != (size, size):
                    image = image.resize((size, size), Image.Resampling.BILINEAR)
                return np.asarray(image, dtype=np.uint8)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{item[0]} is not a readable image ({error}); repair it or take it away") from error

    with ThreadPoolExecutor() as pool:  # decoding runs outside the interpreter's lock
        images = np.stack(list(pool.map(pixels, listed)))
    return images.transpose(0, 3, 1, 2), np.array([label for _, label in listed]), tuple(classes)


LOADERS: dict[str, Callable[..., Raw]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "fashion-mnist": fashion_mnist,
    "folder": folder,
}


def _loader(name: str) -> Callable[..., Any]:
    if ":" in name:
        return import_from(name, "data.name")  # type: ignore[no-any-return]
    if name not in LOADERS:
        raise InputError(f"unknown dataset {name!r}{nearest(name, LOADERS)}; your own is data.name=module:function")
    return LOADERS[name]


def settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The keywords of dataset `name`, checked and completed: its own and those of `Split`. Raises InputError."""
    shared = inspect.signature(Split).parameters
    loader = _loader(name)
    for key in given:
        own = inspect.signature(loader).parameters
        if key not in shared and key not in own:
            raise InputError(f"unknown key data.{key}{nearest(key, [*own, *shared])}")
    mine = keywords(loader, {k: v for k, v in given.items() if k not in shared}, "data")
    split = keywords(Split, {k: v for k, v in given.items() if k in shared}, "data")
    Split(**split)  # refuses impossible shares before anything is read
    for key in {"path", "root"} & mine.keys():  # a run is resumed from any folder, and trials change theirs
        mine[key] = str(Path(mine[key]).expanduser().absolute())
    return mine | split


def load(name: str, given: dict[str, Any]) -> Dataset:
    """The dataset `name` with the keywords `given`, as `settings` returns them. Raises InputError."""
    shared = inspect.signature(Split).parameters
    made = _loader(name)(**{k: v for k, v in given.items() if k not in shared})
    raw = made if isinstance(made, Raw) else _own(made, name)
    return Split(**{k: v for k, v in given.items() if k in shared}).apply(raw)


def _own(made: Any, name: str) -> Raw:
    """What a user's function returned, as `Raw`: an (images, labels) pair, a map-style dataset, or two of either
    kind, for training and for testing."""
    pair = isinstance(made, tuple) and len(made) == 2
    two = pair and (isinstance(made[0], tuple) or not isinstance(made[0], (np.ndarray, Tensor)))
    train, test = made if two else (made, None)
    images, labels = _arrays(train, name)
    held = None if test is None else _arrays(test, name)
    if held is not None and held[0].shape[1:] != images.shape[1:]:
        raise InputError(f"data.name = {name!r}: images of {images.shape[1:]} to train on, of {held[0].shape[1:]} to test on")
    count = int(max(labels.max(), -1 if held is None else held[1].max())) + 1
    if count < 2:
        raise InputError(f"data.name = {name!r} returned one class only; a classifier needs two or more")
    return Raw(images, labels, held, tuple(str(c) for c in range(count)), flip=False, crop=max(1, images.shape[-1] // 8))


def _arrays(source: Any, name: str) -> tuple[Pixels, Labels]:
    if not hasattr(source, "__getitem__") or not hasattr(source, "__len__"):
        raise InputError(f"data.name = {name!r} returned {type(source).__name__}; wanted are arrays, or a map-style dataset")
    if not isinstance(source, tuple):
        items = [source[i] for i in range(len(source))]
        source = (np.stack([np.asarray(x) for x, _ in items]), np.array([int(y) for _, y in items]))
    if len(source) != 2:
        raise InputError(f"data.name = {name!r} returned {len(source)} things; wanted are images and labels")
    images, labels = np.asarray(source[0]), np.asarray(source[1])
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    whole = np.issubdtype(labels.dtype, np.integer)
    if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != (len(images),) or not len(images) or not whole:
        raise InputError(
            f"data.name = {name!r} returned images of shape {images.shape} and type {images.dtype} with labels of shape "
            f"{labels.shape}; wanted are uint8 images (n, channels, height, width) and integer labels (n,)"
        )
    if labels.min() < 0:
        raise InputError(f"data.name = {name!r} returned the label {labels.min()}; labels count from 0")
    return images, labels.astype(np.int64)
