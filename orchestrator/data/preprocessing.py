"""Preprocessing of one image as a search preprocesses its images, without the data that it was searched on.

`pixels` stands in exported networks word for word, so it uses nothing but NumPy and Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from orchestrator.data.dataset import Dataset


def pixels(image: Any, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Bring an image to the channels, height and width of the training images.

    Args:
        image: A Pillow image of any size; or an array or tensor of 0..255, (height, width), (height, width, channels)
            or (channels, height, width).
        shape: (channels, height, width) of the result.
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
    if image.mode[:1] in ("I", "F"):
        raise ValueError(f"an image of mode {image.mode}; convert it to 8 bits a channel, as the training images were")
    image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image).reshape(height, width, channels).transpose(2, 0, 1)


@dataclass(frozen=True)
class Preprocessing:
    """Makes of an image what the networks of a search take, as a tensor to be stacked to a batch.

    Args:
        shape: (channels, height, width) of the training images.
        mean: Per channel, of the training images, in 0..1.
        std: Deviation, likewise.

    Example:
        >>> preprocess = Preprocessing((1, 2, 2), mean=(0.5,), std=(0.5,))
        >>> preprocess(np.full((2, 2), 255, np.uint8)).tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: Dataset) -> Preprocessing:
        """Return that of a search's own images."""
        return cls(data.image, data.mean, data.std)

    def __call__(self, image: Any) -> Tensor:
        """Return a float tensor of `shape`.

        Args:
            image: A Pillow image of any size; or a uint8 array or tensor, (height, width), (height, width, channels) or
                (channels, height, width).

        Raises:
            ValueError: For what is no such image.
        """
        mean, std = (np.array(value, np.float32)[:, None, None] for value in (self.mean, self.std))
        return torch.from_numpy((pixels(image, self.shape).astype(np.float32) / np.float32(255) - mean) / std)
