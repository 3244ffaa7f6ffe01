"""Runs as reports are made from, from tables that are written down here, with names that no page may take for its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis import records
from analysis.graphs import Graph
from analysis.run import Run
from analysis.trust import Skips
from analysis.trust_section import Known

EVIL = "<script>document.title='taken'</script>"
"""A name of a user's that must stay text."""
TITLES = {
    "error_percent": "error (%, validation set)",
    "parameters": "parameters (count)",
    "latency_ms": f"latency (ms, on {EVIL})",
}
FRONT = {
    "arch": ["a", "b", "c", "d", EVIL],
    "error_percent": [10.0, 12.0, 15.0, 25.0, 40.0],
    "parameters": [100_000, 30_000, 40_000, 4_000, 1_000],
    "latency_ms": [4.0, 2.0, 3.0, 1.0, 0.5],
}
TESTED = {"a": 5.0, "b": 6.0, "c": 8.0, "d": 20.0}
"""Test errors of those that were retrained, on 300 images; b beats c."""


def made_run(*, samples: int = 40, tested: dict[str, float] | None = TESTED, **changes: Any) -> Run:
    """Make a run with five members, four of them retrained, and so many evaluations on one batch.

    Args:
        samples: Number of evaluations.
        tested: Test errors by notation; None for a run in which nothing was retrained.
        changes: Further arguments of `Run`; `summary` is joined with what is there.
    """
    rng = np.random.default_rng(0)
    archs = rng.choice(["a", "b", "c", "d"], samples)
    costs = {"error_percent": rng.uniform(10, 90, samples), "parameters": rng.integers(1_000, 100_000, samples)}
    sampled = pd.DataFrame({"arch": archs, **costs, "latency_ms": rng.uniform(0.5, 4, samples), "kind": records.SAMPLE})
    measured = pd.DataFrame(FRONT | {"kind": records.VALIDATION})
    evaluations = pd.concat([sampled, measured], ignore_index=True)
    evaluations = evaluations.assign(seed=0, stage=0, step=range(len(evaluations)), seconds=np.arange(len(evaluations)) / 10)
    summary: dict[str, Any] = {
        "finished": True,
        "hypervolume": 0.5,
        "weights": "shared",
        "objectives": TITLES,
        "limits": {"latency_ms": 5.0},
        "spreads": {},
        "reference_point": {"error_percent": 100.0, "parameters": 110_000.0, "latency_ms": 5.0},
        "derived": [],
        "spent": {"evaluations": samples, "architectures": 5, "images_trained_on": 1000, "seconds": 10.0},
        "hardware": {"cpu": "x", "cores": 2, "system": "Linux"},
        "workers": {"ray": False, "count": 1, "cpus": 1, "gpus": 0.0},
        "data": {"train": 10, "valid": 10, "test": 300},
        "versions": {"torch": "2"},
        "seed": 0,
    }
    each = {"error_percent": 10.0, "test_images": 300, "retrain_epochs": 5}
    rows = [{"arch": arch, "test_error_percent": error, **each} for arch, error in (tested or {}).items()]
    cell = Graph({"in": "in", "op": EVIL, "dead": "skip", "out": "out"}, [("in", "op"), ("op", "out")], {"op": "conv"})
    values: dict[str, Any] = {
        "title": EVIL,
        "lead": "Trade-off.",
        "evaluations": evaluations,
        "front": records.numbered(pd.DataFrame(FRONT)),
        "retrained": pd.DataFrame(rows) if rows else None,
        "policy": None,
        "choices": {},
        "drawings": {arch: {"cell": cell} for arch in FRONT["arch"]},
        "known": Known(dict.fromkeys(FRONT["arch"], (0,)), None, Skips.of([[False, False]])),
        "experiment": EVIL,
        "place": "runs/it's",
        "devices": {"energy on phone (mJ, predicted)": {arch: 1.0 + i for i, arch in enumerate(FRONT["arch"])}},
    }
    return Run(**(values | changes | {"summary": summary | changes.get("summary", {})}))
