"""Images that stay where they are, and are decoded whenever they are used."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from orchestrator.data import images
from orchestrator.data.images import Form, Scales, Store
from orchestrator.errors import InputError

Pixels = NDArray[np.uint8]
_MODES = {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}
_READERS = 8


class Source(Protocol):
    """Images that are decoded one by one, in any order, and in any process that it was sent to."""

    @property
    def readers(self) -> int:
        """Number of threads that may decode at a time."""

    def __len__(self) -> int: ...

    def whole(self, number: int) -> Pixels:
        """Return an image in its form, (channels, height, width), or one grey channel. Raises InputError with its name."""

    def full(self, number: int) -> Tensor:
        """Return an image in its own size, likewise, to be cropped."""


@dataclass(frozen=True)
class Encoded:
    """Encoded images, which are read when it is known which ones are used, or decoded whenever they are.

    Args:
        store: The images.
        form: The form that they are given.
        numbers: Numbers of those in the store that are meant; None for all.
    """

    store: Store
    form: Form
    numbers: NDArray[np.int64] | None = None

    readers = _READERS

    def __len__(self) -> int:
        return len(self.store) if self.numbers is None else len(self.numbers)

    def __getitem__(self, indices: NDArray[np.int64]) -> Encoded:
        return replace(self, numbers=indices if self.numbers is None else self.numbers[indices])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each; three channels where all images would have to be looked at to tell."""
        assert self.form.size is not None
        return (3 if self.form.channels == "auto" else self.form.channels, self.form.size, self.form.size)

    def read(self, *others: Encoded) -> tuple[list[Pixels], dict[str, str], Scales]:
        """Read these and others, on one scale. Raises InputError with the name of an image that cannot be read."""
        every = (self, *others)
        pairs = [(part.store, int(number)) for part in every for number in part._every()]
        pixels, notes, scales = images.read_from(pairs, self.form)
        return np.split(pixels, np.cumsum([len(part) for part in every])[:-1]), notes, scales

    def _every(self) -> Sequence[int] | NDArray[np.int64]:
        return range(len(self.store)) if self.numbers is None else self.numbers

    def stream(self) -> Stream:
        """Return a stream of these. Raises InputError where the form depends on all images."""
        if self.form.channels == "auto":
            raise InputError(
                "data.channels = 'auto' looks at every image, and these are streamed (data.stream); write data.channels=1 or "
                "data.channels=3"
            )
        return Stream(self, np.arange(len(self)), self.shape)

    def whole(self, number: int) -> Pixels:
        store_number = int(self._every()[number])
        with images.opened(self.store, store_number) as (image, encoded):
            return self._of_bytes(images.decode(image, self.form, encoded), store_number)

    def full(self, number: int) -> Tensor:
        store_number = int(self._every()[number])
        with images.named(self.store, store_number):
            encoded = self.store.encoded(store_number)
            # torchvision decodes and resizes bytes about twice as fast as Pillow, which knows many more formats.
            if images.is_plain_jpeg(encoded):
                contents = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
                found: Tensor = decode_image(contents, _MODES[self.shape[0]], apply_exif_orientation=True)
                return found
        with images.opened(self.store, store_number) as (image, encoded):
            decoded = images.decode(image, replace(self.form, size=None), encoded)
            return torch.from_numpy(np.array(self._of_bytes(decoded, store_number)))

    def _of_bytes(self, decoded: images.Decoded, store_number: int) -> Pixels:
        if decoded.kind != "8 bits":
            raise images.too_deep(self.store.name(store_number))
        return decoded.pixels.transpose(2, 0, 1)


@dataclass(frozen=True)
class Joined:
    """Source of the images of several ones, one after the other.

    Args:
        sources: The sources.
    """

    sources: tuple[Source, ...]

    @property
    def readers(self) -> int:
        """Number of threads that may decode at a time."""
        return min(source.readers for source in self.sources)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def _find(self, number: int) -> tuple[Source, int]:
        for source in self.sources:
            if number < len(source):
                return source, number
            number -= len(source)
        raise IndexError(number)

    def whole(self, number: int) -> Pixels:
        source, own = self._find(number)
        return source.whole(own)

    def full(self, number: int) -> Tensor:
        source, own = self._find(number)
        return source.full(own)


