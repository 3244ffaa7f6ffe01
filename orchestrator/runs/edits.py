"""Check that the experiment of a run is as the run wrote it: a flipped bit may make another valid one, unasked."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.files import write_text
from orchestrator.errors import InputError

NOTE = "experiment.json"
"""File with the checksums of the experiments that a run may have, in the folder of the checkpoints."""


def note(directory: Path, *experiments: Mapping[str, Any]) -> None:
    """Take note of the experiment that a run has from now on; of two where a process may die between the one and the other."""
    (directory / "checkpoints").mkdir(exist_ok=True)
    write_text(
        directory / "checkpoints" / NOTE, json.dumps({"sha256": [_sum(experiment) for experiment in experiments]}) + "\n"
    )


def accept(path: Path) -> None:
    """Take the experiment in this file as it stands, from now on."""
    if (experiment := _read(path)) is not None:
        note(path.parent, experiment)


def check(path: Path) -> None:
    """Raise InputError where this file says something else than its run noted; earlier versions noted nothing."""
    try:
        known = json.loads((path.parent / "checkpoints" / NOTE).read_text())["sha256"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return  # a damaged note says nothing of the experiment
    experiment = _read(path)
    if experiment is not None and isinstance(known, list) and _sum(experiment) not in known:
        raise InputError(
            f"{path} is not as the run wrote it: it was damaged, or edited; put it back, or if that is meant, repeat the "
            "command with --trust (in Python, trust=True). What may change is written there by paretoray resume RUN KEY=VALUE"
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None  # whoever opens it next says what is wrong


def _sum(experiment: Mapping[str, Any]) -> str:
    """Return a checksum of what an experiment says; comments and the order of its keys do not count."""
    return hashlib.sha256(json.dumps(experiment, sort_keys=True, default=str).encode()).hexdigest()
