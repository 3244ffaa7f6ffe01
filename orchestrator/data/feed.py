"""Batches of a part in an order that is known beforehand: gathered from memory, or decoded ahead by processes."""

from __future__ import annotations

import atexit
import itertools
import math
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from orchestrator.data import images
from orchestrator.data.dataset import Batches, Part
from orchestrator.data.stream import Stream
from orchestrator.errors import InputError, RunError

HELD = 2**30
"""Bytes of decoded images that a feed keeps, where it serves the same few batches again and again."""
AHEAD, LARGE = 2, 2**26
"""Batches that each process decodes ahead; fewer where they take more bytes."""
_FAR = 1000
"""Batches between two that are asked for beyond which there is no regular step from one to the next."""
Order = Batches | Sequence[NDArray[np.int64]]
"""Numbers of the images of each batch; a sequence serves again from its beginning."""


class Feed:
    """Batches of a part, each a function of its number alone, whatever was asked for before.

    Those of a stream are decoded ahead by processes of torch's DataLoader, in the expectation that what was asked for last
    goes on: so numbers that rise in equal steps are fast, and any other ones right.

    Args:
        part: The images; batches are on its device.
        order: Numbers of the images of each batch.
        share: Number of the share of every batch that is wanted, and the number of shares.
        crop: Smallest share of an image's area that a random crop shows; 0 for whole images. Streams alone have such crops.
        seed: Numbers that seed the crops, together with those of the batch and the share.
        hold: Whether batches of a stream are kept once they are decoded, where all of them are small enough.

    Raises:
        InputError: On looking up a batch, for an image that cannot be read, with its name.
        RunError: Likewise, where a process was killed.

    Example:
        >>> feed = Feed(Part(torch.arange(4)[:, None, None, None], torch.tensor([0, 1, 0, 1])), [np.array([2, 3])])
        >>> feed[0][1].tolist()
        [0, 1]
    """

    def __init__(
        self,
        part: Part,
        order: Order,
        share: tuple[int, int] = (0, 1),
        *,
        crop: float = 0.0,
        seed: Sequence[int] = (),
        hold: bool = False,
    ) -> None:
        self.part, self.order, self.share = part, order, share
        self.count = None if isinstance(order, Batches) else len(order)
        self._held: dict[int, tuple[Any, Tensor]] = {}
        if isinstance(part.images, Stream):
            self._decoding = _Decoding(part.images, order, share, crop, tuple(seed))
            each = math.prod(part.images.shape[1:])
            self._holds = hold and not isinstance(order, Batches) and sum(map(len, order)) * each <= HELD
            self._ahead = max(1, min(AHEAD, LARGE // (each * max(1, len(order[0])))))
        self._steps = _Steps(self.count)
        self._loader: DataLoader[Any] | None = None
        self._batches: Iterator[Any] = iter(())
        self._next: int | None = None
        self._last: int | None = None

    def __getitem__(self, step: int) -> tuple[Any, Tensor]:
        """Return the images, uint8 as they are stored, or `Inputs`, and the labels of this share of a batch."""
        if not isinstance(self.part.images, Stream):
            indices = torch.from_numpy(self._indices(step)).to(self.part.labels.device)
            return self.part.images[indices], self.part.labels[indices]
        if step not in self._held:
            if not self._holds:
                self._held.clear()
            labels = self.part.labels[torch.from_numpy(self._indices(step)).to(self.part.labels.device)]
            self._held[step] = self._decoded(step).to(self.part.images.device, non_blocking=True), labels
            if self._holds and len(self._held) == self.count:
                self.close()
        return self._held[step]

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        """Return the batches of a sequence, once."""
        assert self.count is not None
        return (self[step] for step in range(self.count))

    def _indices(self, step: int) -> NDArray[np.int64]:
        return self.order[step][self.share[0] :: self.share[1]]

    def _decoded(self, step: int) -> Tensor:
        if self._decoding.decoders == 0:
            with images.strictly():
                found = self._decoding[step]
        else:
            try:
                if step != self._next:
                    self._begin(step)
                found = next(self._batches)
            except (RuntimeError, OSError, EOFError) as error:  # of torch, or of a pipe, for processes that were killed
                self.close()
                raise RunError(
                    f"a process that decodes images died ({error}); if memory or /dev/shm is short, lower data.decoders or the "
                    "batch, and `paretoray resume` goes on"
                ) from error
            self._next = self._steps.after(step)
        self._last = step
        if isinstance(found, InputError):
            self.close()
            raise found
        return found

    def _begin(self, step: int) -> None:
        """Have decoding go on from a batch, by the step that led to it."""
        far = step - self._last if self._last is not None else 1
        self._steps.first, self._steps.stride = step, far if self.count is None and 0 < far <= _FAR else 1
        if self._loader is None:
            assert isinstance(self.part.images, Stream)
            self._loader = DataLoader(
                self._decoding,
                sampler=self._steps,
                batch_size=None,  # each item is a whole batch
                num_workers=self._decoding.decoders,
                prefetch_factor=self._ahead,
                persistent_workers=True,
                collate_fn=_as_it_is,
                worker_init_fn=_leave_signals,
                pin_memory=self.part.images.device != "cpu",
                generator=torch.Generator(),  # or beginning would draw from torch's global one, which belongs to the training
            )
            _running.add(self)
        with _without_alarm():
            self._batches = iter(self._loader)

    def close(self) -> None:
        """End the processes; looking up a batch starts them again."""
        workers = getattr(self._batches, "_workers", ())
        self._loader, self._batches, self._next = None, iter(()), None
        for worker in workers:  # torch has ended them, but for one that does not come back, as from a file system that hangs
            if worker.is_alive():
                worker.kill()
        _running.discard(self)


_running: weakref.WeakSet[Feed] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End all processes before multiprocessing waits for them, as it does when Python ends."""
    for feed in list(_running):
        feed.close()


def in_order(count: int, batch: int) -> list[NDArray[np.int64]]:
    """Divide the numbers of all images, as they come, into batches, the last of which may be smaller."""
    return [np.arange(first, min(first + batch, count)) for first in range(0, count, batch)]


@contextmanager
def _without_alarm() -> Iterator[None]:
    """Keep torch from raising the death of a process wherever the main thread is then: looking up a batch notices it."""
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


class _Steps(Sampler[int]):
    """Numbers of the batches to decode, without end.

    Args:
        count: Number of batches, after which it begins again; None for endlessly many.
    """

    def __init__(self, count: int | None) -> None:
        self.count, self.first, self.stride = count, 0, 1

    def after(self, step: int) -> int:
        return step + self.stride if self.count is None else (step + self.stride) % self.count

    def __iter__(self) -> Iterator[int]:
        for step in itertools.count(self.first, self.stride):
            yield step if self.count is None else step % self.count


class _Decoding(TorchDataset[Any]):
    """Batches by their numbers, as a process decodes them. An image that cannot be read is the InputError that says so."""

    def __init__(self, stream: Stream, order: Order, share: tuple[int, int], crop: float, seed: tuple[int, ...]) -> None:
        self.stream, self.order, self.share, self.crop, self.seed = stream, order, share, crop, seed

    @property
    def decoders(self) -> int:
        """Number of processes."""
        if self.stream.decoders is not None:
            return self.stream.decoders
        usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return max(torch.get_num_threads(), min(4, usable) if self.stream.device != "cpu" else 1)

    def __getitem__(self, step: int) -> Tensor | InputError:
        rank, world = self.share
        seed = int(np.random.SeedSequence([*self.seed, step, rank]).generate_state(1)[0])
        try:
            return self.stream.decode(self.order[step][rank::world], self.crop, seed)
        except InputError as error:  # as a value: torch would put its traceback into the message
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals(worker: int) -> None:
    """Leave Ctrl-C and requests to stop, which reach all processes of a group, to the one that saves the state.

    These processes end when it closes the feed, or some seconds after it has died.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    images.refuse_bombs()
