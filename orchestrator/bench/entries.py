"""Searchers that a benchmark compares, as a command line names them, and the folder that it claims."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.files import write_text
from orchestrator.config.experiment import searcher_component
from orchestrator.config.overrides import parse_value, read
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError
from orchestrator.registry import Component


def parse(text: str) -> Component:
    """Read a searcher with settings, as in `nsga2:population=40:crossover=1.0`. Raises InputError."""
    name, settings = split(text)
    return searcher_component(name, {key: parse_value(value) for key, value in settings})


def entries_of(searchers: Sequence[str]) -> dict[str, Component]:
    """Read the searchers of a command line, each named once. Raises InputError."""
    if not searchers or len(set(searchers)) != len(searchers):
        raise InputError(f"searchers: {', '.join(searchers) or 'none'}; name each once, at least one")
    return {text: parse(text) for text in searchers}


def split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the name, and key and value of each setting as they were written. Raises InputError.

    A searcher from outside is `module:Class`, where a class begins with a capital and no setting follows its colon.
    """
    name, *parts = text.strip().split(":")
    if parts and "=" not in parts[0] and parts[0][:1].isupper():
        name = f"{name}:{parts.pop(0)}"
    settings = []
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{text}: write settings as {name}:key=value, several with another colon")
        settings.append((key, value))
    return name, settings


def plans_of(
    path: Path | None, overrides: Sequence[str], searchers: Sequence[str], *, retrained: bool
) -> dict[str, SearchPlan]:
    """Read an experiment once for every searcher, all with the problem of the first. Raises InputError.

    Args:
        path: The experiment's file; None for the built-in one.
        overrides: Of all searches, as `section.key=value`.
        searchers: As for tables; a setting with a dot, `training.name=from-scratch`, is of another section.
        retrained: Whether fronts are judged by retraining their members.
    """
    if len(set(searchers)) != len(searchers):
        raise InputError(f"searchers: {', '.join(searchers)}; name each once, at least one")
    members = [] if retrained else ["retrain.members=0"]
    experiments = {text: read(path, [*overrides, *members, *_overrides(text)]) for text in searchers}
    problem = next(iter(experiments.values())).problem()
    return {text: SearchPlan(experiment, problem) for text, experiment in experiments.items()}


def _overrides(text: str) -> list[str]:
    name, settings = split(text)
    return [f"searcher.name={name}", *(f"{k if '.' in k else f'searcher.{k}'}={v}" for k, v in settings)]


def claim(out: Path, what: dict[str, Any]) -> None:
    """Make the folder one of this benchmark. Raises RunError for one of another."""
    out.mkdir(parents=True, exist_ok=True)
    note = out / "bench.json"
    if note.exists():
        before = json.loads(note.read_text())
        if before != what:
            raise RunError(f"{out} has another benchmark, {before}; this one is {what}. Take another --out")
    elif any(out.iterdir()):
        raise InputError(f"{out} has other files; take another --out")
    write_text(note, json.dumps(what, indent=2) + "\n")
