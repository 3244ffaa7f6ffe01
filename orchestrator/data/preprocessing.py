"""Preprocessing of one image as a search preprocesses its images, without the data that it was searched on.

`pixels`, `numbers` and `tokens` stand in exported networks word for word, so they use nothing but NumPy, and `pixels` Pillow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps

from orchestrator.data.dataset import Dataset
from orchestrator.spaces.parts.inputs import Inputs, Shapes, Tokens


def pixels(
    image: Any,
    shape: tuple[int, int, int],
    fit: str,
    background: tuple[int, int, int] | None,
    scales: Mapping[str, tuple[float, float]],
) -> NDArray[np.uint8]:
    """Bring an image to the channels, height and width of the training images.

    Args:
        image: A Pillow image of any size; or an array or tensor of 0..255, (height, width), (height, width, channels)
            or (channels, height, width).
        shape: (channels, height, width) of the result.
        fit: What becomes of other proportions: "squash", "crop", or "letterbox", a border of the background.
        background: Colour behind transparent pixels; None leaves them as they are stored.
        scales: Values that become 0 and 255 in grey images of more than 8 bits, of "integers" and of "fractions".
    """
    channels, height, width = shape
    if not isinstance(image, Image.Image):
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim not in (2, 3):
            raise ValueError(f"an image of shape {array.shape} and type {array.dtype}; it must be uint8, 0 to 255")
        first, last = array.shape[0], array.shape[-1]
        if array.ndim == 3 and (first == channels or (first in (1, 3) and last not in (1, 3))):
            array = array.transpose(1, 2, 0)
        if array.shape == (height, width, channels):
            return np.ascontiguousarray(array.transpose(2, 0, 1))
        image = Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    if channels not in (1, 3):
        raise ValueError(f"the network takes {channels} channels; give an array of shape {shape}")
    image = ImageOps.exif_transpose(image)
    border: Any = background or (255, 255, 255)
    luma = float(np.dot(border, (0.299, 0.587, 0.114)))
    kind = {"I": "integers", "F": "fractions"}.get(image.mode[:1])
    if kind is not None:
        if kind not in scales:
            raise ValueError(f"an image of mode {image.mode}; give 8 bits a channel, as the training images have")
        low, high = scales[kind]
        grey = (np.asarray(image, np.float32).astype(np.float64) - low) * (255 / ((high - low) or 1))
        planes: list[tuple[Image.Image, Any]] = [
            (Image.fromarray(grey.astype(np.float32)), b) for b in (border if channels == 3 else (luma,))
        ]
    else:
        if background is not None and image.has_transparency_data:
            behind = Image.new("RGBA", image.size, (*background, 255))
            behind.alpha_composite(image.convert("RGBA"))
            image = behind
        image = image if image.mode == "L" else image.convert("RGB")
        planes = [(image.convert("L"), round(luma))] if channels == 1 else [(image.convert("RGB"), border)]
    fitted = []
    for plane, edge in planes:
        if plane.size != (width, height) and fit == "crop":
            plane = ImageOps.fit(plane, (width, height), Image.Resampling.BILINEAR)
        elif plane.size != (width, height) and fit == "letterbox":
            plane = ImageOps.pad(plane, (width, height), Image.Resampling.BILINEAR, color=edge)
        elif plane.size != (width, height):
            plane = plane.resize((width, height), Image.Resampling.BILINEAR)
        fitted.append(np.rint(np.clip(np.asarray(plane), 0, 255)).astype(np.uint8).reshape(height, width, -1))
    return np.ascontiguousarray(np.concatenate(fitted, axis=2).transpose(2, 0, 1))


def numbers(example: Any, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Bring a signal or a row of a table to mean 0 and deviation 1 by channel or column.

    Args:
        example: Numbers of this shape, in their own unit.
        shape: (channels, length), or (columns,).
        mean: Of each channel or column of the training examples.
        std: Their deviation, likewise.
    """
    values = np.asarray(example)
    if values.shape != tuple(shape) or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise ValueError(
            f"an array of shape {values.shape} and type {values.dtype}; it must be numbers of shape {tuple(shape)}"
        )
    over = (slice(None), *[None] * (values.ndim - 1))
    centre, spread = (np.array(value, np.float32)[over] for value in (mean, std))
    return (values.astype(np.float32) - centre) / spread


def tokens(example: Any, shape: tuple[int, ...], vocabulary: int) -> NDArray[np.int64]:
    """Check a sequence of tokens.

    Args:
        example: Whole numbers of this shape.
        shape: (length,).
        vocabulary: Number of different tokens; they count from 0.
    """
    values = np.asarray(example)
    if values.shape != tuple(shape) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"an array of shape {values.shape} and type {values.dtype}; it must be {shape[0]} whole numbers")
    if values.size and not 0 <= values.min() <= values.max() < vocabulary:
        raise ValueError(f"tokens of {values.min()} to {values.max()}; they must be 0 to {vocabulary - 1}")
    return values.astype(np.int64)


