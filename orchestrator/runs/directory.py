"""Run directories: creation, checks, and opening."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis import records
from orchestrator.config.experiment import Experiment
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Goal, Problem, Sources
from orchestrator.errors import InputError

EXPERIMENT = "experiment.toml"
DEVICES = "devices"


def check_out(directory: Path) -> None:
    """Raise InputError where a new run cannot have `directory`: it is taken, or may not be made."""
    try:
        taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
        allowed = parent.is_dir() and os.access(parent, os.W_OK)
    except OSError as error:
        raise InputError(f"cannot write to --out {directory}: {error.strerror}; choose another folder") from error
    if taken:
        hint = f"continue it with: paretoray resume {directory}" if (directory / EXPERIMENT).exists() else "it is not empty"
        raise InputError(f"--out {directory} exists already; choose another name, or {hint}")
    if not allowed:
        raise InputError(f"cannot write to --out {directory}: choose a folder that you may write to")


def create(experiment: Experiment, directory: Path) -> None:
    """Make the run directory with its experiment.toml. Raises InputError where it is taken or cannot be made."""
    check_out(directory)
    try:
        (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        (directory / EXPERIMENT).write_text(_with_devices(experiment, directory).to_toml())
    except OSError as error:
        raise InputError(f"cannot write to --out {directory}: {error.strerror}; choose another folder") from error


def _with_devices(experiment: Experiment, directory: Path) -> Experiment:
    """Copy the device files into `directory`, where other nodes and later runs find them."""
    goals: dict[str, Goal] = {}
    for name, goal in experiment.objectives.items():
        file = goal.objective.settings.get("file") if "@" in name else None
        if file is not None:
            source = Path(file)
            (directory / DEVICES).mkdir(exist_ok=True)
            shutil.copyfile(source, directory / DEVICES / source.name)
            # relative to experiment.toml, wherever that is moved
            settings = {**goal.objective.settings, "file": f"{DEVICES}/{source.name}"}
            goal = replace(goal, objective=replace(goal.objective, settings=settings))
        goals[name] = goal
    return replace(experiment, objectives=goals)


def open_run(directory: Path, sources: Sources | None = None) -> Experiment:
    """Read the experiment of an existing run directory; `sources` as for `Experiment.from_dict`. Raises InputError."""
    if not (directory / EXPERIMENT).is_file():
        raise InputError(f"{directory} is not a run directory: it has no {EXPERIMENT}")
    return read(directory / EXPERIMENT, [], sources)


def reopen(directory: Path, problem: Problem) -> SearchPlan:
    """Read the plan of an existing run directory, whose problem is resolved already. Raises InputError."""
    return SearchPlan(open_run(directory, problem.sources), problem)


def is_finished(directory: Path) -> bool:
    """Tell whether the search of a run directory has spent its budget."""
    return bool(_summary(directory).get("finished", False))


def timing_is_due(directory: Path) -> bool:
    """Tell whether a finished search has a front whose members are still to be timed again, alone."""
    summary = _summary(directory)
    return bool(summary.get("finished") and summary.get("spreads")) and not summary.get("timed_again", True)


def _summary(directory: Path) -> dict[str, Any]:
    try:
        summary = json.loads((directory / records.SUMMARY).read_text())
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}
