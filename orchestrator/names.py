"""From names and keywords in an experiment to objects: a file in the right folder is all the registration there is."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hw_profiles.wording import in_words
from orchestrator.errors import InputError

FOLDERS = {"searcher": "searchers", "space": "orchestrator.spaces", "objective": "orchestrator.objectives"}
_FINITE = ConfigDict(allow_inf_nan=False)
_NOT_METHODS = {"base"}


def known(kind: str) -> list[str]:
    """The names that exist for a kind of thing, read off its folder."""
    package = importlib.import_module(FOLDERS[kind])
    files = (path.stem for folder in package.__path__ for path in Path(folder).glob("[a-z]*.py"))
    return sorted(stem.replace("_", "-") for stem in files if stem not in _NOT_METHODS)


def find(kind: str, name: str) -> Callable[..., Any]:
    """The class that the file `name` defines. Raises InputError for an unknown name, with the nearest right one."""
    if name not in known(kind):
        raise InputError(f"unknown {kind} {name!r}{nearest(name, known(kind))}")
    module = importlib.import_module(f"{FOLDERS[kind]}.{name.replace('-', '_')}")
    classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    wanted = name.replace("-", "")
    return next(c for c in classes if c.__name__.lower() == wanted)


def import_from(reference: str, section: str) -> Any:
    """The object behind `module:name`, with the current folder importable. Raises InputError where there is none."""
    module, _, name = reference.partition(":")
    if not module or not name:
        raise InputError(f"{section} = {reference!r}: write module:function")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(f"{section} = {reference!r}: cannot import it ({error}); write module:function") from error


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint to end an error message with."""
    options = list(words)
    close = difflib.get_close_matches(word, options, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(options)}"


def keywords(
    function: Callable[..., Any], given: dict[str, Any], section: str, *, supplied: Iterable[str] = ()
) -> dict[str, Any]:
    """`given` checked and converted by the signature of `function`, and completed with its defaults.

    supplied: parameters that the orchestrator fills in itself and that are not for the user to set. Raises InputError for
    a key that is not a keyword of `function`, for a value of the wrong type, and for a keyword without a value.
    """
    # A class's own signature is its constructor's, which is where the annotations are.
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    parameters = {
        name: p
        for name, p in inspect.signature(function).parameters.items()
        if name not in supplied and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }
    for key in given:
        if key not in parameters:
            raise InputError(f"unknown key {section}.{key}{nearest(key, parameters)}")
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in given:
            try:
                values[name] = TypeAdapter(hints.get(name, Any), config=_FINITE).validate_python(given[name])
            except ValidationError as error:
                raise InputError(f"{section}.{name} = {given[name]!r}: {in_words(error.errors())}") from error
        elif parameter.default is not parameter.empty:
            values[name] = parameter.default
        else:
            raise InputError(f"{section}.{name} has no value and no default; write {section}.{name}=...")
    return values


def build(function: Callable[..., Any], values: dict[str, Any], section: str, *positional: Any, **supplied: Any) -> Any:
    """Calls `function`, with a ValueError for a bad setting turned into an InputError that names the section."""
    try:
        return function(*positional, **values, **supplied)
    except ValueError as error:
        raise InputError(f"[{section}] {error}") from error
