"""Summary of how data was understood, what looks wrong with it, and examples of it."""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis import examples
from orchestrator.data import loaders
from orchestrator.data.dataset import Dataset, Part
from orchestrator.data.stream import Stream
from orchestrator.errors import InputError
from orchestrator.registry import Component, similar
from orchestrator.spaces.parts.inputs import Inputs, noun, tensors_of
from orchestrator.tasks.classification import Classification

_LOOKED_AT = 1000
"""Images that are compared with each other, spread over the train part."""
_SHOWN_CLASSES = 12
_ALIKE = 2.0
"""Deviation of a pixel over the images, of 255, below which they look the same."""
_DARK, _BRIGHT = 24, 231
"""Limits that nearly all pixels of images have to cross; of 255."""
_DOMINANT = 0.9
"""Share of the images from which on a classifier may as well name this class always."""
_DOMINANT_LABEL = 0.98
"""Share of the examples, likewise for one of several labels, of which most are rare as a rule."""
_OUTLYING = 20
"""Deviations from the mean from which on a target looks like a mistake."""
_EQUAL = 0.999999
"""Correlation from which on a column and a target are the same, but for rounding."""
_RANGES = 5
"""Ranges of a target, of equally many training examples, that examples are drawn of."""


def source_of(name: str, overrides: Sequence[str]) -> Component:
    """Find the data behind a folder's path, a function or a name, with `data.key=value` settings. Raises InputError."""
    given: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        setting, _, inner = key.removeprefix("data.").partition(".")
        if not equals or (inner and setting != "kind"):
            raise InputError(f"{override!r} is not of the form data.key=value, as in data.size=32")
        if inner:  # the kind of one of several inputs
            kinds = given.setdefault(setting, {})
            if not isinstance(kinds, dict):
                raise InputError(f"data.{setting} is given for all inputs and for {inner!r}; leave one of them out")
            kinds[inner] = _value(text)
        else:
            given[setting] = _value(text)
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
        return text.split(",") if "," in text and text[0] not in "[{\"'" else text


def _parts(data: Dataset) -> dict[str, Part]:
    return {"train": data.train, "validation": data.valid, "test": data.test}


def facts(data: Dataset) -> dict[str, Any]:
    """Return the same as `words` as plain values: numbers of examples by part and by class, their shape, and notes."""
    counts, task = _counts(data), data.task
    numbers = [{part: int(count[c]) for part, count in (counts or {}).items()} for c in range(len(data.classes))]
    return {
        "data": data.source.name if data.source else None,
        "images": {name: len(part) for name, part in _parts(data).items()},
        "image": shape(data),
        "kind": f"{noun(data.image)}s",
        "task": task.name,
        task.named: [{"name": name, **number} for name, number in zip(data.classes, numbers, strict=True)],
        "notes": dict(data.notes),
    }


def shape(data: Dataset) -> dict[str, Any]:
    """Return the sides of an example by name, of several inputs those of each."""
    if data.inputs:
        return {title: shape(one) for title, one in data.alone().items()}
    keys = {"image": ("channels", "height", "width"), "signal": ("channels", "length"), "row": ("columns",)}
    return dict(zip(keys.get(noun(data.image), ("length",)), data.image, strict=True))


def _counts(data: Dataset) -> dict[str, NDArray[np.int64]] | None:
    """Count the examples of each class or label, by part; None for targets without any."""
    found = {name: data.task.occurrences(part.labels.numpy()) for name, part in _parts(data).items()}
    known = {name: np.bincount(of[1], minlength=len(data.classes)) for name, of in found.items() if of is not None}
    return known if len(known) == len(found) else None


def words(data: Dataset) -> dict[str, str]:
    """Describe data by title: its parts, its targets with their numbers of examples, and what its loader noted."""
    said = {"data": data.source.name} if data.source else {}
    said[f"{noun(data.image)}s"] = ", ".join(f"{len(part)} for {name}" for name, part in _parts(data).items())
    if data.has_images:
        said["channels"] = f"{data.image[0]}, of {data.image[1]}x{data.image[2]} pixels (height x width)"
    else:
        said["example"] = data.words
    if not isinstance(data.task, Classification):
        said["task"] = f"{data.task.name}, judged by {data.task.metric.name}"
    counts = _counts(data)
    said[data.task.named] = str(len(data.classes)) + ("" if counts is None else _listed(data, counts))
    if counts is None:
        said[data.task.named] += "".join(f"\n{'':<13} {line}" for line in _ranges(data))
    return {**said, **{title: note for title, note in data.notes.items() if data.has_images or title != "shape"}}


