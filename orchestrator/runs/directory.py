"""Run directories: creation, checks, and opening."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis import records
from analysis.files import write_text
from orchestrator.config.experiment import Experiment
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Goal, Problem, Sources
from orchestrator.errors import InputError
from orchestrator.registry import similar
from orchestrator.runs import edits, origin
from orchestrator.search import sums
from orchestrator.search.checkpoint import alone_in

EXPERIMENT = "experiment.toml"
DEVICES = "devices"


def fresh(directory: Path) -> Path:
    """Make an empty folder of that name, or with a number after it where another run has it, and return it."""
    for number in itertools.count(1):
        path = directory if number == 1 else directory.with_name(f"{directory.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"cannot write to {path}: {error.strerror}; choose a folder with --out") from error
        return path
    raise AssertionError


def check_out(directory: Path) -> None:
    """Raise InputError where a new run cannot have `directory`: it is taken, or may not be made."""
    try:
        taken = directory.exists() and (
            not directory.is_dir() or (any(directory.iterdir()) and not _was_never_completed(directory))
        )
        parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
        allowed = parent.is_dir() and os.access(parent, os.W_OK)
    except OSError as error:
        raise InputError(f"cannot write to --out {directory}: {error.strerror}; choose another folder") from error
    if taken:
        hint = f"continue it with: paretoray resume {directory}" if (directory / EXPERIMENT).exists() else "it is not empty"
        raise InputError(f"--out {directory} exists already; choose another name, or {hint}")
    if not allowed:
        raise InputError(f"cannot write to --out {directory}: choose a folder that you may write to")


def create(experiment: Experiment, directory: Path, lay_out: Callable[[], object] = lambda: None) -> None:
    """Make a run directory. It is one from the moment that it has its experiment.toml, which is written last.

    Args:
        experiment: The search.
        directory: A folder that is empty or does not exist, or that a process left which was killed in here.
        lay_out: Called before experiment.toml is written, to make whatever else belongs to the run.

    Raises:
        InputError: Where the folder is taken or cannot be made.
    """
    check_out(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with alone_in(directory, _MAKING, patience=0):
            check_out(directory)  # again: another process may have made it meanwhile
            for path in directory.iterdir():
                if path.name != "checkpoints":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            lay_out()
            whole = with_devices(experiment, directory)
            text = whole.to_toml()
            written = tomllib.loads(text)
            origin.sign(directory, written)
            edits.note(directory, written)
            write_text(directory / EXPERIMENT, text)
    except OSError as error:
        raise InputError(f"cannot write to --out {directory}: {error.strerror}; choose another folder") from error


_MAKING = "making.lock"
"""Name of the lock that a process holds while it makes a run directory."""
_LAID_OUT = frozenset({"checkpoints", "searches", "sweep.toml", DEVICES, "sweep.new.toml", "experiment.new.toml"})
"""All that a run directory may have before its experiment.toml."""


def _was_never_completed(directory: Path) -> bool:
    """Tell whether a process was killed while it made this run directory, which holds nothing else."""
    made = {path.name for path in directory.iterdir()}
    checkpoints = directory / "checkpoints"
    # Before it has its lock, the folder is there and empty.
    began = made == {checkpoints.name} and checkpoints.is_dir() and not any(checkpoints.iterdir())
    return began or ((checkpoints / _MAKING).exists() and made <= _LAID_OUT)


def with_devices(experiment: Experiment, directory: Path) -> Experiment:
    """Copy the device files into `directory`, where other nodes and later runs find them."""
    goals: dict[str, Goal] = {}
    for name, goal in experiment.objectives.items():
        file = goal.objective.settings.get("file") if "@" in name else None
        if file is not None:
            source = Path(file)
            (directory / DEVICES).mkdir(exist_ok=True)
            if source.resolve() != (directory / DEVICES / source.name).resolve():
                shutil.copyfile(source, directory / DEVICES / source.name)
            # relative to experiment.toml, wherever that is moved
            settings = {**goal.objective.settings, "file": f"{DEVICES}/{source.name}"}
            goal = replace(goal, objective=replace(goal.objective, settings=settings))
        goals[name] = goal
    return replace(experiment, objectives=goals)


def open_run(directory: Path, sources: Sources | None = None, *, trust: bool = False) -> Experiment:
    """Read the experiment of an existing run directory.

    Args:
        directory: The run directory.
        sources: As for `Experiment.from_dict`.
        trust: Whether to take it as it stands from now on: it may import what it names, though somebody else made it, and
            may have been edited.

    Raises:
        InputError: Where it is no run directory, may not be trusted, or cannot be read.
    """
    check_is_run(directory)
    if trust:
        origin.trust(directory)
        for path in (directory / EXPERIMENT, *directory.glob(f"searches/*/{EXPERIMENT}")):
            edits.accept(path)
    else:
        origin.check(directory, directory / EXPERIMENT)
        edits.check(directory / EXPERIMENT)
    return read(directory / EXPERIMENT, [], sources)


def check_is_run(directory: Path) -> None:
    """Raise InputError where a folder is no run directory, with the name of a similar one beside it."""
    if (directory / EXPERIMENT).is_file():
        return
    if directory.is_dir() and any(directory.iterdir()) and _was_never_completed(directory):
        raise InputError(
            f"{directory} was never completed, as the search was killed while it began; search again with --out {directory}"
        )
    beside = [path.parent.name for path in directory.absolute().parent.glob(f"*/{EXPERIMENT}")]
    raise InputError(f"{directory} is not a run directory: it has no {EXPERIMENT}{similar(directory.name, beside)}")


def reopen(directory: Path, problem: Problem) -> SearchPlan:
    """Read the plan of an existing run directory, whose problem is resolved already. Raises InputError."""
    return SearchPlan(open_run(directory, problem.sources), problem)


def is_finished(directory: Path) -> bool:
    """Tell whether the search of a run directory has spent its budget."""
    return bool(_summary(directory).get("finished", False))


def share_spent(directory: Path) -> float:
    """Return the share of its budget that the search of a run directory had spent when it last stopped, in 0..1."""
    share = _summary(directory).get(records.SHARE, 0.0)
    return float(share) if isinstance(share, int | float) else 0.0


def timing_is_due(directory: Path) -> bool:
    """Tell whether a finished search has a front whose members are still to be timed again, alone."""
    summary = _summary(directory)
    return bool(summary.get("finished") and summary.get("spreads")) and not summary.get("timed_again", True)


def _summary(directory: Path) -> dict[str, Any]:
    """Read summary.json; empty where there is none, or the results are damaged, so that they are written again."""
    if not sums.intact(directory):
        return {}
    try:
        summary = json.loads((directory / records.SUMMARY).read_text())
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}
