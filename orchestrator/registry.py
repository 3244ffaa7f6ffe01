"""Names and settings of components: searchers, spaces, objectives, evaluators, data.

A component of ours is found by the name of its file, one of an installed package by its entry point, and anybody else's by
`module:Class`. The signature of its constructor is the schema of its settings.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hw_profiles.wording import in_words
from orchestrator.errors import InputError

FOLDERS = {
    "searcher": "searchers",
    "space": "orchestrator.spaces",
    "objective": "orchestrator.objectives",
    "task": "orchestrator.tasks",
}
"""The package that holds a file for each component of a kind."""
UNNAMED = "object given in Python"
"""The name of data, and of spaces, that no file can name."""
LARGEST, LARGEST_COUNT, LARGEST_SEED = 1e30, 1e9, 2**63 - 1
"""The largest that a setting may be, within single precision; that a count may be; and that a seed may be, as of torch."""
_FINITE = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True)
class Component:
    """A named class or function with all of its settings.

    Args:
        name: As an experiment writes it: `tnd-nas`, or `module:Class`.
        factory: The class or function.
        settings: The user's keywords, checked and completed with their defaults.
        chosen: Which of the settings the user gave.
    """

    name: str
    factory: Callable[..., Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    chosen: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def of(
        cls,
        name: str,
        factory: Callable[..., Any],
        given: Mapping[str, Any],
        section: str,
        supplied: Iterable[str] = (),
        also: Iterable[str] = ("name",),
    ) -> Component:
        """Check `given` by the signature of `factory`; arguments as for `keywords`. Raises InputError."""
        return cls(name, factory, keywords(factory, given, section, supplied=supplied, also=also), frozenset(given))

    def build(self, section: str, *positional: Any, **supplied: Any) -> Any:
        """Call the factory with the settings; a ValueError becomes an InputError that names the section."""
        try:
            return self.factory(*positional, **self.settings, **supplied)
        except ValueError as error:
            raise InputError(f"[{section}] {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a section of an experiment file."""
        return {"name": self.name, **self.settings}


def known(kind: str) -> list[str]:
    """List the names that exist for a kind of component: those with a file of their own, then those of installed packages."""
    ours = list(shipped(kind))
    return [*ours, *sorted(set(_installed(kind)) - set(ours))]


def summaries(kind: str) -> dict[str, str]:
    """Describe each known name of a kind in a sentence: ours by its docstring, another by its package. Imports none of them."""
    ours = {name: first_sentence(ast.get_docstring(cls) or "") for name, cls in shipped(kind).items()}
    installed = {name: f"from {e.dist.name} {e.dist.version}" if e.dist else e.value for name, e in _installed(kind).items()}
    return {name: ours[name] if name in ours else installed[name] for name in known(kind)}


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring in one line, without its full stop."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?;:])\s", paragraph, maxsplit=1)[0].rstrip(".;:")


def shipped(kind: str) -> dict[str, ast.ClassDef]:
    """Find our components of a kind in the files that are named after them, without importing them."""
    spec = find_spec(FOLDERS[kind]) if kind in FOLDERS else None
    folders = (spec.submodule_search_locations or ()) if spec else ()
    classes = {path: _class_in(path) for folder in folders for path in Path(folder).glob("[a-z]*.py")}
    return {path.stem.replace("_", "-"): found for path in sorted(classes) if (found := classes[path])}


@cache
def _class_in(path: Path) -> ast.ClassDef | None:
    """Return the class that a file is named after; None for a helper module, and for what is no Python."""
    try:
        statements = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return None
    wanted = path.stem.replace("_", "")
    return next((s for s in statements if isinstance(s, ast.ClassDef) and s.bases and s.name.lower() == wanted), None)


def _installed(kind: str) -> dict[str, EntryPoint]:
    """Entry points of installed packages, in groups named after their kind, as `paretoray.searchers`."""
    return {entry.name: entry for entry in entry_points(group=f"paretoray.{kind}s")}


def find(kind: str, name: str, base: type | None = None) -> Callable[..., Any]:
    """Find a class by its name, an entry point, or `module:Class`.

    Args:
        kind: A key of `FOLDERS`.
        name: As an experiment writes it.
        base: The class that it has to extend; None for any callable.

    Raises:
        InputError: For an unknown name, with the nearest right one; for a module that cannot be imported; and for what is
            no subclass of `base`, or still lacks one of its methods.
    """
    if ":" in name:
        found = import_from(name, f"{kind}.name")
    elif name in (installed := _installed(kind)) and name not in shipped(kind):
        found = _load(installed[name], kind)
    else:
        found = _shipped(kind, name)
    if base is not None:
        check_subclass(found, base, f"{kind}.name = {name!r}")
    return found  # type: ignore[no-any-return]


def _load(entry: EntryPoint, kind: str) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever a stranger's package raises while it is imported
        package = f" of {entry.dist.name}" if entry.dist else ""
        raise InputError(
            f"{kind} {entry.name!r}: the entry point {entry.value}{package} cannot be imported ({describe_error(error)})"
        ) from error


def _shipped(kind: str, name: str) -> Any:
    classes = shipped(kind)
    written = name.replace("_", "-")  # scores are known under names with either
    if written not in classes:
        raise InputError(f"unknown {kind} {name!r} (your own is written module:Class){nearest(name, known(kind))}")
    return getattr(importlib.import_module(f"{FOLDERS[kind]}.{written.replace('-', '_')}"), classes[written].name)


def name_of(kind: str, cls: type) -> str:
    """Name a class as an experiment would: ours by its file, any other as `module:Class`."""
    package, _, module = cls.__module__.rpartition(".")
    if package == FOLDERS[kind]:
        return module.replace("_", "-")
    return f"{cls.__module__}:{cls.__qualname__}"


