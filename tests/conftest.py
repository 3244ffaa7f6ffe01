"""One Ray for the whole session, and small real data."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.config.experiment import Experiment
from orchestrator.config.plan import SearchPlan
from orchestrator.data import loaders as data

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

TINY: dict[str, Any] = {
    "data": {"name": "digits", "limit": 200},
    "space": {"name": "nas-bench-201", "channels": 4, "cells": 2, "supernet_cells": [1, 1, 2]},
    "searcher": {"name": "tnd-nas", "samples": 4},
    "objectives": {"error": {}, "parameters": {}, "macs": {}},
    "training": {"batch": 32},
    "budget": {"epochs": 8, "interval": 2, "validate": 6},
    "workers": {"ray": False, "count": 1},
    "retrain": {"members": 0},
}
"""A whole search of three stages on real scans in a few seconds; every objective is computed, so it can be repeated."""


def tiny(**sections: Any) -> Experiment:
    """TINY with some sections' keys replaced."""
    merged = {key: dict(value) for key, value in TINY.items()}
    for key, value in sections.items():
        merged[key] = merged[key] | value if isinstance(value, dict) else value
    return Experiment.from_dict(merged)


def plan_of(experiment: Experiment, images: data.Dataset | None = None) -> SearchPlan:
    """The experiment with its problem resolved, on `images` where they are read already."""
    return SearchPlan.of(experiment, images)


def tiny_plan(images: data.Dataset | None = None, **sections: Any) -> SearchPlan:
    """The plan of `tiny`."""
    return plan_of(tiny(**sections), images)


# Kernels for another processor, whichever this one takes by itself or was told to.
OTHER = {
    "ATEN_CPU_CAPABILITY": "avx2" if torch.backends.cpu.get_cpu_capability() == "DEFAULT" else "default",
    "OPENBLAS_CORETYPE": "Nehalem",
}
chooses_kernels = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the kernels' names are those of x86"
)


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load(data.component("digits", {"limit": 200}))


@pytest.fixture(scope="session")
def table() -> Any:
    """The NAS-Bench-201 table beside the project, where there is one."""
    import pandas as pd

    path = SHARED / "nas-bench-201.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the project")
    return pd.read_parquet(path)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As a worker of the tests' experiments has it: the order of a sum depends on the number of threads."""
    torch.set_num_threads(1)
