"""Signals and standard output, which belong to a command's process alone."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process, from Ctrl-C, batch systems and service managers, and a terminal that closes."""


@contextmanager
def heeding_ctrl_c(stop: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP ask the work to save and stop; a second one, or one before it began, ends it.

    Args:
        stop: The file that asks the work to stop.
        say: Told what is happening.
    """

    def heed(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes may send it twice
        if not stop.parent.exists():
            raise KeyboardInterrupt
        stop.touch()
        say("stopping: saving the state first (Ctrl-C again ends at once)")

    with _handling(heed):
        yield


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, in commands that keep what they have at any moment."""
    with _handling(signal.default_int_handler):
        yield


@contextmanager
def _handling(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Handle all of `ENDING`, but what this process was started to ignore, as `nohup` does; only its main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in ENDING}
    heeded = [number for number, before in previous.items() if before is not signal.SIG_IGN]
    try:
        for number in heeded:
            signal.signal(number, handler)
        yield
    finally:
        for number in heeded:
            signal.signal(number, previous[number])


class _Pipe(io.FileIO):
    """A pipe that swallows what nobody reads any more, so that `| head` is no reason for a search to stop."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            return len(memoryview(data).cast("B"))


def outlive_readers() -> None:
    """Have standard output and standard error go on after whoever reads them has closed the pipe."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            if stream is None or stream.fileno() != number or stream.isatty():
                continue
        except (OSError, ValueError):  # it has no descriptor, or is closed
            continue
        stream.flush()
        buffered = io.BufferedWriter(_Pipe(number, "w", closefd=False))
        text = io.TextIOWrapper(buffered, stream.encoding, stream.errors, line_buffering=stream.line_buffering)
        setattr(sys, name, text)