@dataclass(frozen=True)
class Preprocessing:
    """Makes of an image what the networks of a search take, as a tensor to be stacked to a batch; likewise of other examples.

    Args:
        shape: (channels, height, width) of the training images, or the shape of other examples.
        mean: Per channel, of the training images, in 0..1; of signals, and of a table's columns, in their own unit.
        std: Deviation, likewise.
        fit: As `background` and `scales`, see `pixels`.
        vocabulary: Number of different tokens, for tokens, which are left as they are.
        inputs: Name of each of several inputs, None for those that are told by their order, and its own preprocessing, which
            all of the above is taken from.

    Example:
        >>> preprocess = Preprocessing((1, 2, 2), mean=(0.5,), std=(0.5,))
        >>> preprocess(np.full((2, 2), 255, np.uint8)).tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "squash"
    background: tuple[int, int, int] | None = None
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    vocabulary: int | None = None
    inputs: tuple[tuple[str | None, Preprocessing], ...] = ()

    def __post_init__(self) -> None:
        if self.vocabulary is not None:
            object.__setattr__(self, "shape", Tokens(self.shape, self.vocabulary))
        if self.inputs:
            shapes = [one.shape for _, one in self.inputs]
            names = [name for name, _ in self.inputs if name is not None]
            object.__setattr__(self, "shape", Shapes(dict(zip(names, shapes, strict=True)) if names else shapes))

    @classmethod
    def of(cls, data: Dataset) -> Preprocessing:
        """Return that of a search's own images."""
        if data.inputs:
            names = data.image.names or [None] * len(data.inputs) if isinstance(data.image, Shapes) else ()
            return cls((), (), (), inputs=tuple((n, cls.of(one)) for n, one in zip(names, data.alone().values(), strict=True)))
        settings = data.source.settings if data.source is not None else {}
        colour = settings.get("background")
        background = None if colour is None else ImageColor.getrgb(str(colour))[:3]
        return cls(
            data.image, data.mean, data.std, str(settings.get("fit", "squash")), background, data.scales, data.vocabulary
        )

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read what `dataclasses.asdict` and JSON make of one. Raises KeyError or TypeError for anything else."""
        found: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        found["scales"] = {kind: tuple(ends) for kind, ends in values["scales"].items()}
        found["inputs"] = tuple((name, cls.from_plain(one)) for name, one in values.get("inputs", ()))
        return cls(**found)

    def of_shape(self, shape: tuple[int, ...]) -> Preprocessing:
        """Return the same for examples of another shape."""
        if not self.inputs or not isinstance(shape, Shapes) or len(shape) != len(self.inputs):
            return replace(self, shape=shape)
        each = zip(shape.names or [None] * len(shape), shape, self.inputs, strict=True)
        return replace(self, inputs=tuple((name, one.of_shape(own)) for name, own, (_, one) in each))

    def __call__(self, image: Any) -> Any:
        """Return a float tensor of `shape`; of several inputs `Inputs`, of which `[None]` makes a batch of one example.

        Args:
            image: A Pillow image of any size; or a uint8 array or tensor, (height, width), (height, width, channels) or
                (channels, height, width). Of other examples an array of `shape`. Several inputs are a dict or a tuple of these.

        Raises:
            ValueError: For what is no such image.
        """
        if self.inputs:
            return self._each(image)
        if self.vocabulary is not None:
            return torch.from_numpy(tokens(image, self.shape, self.vocabulary))
        if len(self.shape) != 3:
            return torch.from_numpy(numbers(image, self.shape, self.mean, self.std))
        channels, height, width = self.shape
        mean, std = (np.array(value, np.float32)[:, None, None] for value in (self.mean, self.std))
        values = pixels(image, (channels, height, width), self.fit, self.background, self.scales)
        return torch.from_numpy((values.astype(np.float32) / np.float32(255) - mean) / std)

    def _each(self, example: Any) -> Inputs:
        """Preprocess every one of several inputs."""
        given = Inputs(example) if isinstance(example, (Mapping, tuple)) else None
        names = tuple(name for name, _ in self.inputs if name is not None) or None
        if given is not None and names is not None and given.names is not None and set(given.names) >= set(names):
            given = Inputs({name: example[name] for name in names})
        if given is None or given.names != names or len(given.parts) != len(self.inputs):
            wanted = f"a dict of {', '.join(names)}" if names else f"a tuple of {len(self.inputs)}"
            raise ValueError(f"an example of type {type(example).__name__}; it must be {wanted}")
        return given.like(one(part) for (_, one), part in zip(self.inputs, given.parts, strict=True))
