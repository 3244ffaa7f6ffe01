"""Data that users' functions return: arrays, data sets and their parts, as images and labels."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils import _pytree

from orchestrator.data.dataset import Labels, Pixels, Raw
from orchestrator.data.folders import part_of
from orchestrator.data.images import Form, Scale, decode, finish
from orchestrator.errors import InputError, Interrupted, RunError, plugin_packages
from orchestrator.spaces.parts.inputs import Inputs
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification

Layout = Literal["channels-first", "channels-last"]
Kind = Literal["images", "signals", "table", "tokens"]
"""Kinds of examples, as `data.kind` names them."""
IMAGES = (
    "images", "image", "img", "imgs", "pixel_values", "pixels", "signals", "signal", "input_ids", "tokens", "x", "data",
    "inputs", "input", "features",
)  # fmt: skip
"""Keys under which images, or other examples, are found, the likeliest first."""
LABELS = ("labels", "label", "targets", "target", "y", "class", "classes")
"""Keys under which labels are found."""
NAMES = ("target_names", "class_names", "label_names")
"""Keys under which the names of classes are found, as in scikit-learn's bunches."""
_SHAPES = {"signals": "(n, channels, length)", "table": "(n, columns)", "tokens": "(n, length)"}
WANTED = "return uint8 images (n, channels, height, width) and integer labels (n,), or a data set of (image, label)"
MOST_TOKENS = 2**24
"""Size of a vocabulary that no tokeniser has."""
_FEW = 4
"""Channels of ordinary images: no side of one is as short."""


@contextmanager
def theirs(name: str, factory: Callable[..., Any], doing: str = "") -> Iterator[None]:
    """Report an exception in a user's function, or in what it calls, in one line with its place in the user's file.

    Args:
        name: How the experiment names the function.
        factory: The function.
        doing: What was asked of it, unless it was called.

    Raises:
        InputError: For any exception that does not say already what is wrong.
    """
    try:
        yield
    except (InputError, RunError, Interrupted):
        raise
    except (Exception, SystemExit) as error:
        package = plugin_packages([factory])
        frames = [(f, line) for f, line in traceback.walk_tb(error.__traceback__) if f.f_globals.get("__name__") != __name__]
        own = [(f, line) for f, line in frames if str(f.f_globals.get("__name__")).partition(".")[0] in package]
        place = "".join(f" ({Path(f.f_code.co_filename).name}, line {line})" for f, line in (own or frames)[-1:])
        message = next(iter(filter(None, map(str.strip, str(error).splitlines()))), "")
        raise InputError(f"data.name = {name!r}{doing} raised {type(error).__name__}: {message}{place}") from error


@dataclass(frozen=True)
class UserFunction:
    """A user's function, for messages and for exceptions in what it returned.

    Args:
        name: How the experiment names it.
        factory: The function.
        layout: The order of channels, where the user says it.
        kind: The kind of examples, likewise; of several inputs that of all, or of each by its name.
        task: What networks are trained for.
        inputs: Keys that the inputs of the networks have among what is returned, where the user says it.
        input: The one of several inputs that is meant; "" for all of an example.
    """

    name: str
    factory: Callable[..., Any]
    layout: Layout | None
    kind: Kind | Mapping[str, Kind] | None
    task: Task
    inputs: Sequence[str] | None = None
    input: str = ""

    def wrong(self, what: str) -> InputError:
        return InputError(f"data.name = {self.name!r} {f'(input {self.input!r}) ' if self.input else ''}{what}")

    def alone(self, title: str) -> UserFunction:
        """Return this for one of several inputs."""
        kind = self.kind.get(title) if isinstance(self.kind, Mapping) else self.kind
        return replace(self, kind=kind, input=title)

    @property
    def key(self) -> str:
        """The setting that says the kind of examples."""
        return f"data.kind.{self.input}" if self.input else "data.kind"


@dataclass(frozen=True)
class Given:
    """Images and labels as they were found.

    Args:
        images: Images in one array of any type, or a list of Pillow's; `Inputs` of these.
        labels: Labels of any type.
        classes: Names of the labels 0, 1, ..., or of the columns of targets, where they are known.
        columns: Names of the columns of a data frame, which is a table.
    """

    images: Any
    labels: NDArray[Any]
    classes: Sequence[str] | None = None
    columns: Sequence[str] | None = None


