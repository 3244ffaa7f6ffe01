"""Loaders by name, and functions of users."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from orchestrator.data.dataset import Dataset, Labels, Pixels, Raw, Split
from orchestrator.errors import InputError
from orchestrator.registry import UNNAMED, Component, import_from, keywords, nearest


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

    Args:
        path: Folder that holds the classes, or `train` and `test` (or `val`), each of which holds them.
        size: Side in pixels that all images are resized to.

    Raises:
        InputError: For a folder without classes, and for an unreadable image.
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
    if name == UNNAMED:
        raise InputError(f"data.name = {name!r}: no file can name it; go on with paretoray.resume(directory, problem)")
    if name not in LOADERS:
        raise InputError(f"unknown dataset {name!r}{nearest(name, LOADERS)}; your own is data.name=module:function")
    return LOADERS[name]


def component(name: str, given: Mapping[str, Any]) -> Component:
    """Find the loader `name` and check its keywords together with those of `Split`. Raises InputError."""
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
    return Component(name, loader, mine | split, frozenset(given))


def load(source: Component) -> Dataset:
    """Read the images and share them out into parts. Raises InputError."""
    shared = inspect.signature(Split).parameters
    returned = source.factory(**{k: v for k, v in source.settings.items() if k not in shared})
    raw = returned if isinstance(returned, Raw) else _to_raw(returned, source.name)
    split = Split(**{k: v for k, v in source.settings.items() if k in shared})
    return replace(split.apply(raw), source=source)


def _to_raw(returned: Any, name: str) -> Raw:
    """Convert what a user's function returned.

    Args:
        returned: An (images, labels) pair, a map-style dataset, or two of either kind, for training and for testing.
        name: Name of the function, for messages.
    """
    pair = isinstance(returned, tuple) and len(returned) == 2
    two = pair and (isinstance(returned[0], tuple) or not isinstance(returned[0], (np.ndarray, Tensor)))
    train, test = returned if two else (returned, None)
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