def _listed(data: Dataset, counts: Mapping[str, NDArray[np.int64]]) -> str:
    """List classes or labels with their numbers of examples, the largest and smallest ones where there are many."""
    order = np.argsort(-sum(counts.values()), kind="stable")
    width = max(len(name) for name in data.classes)
    half = _SHOWN_CLASSES // 2
    shown = list(order) if len(order) <= _SHOWN_CLASSES else [*order[:half], None, *order[-half:]]
    text = ""
    for c in shown:
        if c is None:
            text += f"\n{'':<13} ... {len(order) - 2 * half} {data.task.named} of sizes between"
        else:
            numbers = " + ".join(str(count[c]) for count in counts.values())
            text += f"\n{'':<13} {data.classes[c]:<{width}}  {numbers}"
    return text


def _ranges(data: Dataset) -> list[str]:
    """Say of each target that is a number what it lies between."""
    targets = data.train.labels.numpy()
    if targets.ndim != 2 or targets.shape[1] != len(data.classes):
        return [f"of shape {'x'.join(map(str, targets.shape[1:])) or 'one'}"]
    return [
        f"{name}: {of.min():.4g} to {of.max():.4g}, mean {of.mean():.4g}, deviation {of.std():.3g} (train)"
        for name, of in zip(data.classes[:_SHOWN_CLASSES], targets.T.astype(np.float64), strict=False)
    ]


def doubts_about(data: Dataset) -> list[str]:
    """Say what looks wrong with data, each in a sentence: what was left out, images that say nothing, classes, duplicates."""
    looks = [f"{title}: {doubt}" if title else doubt for title, one in data.alone().items() for doubt in _looks(one)]
    return [*data.warnings, *looks, *_names(data), *_balance(data), *_duplicates(data)]


