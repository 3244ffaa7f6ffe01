"""Errors that end a run with one clear message and no traceback, and the message for an error that nobody expected."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

OURS = frozenset({"paretoray", "searchers", "hw_profiles", "analysis", "orchestrator"})
"""Our top-level packages."""
CHECKING = ("pydantic", "pydantic_core", "numpy", "scipy", "sklearn")
"""Libraries that check what they are given. If it was ours, their words mean nothing to who runs the program."""


LIBRARIES = ("torch", "torchvision", "ray", *CHECKING)
"""Libraries that run the code of a user; `in_a_line` looks for a place outside of them."""
NOT_THE_USERS = frozenset({*OURS, *LIBRARIES, *sys.stdlib_module_names}) - {"__main__"}
LONGEST = 300
"""Characters of a description of an exception; some messages list whole tensors."""


class InputError(Exception):
    """Input that cannot be run: exit code 2. The message names the key, the value and the fix."""


class RunError(Exception):
    """Failure of a run whose files are safe: exit code 1. The message says what happened and how to go on."""


class NetworkFailed(RunError):
    """Failure of a single network, as by a loss that is not finite; a search records it and goes on with other networks."""


class Fault(RunError):
    """A fault of the program that came up in another process: exit code 1. The message is what `unexpected` says of it."""


class Interrupted(Exception):
    """Interruption by Ctrl-C or a stop file, with the state saved: exit code 130."""


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, by its type or by torch's words, says that something is too large to be stored."""
    if isinstance(error, MemoryError):
        return True
    words = (
        r"out of memory|can't allocate|cannot allocate|alloc_cpu|[Ss]torage size|overflow|exceeds? .*(size|memory)|too large"
    )
    return isinstance(error, RuntimeError) and re.search(words, str(error)) is not None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that says something, or else its type."""
    return next(iter(filter(None, map(str.strip, str(error).splitlines()))), type(error).__name__)


def shortened(message: str, most: int = 200) -> str:
    """Cut the middle out of words of a message that are longer than anybody reads, as a value of some thousand digits."""
    return re.sub(rf"\S{{{most},}}", lambda word: f"{word[0][: most // 2]}...{word[0][-most // 4 :]}", message)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Note on an exception what was being done, with which file, for `unexpected` to say."""
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


def in_a_line(error: BaseException) -> str:
    """Describe an exception in one line: its type, its message, and the place where code of the user raised it, if it did."""
    named, message = type(error).__name__, first_line(error)
    said = named if message == named else f"{named}: {message}"
    if len(said) > LONGEST:
        said = f"{said[: LONGEST - 3]}..."
    places = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _package(frame) not in NOT_THE_USERS]
    if not places:
        return said
    frame, line = places[-1]
    return f"{said} ({Path(frame.f_code.co_filename).name}, line {line})"


def plugin_packages(components: Iterable[object]) -> frozenset[str]:
    """List the top-level packages of those classes and functions that are not ours."""
    return frozenset(str(getattr(c, "__module__", "")).partition(".")[0] for c in components) - OURS - {"", "builtins"}


@contextmanager
def attributed_to(packages: Collection[str], error_type: type[InputError] | type[RunError] = RunError) -> Iterator[None]:
    """Report an exception in the code of plug-ins in one line with its place; any other exception is left alone.

    Args:
        packages: Top-level packages of the plug-ins, as `plugin_packages` lists them.
        error_type: InputError before anything has started, RunError later.
    """
    try:
        yield
    except (InputError, RunError, Interrupted):
        raise
    except Exception as error:
        frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _owner(frame) in packages]
        if not frames:
            raise
        # A method that a plug-in inherits from us is its own fault, too, but then the last line is not in its files.
        theirs = [f for f in frames if _package(f[0]) in packages]
        frame, line = theirs[-1] if theirs else frames[-1]
        called = theirs[0][0] if theirs else frames[0][0]  # rather than what torch calls a module's forward from
        message = first_line(error) if str(error).strip() else ""
        place = f"{Path(frame.f_code.co_filename).name}, line {line}"
        raise error_type(f"{_named(called)} raised {type(error).__name__}: {message} ({place})") from error


def _owner(frame: FrameType) -> str:
    """Return the top-level package of the class whose method runs, otherwise of the function."""
    return type(frame.f_locals["self"]).__module__.partition(".")[0] if "self" in frame.f_locals else _package(frame)


def _named(frame: FrameType) -> str:
    """Name a method by the class of its object, which an experiment names, rather than by a base of it."""
    if "self" in frame.f_locals:
        cls = type(frame.f_locals["self"])
        return f"{cls.__module__}:{cls.__qualname__}.{frame.f_code.co_name}"
    return f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}"


def unexpected(error: Exception, command: str) -> str:
    """Describe a fault of the program: where it came up, what it is, and what was being done.

    For an error of a library that checks values, the place is shown, and what is wrong is said in our words.
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
