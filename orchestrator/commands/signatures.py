"""Keywords of our classes and functions, read from their files: nothing is imported, so that a shell's completion is quick."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Keywords = dict[str, list[str]]
"""Keywords by name, each with the words that it may have; an empty list where these cannot be listed."""


def keywords(module: str, name: str) -> Keywords:
    """List the keywords of a function or of a class's constructor, in their order; none for what is not ours."""
    where, found = _definition(module, name)
    if isinstance(found, ast.FunctionDef):
        return _parameters(where, found)
    if not isinstance(found, ast.ClassDef):
        return {}
    for statement in found.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return {key: words for key, words in _parameters(where, statement).items() if key != "self"}
    inherited: Keywords = {}
    for base in found.bases:
        if isinstance(base, ast.Name):
            inherited |= keywords(where, base.id)
    is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in found.decorator_list)
    return inherited | (dict(_fields(where, found)) if is_dataclass else {})


def assigned(module: str, name: str, attribute: str | None = None) -> Any:
    """Return the literal that a module, or a class in it or the nearest base of it, assigns to a name. Raises KeyError.

    Of a dictionary whose values are no literals, these are the names that stand there.
    """
    where, found = _definition(module, name)
    if attribute is not None:
        if not isinstance(found, ast.ClassDef):
            raise KeyError(name)
        own = [s for s in found.body if attribute in _targets(s)]
        if not own:
            bases = [base.id for base in found.bases if isinstance(base, ast.Name)]
            return next(assigned(where, base, attribute) for base in bases)
        found = own[0]
    if not isinstance(found, (ast.Assign, ast.AnnAssign)) or found.value is None:
        raise KeyError(name)
    if isinstance(found.value, ast.Dict):
        pairs = zip(found.value.keys, found.value.values, strict=True)
        return {ast.literal_eval(key): _literal(value) for key, value in pairs if key is not None}
    return ast.literal_eval(found.value)


def classes(module: str, keyword: str) -> dict[str, str]:
    """Map the values of a keyword of class definitions, as in `class Budget(Section, section="budget")`, to the classes."""
    found = {}
    for name, statement in _definitions(module).items():
        for given in statement.keywords if isinstance(statement, ast.ClassDef) else ():
            if given.arg == keyword:
                found[ast.literal_eval(given.value)] = name
    return found


def folder_of(package: str) -> Path:
    """Return the folder of a package of ours, without importing it."""
    top, *rest = package.split(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise KeyError(package)
    return Path(spec.submodule_search_locations[0]).joinpath(*rest)


def _definition(module: str, name: str) -> tuple[str, ast.stmt | None]:
    """Find where a name is defined, through imports of ours: the module and the statement."""
    found = _definitions(module).get(name)
    if isinstance(found, ast.ImportFrom) and found.module:
        source = next(alias.name for alias in found.names if (alias.asname or alias.name) == name)
        return _definition(found.module, source)
    return module, found


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    try:
        folder = folder_of(module)
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        statements = ast.parse(path.read_bytes()).body
    except (KeyError, OSError, SyntaxError, ValueError):
        return {}
    return {name: statement for statement in statements for name in _targets(statement)}


def _targets(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
        return [statement.name]
    if isinstance(statement, ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ast.unparse(value)


def _parameters(module: str, function: ast.FunctionDef) -> Keywords:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return {argument.arg: _words(module, argument.annotation) for argument in arguments}


def _fields(module: str, cls: ast.ClassDef) -> Iterator[tuple[str, list[str]]]:
    for statement in cls.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            private = statement.target.id.startswith("_") or "ClassVar" in ast.unparse(statement.annotation)
            if not private and "init=False" not in ast.unparse(statement):
                yield statement.target.id, _words(module, statement.annotation)


def _words(module: str, annotation: ast.expr | None) -> list[str]:
    """List the words that a value of this type may be: those of a Literal, and true and false."""
    if isinstance(annotation, ast.BinOp):
        return _words(module, annotation.left) + _words(module, annotation.right)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        items = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    if not isinstance(annotation, ast.Name):
        return []
    if annotation.id == "bool":
        return ["true", "false"]
    where, alias = _definition(module, annotation.id)
    return _words(where, alias.value) if isinstance(alias, ast.Assign) else []