def to_raw(
    returned: Any,
    name: str,
    factory: Callable[..., Any],
    layout: Layout | None = None,
    kind: Kind | Mapping[str, Kind] | None = None,
    task: Task | None = None,
    inputs: Sequence[str] | None = None,
) -> Raw:
    """Convert what a user's function returned.

    Args:
        returned: Images and labels as a pair or in a dict; a map-style dataset or a list of items; a pair of either, for
            training and testing; or a dict of them by the usual names of parts. Examples of several inputs are a dict or a
            tuple of arrays.
        name: How the experiment names the function, for messages.
        factory: The function, to know its own files from others in a traceback.
        layout: The order of channels; None to find it out from the shape.
        kind: The kind of examples; None for images, or for a table where they are rows of floating-point numbers.
        task: What networks are trained for; None for classification.
        inputs: Keys of what is returned that networks take; None for the one that is named as examples are.

    Raises:
        InputError: For anything else, with what to return instead.
    """
    source = UserFunction(name, factory, layout, kind, Classification() if task is None else task, inputs)
    with theirs(name, factory, ": what it returned"):
        found = parts_of(returned, source)
        parts = {part: _part(value, source) for part, value in found.items()}
    notes: dict[str, str] = {}
    if "valid" in parts and "test" not in parts:
        parts["test"] = parts.pop("valid")
        notes["parts"] = "there is no test part, so the validation part is the final test"
    converted = _converted_each(parts, source, notes)
    labels, classes = _targets(parts, converted.parts, source, notes)
    whole = {part: (converted.parts[part], labels[part]) for part in parts}
    warnings = (*_unsteady(found["train"], source), *converted.warnings)
    shifted = converted.kind == "images" and not source.task.maps
    return Raw(
        *whole["train"], whole.get("test"), classes, flip=False,
        crop=max(1, converted.parts["train"].shape[-1] // 8) if shifted else 0,
        valid=whole.get("valid"), notes=notes, warnings=warnings, vocabulary=converted.vocabulary,
    )  # fmt: skip


@dataclass(frozen=True)
class _Converted:
    """Examples as networks are given them, before they are normalised.

    Args:
        parts: Arrays of each part, or `Inputs` of arrays.
        kind: Their kind; None for several inputs.
        vocabulary: Number of different tokens, of several inputs one for each.
        warnings: What looks like a misunderstanding.
    """

    parts: dict[str, Any]
    kind: Kind | None
    vocabulary: Any
    warnings: tuple[str, ...]


def _converted(parts: Mapping[str, Given], source: UserFunction, notes: dict[str, str]) -> _Converted:
    """Check and convert the examples of all parts, or one of their inputs."""
    if isinstance(source.kind, Mapping):
        raise source.wrong(
            f"returned examples of one input, and data.kind names {', '.join(source.kind)}; write data.kind=KIND"
        )
    kind = _kind(parts, source)
    arrays = pixels_of(parts, source, notes) if kind == "images" else _numbers(parts, kind, source, notes)
    vocabulary = 1 + max(int(tokens.max()) for tokens in arrays.values()) if kind == "tokens" else None
    return _Converted(arrays, kind, vocabulary, tuple(_unlike_images(arrays["train"], kind, source)))


def _converted_each(parts: Mapping[str, Given], source: UserFunction, notes: dict[str, str]) -> _Converted:
    """Check and convert the examples of all parts, of several inputs each by itself."""
    several = parts["train"].images
    for name, part in parts.items():
        found = part.images.titles if isinstance(part.images, Inputs) else ()
        if found != (several.titles if isinstance(several, Inputs) else ()):
            raise source.wrong(f"returned examples of other inputs to train on than as {name}; return the same for all parts")
    if not isinstance(several, Inputs):
        if source.inputs is not None and len(source.inputs) > 1:
            raise source.wrong("returned no dict, and data.inputs names its keys; leave it out, or return a dict")
        return _converted(parts, source, notes)
    if isinstance(source.kind, Mapping) and (unknown := [key for key in source.kind if key not in several.titles]):
        raise source.wrong(f"returned the inputs {', '.join(several.titles)}, and no {unknown[0]!r}, which data.kind names")
    each: list[_Converted] = []
    for number, title in enumerate(several.titles):
        said: dict[str, str] = {}
        alone = {name: Given(_as_column(part.images.parts[number]), part.labels) for name, part in parts.items()}
        each.append(_converted(alone, source.alone(title), said))
        notes |= {f"{title}, {note}": text for note, text in said.items()}
    arrays = {name: several.like(one.parts[name] for one in each) for name in parts}
    warnings = tuple(warning for one in each for warning in one.warnings)
    return _Converted(arrays, None, tuple(one.vocabulary for one in each), warnings)


def _as_column(values: Any) -> Any:
    """Return a number for each example as a column of a table."""
    return values[:, None] if isinstance(values, np.ndarray) and values.ndim == 1 else values


def parts_of(returned: Any, source: UserFunction) -> dict[str, Any]:
    """Tell the parts of what a function returned."""
    if returned is None:
        raise source.wrong(f"returned None; {WANTED}")
    if isinstance(returned, Mapping) or (hasattr(returned, "files") and hasattr(returned, "keys")):  # np.load of several
        return _named_parts({str(key): returned[key] for key in returned}, source)
    if isinstance(returned, tuple) and len(returned) == 2 and not _are_images_and_labels(*returned):
        if isinstance(returned[0], (tuple, Mapping)) and _are_targets(returned[1]):
            return {"train": returned}
        return {"train": returned[0], "test": returned[1]}
    if isinstance(returned, tuple) and len(returned) > 2:
        raise source.wrong(
            f"returned {len(returned)} things, of which nothing says what they are; return images and labels, a dict "
            "with the keys train, valid and test, or ((one, other), labels) for networks of several inputs"
        )
    return {"train": returned}


def _named_parts(given: dict[str, Any], source: UserFunction) -> dict[str, Any]:
    """Tell the parts of a dict: by its keys, by keys such as x_train and y_train, or one of images and labels."""
    keys = ", ".join(list(given)[:12])
    parts: dict[str, Any] = {}
    if all(part_of(key) for key in given) and given:
        for key, value in given.items():
            if part_of(key) in parts:
                raise source.wrong(f"returned a dict with {keys}; two of them are named like the same part")
            parts[str(part_of(key))] = value
    else:
        for key, value in given.items():
            words = re.split(r"[\W_]+", key.lower())
            word = next((word for word in words if part_of(word)), None)
            if word is None:
                continue
            stem = "_".join(other for other in words if other not in (word, ""))
            kinds = ("images" if other in IMAGES else "labels" for other in words if other in (*IMAGES, *LABELS))
            part = parts.setdefault(str(part_of(word)), {})
            part[stem if stem in (*IMAGES, *LABELS) or (kind := next(kinds, stem)) in part else kind] = value
        if not any(map(_has_targets, parts.values())):
            parts = {}
        if not parts and _has_targets(given) and _input_keys(given, source) is not None:
            return {"train": given}
    if "train" not in parts:
        raise source.wrong(
            f"returned a dict with the keys {keys}; use images and labels; or train, and valid and test if there are"
        )
    return parts


def key_of(given: Any, names: Sequence[str]) -> str | None:
    """Return the first of some names that a mapping has as a key, in any case."""
    lowered = {str(key).lower(): key for key in given}
    return next((lowered[name] for name in names if name in lowered), None)


def _are_images_and_labels(images: Any, labels: Any) -> bool:
    """Tell images and labels from two parts."""
    if isinstance(images, (np.ndarray, Tensor)):
        return True
    if _is_frame(images):
        return not _is_frame(labels) or key_of(labels, LABELS) is None or list(images) != list(labels)
    first = images[0] if isinstance(images, list) and images else None
    label = labels[0] if isinstance(labels, list) and labels else labels
    return isinstance(first, (np.ndarray, Tensor, Image.Image, list, str, Path)) and not isinstance(label, (tuple, Mapping))


def _are_targets(values: Any) -> bool:
    """Tell targets from a part of the data."""
    return isinstance(values, (np.ndarray, Tensor, list)) or (hasattr(values, "iloc") and not hasattr(values, "columns"))


def _has_targets(given: Any) -> bool:
    return isinstance(given, Mapping) and key_of(given, LABELS) is not None


def _input_keys(given: Mapping[Any, Any], source: UserFunction) -> Any:
    """Return the key under which examples are found beside their targets, a tuple of keys of several inputs, or None.

    Raises:
        InputError: Where another key may be an input, too, and data.inputs does not say.
    """
    if source.inputs is not None:
        for key in source.inputs:
            if key not in given:
                raise source.wrong(f"returned the keys {', '.join(map(str, given))}, and no {key!r}, which data.inputs names")
        return source.inputs[0] if len(source.inputs) == 1 else tuple(source.inputs)
    main, targets = key_of(given, IMAGES), key_of(given, LABELS)
    if "DESCR" in given:  # scikit-learn's bunches have the same data in several shapes, and describe it
        return main
    named = [key for key in given if str(key).lower() not in NAMES and key not in (main, targets)]
    others = [key for key in named if _may_be_input(given[key])]
    if main is None:
        return tuple(others) if len(others) > 1 else None
    if others:
        raise source.wrong(
            f"returned the keys {', '.join(map(str, given))}: {' and '.join(map(repr, others))} may be an input of the network "
            f"besides {main!r}; write data.inputs={main},{','.join(map(str, others))} if so, and data.inputs={main} otherwise"
        )
    return main


def _may_be_input(value: Any) -> bool:
    """Tell whether a value holds several numbers, or pixels."""
    if isinstance(value, Image.Image):
        return True
    if not isinstance(value, (np.ndarray, Tensor, list)):
        return False
    try:
        array = array_of(value)
    except ValueError:  # lists of different lengths
        return False
    return array.ndim > 0 and array.size > 0 and array.dtype.kind in "biuf"


def picked(item: Any, place: Any) -> Any:
    """Return what is at a place of an item: under a key or a number, or a dict of what is under several keys."""
    return {key: item[key] for key in place} if isinstance(place, tuple) else item[place]


def _is_frame(values: Any) -> bool:
    """Tell whether values are a data frame of pandas, or of a library that is like it."""
    return hasattr(values, "columns") and hasattr(values, "iloc")


def _part(given: Any, source: UserFunction) -> Given:
    if isinstance(given, Mapping):
        labels = key_of(given, LABELS)
        images = None if labels is None else _input_keys(given, source)
        if images is None or labels is None:
            raise source.wrong(f"returned a dict with the keys {', '.join(map(str, given))}; use images and labels")
        named = key_of(given, NAMES)
        names = None if named is None else [str(name) for name in given[named]]
        return _part_of(picked(given, images), given[labels], source, names)
    if _is_frame(given):
        label = key_of(given, LABELS)
        if label is None:
            raise source.wrong(
                f"returned a data frame with the columns {', '.join(map(str, list(given)[:8]))}, none of which is called "
                "target; return two things, as frame.drop(columns='price'), frame['price']"
            )
        return _part_of(given.drop(columns=label), given[label], source)
    if isinstance(given, tuple) or (isinstance(given, list) and len(given) == 2 and _are_images_and_labels(*given)):
        if len(given) != 2:
            raise source.wrong(f"returned {len(given)} things for a part; wanted are images and labels")
        return _part_of(given[0], given[1], source)
    kind = type(given).__name__
    if isinstance(given, (np.ndarray, Tensor)) or hasattr(given, "iloc"):
        raise source.wrong(f"returned {_a(kind)} alone; {WANTED}")
    if not hasattr(given, "__getitem__") or not hasattr(given, "__len__"):
        hint = "its .dataset" if hasattr(given, "dataset") else "a list of its items"
        raise source.wrong(f"returned {_a(kind)}, whose items cannot be looked up by number; return {hint}, or {WANTED[7:]}")
    return _items(given, source)


def _part_of(images: Any, labels: Any, source: UserFunction, names: Sequence[str] | None = None) -> Given:
    """Read examples and targets, either of which may be a data frame, whose columns have names."""
    if _is_frame(labels) and names is None:
        names = [str(column) for column in labels]
    found = labels.to_numpy() if hasattr(labels, "to_numpy") else labels_of(labels)
    if isinstance(images, Mapping) and source.inputs is not None:
        if unknown := [key for key in source.inputs if key not in images]:
            raise source.wrong(f"returned the inputs {', '.join(images)}, and no {unknown[0]!r}, which data.inputs names")
        images = picked(images, source.inputs[0] if len(source.inputs) == 1 else tuple(source.inputs))
    if isinstance(images, (Mapping, tuple)):
        if len(images) < 2:
            raise source.wrong("returned a dict or a tuple of one input; return its array")
        return Given(Inputs(images).map(lambda x: _part_of(x, labels, source, names).images), found, names)
    if not _is_frame(images):
        return Given(images_of(images, source), found, names)
    columns = [str(column) for column in images]
    if len(columns) == 1 and all(isinstance(value, str) for value in images.iloc[:, 0]):
        return Given(images_of(list(images.iloc[:, 0]), source), found, names)  # names of files
    for column in columns if images.shape[1] == len(set(columns)) else ():
        values = images.iloc[:, columns.index(column)]
        kind = np.asarray(values).dtype
        if kind.kind not in "biuf":
            raise source.wrong(
                f"returned a data frame whose column {column!r} holds no numbers ({values.dtype}); encode it, as by "
                "pandas.get_dummies, or drop it"
            )
        if (missing := np.isnan(np.asarray(values, dtype=np.float64))).any():
            raise source.wrong(
                f"returned a data frame whose column {column!r} has {missing.sum()} missing values; fill them, drop those "
                "rows, or drop the column"
            )
    return Given(images.to_numpy(dtype=np.float64), found, names, columns)


def labels_of(values: Any) -> NDArray[Any]:
    """Return targets in an array; lists of names or numbers that differ in length stay lists, in an array of objects."""
    listed = values if isinstance(values, (list, tuple)) else ()
    if any(isinstance(value, (list, tuple, set, frozenset)) for value in listed):
        lengths = {len(value) if isinstance(value, (list, tuple, set, frozenset)) else -1 for value in listed}
        if len(lengths) > 1 or any(isinstance(name, str) or isinstance(v, (set, frozenset)) for v in listed for name in v):
            found = np.empty(len(listed), dtype=object)
            found[:] = [list(v) if isinstance(v, (list, tuple, set, frozenset)) else v for v in listed]
            return found
    if any(isinstance(value, Image.Image) for value in listed):
        return np.stack([np.asarray(value) for value in listed])
    return array_of(values)


def images_of(given: Any, source: UserFunction) -> NDArray[Any] | list[Image.Image]:
    """Put images into one array, unless they are Pillow's or files. Raises InputError for several shapes."""
    if isinstance(given, (np.ndarray, Tensor)):
        array = array_of(given)
        return [_opened(path, source) for path in array] if array.dtype.kind == "U" and array.ndim == 1 else array
    listed = list(given)
    if not listed:
        raise source.wrong(f"returned no images; {WANTED}")
    if all(isinstance(image, (str, Path)) for image in listed):
        return [_opened(path, source) for path in listed]
    if all(isinstance(image, Image.Image) for image in listed):
        return listed
    arrays = [array_of(image) for image in listed]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        shown = ", ".join("x".join(map(str, shape)) for shape in shapes[:4])
        if source.kind in ("signals", "tokens"):
            raise source.wrong(f"returned {source.kind} of {len(shapes)} shapes ({shown}); pad or cut all to one length there")
        raise source.wrong(f"returned images of {len(shapes)} different shapes ({shown}); resize all of them to one there")
    return np.stack(arrays)


def _opened(path: str | Path, source: UserFunction) -> Image.Image:
    """Read an image's file. Raises InputError with its name."""
    if source.kind is not None:
        raise source.wrong(
            f"returned texts, as {str(path)[:60]!r}; {source.key} = {source.kind} takes numbers, so encode them there"
        )
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise source.wrong(f"returned {str(path)[:200]!r}, which cannot be read as an image ({reason})") from error


def array_of(values: Any) -> NDArray[Any]:
    """Convert tensors, lists of them and whatever numpy takes to an array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray(values.numpy() if str(values.dtype) != "torch.bfloat16" else values.float().numpy())
    if isinstance(values, (list, tuple)) and any(isinstance(value, Tensor) for value in values):
        values = [array_of(value) for value in values]
    return np.asarray(values)


def _items(given: Any, source: UserFunction) -> Given:
    """Read the items of a map-style dataset."""
    images, labels, place = [], [], None
    if not len(given):
        raise source.wrong("returned no items")
    for number in range(len(given)):
        with theirs(source.name, source.factory, f": its item {number}"):
            item = given[number]
        if place is None:
            place = places_in(item, source)
        try:
            image, label = picked(item, place[0]), item[place[1]]
        except (KeyError, IndexError, TypeError) as error:
            raise source.wrong(f"returned items of different kinds; number {number} is {_described(item)}") from error
        if label is None:
            raise source.wrong(f"returned no label with item {number}")
        if isinstance(image, Image.Image):
            image.load()  # many files must not be open at a time
        images.append(image)
        labels.append(np.asarray(label)[()] if isinstance(label, Tensor) else label)
    if isinstance(images[0], (tuple, Mapping)):
        return Given(_inputs_of(images, source), labels_of(labels), class_names(given))
    if not isinstance(images[0], (np.ndarray, Tensor, Image.Image, list, str, Path)):
        raise source.wrong(f"returned items whose image is {_described(images[0])}; wanted is an array or a Pillow image")
    return Given(images_of(images, source), labels_of(labels), class_names(given))


def _inputs_of(examples: Sequence[Any], source: UserFunction) -> Inputs:
    """Put the inputs of examples, each a dict or a tuple, into an array for each input."""
    first = Inputs(examples[0])
    for number, example in enumerate(examples):
        if not isinstance(example, (Mapping, tuple)) or Inputs(example).titles != first.titles:
            raise source.wrong(f"returned items of different inputs; number {number} has not those of the first one")
    columns = (list(column) for column in zip(*(Inputs(example).parts for example in examples), strict=True))
    return first.like(images_of(column, source.alone(title)) for title, column in zip(first.titles, columns, strict=True))


def places_in(item: Any, source: UserFunction) -> tuple[Any, Any]:
    """Return where in an item the image and its label are; of several inputs the tuple of their keys."""
    if isinstance(item, Mapping):
        label = key_of(item, LABELS)
        places = None if label is None else _input_keys(item, source), label
        if None in places:
            raise source.wrong(f"returned items with the keys {', '.join(map(str, item))}; call two of them image and label")
        return places
    if source.inputs is not None:
        raise source.wrong("returned items that are no dicts, and data.inputs names their keys; leave it out")
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return 0, 1
    if isinstance(item, (tuple, list)) and len(item) > 2:
        whole = [i for i, value in enumerate(item) if i and _is_whole(value)]
        others = [i for i, value in enumerate(item) if i and i not in whole and _may_be_input(value)]
        if len(whole) == 1 and others:
            raise source.wrong(
                f"returned items of {len(item)} things, of which number {others[0]} may be an input of the network; return "
                "((first, second), label) if so, and (image, label) otherwise"
            )
        if len(whole) == 1:
            return 0, whole[0]
        raise source.wrong(
            f"returned items of {len(item)} things, {len(whole)} of them whole numbers, so that none is plainly the label; "
            "return (image, label)"
        )
    raise source.wrong(f"returned items that are {_described(item)}; wanted is (image, label)")


def _is_whole(value: Any) -> bool:
    array = np.asarray(value) if isinstance(value, (int, np.generic, np.ndarray, Tensor)) else np.asarray("")
    return array.ndim == 0 and np.issubdtype(array.dtype, np.integer)


def _a(kind: str) -> str:
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _described(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (tuple, list, str, Mapping)) else ""
    return f"{type(value).__name__}{size}"


def class_names(given: Any) -> Sequence[str] | None:
    """Return the names of labels that torchvision's datasets and those of Hugging Face know."""
    names = getattr(given, "classes", None)
    features = getattr(given, "features", None)
    if names is None and isinstance(features, Mapping) and (key := key_of(features, LABELS)) is not None:
        names = getattr(features[key], "names", None)
    named = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return list(names) if named and names is not None else None


def _unsteady(train: Any, source: UserFunction) -> Iterator[str]:
    """Warn of a dataset whose items differ when they are read again."""
    if isinstance(train, (Mapping, tuple, list)) or _is_frame(train):
        return
    with theirs(source.name, source.factory, ": its item 0"):
        twice = [train[0] for _ in range(2)]
    place = places_in(twice[0], source)[0]
    if not same(*(picked(item, place) for item in twice)):
        yield (
            f"{source.name} gives another image when item 0 is read again: each item is read once, so random transforms act "
            "only then; leave them to data.flip and data.crop"
        )


def same(one: Any, other: Any) -> bool:
    """Tell whether two examples are equal, in every input."""
    pairs = zip(_pytree.tree_leaves(one), _pytree.tree_leaves(other), strict=False)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


_AS_IT_IS = Form()


def pixels_of(parts: Mapping[str, Given], source: UserFunction, notes: dict[str, str]) -> dict[str, Pixels]:
    """Convert the images of all parts to uint8, on one scale and with channels first."""
    if all(isinstance(part.images, list) for part in parts.values()):
        try:
            decoded = [decode(image, _AS_IT_IS) for part in parts.values() for image in part.images]
            pixels, more, _ = finish(decoded, _AS_IT_IS)
        except ValueError as error:
            raise source.wrong(f"returned images that cannot be used: {error}") from error
        notes |= more
        cuts = np.cumsum([len(part.images) for part in parts.values()])[:-1]
        return dict(zip(parts, np.split(pixels, cuts), strict=True))
    arrays = {name: _plain(_array_of(part, source), source) for name, part in parts.items()}
    train = arrays["train"]
    for name, array in arrays.items():
        if array.shape[1:] != train.shape[1:]:
            raise source.wrong(f"returned images of {train.shape[1:]} to train on, and of {array.shape[1:]} as {name}")
    last = train.ndim == 4 and channels_last(train.shape, source)
    notes["shape"] = f"{'x'.join(map(str, train.shape[1:]))} of {train.dtype}" + (", channels last, turned" if last else "")
    if any(array.dtype != np.uint8 for array in arrays.values()):
        floats = any(np.issubdtype(array.dtype, np.floating) for array in arrays.values())
        scale = Scale.of(
            min(float(a.min()) for a in arrays.values()), max(float(a.max()) for a in arrays.values()), floats=floats
        )
        notes["scaling"] = f"{scale}, in all images alike"
        arrays = {name: np.rint(np.clip(scale.apply(array), 0, 255)).astype(np.uint8) for name, array in arrays.items()}
    if train.ndim == 3:
        return {name: array[:, None] for name, array in arrays.items()}
    return {name: array.transpose(0, 3, 1, 2) if last else array for name, array in arrays.items()}


def _array_of(part: Given, source: UserFunction) -> NDArray[Any]:
    if isinstance(part.images, list):
        raise source.wrong("returned arrays for one part and Pillow images for another; return arrays for both")
    return np.asarray(part.images)


def _plain(images: NDArray[Any], source: UserFunction) -> NDArray[Any]:
    """Check that an array holds numbers in the shape of images."""
    if images.ndim not in (3, 4) or not images.size:
        raise source.wrong(f"returned images of shape {images.shape}; {WANTED}")
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(images.dtype, np.integer) and not np.issubdtype(images.dtype, np.floating):
        raise source.wrong(f"returned images of type {images.dtype}; wanted are numbers: {WANTED}")
    if np.issubdtype(images.dtype, np.floating):
        wrong = ~np.isfinite(images.reshape(len(images), -1)).all(axis=1)
        if wrong.any():
            raise source.wrong(
                f"returned {wrong.sum()} images with pixels that are NaN or infinite, number {int(wrong.argmax())} first; "
                "replace them or leave those images out"
            )
    return images


def channels_last(shape: tuple[int, ...], source: UserFunction) -> bool:
    """Tell the order of (n, a, b, c): by few channels on one end, and by the sides of a square on the other.

    Raises:
        InputError: Where nothing tells, or one thing speaks for either.
    """
    _, a, b, c = shape
    if source.layout is not None:
        return source.layout == "channels-last"
    first = a <= _FEW < min(b, c) or (b == c != a and b > _FEW)
    last = c <= _FEW < min(a, b) or (a == b != c and a > _FEW)
    if first == last:
        raise source.wrong(
            f"returned images of shape {shape}, which does not tell which of {a} and {c} are the channels; expected are "
            "(n, channels, height, width), so write data.layout=channels-first, or data.layout=channels-last"
        )
    return last


def _kind(parts: Mapping[str, Given], source: UserFunction) -> Kind:
    """Tell the kind of examples: what the user says, a table for rows of floating-point numbers, otherwise images."""
    train = parts["train"].images
    if source.kind is not None:
        assert not isinstance(source.kind, Mapping)  # `_converted` has one input
        return source.kind
    if parts["train"].columns is not None:
        return "table"
    if isinstance(train, list) or train.ndim != 2 or not np.issubdtype(train.dtype, np.number):
        return "images"
    if np.issubdtype(train.dtype, np.floating):
        return "table"
    raise source.wrong(
        f"returned whole numbers of shape {train.shape}, which may be rows of a table or sequences of tokens; write "
        f"{source.key}=table or {source.key}=tokens"
    )


def _unlike_images(train: NDArray[Any], kind: Kind, source: UserFunction) -> Iterator[str]:
    """Warn of floating-point numbers that were taken for images and look like signals."""
    if kind == "images" and source.kind is None and train.shape[1] == 1 and train.ndim == 4:
        height, width = train.shape[2:]
        if max(height, width) >= 4 * min(height, width):
            yield (
                f"{source.name}: arrays of {height}x{width} are taken for grey images, which have 8 bits and are shifted at "
                f"random; if they are signals of channels x length, write {source.key}=signals"
            )


def _numbers(parts: Mapping[str, Given], kind: Kind, source: UserFunction, notes: dict[str, str]) -> dict[str, NDArray[Any]]:
    """Check signals, rows of a table or tokens, and convert them: float32, but int64 for tokens."""
    dimensions, shape = (3 if kind == "signals" else 2), _SHAPES[kind]
    found: dict[str, NDArray[Any]] = {}
    for name, part in parts.items():
        if isinstance(part.images, list):
            raise source.wrong(
                f"returned Pillow images, and {source.key} = {kind}; return an array {shape}, or leave out {source.key}"
            )
        values = part.images
        if values.ndim != dimensions or not values.size:
            hint = "; a single channel is (n, 1, length)" if kind == "signals" and values.ndim == 2 else ""
            raise source.wrong(
                f"returned an array of shape {values.shape} as {name}; {source.key} = {kind} takes {shape}{hint}"
            )
        if (not np.issubdtype(values.dtype, np.number) and values.dtype != np.bool_) or np.iscomplexobj(values):
            raise source.wrong(f"returned {kind} of type {values.dtype}; wanted are numbers, so encode texts as numbers")
        if not np.isfinite(values).all():
            wrong = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            raise source.wrong(
                f"returned {wrong.sum()} examples with values that are NaN or infinite, number {int(wrong.argmax())} first; "
                "replace them or leave those examples out"
            )
        if kind == "tokens" and ((values != np.rint(values)).any() or values.min() < 0):
            raise source.wrong("returned tokens that are no whole numbers from 0; number the tokens of your vocabulary from 0")
        found[name] = values.astype(np.int64 if kind == "tokens" else np.float32)
        if found[name].shape[1:] != found["train"].shape[1:]:
            shapes = found["train"].shape[1:], found[name].shape[1:]
            raise source.wrong(f"returned examples of {shapes[0]} to train on, and of {shapes[1]} as {name}")
        if kind == "signals":
            found[name] = _channels_before(found[name], source)
        if kind == "tokens" and found[name].max() >= MOST_TOKENS:
            raise source.wrong(f"returned tokens up to {found[name].max()}; number the tokens of your vocabulary from 0")
    if (columns := parts["train"].columns) is not None:
        notes["columns"] = ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
    notes["shape"] = f"{kind} of {'x'.join(map(str, found['train'].shape[1:]))}"
    if kind != "tokens":
        notes["scaling"] = f"mean 0 and deviation 1 by each {'channel' if kind == 'signals' else 'column'} of the train part"
    return found


def _channels_before(signals: NDArray[Any], source: UserFunction) -> NDArray[Any]:
    """Return signals as (n, channels, length). Raises InputError where there are more channels than values of each."""
    if source.layout == "channels-last":
        return signals.transpose(0, 2, 1)
    if source.layout is None and signals.shape[1] > signals.shape[2]:
        raise source.wrong(
            f"returned signals of shape {signals.shape}, which would be {signals.shape[1]} channels of {signals.shape[2]} "
            "values; write data.layout=channels-last, or data.layout=channels-first if they are"
        )
    return signals


def _targets(
    parts: Mapping[str, Given], pixels: Mapping[str, Any], source: UserFunction, notes: dict[str, str]
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Have the task check and convert the targets of all parts, and name what it tells apart."""
    for part in parts.values():
        several = dict(zip(part.images.titles, part.images.parts, strict=True)) if isinstance(part.images, Inputs) else {}
        for title, images in several.items() or [("", part.images)]:
            if part.labels.ndim and len(part.labels) != len(images):
                few = not title and 1 < len(images) < min(5, len(part.labels))
                hint = "; networks of several inputs take a tuple or a dict of arrays" if few else ""
                raise source.alone(title).wrong(f"returned {len(images)} images and {len(part.labels)} labels{hint}")
    try:
        labels, names, said = source.task.read({name: part.labels for name, part in parts.items()}, parts["train"].classes)
    except ValueError as error:
        raise source.wrong(f"returned {error}") from error
    if said:
        notes["labels"] = said
    for name in parts:
        shape, images = labels[name].shape, pixels[name]
        sizes = [each.shape[2:] for each in (images.parts if isinstance(images, Inputs) else (images,))]
        if source.task.maps and shape[1:] not in sizes:
            raise source.wrong(f"returned targets of shape {shape} as {name}; they need the height and width of the images")
    return labels, names