@dataclass(frozen=True, eq=False)
class Stream:
    """Images that are decoded whenever they are used, in the place of a tensor (n, channels, height, width) of bytes.

    Looking some up decodes them at once, in threads; `Feed` has processes decode ahead what will be needed.

    Args:
        source: The images.
        numbers: Numbers in the source of those that are meant, (n,).
        form: Channels, height and width of each.
        pooled: Height and width that they are made smaller to, each pixel the mean of those that it takes the place of.
        device: torch's name of the device that decoded images are sent to.
        decoders: Processes that decode ahead; None for as many as a worker has threads, and 4 at least with a GPU.
    """

    source: Source
    numbers: NDArray[np.int64]
    form: tuple[int, int, int]
    pooled: tuple[int, int] | None = None
    device: str = "cpu"
    decoders: int | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that they stand for."""
        return (len(self), self.form[0], *(self.pooled or self.form[1:]))

    def to(self, device: str) -> Stream:
        """Have them sent to a device."""
        return replace(self, device=device)

    def select(self, indices: NDArray[np.int64]) -> Stream:
        """Choose some; nothing is decoded."""
        return replace(self, numbers=self.numbers[indices])

    def smaller(self, shape: tuple[int, int]) -> Stream:
        """Make them smaller, each by averaging its pixels."""
        return replace(self, pooled=shape)

    def joined(self, other: Stream) -> Stream:
        """Return these and others."""
        source = Joined((self.source, other.source))
        return replace(self, source=source, numbers=np.concatenate([self.numbers, len(self.source) + other.numbers]))

    def __getitem__(self, indices: Any) -> Tensor:
        """Decode some at once: those of a slice, of an array or tensor of numbers, or a single one."""
        chosen = self.numbers[indices.cpu().numpy() if isinstance(indices, Tensor) else indices]
        with images.strictly(), ThreadPoolExecutor(self.source.readers) as pool:
            decoded = list(pool.map(self.source.whole, np.atleast_1d(chosen).tolist()))
        found = self._stacked([torch.from_numpy(np.array(pixels)) for pixels in decoded]).to(self.device)
        return found if np.ndim(chosen) else found[0]

    def decode(self, indices: NDArray[np.int64], crop: float = 0.0, seed: int = 0) -> Tensor:
        """Decode a batch one by one, on the CPU.

        Args:
            indices: Numbers of the images.
            crop: Smallest share of an image's area that a random crop shows; 0 for whole images.
            seed: Seed of the crops, and of whatever else is random in a user's data set.

        Raises:
            InputError: For an image that cannot be read, with its name.
        """
        numbers = self.numbers[indices].tolist()
        with _seeded(seed):
            if not crop or not numbers:
                return self._stacked([torch.from_numpy(np.array(self.source.whole(number))) for number in numbers])
            cropped = v2.RandomResizedCrop(self.shape[2:], scale=(crop, 1.0), antialias=True)
            return torch.stack([cropped(self.source.full(number)).expand(self.form[0], -1, -1) for number in numbers])

    def _stacked(self, decoded: Sequence[Tensor]) -> Tensor:
        if not decoded:  # a share of a batch of fewer images than workers
            return torch.empty((0, *self.shape[1:]), dtype=torch.uint8)
        stacked = torch.stack([pixels.expand(self.form) for pixels in decoded])
        return stacked if self.pooled is None else pooled(stacked, self.pooled)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all global generators, which transforms of a user's data set may draw from, and leave them as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # but not a GPU's, which belongs to the training
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def pooled(pixels: Tensor, shape: tuple[int, int]) -> Tensor:
    """Average pixels, in exact arithmetic but for the last division, so that every processor has the same images."""
    averaged: Tensor = nn.functional.adaptive_avg_pool2d(pixels.float(), shape)
    return averaged.round().byte()
