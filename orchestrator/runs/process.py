"""Signal handling, which belongs to a command's process alone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def heeding_ctrl_c(stop: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Let the first Ctrl-C ask the work to save and stop; a second one, or one before the work has begun, ends it at once.

    Args:
        stop: The file that asks the work to stop.
        say: Told what is happening.
    """

    def heed(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not stop.parent.exists():
            raise KeyboardInterrupt
        stop.touch()
        say("stopping: saving the state first (Ctrl-C again ends at once)")

    previous = signal.signal(signal.SIGINT, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
