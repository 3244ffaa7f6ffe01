"""Loaders by name, and functions of users."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from orchestrator.data import folders, functions, stores
from orchestrator.data.dataset import Dataset, Labels, Pixels, Raw, Split
from orchestrator.data.images import Fit, Form, Paths
from orchestrator.data.items import read_lazily
from orchestrator.data.stream import Encoded
from orchestrator.errors import InputError
from orchestrator.registry import UNNAMED, Component, import_from, keywords, nearest
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification

READING = ("layout", "kind", "inputs")
"""The keys that say how to read what a function returns: the order of channels, the kind of examples, and which of its keys
networks take."""


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

    pixels, labels, classes = part(train=True)
    return Raw(pixels, labels, part(train=False)[:2], tuple(classes), flip, crop)


def folder(
    *,
    path: str,
    size: int = 32,
    fit: Fit = "squash",
    channels: Literal[1, 3, "auto"] = 3,
    background: str = "white",
    divided: bool | None = None,
) -> Raw:
    """Any folder with a folder of images for each class, or with such folders in `train`, `test` and `val`.

    Args:
        path: The folder.
        size: Side in pixels that all images are resized to.
        fit: What becomes of an image that is not square: `squash` changes its proportions, `crop` cuts its longer side,
            `letterbox` adds a border of the background.
        channels: 1 for grey, 3 for colour; `auto` is 1 where every image is grey.
        background: Colour behind transparent pixels and of borders, as `black` or `#808080`.
        divided: Whether the folders in `path` are parts rather than classes; None to find out by their names and contents.

    Raises:
        InputError: For a folder that cannot be understood, and for an unreadable image.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"data.path = {path!r} is not a folder")
    form = Form(size, fit, channels, background)
    found = folders.understand(root, divided)
    parts = {part: (Encoded(Paths(paths), form), labels) for part, (paths, labels) in found.parts.items()}
    return Raw(
        *parts["train"],
        parts.get("test"),
        found.classes,
        flip=True,
        crop=size // 8,
        valid=parts.get("valid"),
        notes={"parts": found.understood, "left out": folders.counted(found)},
        warnings=found.warnings,
    )


def webdataset(
    *,
    path: str,
    label: str = "cls",
    size: int = 32,
    fit: Fit = "squash",
    channels: Literal[1, 3, "auto"] = 3,
    background: str = "white",
) -> Raw:
    """Shards of WebDataset: tar files with members KEY.jpg and KEY.cls, in parts by their names, as `train-0000.tar`.

    Args:
        path: A tar file, or a folder with such files.
        label: Suffix of the members with the class, or the key of it in members KEY.json.
        size: Side in pixels that all images are resized to.
        fit: What becomes of an image that is not square, as for `folder`.
        channels: 1 for grey, 3 for colour; `auto` is 1 where every image is grey.
        background: Colour behind transparent pixels and of borders.

    Raises:
        InputError: For files that cannot be understood, and for an unreadable image.
    """
    return _stored(stores.shards(path, label), Form(size, fit, channels, background), None, {})


def parquet(
    *,
    path: str,
    image: str | None = None,
    label: str | None = None,
    cache: str = "~/.cache/paretoray/arrow",
    size: int = 32,
    fit: Fit = "squash",
    channels: Literal[1, 3, "auto"] = 3,
    background: str = "white",
) -> Raw:
    """Parquet or Arrow files with a column of encoded images, in parts by their names, as `train-00000-of-00004.parquet`.

    Args:
        path: A file, or a folder with files.
        image: Column with images: bytes, or a struct of `bytes` and `path`; None to find it by its name.
        label: Column with labels; None to find it by its name.
        cache: Folder for Arrow copies of Parquet files, each of which is made once and takes as much room.
        size: Side in pixels that all images are resized to.
        fit: What becomes of an image that is not square, as for `folder`.
        channels: 1 for grey, 3 for colour; `auto` is 1 where every image is grey.
        background: Colour behind transparent pixels and of borders.

    Raises:
        InputError: For files that cannot be understood, and for an unreadable image.
    """
    found, names, said = stores.tables(path, image, label, cache)
    return _stored(found, Form(size, fit, channels, background), names, {"columns": said})


def huggingface(
    *,
    path: str,
    image: str | None = None,
    label: str | None = None,
    size: int = 32,
    fit: Fit = "squash",
    channels: Literal[1, 3, "auto"] = 3,
    background: str = "white",
) -> Raw:
    """A data set that Hugging Face's `save_to_disk` wrote; with `pip install 'paretoray[datasets]'`.

    Args:
        path: The folder.
        image: Column with images; None for the first one of that type.
        label: Column with labels; None for the first one of classes.
        size: Side in pixels that all images are resized to.
        fit: What becomes of an image that is not square, as for `folder`.
        channels: 1 for grey, 3 for colour; `auto` is 1 where every image is grey.
        background: Colour behind transparent pixels and of borders.

    Raises:
        InputError: Where the package is missing, for what cannot be understood, and for an unreadable image.
    """
    found, names, said = stores.hub(path, image, label)
    return _stored(found, Form(size, fit, channels, background), names, {"columns": said})


