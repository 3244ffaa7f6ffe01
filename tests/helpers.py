"""Helpers that several tests share: an experiment of a few seconds, its plan, the command line, and tables without clocks."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

from analysis import records
from orchestrator.cli import main
from orchestrator.config.experiment import Experiment
from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Dataset
from orchestrator.search.coordinator import Coordinator

TINY: dict[str, Any] = {
    "data": {"name": "digits", "limit": 200},
    "space": {"name": "nas-bench-201", "channels": 4, "cells": 2, "supernet_cells": [1, 1, 2]},
    "proxy": {},
    "searcher": {"name": "tnd-nas", "samples": 4},
    "objectives": {"error": {}, "parameters": {}, "macs": {}},
    "training": {"name": "supernet", "batch": 32},
    "budget": {"epochs": 8, "interval": 2, "validate": 6},
    "workers": {"ray": False, "count": 1},
    "front": {},
    "sweep": {},
    "retrain": {"members": 0},
}
"""A whole search of three stages on real scans in a few seconds; every objective is computed, so it can be repeated."""

OTHER_KERNELS = {
    "ATEN_CPU_CAPABILITY": "avx2" if torch.backends.cpu.get_cpu_capability() == "DEFAULT" else "default",
    "OPENBLAS_CORETYPE": "Nehalem",
}
"""Kernels for another processor, whichever this one takes by itself or was told to."""

chooses_kernels = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the kernels' names are those of x86"
)

DATA = "PARETORAY_DATA"
"""The environment variable that names the folder of the larger tables."""


def tiny(**sections: Any) -> Experiment:
    """Return TINY with some keys of its sections replaced.

    As on a command line, another name drops the keywords that belonged to the one before; and objectives that begin with the
    error are all there are, whereas others are added.
    """
    merged: dict[str, Any] = {**TINY}
    for key, value in sections.items():
        whole = (
            not isinstance(value, dict) or "error" in value or value.get("name", TINY[key].get("name")) != TINY[key].get("name")
        )
        merged[key] = value if whole else TINY[key] | value
    return Experiment.from_dict(merged)


def tiny_plan(images: Dataset | None = None, **sections: Any) -> SearchPlan:
    """Resolve `tiny(**sections)`.

    Args:
        images: Those of the data, in place of those that the experiment names.
        sections: As in `tiny`.
    """
    return SearchPlan.of(tiny(**sections), images)


def write_toml(directory: Path, **sections: Any) -> Path:
    """Write `tiny(**sections)` to a file in `directory`."""
    path = directory / "run.toml"
    path.write_text(tiny(**sections).to_toml())
    return path


def call(*arguments: str | int | Path) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_refused(result: Result, *parts: str, code: int = 2) -> None:
    """Fail unless a command ended with that code and one clear message that has all `parts`."""
    assert result.exit_code == code, result.output
    assert result.output.startswith("error: ") and result.output.count("\n") <= 2, result.output
    for part in parts:
        assert part in result.output, result.output


def timeless(directory: Path, name: str = records.EVALUATIONS) -> str:
    """Return a table of a run directory without the column that a clock wrote."""
    return pd.read_csv(directory / name).drop(columns="seconds").to_csv()


def larger_table(name: str) -> Path:
    """Return the file of one of the larger tables; the test is skipped where there is none."""
    folder = os.environ.get(DATA)
    if not folder:
        pytest.skip(f"{DATA} is not set; it names the folder that has {name}")
    path = Path(folder) / name
    if not path.is_file():
        pytest.skip(f"{DATA} = {folder} has no {name}")
    return path


def run(plan: SearchPlan, directory: Path, rounds: int = 10**6) -> Coordinator:
    """Search in this process, for so many rounds at most."""
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    coordinator = Coordinator(plan, directory, plan.build_evaluator())
    count = iter(range(1, 10**7))
    coordinator.run(lambda: next(count) >= rounds, lambda happened: None)
    return coordinator


def table(directory: Path, name: str = records.EVALUATIONS) -> pd.DataFrame:
    """Read a table of a run."""
    return pd.read_csv(directory / name)
