"""Commands in processes of their own, which may be killed: what each ended with, and what it printed."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPERATIONS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"})
"""File operations at which a process may be killed, by the names of Python's audit events."""
HANGING = 300.0
"""Seconds after which a process counts as one that hangs; all of them take a few on a machine that is free."""


@dataclass(frozen=True)
class Outcome:
    """End of a process.

    Args:
        code: Exit code; negative for a signal.
        output: What it printed.
        seconds: Time that it took.
    """

    code: int
    output: str
    seconds: float = 0.0

    @property
    def hung(self) -> bool:
        return self.seconds > HANGING

    @property
    def traceback(self) -> bool:
        return "Traceback" in self.output or "internal error" in self.output or "Error(" in self.output.partition("(")[0]

    @property
    def clear(self) -> bool:
        """Tell whether it ended with an error that says what is wrong."""
        return (
            self.code in (1, 2) and re.search(r"^(error|Error|Usage): ", self.output, re.M) is not None and not self.traceback
        )


def run(
    work: Callable[[], object],
    log: Path,
    *,
    within: Path | None = None,
    operation: int | None = None,
    after: float | None = None,
    meanwhile: Callable[[float], object] = lambda seconds: None,
) -> Outcome:
    """Do `work` in a child of this process, which has everything imported already.

    Args:
        work: What it does; SystemExit is its exit code.
        log: File for what it prints, and beside it for the number of its file operations.
        within: Folder in which file operations are counted.
        operation: Number of the operation at which it is killed; the one that it was about to do is not done.
        after: Seconds after which it is killed.
        meanwhile: Called again and again while it runs, with the seconds so far.
    """
    began = time.monotonic()
    child = os.fork()
    if not child:
        _become(work, log, within, operation)
    limit = HANGING if after is None else after
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > limit:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        meanwhile(time.monotonic() - began)
        time.sleep(0.005)
    seconds = time.monotonic() - began
    return Outcome(os.waitstatus_to_exitcode(status), log.read_text(errors="replace") if log.exists() else "", seconds)


def _become(work: Callable[[], object], log: Path, within: Path | None, operation: int | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code, seen, counting = 70, 0, True
    with contextlib.suppress(BaseException):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if counting and event in OPERATIONS and str(within) in str(arguments[0]):
                seen += 1
                if seen == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        if within is not None:
            sys.addaudithook(count)
        try:
            work()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        counting = False
        log.with_suffix(".operations").write_text(str(seen))
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def import_what_is_imported_late(work: Callable[[], object], log: Path) -> None:
    """Do `work` in a child, and import here whatever it imported, so that no child after it has to."""
    names = log.with_suffix(".modules")

    def note() -> None:
        with contextlib.suppress(SystemExit):
            work()
        names.write_text("\n".join(sorted(sys.modules)))

    done = run(note, log)
    if done.code:
        raise SystemExit(f"the first search fails: {done.output}")
    for name in names.read_text().split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy the pages of all these modules


def operations(log: Path) -> int:
    """Return the number of file operations of the process that wrote this log."""
    return int(log.with_suffix(".operations").read_text())


def command(*arguments: str | Path) -> Callable[[], object]:
    """Return a call of the command line."""
    from orchestrator.cli import main

    words: Sequence[str] = [str(argument) for argument in arguments]
    return lambda: main(args=list(words), standalone_mode=True)