def _stored(found: stores.Found, form: Form, names: Sequence[str] | None, notes: dict[str, str]) -> Raw:
    """Number the labels of stored images, and put the parts together."""
    if "valid" in found and "test" not in found:
        found["test"] = found.pop("valid")
        notes["parts"] = "there is no test part, so the validation part is the final test"
    try:
        labels, classes, said = Classification().read({part: given for part, (_, given) in found.items()}, names)
    except ValueError as error:
        raise InputError(f"data.path has {error}") from error
    notes |= {"labels": said} if said else {}
    parts = {part: (Encoded(store, form), labels[part]) for part, (store, _) in found.items()}
    assert form.size is not None
    return Raw(
        *parts["train"], parts.get("test"), classes, flip=True, crop=form.size // 8, valid=parts.get("valid"), notes=notes
    )


LOADERS: dict[str, Callable[..., Raw]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "fashion-mnist": fashion_mnist,
    "folder": folder,
    "webdataset": webdataset,
    "parquet": parquet,
    "huggingface": huggingface,
}


def _loader(name: str) -> Callable[..., Any]:
    if ":" in name:
        return import_from(name, "data.name")  # type: ignore[no-any-return]
    if name == UNNAMED:
        raise InputError(f"data.name = {name!r}: no file can name it; go on with paretoray.resume(directory, problem)")
    if name not in LOADERS:
        raise InputError(f"unknown dataset {name!r} (your own is data.name=module:function){nearest(name, LOADERS)}")
    return LOADERS[name]


def component(name: str, given: Mapping[str, Any]) -> Component:
    """Find the loader `name` and check its keywords together with those of `Split`. Raises InputError."""
    loader = _loader(name)
    if not callable(loader):
        raise InputError(f"data.name = {name!r}: it is no function; name one that returns images and labels")
    shared, own = _shared(loader), inspect.signature(loader).parameters
    for key in given:
        if key not in shared and key not in own:
            raise InputError(f"unknown key data.{key}{nearest(key, ['name', *own, *shared])}")
    mine = keywords(loader, {k: v for k, v in given.items() if k not in shared}, "data")
    split = keywords(Split, {k: v for k, v in given.items() if k in shared and k not in READING}, "data")
    Split(**split)  # refuses impossible shares before anything is read
    reading = keywords(_reading, {k: v for k, v in given.items() if k in shared and k in READING}, "data")
    reading = {key: value for key, value in reading.items() if key in shared}
    for key in {"path", "root", "cache"} & mine.keys():  # a run is resumed from any folder, and trials change theirs
        if isinstance(mine[key], (str, os.PathLike)):
            mine[key] = str(Path(mine[key]).expanduser().absolute())
    return Component(name, loader, mine | split | reading, frozenset(given))


def load(source: Component, task: Task | None = None) -> Dataset:
    """Read the images and share them out into parts.

    Args:
        source: The loader.
        task: What networks are trained for; None for classification.

    Raises:
        InputError: For data that cannot be read, or that are not for the task.
    """
    shared = _shared(source.factory)
    own = {k: v for k, v in source.settings.items() if k not in shared}
    split = Split(**{k: v for k, v in source.settings.items() if k in shared and k not in READING})
    classify = task is None or isinstance(task, Classification)
    if source.factory in LOADERS.values():
        if task is not None and not classify:
            raise InputError(
                f"task.name = {task.name!r}: data.name = {source.name!r} has classes, one for each image; write "
                "task=classification, or return other targets from a function of your own, data.name=module:function"
            )
        raw = source.factory(**own)
    else:
        with functions.theirs(source.name, source.factory):
            returned = source.factory(**own)
        reading = {key: source.settings.get(key) for key in READING if key in shared}
        if isinstance(reading.get("inputs"), str):
            reading["inputs"] = [reading["inputs"]]
        given = isinstance(returned, Raw)
        raw = returned if given else read_lazily(returned, source.name, source.factory, own, split, **reading, task=task)
    return replace(split.apply(raw, task), source=source)


def _shared(loader: Callable[..., Any]) -> set[str]:
    """Keys that are not for the loader itself."""
    keys = set(inspect.signature(Split).parameters)
    ours = loader in LOADERS.values()
    return keys if ours else keys | (set(READING) - set(inspect.signature(loader).parameters))


def _reading(
    layout: functions.Layout | None = None,
    kind: functions.Kind | Mapping[str, functions.Kind] | None = None,
    inputs: str | list[str] | None = None,
) -> None:
    """Declare the types of the keys that say how to read what a function returns."""