def check_subclass(found: Any, base: type, setting: str) -> None:
    """Raise InputError unless `found` is a subclass of `base` that has all of its methods."""
    kind = base.__name__
    if not isinstance(found, type) or not issubclass(found, base):
        raise InputError(f"{setting}: it is no {kind}; write a class that extends paretoray.{kind}")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise InputError(f"{setting}: the class lacks {', '.join(missing)}, which every {kind} has")


def import_from(reference: str, section: str) -> Any:
    """Import the object behind `module:name`, with the current folder importable. Raises InputError where there is none."""
    module, _, name = reference.partition(":")
    if not module or not name:
        raise InputError(f"{section} = {reference!r}: write module:name")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that nobody's module takes the place of an installed one
    found: Any = None
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a user's module raises while it is imported
        if module == "__main__" or "<locals>" in name:
            hint = "it belongs to a script, a notebook or a function; go on from there in Python, or move it into a module"
        elif isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            near = similar(error.name, [path.stem for path in Path.cwd().glob("*.py")])
            hint = f"start from the folder of {error.name}.py, or install it{near}"
        elif isinstance(error, AttributeError) and (there := getattr(error, "obj", None)) is found:
            hint = f"write module:name{similar(str(error.name), vars(there))}"
        else:
            hint = "write module:name"
        raise InputError(f"{section} = {reference!r}: cannot import it ({describe_error(error)}); {hint}") from error
    return found


def describe_error(error: BaseException) -> str:
    """Name an error in one line; its type is left out where the message says enough by itself."""
    plain = isinstance(error, (ImportError, AttributeError, SyntaxError, ValueError))
    return str(error) if plain and str(error) else f"{type(error).__name__}: {error}".rstrip(": ")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a hint to end an error message with: the most similar of the right words, or all of them."""
    options = list(words)
    return similar(word, options) or f"; known are {', '.join(options)}"


def similar(word: str, words: Iterable[str]) -> str:
    """Return a hint to end an error message with, where one of many words is similar; empty where none is."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def keywords(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    section: str,
    *,
    supplied: Iterable[str] = (),
    also: Iterable[str] = (),
) -> dict[str, Any]:
    """Check and convert `given` by the signature of `function`, and complete it with the defaults.

    Args:
        function: A class or function whose annotations are the schema.
        given: The user's values by keyword.
        section: Where they stand in an experiment, for messages.
        supplied: Parameters that are filled in by the program and are not for the user to set.
        also: Further keys that the section has, which may have been meant by one that is not known.

    Raises:
        InputError: For a key that is no keyword of `function`, a value of the wrong type, or a keyword without a value.
    """
    # A class's own signature is its constructor's, which is where the annotations are.
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    parameters = user_parameters(function, set(supplied))
    for key in given:
        if key not in parameters:
            raise InputError(f"unknown key {section}.{key}{nearest(key, [*parameters, *also])}")
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in given:
            schema: TypeAdapter[Any] = TypeAdapter(hints.get(name, Any), config=_FINITE)
            try:
                values[name] = schema.validate_python(given[name])
            except ValidationError as error:
                try:  # a number on a command line may be meant as text
                    values[name] = schema.validate_python(given[name].text)
                except (AttributeError, ValidationError):
                    hint = similar(str(given[name]), _literals(hints.get(name)))
                    raise InputError(f"{section}.{name} = {given[name]!r}: {in_words(error.errors())}{hint}") from error
            if hasattr(values[name], "text") and isinstance(values[name], (int, float)):  # whatever takes anything
                values[name] = int(values[name]) if isinstance(values[name], int) else float(values[name])
            check_magnitude(values[name], f"{section}.{name}")
        elif parameter.default is not parameter.empty:
            values[name] = parameter.default
        else:
            raise InputError(f"{section}.{name} has no value and no default; write {section}.{name}=...")
    return values


def _literals(hint: Any) -> list[str]:
    """List the words that a type names, as `Literal["batch", "running"] | None` does."""
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    return [word for part in get_args(hint) for word in _literals(part)]


def check_magnitude(value: Any, setting: str) -> None:
    """Raise InputError for a number beyond anything that can be meant, before it overflows, or takes for ever, somewhere."""
    if isinstance(value, (list, tuple)):
        for item in value:
            check_magnitude(item, setting)
    elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):  # an int may be too large for a float
        counted = isinstance(value, int) and not setting.startswith("objectives")
        most = LARGEST if not counted else LARGEST_SEED if setting.endswith("seed") else LARGEST_COUNT
        if abs(value) > most:
            raise InputError(f"{setting} = {_shown(value)}: no number here is above {most:.3g}; write a smaller one")


def _shown(value: float) -> str:
    try:
        return f"{value:.6g}"
    except OverflowError:
        return f"a number of {int(value).bit_length()} bits"


def argument_texts(function: Callable[..., Any]) -> dict[str, str]:
    """Return what a docstring says of each argument of a class or function."""
    parsed = docstring_parser.parse(inspect.getdoc(function) or "", docstring_parser.DocstringStyle.GOOGLE)
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in parsed.params}


def user_parameters(function: Callable[..., Any], supplied: Collection[str]) -> dict[str, inspect.Parameter]:
    """List the parameters that a user may set, in their order."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    listed = inspect.signature(function).parameters.items()
    return {name: p for name, p in listed if name not in supplied and p.kind in kinds}


def build(function: Callable[..., Any], values: Mapping[str, Any], section: str, *positional: Any, **supplied: Any) -> Any:
    """Call `function`; a ValueError for a bad setting becomes an InputError that names the section."""
    return Component("", function, values).build(section, *positional, **supplied)
