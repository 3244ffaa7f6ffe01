"""Stopping a search from outside, and the threads that it computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def stop_file(directory: Path) -> Path:
    """Return the file whose presence asks the search in `directory` to save and stop."""
    return directory / ".stop"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch as many threads as a worker has, so that in process and in an actor the same sums come out."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
