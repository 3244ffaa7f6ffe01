"""Searches of about a second that the campaign disturbs, and what their records are."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import records
from orchestrator import registry

COMMON = [
    "data.name=digits", "data.limit=100", "space.name=digits-tiny", "objectives={error={},parameters={}}", "training.batch=32",
    "budget.epochs=4", "budget.interval=2", "budget.validate=2", "workers.ray=false", "workers.count=1", "retrain.members=2",
    "retrain.epochs=1", "retrain.batch=32", "logging.tensorboard=false",
]  # fmt: skip
OWN = {
    "surrogate-search": ["searcher.start=8", "searcher.samples=4"],
    "nsga2": ["searcher.population=8"],
    "tnd-nas": ["budget.epochs=6"],  # its stages need a round each
}
SWEEP = ["--seeds", "3", "sweep.halving=2", "sweep.first=0.25", "searcher.warmup=0.0"]


@cache
def kinds() -> dict[str, list[str]]:
    """Arguments of each kind of run: one for every searcher, one of networks trained from scratch, and a sweep with halving."""
    names = [name for name in registry.shipped("searcher") if name != "optuna-sampler"]
    found = {name: [*COMMON, f"searcher.name={name}", *OWN.get(name, [])] for name in names}
    scratch = ["training={name='from-scratch',epochs=1,batch=32}", "searcher.name=nsga-net", "searcher.population=4"]
    found["from scratch"] = [*(s for s in COMMON if not s.startswith("training.")), *scratch, "budget.epochs=12"]
    found["sweep"] = [*COMMON, "searcher.name=random-search", "retrain.members=1", *SWEEP]
    return found


def draw_nothing() -> None:
    """Leave out the pictures of reports, which take longer than a search, in this process and its children."""
    from orchestrator.runs import run

    def write(plan: Any, directory: Path) -> None:
        (directory / "report.html").touch()

    run.write_report = write  # type: ignore[assignment]


def records_of(directory: Path) -> dict[str, str]:
    """Return the tables of a run and of the searches of a sweep, without what a clock wrote."""
    found: dict[str, str] = {}
    for folder in [directory, *sorted(directory.glob("searches/*"))]:
        for name in (records.EVALUATIONS, records.POLICY, records.FRONT, records.RETRAINED):
            path = folder / name
            if path.exists():
                table = pd.read_csv(path)
                timed = [c for c in table.columns if "seconds" in c]
                found[str(path.relative_to(directory))] = table.drop(columns=timed).to_csv()
        summary = folder / records.SUMMARY
        if summary.exists():
            said = json.loads(summary.read_text())
            found[str(summary.relative_to(directory))] = json.dumps([said["finished"], said["hypervolume"]])
    return found
