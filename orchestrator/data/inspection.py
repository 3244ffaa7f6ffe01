"""Summary of how data was understood, what looks wrong with it, and examples of it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis import examples
from orchestrator.data import loaders
from orchestrator.data.dataset import Dataset, Part
from orchestrator.errors import InputError
from orchestrator.registry import Component, similar

_LOOKED_AT = 1000
"""Images that are compared with each other, spread over the train part."""
_SHOWN_CLASSES = 12
_ALIKE = 2.0
"""Deviation of a pixel over the images, of 255, below which they look the same."""
_DARK, _BRIGHT = 24, 231
"""Limits that nearly all pixels of images have to cross; of 255."""
_DOMINANT = 0.9
"""Share of the images from which on a classifier may as well name this class always."""


def source_of(name: str, overrides: Sequence[str]) -> Component:
    """Find the data behind a folder's path, a function or a name, with `data.key=value` settings. Raises InputError."""
    given: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or "." in key.removeprefix("data."):
            raise InputError(f"{override!r} is not of the form data.key=value, as in data.size=32")
        given[key.removeprefix("data.")] = _value(text)
    path = Path(name).expanduser()
    if name in loaders.LOADERS and not path.is_dir():
        return loaders.component(name, given)
    if re.fullmatch(r"[\w.]+:[\w.]+", name) and not path.exists():
        return loaders.component(name, given)
    if not path.is_dir() and (hint := similar(name, loaders.LOADERS)):
        raise InputError(f"there is no folder and no data set {name!r}{hint}")
    return loaders.component("folder", {"path": name, **given})


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def facts(data: Dataset) -> dict[str, Any]:
    """Return the same as `words` as plain values: numbers of images by part and by class, the shape of an image, and notes."""
    counts = _counts(data)
    return {
        "data": data.source.name if data.source else None,
        "images": {part: int(count.sum()) for part, count in counts.items()},
        "image": dict(zip(("channels", "height", "width"), data.image, strict=True)),
        "classes": [
            {"name": name, **{part: int(count[c]) for part, count in counts.items()}} for c, name in enumerate(data.classes)
        ],
        "notes": dict(data.notes),
    }


def _counts(data: Dataset) -> dict[str, NDArray[np.int64]]:
    """Count the images of each class, by part."""
    parts = {"train": data.train, "validation": data.valid, "test": data.test}
    return {name: np.bincount(part.labels.numpy(), minlength=len(data.classes)) for name, part in parts.items()}


def words(data: Dataset) -> dict[str, str]:
    """Describe data by title: its parts and classes with their numbers of images, and what its loader noted."""
    counts = _counts(data)
    said = {"data": data.source.name} if data.source else {}
    said["images"] = ", ".join(f"{count.sum()} for {name}" for name, count in counts.items())
    said["channels"] = f"{data.image[0]}, of {data.image[1]}x{data.image[2]} pixels (height x width)"
    said["classes"] = str(len(data.classes))
    order = np.argsort(-sum(counts.values()), kind="stable")
    width = max(len(name) for name in data.classes)
    half = _SHOWN_CLASSES // 2
    shown = list(order) if len(order) <= _SHOWN_CLASSES else [*order[:half], None, *order[-half:]]
    for c in shown:
        if c is None:
            said["classes"] += f"\n{'':<13} ... {len(order) - 2 * half} classes of sizes between"
        else:
            numbers = " + ".join(str(count[c]) for count in counts.values())
            said["classes"] += f"\n{'':<13} {data.classes[c]:<{width}}  {numbers}"
    return {**said, **data.notes}


def doubts_about(data: Dataset) -> list[str]:
    """Say what looks wrong with data, each in a sentence: what was left out, images that say nothing, classes, duplicates."""
    return [*data.warnings, *_looks(data), *_balance(data), *_duplicates(data)]


def _looks(data: Dataset) -> list[str]:
    count = len(data.train)
    images = data.train.images[torch.from_numpy(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(np.int64))].numpy()
    found = []
    flat = images.reshape(len(images), -1)
    constant = int((flat.max(axis=1) == flat.min(axis=1)).sum())
    if constant:
        found.append(f"{constant} of {len(images)} images that were looked at are of one colour each")
    if constant < len(images) and float(flat.std(axis=0, dtype=np.float64).mean()) < _ALIKE:
        found.append("all images look nearly the same")
    low, high = np.percentile(flat[:: max(1, len(flat) // 200)], [1, 99])
    if high < _DARK or low > _BRIGHT:
        found.append(f"all images are nearly {'black' if high < _DARK else 'white'}; look at their values, or at their depth")
    return found


def _balance(data: Dataset) -> list[str]:
    labels = np.concatenate([part.labels.numpy() for part in (data.train, data.valid, data.test)])
    counts = np.bincount(labels, minlength=len(data.classes))
    most = int(counts.argmax())
    share = counts[most] / len(labels)
    if share <= _DOMINANT:
        return []
    return [
        f"class {data.classes[most]!r} has {share:.0%} of the images: whatever always says so has an error of {1 - share:.1%}"
    ]


def _duplicates(data: Dataset) -> list[str]:
    """Count images that are equal to the last pixel and lie in several parts, or in several classes; streams are not read."""
    if data.train.streamed:
        return []
    parts: dict[bytes, set[str]] = defaultdict(set)
    classes: dict[bytes, set[int]] = defaultdict(set)
    of_test = []
    for name, part in {"train": data.train, "validation": data.valid, "test": data.test}.items():
        for image, label in zip(part.images[:].numpy(), part.labels.tolist(), strict=True):
            key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            parts[key].add(name)
            classes[key].add(label)
            if name == "test":
                of_test.append(key)
    found = []
    known = sum(len(parts[key]) > 1 for key in of_test)
    if known:
        found.append(f"{known} of {len(of_test)} test images are in the other parts, too, so the test error will be too low")
    if shared := sum(names == {"train", "validation"} for names in parts.values()):
        found.append(f"{shared} images are in both the train and the validation part")
    if several := sum(len(labels) > 1 for labels in classes.values()):
        found.append(f"{several} images are in more than one class")
    return found


def draw(data: Dataset, out: Path) -> Path:
    """Draw examples of every class, from each part. Returns the picture's path: `out`, or examples.png in that folder."""
    path = out if out.suffix.lower() == ".png" else out / "examples.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = examples.classes_shown(len(data.classes))
    parts = {"train": data.train, "validation": data.valid, "test": data.test}
    examples.draw({name: _examples(part, rows) for name, part in parts.items()}, data.classes, path)
    return path


def _examples(part: Part, classes: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Choose images of each class, spread over all of them, and return these with their labels."""
    labels = part.labels.numpy()
    every = [np.flatnonzero(labels == c) for c in classes]
    chosen = np.concatenate([i[np.linspace(0, len(i) - 1, min(examples.EACH, len(i))).astype(int)] for i in every])
    return part.images[torch.from_numpy(chosen)].numpy(), labels[chosen]
