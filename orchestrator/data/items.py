"""Items of a user's data sets that are read when it is known which ones are used, or whenever they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from orchestrator.data import functions
from orchestrator.data.dataset import MEMORY, Labels, Pixels, Raw, Split
from orchestrator.data.functions import LABELS, Given, UserFunction
from orchestrator.data.images import Form, Scale, Scales, decode, too_deep
from orchestrator.data.stream import Stream
from orchestrator.errors import InputError
from orchestrator.machine import memory
from orchestrator.tasks.classification import Classification

_LOOKED_AT = 32
"""Items that tell the shape and the scale of all."""
_TOGETHER = 64
"""Items whose labels a process reads at a time."""


class Returned:
    """Data sets that a user's function returned; another process, as a worker, calls the function for its own.

    So nothing of them is sent to it, and files that they hold open are opened there.

    Args:
        source: The function.
        settings: Its keywords.
        parts: The data sets by part.
    """

    def __init__(self, source: UserFunction, settings: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
        self.source, self.settings = source, dict(settings)
        self._parts: Mapping[str, Any] | None = parts

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": None}

    def item(self, part: str, number: int) -> Any:
        """Read an item. Raises InputError for an exception in the user's code, with its place."""
        if self._parts is None:
            with functions.theirs(self.source.name, self.source.factory):
                self._parts = functions.parts_of(self.source.factory(**self.settings), self.source)
        with functions.theirs(self.source.name, self.source.factory, f": its item {number}"):
            return self._parts[part][number]

    def values(self, part: str, number: int, place: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return the image and the label of an item. Raises InputError."""
        item = self.item(part, number)
        try:
            image, label = functions.picked(item, place[0]), item[place[1]]
        except (KeyError, IndexError, TypeError) as error:
            raise self.source.wrong(f"returned items of different kinds; number {number} is another one") from error
        if label is None:
            raise self.source.wrong(f"returned no label with item {number}")
        return image, np.asarray(label)[()] if isinstance(label, Tensor) else label


@dataclass(frozen=True)
class Items:
    """Images of one part.

    Args:
        returned: The user's data sets.
        part: The part.
        place: Where in an item the image and its label are.
        shape: Channels, height and width of each.
        scale: Values that become 0 and 255 in arrays that are not uint8; None where these are known once all are read.
        numbers: Numbers of the items that are meant.
    """

    returned: Returned
    part: str
    place: tuple[Any, Any]
    shape: tuple[int, int, int]
    scale: Scale | None
    numbers: NDArray[np.int64]

    readers = 1  # people's data sets are made for processes, and may mix up two threads

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, indices: NDArray[np.int64]) -> Items:
        return replace(self, numbers=self.numbers[indices])

    def read(self, *others: Items) -> tuple[list[Pixels], dict[str, str], Scales]:
        """Read these and others, on one scale. Raises InputError for what is no image, or not like the others."""
        notes: dict[str, str] = {}
        names = ("train", "valid", "test")
        parts = {name: Given(part._images(), np.zeros(0)) for name, part in zip(names, (self, *others), strict=False)}
        pixels = functions.pixels_of(parts, self.returned.source, notes)
        return list(pixels.values()), notes, {}

    def _images(self) -> NDArray[Any] | list[Image.Image]:
        return functions.images_of([self._image(int(number)) for number in self.numbers], self.returned.source)

    def _image(self, number: int) -> Any:
        image = self.returned.values(self.part, number, self.place)[0]
        if isinstance(image, Image.Image):
            image.load()  # many files must not be open at a time
        return image

    def stream(self) -> Stream:
        """Return a stream of these. Raises InputError for arrays whose scale is not known."""
        if self.scale is None:
            raise self.returned.source.wrong(
                "returned a data set of arrays that are not uint8, nor fractions from 0 to 1; these share a scale that is "
                "known once all are read, so return uint8 or Pillow images, not normalised, or write data.stream=false"
            )
        return Stream(self, np.arange(len(self)), self.shape)

    def whole(self, number: int) -> NDArray[np.uint8]:
        own = int(self.numbers[number])
        image = self._image(own)
        pixels = self._of_pillow(image, own) if isinstance(image, Image.Image) else self._of_array(image, own)
        if pixels.shape[1:] != self.shape[1:] or len(pixels) not in (1, self.shape[0]):
            raise self.returned.source.wrong(
                f"returned images of {'x'.join(map(str, self.shape))}, and number {own} of {'x'.join(map(str, pixels.shape))} "
                "(channels x height x width); make them alike there"
            )
        return pixels

    def full(self, number: int) -> Tensor:
        return torch.from_numpy(np.array(self.whole(number)))

    def _of_pillow(self, image: Image.Image, number: int) -> NDArray[np.uint8]:
        decoded = decode(image, Form())
        if decoded.kind != "8 bits":
            raise too_deep(f"item {number} of {self.returned.source.name}")
        return decoded.pixels.transpose(2, 0, 1)

    def _of_array(self, image: Any, number: int) -> NDArray[np.uint8]:
        source, array = self.returned.source, functions.array_of(image)
        if array.dtype == np.bool_:
            array = array.astype(np.uint8) * np.uint8(255)
        elif array.dtype != np.uint8:
            assert self.scale is not None
            if not (np.isfinite(array).all() and self.scale.low <= array.min() <= array.max() <= self.scale.high):
                raise source.wrong(
                    f"returned number {number} with values outside of {self.scale.low:g} to {self.scale.high:g}, between which "
                    "those that were looked at lie; return uint8 or Pillow images"
                )
            array = np.rint(self.scale.apply(array)).astype(np.uint8)
        if array.ndim == 2:
            return array[None]
        last = array.ndim == 3 and functions.channels_last((1, *array.shape), source)
        return array.transpose(2, 0, 1) if last else array


def to_raw(found: Mapping[str, Any], source: UserFunction, settings: Mapping[str, Any], split: Split) -> Raw | None:
    """Convert a user's data sets without reading all of their items.

    Args:
        found: What the function returned, by part.
        source: The function.
        settings: Its keywords.
        split: Says how much is used, and whether it is streamed.

    Returns:
        None where it is not worth it, as all items are used and fit into memory; and for whatever else than images in classes
        was returned.

    Raises:
        InputError: For data that cannot be used, with what to return instead.
    """
    if not isinstance(source.task, Classification) or source.kind not in (None, "images"):
        return None
    if not all(_is_map_style(data) for data in found.values()):
        return None
    returned = Returned(source, settings, found)
    place = functions.places_in(returned.item("train", 0), source)
    looked_at = [
        returned.values("train", int(i), place)[0]
        for i in np.unique(np.linspace(0, len(found["train"]) - 1, _LOOKED_AT).astype(int))
    ]
    shown = _shape_and_scale(looked_at, source)
    if shown is None:
        return None
    shape, scale = shown
    size = sum(map(len, found.values())) * math.prod(shape)
    streamed = split.stream is True or bool(split.resized_crop) or (split.stream == "auto" and size > memory() // MEMORY)
    if split.limit is None and not streamed:
        return None
    names = {part: part for part in found}
    notes: dict[str, str] = {}
    if "valid" in found and "test" not in found:
        names = {"train": "train", "test": "valid"}
        notes["parts"] = "there is no test part, so the validation part is the final test"
    images, targets = {}, {}
    for name, part in names.items():
        numbers, labels = _labels(returned, part, found[part], place, _most(split, name, names))
        if len(numbers) < len(found[part]):
            notes["limit"] = f"{len(numbers)} of {len(found[part])} items were drawn before their classes were known"
        images[name], targets[name] = Items(returned, part, place, shape, scale, numbers), labels
    try:
        read, classes, said = source.task.read(targets, functions.class_names(found["train"]))
    except ValueError as error:
        raise source.wrong(f"returned {error}") from error
    if said:
        notes["labels"] = said
    whole: dict[str, tuple[Items, Labels]] = {name: (images[name], read[name]) for name in names}
    warnings = tuple(_unsteady(returned, looked_at[0], place, streamed))
    return Raw(
        *whole["train"], whole.get("test"), classes, flip=False, crop=max(1, shape[2] // 8), valid=whole.get("valid"),
        notes=notes, warnings=warnings,
    )  # fmt: skip


def _is_map_style(data: Any) -> bool:
    """Tell a data set of items from images and labels, and from a list, which is in memory already."""
    if isinstance(data, (Mapping, tuple, list, np.ndarray, Tensor)) or hasattr(data, "iloc"):
        return False
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and len(data) > 0


def _shape_and_scale(looked_at: Sequence[Any], source: UserFunction) -> tuple[tuple[int, int, int], Scale | None] | None:
    """Return the shape of images, and the scale of their values where some of them tell; None for what is no image."""
    given = functions.images_of(looked_at, source) if _are_images(looked_at) else None
    if given is None or (not isinstance(given, list) and given.ndim not in (3, 4)):
        return None
    channels, height, width = functions.pixels_of({"train": Given(given, np.zeros(0))}, source, {})["train"].shape[1:]
    shape = (channels, height, width)
    if isinstance(given, list) or given.dtype in (np.uint8, np.bool_):
        return shape, Scale(0.0, 255.0)
    scale = Scale.of(float(given.min()), float(given.max()), floats=np.issubdtype(given.dtype, np.floating))
    return shape, scale if scale.low == 0 and scale.high in (1.0, 255.0) else None


def _are_images(looked_at: Sequence[Any]) -> bool:
    return all(isinstance(i, Image.Image) for i in looked_at) or all(isinstance(i, (np.ndarray, Tensor)) for i in looked_at)


def _labels(
    returned: Returned, part: str, data: Any, place: tuple[Any, Any], most: tuple[int, int] | None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the numbers of the items that come into question, and their labels, looked up if possible, or else read.

    Args:
        returned: The data sets.
        part: The part.
        data: Its data set.
        place: Where in an item the image and its label are.
        most: Number of items at most, and the seed that draws them, unless labels can be looked up; None for all.
    """
    numbers = np.arange(len(data))
    if (known := _looked_up(data)) is not None:
        some = sorted({0, len(data) // 2, len(data) - 1})
        if all(_equal(known[i], returned.values(part, i, place)[1]) for i in some):
            return numbers, known
    if most is not None:
        numbers = np.sort(np.random.default_rng(most[1]).permutation(numbers)[: most[0]])
    together = [numbers[i : i + _TOGETHER].tolist() for i in range(0, len(numbers), _TOGETHER)]
    reader = DataLoader(
        _LabelsOnly(returned, part, place), batch_sampler=together,
        num_workers=min(4, torch.get_num_threads()), collate_fn=list, generator=torch.Generator(),
    )  # fmt: skip
    labels: list[Any] = []
    for batch in reader:
        for label in batch:
            if isinstance(label, InputError):
                raise label
            labels.append(label)
    return numbers, functions.labels_of(labels)


def _most(split: Split, name: str, names: Mapping[str, str]) -> tuple[int, int] | None:
    """Return how many items of a part have to be looked at, and the seed that draws them; None for all."""
    if split.limit is None or name == "test":
        return None
    return math.ceil(split.limit / (1 if "test" in names else 1 - split.test)), split.split_seed


def _looked_up(data: Any) -> NDArray[Any] | None:
    """Return the labels of a data set that has them apart from its items, as those of torchvision and Hugging Face have."""
    if isinstance(data, Subset):
        inner = _looked_up(data.dataset)
        return None if inner is None else inner[np.asarray(data.indices)]
    columns = getattr(data, "column_names", None)
    if isinstance(columns, list) and (column := functions.key_of({name: name for name in columns}, LABELS)) is not None:
        return functions.labels_of(list(data[column]))
    for attribute in ("targets", "labels"):
        labels = getattr(data, attribute, None)
        if isinstance(labels, (list, tuple, np.ndarray, Tensor)) and len(labels) == len(data):
            return functions.labels_of(labels)
    return None


def _equal(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


class _LabelsOnly(TorchDataset[Any]):
    """Labels of items, whose images are read and let go. An error is returned as the InputError that says so."""

    def __init__(self, returned: Returned, part: str, place: tuple[Any, Any]) -> None:
        self.returned, self.part, self.place = returned, part, place

    def __getitem__(self, number: int) -> Any:
        try:
            return self.returned.values(self.part, int(number), self.place)[1]
        except InputError as error:
            return error


def _unsteady(returned: Returned, first: Any, place: tuple[Any, Any], streamed: bool) -> Iterator[str]:
    """Warn of items that differ when they are read again."""
    again = returned.values("train", 0, place)[0]
    if not functions.same(first, again):
        when = "so random transforms act in all parts, those for validation and for the test, too" if streamed else (
            "and each item is read once, so random transforms act only then"
        )  # fmt: skip
        yield (
            f"{returned.source.name} gives another image when item 0 is read again, {when}; leave them to data.flip and "
            "data.crop"
        )


def read_lazily(
    returned: Any, name: str, factory: Callable[..., Any], settings: Mapping[str, Any], split: Split, **reading: Any
) -> Raw:
    """Convert what a user's function returned as `functions.to_raw` does, but read data sets whole only where that is needed.

    Args:
        returned: What it returned.
        name: How the experiment names the function.
        factory: The function.
        settings: Its keywords.
        split: Says how much is used, and whether it is streamed.
        reading: Further arguments of `functions.to_raw`.
    """
    task = reading.get("task")
    kind, layout, inputs = reading.get("kind"), reading.get("layout"), reading.get("inputs")
    source = UserFunction(name, factory, layout, kind, Classification() if task is None else task, inputs)
    with functions.theirs(name, factory, ": what it returned"):
        raw = to_raw(functions.parts_of(returned, source), source, settings, split)
    return functions.to_raw(returned, name, factory, **reading) if raw is None else raw
