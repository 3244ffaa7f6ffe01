"""One search in this process, on one thread, for the benchmarks that run several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

import paretoray as pr
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.runs.run import check, go
from orchestrator.runs.watcher import Watcher

IN_PROCESS = ("workers.ray=false", "workers.count=1")


def plan_of(overrides: Sequence[str]) -> SearchPlan:
    """Resolve the built-in experiment with `section.key=value` overrides. Raises InputError."""
    return SearchPlan.of(read(None, [*IN_PROCESS, *overrides]))


def search(overrides: Sequence[str], directory: Path) -> pr.Result:
    """Run the built-in experiment with `section.key=value` overrides into a new run directory. Raises InputError, RunError."""
    torch.set_num_threads(1)
    plan = plan_of(overrides)
    check(plan)
    go(plan, directory, Watcher(), new=True)
    return pr.Result(plan, directory)
