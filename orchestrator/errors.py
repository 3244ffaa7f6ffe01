"""The ways in which a run ends with one clear message and no traceback, and what is said of an error that nobody expected."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

CHECKING = ("pydantic", "pydantic_core", "numpy", "scipy", "sklearn")
"""Libraries that check what they are given. If it was ours, their words mean nothing to who runs the program."""


class InputError(Exception):
    """What the user wrote cannot be run: exit code 2. The message names the key, the value and the fix."""


class RunError(Exception):
    """The run failed and its files are safe: exit code 1. The message says what happened and how to go on."""


class Fault(RunError):
    """A fault of the program that came up in another process: exit code 1. The message is what `unexpected` says of it."""


class Interrupted(Exception):
    """Ctrl-C was heeded and the state is saved: exit code 130."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Has an error that comes out remember what was being done, with which file; `unexpected` says it."""
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


@contextmanager
def blamed(component: object, method: str) -> Iterator[None]:
    """Report an exception in somebody else's component as theirs, with file and line; ours keep their traceback."""
    cls = type(component)
    if cls.__module__.partition(".")[0] in ("searchers", "orchestrator"):
        yield
        return
    try:
        yield
    except (InputError, RunError, Interrupted):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if f.filename == getattr(sys.modules.get(cls.__module__), "__file__", None)] or frames
        said = next(iter(filter(None, map(str.strip, str(error).splitlines()))), "")
        raise RunError(
            f"{cls.__module__}:{cls.__qualname__} raised {type(error).__name__} in `{method}`: {said} "
            f"({Path(own[-1].filename).name}, line {own[-1].lineno})"
        ) from error


def unexpected(error: Exception, command: str) -> str:
    """What to say of a fault of the program: where it came up, what it is, and what was being done.

    Of an error of a library that checks values the place is shown, and what is wrong is said in our words.
    """
    from pydantic import ValidationError  # heavy, as is what follows: --help is to answer at once

    from hw_profiles.wording import in_words

    cause = getattr(error, "cause", error)  # of an actor's error, which Ray wraps
    done = ", ".join([*getattr(error, "__notes__", ()), f"running {command}"])
    if (library := checked_by(error)) is None:
        error.__notes__ = []  # they are in the last line
        shown = "".join(traceback.format_exception(error))
    else:
        found = f"a value that was computed did not pass a check of {library}"
        if isinstance(cause, ValidationError):
            wrong = [f"{cause.title}.{'.'.join(map(str, e['loc']))} = {e['input']!r} {in_words([e])}" for e in cause.errors()]
            found = "; ".join(wrong)
        ours = [frame for frame in traceback.walk_tb(error.__traceback__) if _package(frame[0]) not in CHECKING]
        lines = "".join(traceback.StackSummary.extract(ours).format())
        shown = f"Traceback (most recent call last):\n{lines}{found}\n"
    fault = "this is a fault of paretoray, not of what you wrote; please report it with the lines above"
    return f"{shown}internal error while {done}: {fault}"


def checked_by(error: Exception) -> str | None:
    """The library that made the error, if it is one of `CHECKING`; an error of an actor is that of its cause."""
    error = getattr(error, "cause", error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    made = {type(error).__module__.partition(".")[0], *map(_package, frames[-1:])}
    return next((library for library in CHECKING if library in made), None)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
