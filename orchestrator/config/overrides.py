"""Experiments from a TOML file and `section.key=value` overrides."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.experiment import DEFAULT, Experiment
from orchestrator.config.problem import CLASSIFY, Sources, make_task, task_component
from orchestrator.config.settings import with_changes
from orchestrator.errors import InputError
from orchestrator.tasks import Task


def read(path: Path | None, overrides: Sequence[str], sources: Sources | None = None) -> Experiment:
    """Read the experiment of a TOML file (None: the built-in one) with `section.key=value` overrides. Raises InputError."""
    given: dict[str, Any] = copy.deepcopy(DEFAULT) if path is None else {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not valid TOML: {error}") from error
    _name_objectives(given)
    listed = given.get("objectives")
    for values in listed.values() if path is not None and isinstance(listed, dict) else ():
        if path is not None and isinstance(values, dict) and "file" in values:  # relative to the file that names it
            values["file"] = str(path.parent / str(values["file"]))
    # Names first: another searcher, say, drops the keywords of the one before it, not those given along with it.
    for override in sorted(overrides, key=lambda o: not o.partition("=")[0].endswith((".name", ".recipe"))):
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"{override!r} is not of the form section.key=value, as in searcher.samples=20")
        _set(given, _path(key), parse_value(text), override)
        _name_objectives(given)
    return Experiment.from_dict(given, sources)


def task_of(overrides: Sequence[str]) -> Task:
    """Make the task of `task=name` and `task.key=value` strings; classification without any. Raises InputError."""
    given: dict[str, Any] = {}
    for override in sorted(overrides, key=lambda o: not o.startswith(("task=", "task.name="))):
        key, _, text = override.partition("=")
        _set(given, _path(key), parse_value(text), override)
        _name_objectives(given)
    section = dict(given.get("task", {}))
    return make_task(task_component(section.pop("name", CLASSIFY), section))


def _name_objectives(given: dict[str, Any]) -> None:
    """Replace a list of objectives, and the mere name of a task, by sections, which later overrides may complete."""
    if isinstance(given.get("objectives"), list):
        given["objectives"] = {str(name): {} for name in given["objectives"]}
    if isinstance(given.get("task"), str):
        given["task"] = {"name": given["task"]}


def arguments(given: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Split a command line into the TOML file, if there is one, and the overrides. Raises InputError."""
    files = [s for s in given if "=" not in s]
    if len(files) > 1 or (files and given[0] != files[0]):
        raise InputError(f"expected one RUN.toml, first, then section.key=value; got {' '.join(given)}")
    return Path(files[0]) if files else None, [s for s in given if "=" in s]


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` strings, values as TOML would. Raises InputError."""
    given: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        _set(given, key.split("."), parse_value(text), override)
    return given


def changes(overrides: Sequence[str]) -> dict[str, Any]:
    """Read `section.key=value` strings into sections. Raises InputError for anything else."""
    given: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or ("." not in key and key != "objectives"):
            raise InputError(f"{override!r} is not of the form section.key=value, as in budget.epochs=150")
        _set(given, _path(key), parse_value(text), override)
    return given


def _path(key: str) -> list[str]:
    """Split a dotted key; a part that has dots itself, as a file name has, is quoted or follows an @."""
    parts = re.findall(r'"[^"]*"|[^."@]*@[^"]*?\.toml|[^."]+', key)
    return [part.strip('"') for part in parts]


def _set(given: dict[str, Any], path: list[str], value: Any, override: str) -> None:
    section, last = given, path[-1]
    for key in path[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise InputError(f"{override!r}: {key} is not a section")
    if last == "name" and section.get("name") != value:
        section.clear()  # the keywords belonged to another name
    if path == ["retrain", "recipe"]:
        kept = with_changes(section, {"recipe": value})
        section.clear()
        section.update(kept)
    section[last] = value


class Number:
    """A number as it was written, which a setting that wants text takes at its word: a folder may be called 2024.10."""

    text: str

    @staticmethod
    def of(value: float, text: str) -> Any:
        """Return `value` with its text, as the number that it is."""
        number = (_Whole if isinstance(value, int) else _Decimal)(value)
        number.text = text
        return number


class _Whole(int, Number):
    pass


class _Decimal(float, Number):
    pass


def parse_value(text: str) -> Any:
    """Read a value as TOML would; whatever TOML cannot read is a string, and a bare comma makes a list."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        return Number.of(value, text.strip()) if type(value) in (int, float) else value
    except RecursionError as error:
        raise InputError(f"{text} is nested too deeply; write a plain value") from error
    except ValueError:  # also for an integer of some thousand digits
        return [parse_value(part) for part in text.split(",")] if "," in text and text[0] not in "[{\"'" else text