def _names(data: Dataset) -> list[str]:
    """Doubt names that are the same but for spaces and capitals."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in data.classes:
        alike[" ".join(name.casefold().split())].append(name)
    return [
        f"{data.task.named} {' and '.join(map(repr, same))} differ in spaces or capitals alone"
        for same in alike.values()
        if len(same) > 1
    ]


def _looks(data: Dataset) -> list[str]:
    count = len(data.train)
    spread = torch.from_numpy(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(np.int64))
    held = data.train.images
    assert not isinstance(held, Inputs)  # `doubts_about` looks at each input alone
    examples = held[spread if data.has_images else slice(None)].numpy()
    if data.vocabulary is not None:
        return ["all sequences are the same"] if len(examples) > 1 and (examples == examples[0]).all() else []
    if not data.has_images:
        return _numbers(data, examples)
    images = examples
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


def _numbers(data: Dataset, examples: NDArray[Any]) -> list[str]:
    """Doubt columns or channels that say nothing, and columns that are a target."""
    kind = "column" if examples.ndim == 2 else "channel"
    flat = examples.reshape(*examples.shape[:2], -1)
    constant = np.flatnonzero(flat.max(axis=(0, 2)) == flat.min(axis=(0, 2)))
    found = [f"{kind} {_some(constant)} has one value in all training examples"] if len(constant) else []
    targets = data.train.labels.numpy().astype(np.float64)
    if kind == "column" and targets.ndim <= 2 and len(targets) > 2:
        columns = np.delete(np.arange(flat.shape[1]), constant)
        known = [t for t in targets.reshape(len(targets), -1).T if t.std() > 0]
        with np.errstate(invalid="ignore"):
            told = {int(c) for c in columns for t in known if abs(np.corrcoef(flat[:, c, 0], t)[0, 1]) > _EQUAL}
        if told:
            found.append(f"column {_some(sorted(told))} is a target itself, up to its scale; a network will only copy it")
    return found


def _some(numbers: Sequence[int] | NDArray[np.int64]) -> str:
    """List numbers, a few of many."""
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def _balance(data: Dataset) -> list[str]:
    labels = np.concatenate([part.labels.numpy() for part in _parts(data).values()])
    if isinstance(data.task, Classification) or (data.task.maps and np.issubdtype(labels.dtype, np.integer)):
        counts = np.bincount(labels[labels < len(data.classes)].ravel(), minlength=len(data.classes))
        most = int(counts.argmax())
        share = counts[most] / counts.sum()
        of = "pixels" if data.task.maps else f"{noun(data.image)}s"
        says = f": whatever always says so has an error of {1 - share:.1%}" if data.task.metric.name == "accuracy" else ""
        return [f"class {data.classes[most]!r} has {share:.0%} of the {of}{says}"] if share > _DOMINANT else []
    if data.task.named == "labels":
        shares = labels.mean(axis=0)
        return [
            f"label {name!r} is on {share:.0%} of the {noun(data.image)}s"
            for name, share in zip(data.classes, shares, strict=True)
            if not 1 - _DOMINANT_LABEL <= share <= _DOMINANT_LABEL
        ][:_SHOWN_CLASSES]
    if labels.ndim != 2 or labels.shape[1] != len(data.classes):
        return []
    far = np.abs(labels - labels.mean(axis=0)).max(axis=0) / np.maximum(labels.std(axis=0), 1e-30)
    return [
        f"{name} has a value {away:.0f} deviations from its mean; if it is no mistake, task.loss=huber heeds it less"
        for name, away in zip(data.classes, far, strict=True)
        if away > _OUTLYING
    ]


def _duplicates(data: Dataset) -> list[str]:
    """Count examples that are equal to the last value and lie in several parts, or in several classes; streams are not read."""
    if data.train.streamed:
        return []
    kind, classified = f"{noun(data.image)}s", isinstance(data.task, Classification)
    parts: dict[bytes, set[str]] = defaultdict(set)
    classes: dict[bytes, set[int]] = defaultdict(set)
    of_test = []
    for name, part in _parts(data).items():
        assert not isinstance(part.images, Stream)
        rows = zip(*(tensor.numpy() for tensor in tensors_of(part.images)), strict=True)
        for row, label in zip(rows, part.labels.tolist() if classified else [0] * len(part), strict=True):
            key = hashlib.blake2b(b"".join(values.tobytes() for values in row), digest_size=16).digest()
            parts[key].add(name)
            classes[key].add(label)
            if name == "test":
                of_test.append(key)
    found = []
    known = sum(len(parts[key]) > 1 for key in of_test)
    if known:
        found.append(
            f"{known} of {len(of_test)} test {kind} are in the other parts, too, so the test {data.task.metric.cost} will "
            "be too low"
        )
    if shared := sum(names == {"train", "validation"} for names in parts.values()):
        found.append(f"{shared} {kind} are in both the train and the validation part")
    if several := sum(len(labels) > 1 for labels in classes.values()):
        found.append(f"{several} {kind} are in more than one class")
    return found


def draw(data: Dataset, out: Path) -> list[Path]:
    """Draw examples of every class or range of a target, from each part; of a table its columns.

    Returns:
        The picture's path: `out`, or examples.png in that folder; of several inputs one for each, with its name at the end.
    """
    path = out if out.suffix.lower() == ".png" else out / "examples.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for title, one in data.alone().items():
        word = re.sub(r"[^\w-]", "_", title)
        paths.append(path.with_stem(f"{path.stem}-{word}") if title else path)
        _draw(one, paths[-1])
    return paths


def _draw(data: Dataset, path: Path) -> None:
    parts = _parts(data)
    if noun(data.image) == "row":
        examples.draw_columns({name: _array(part.images[:]) for name, part in parts.items()}, path)
        return
    groups, names = _groups(data)
    groups = {name: _few(*of, len(names)) for name, of in groups.items()}
    shown = {name: (_shown(data, part, groups[name][0]), groups[name][1]) for name, part in parts.items()}
    if data.has_images:
        examples.draw(shown, names, path, data.task.named)
    else:
        examples.draw_lines(shown, names, path)


def _array(images: Any) -> NDArray[Any]:
    """Return examples of one input as an array."""
    return np.asarray(images.numpy())


def _groups(data: Dataset) -> tuple[dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]], tuple[str, ...]]:
    """Return numbers of examples of each part and of their groups, and the names of these: classes, or ranges of a target."""
    found = {name: data.task.occurrences(part.labels.numpy()) for name, part in _parts(data).items()}
    known = {name: of for name, of in found.items() if of is not None}
    if len(known) == len(found):
        return known, data.classes
    everything = {name: part.labels.numpy().reshape(len(part), -1)[:, 0] for name, part in _parts(data).items()}
    edges = np.unique(np.quantile(everything["train"], np.linspace(0, 1, _RANGES + 1)))
    numbers = {
        name: (np.arange(len(of)), np.clip(np.searchsorted(edges, of, "right") - 1, 0, max(0, len(edges) - 2)))
        for name, of in everything.items()
    }
    return numbers, tuple(f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)) or ("all",)


def _few(numbers: NDArray[np.int64], groups: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose examples of each group that is on a sheet, spread over all of it."""
    every = [np.flatnonzero(groups == c) for c in examples.classes_shown(count)]
    chosen = np.concatenate([i[np.linspace(0, len(i) - 1, min(examples.EACH, len(i))).astype(int)] for i in every])
    return numbers[chosen], groups[chosen]


def _shown(data: Dataset, part: Part, numbers: NDArray[np.int64]) -> NDArray[Any]:
    """Return examples to be drawn; images beside the map of their classes, where targets are maps."""
    images = _array(part.images[torch.from_numpy(numbers)])
    maps = part.labels.numpy()[numbers]
    return examples.beside(images, maps) if data.task.maps and data.has_images and maps.ndim == 3 else images
