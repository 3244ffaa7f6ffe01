"""Measurements of a plan, saved to a file one by one, so that none is lost with the process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.files import write_text
from hw_profiles import measure
from hw_profiles.profile import COLUMNS, UNITS
from orchestrator.errors import RunError
from orchestrator.profiling.plan import ROUNDS, MeasurementPlan

BUSY = 0.05
"""Relative spread of a network's rounds, in the median over networks, above which a machine counts as busy."""
LONGER = 3
"""Factor by which a busy machine may be measured for more rounds."""


def keep(path: Path, plan: MeasurementPlan) -> pd.DataFrame:
    """Read the measurements that exist already, of the same plan, or create the file. Raises RunError."""
    about = json.dumps({k: v for k, v in asdict(plan).items() if k != "rounds"} | {"units": UNITS})
    columns = ["round", "job", "cost", "value"]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"# {about}\n{','.join(columns)}\n")
        return pd.DataFrame(columns=columns)
    text = path.read_text()
    first = text.partition("\n")[0]
    if first != f"# {about}":
        raise RunError(f"{path} has measurements of something else; take another --out, or remove it")
    if not text.endswith("\n"):  # it was cut off in the middle of a row
        write_text(path, text[: text.rindex("\n") + 1])
    try:
        rows = pd.read_csv(path, comment="#", quotechar='"')
        return rows.astype({"round": int, "job": str, "cost": str, "value": float})[columns]
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}; remove it, or take another --out") from error


def measured(
    plan: MeasurementPlan,
    path: Path,
    station: Any,
    show: Callable[[int, int, int, int, float | None], None],
    say: Callable[[str], None],
) -> pd.DataFrame:
    """Complete the measurements of a plan, and return all.

    Args:
        plan: Plan of the measurements.
        path: File with the measurements so far, to which new ones are appended one by one.
        station: A `MeasurementWorker`, or a proxy of one.
        show: Called with the index of the round, the number of rounds, measurements of the round so far, their number, and the
            seconds left (None where that is not known yet).
        say: Called with a message when the machine turns out to be busy, so that more rounds are measured than were asked for.
    """
    rows = keep(path, plan)
    jobs = station.jobs()
    each = len(jobs) * (2 if plan.energy else 1)
    began, new = time.monotonic(), 0
    index, wanted = 0, plan.rounds
    with path.open("a") as file:
        while index < wanted:
            done = rows.loc[rows["round"] == index, "job"].value_counts()
            whole = [str(job) for job, count in done.items() if count >= each // len(jobs)]
            rows = rows[(rows["round"] != index) | rows["job"].isin(whole)]
            fresh = []
            for row in station.round(index, whole):
                fresh.append(row)
                new += 1
                pd.DataFrame([row]).to_csv(file, header=False, index=False)
                file.flush()
                at = len(whole) * each // len(jobs) + len(fresh)
                seconds_left = (time.monotonic() - began) / new * ((wanted - index) * each - at)
                show(index, wanted, at, each, seconds_left if index or new > 20 else None)
            if fresh:
                rows = pd.concat([rows, pd.DataFrame(fresh)], ignore_index=True) if len(rows) else pd.DataFrame(fresh)
            index += 1
            if index == wanted and index < LONGER * plan.rounds and (spread := spread_of(rows)) > BUSY:
                if wanted == plan.rounds:
                    longer = f"measuring up to {LONGER} times as long"
                    say(f"the machine is busy: rounds of a network differ by {spread:.0%}; {longer}")
                wanted += 1
    return rows


def spread_of(rows: pd.DataFrame) -> float:
    """Return the interquartile range of a network's rounds over their median, in the median over networks.

    With more rounds than usual it is as much smaller as their median is more certain.
    """
    latencies = rows[rows["cost"] == COLUMNS["latency"]]
    steady = measure.steady(latencies)
    spread = float(steady["spread"][steady.index.str.startswith("net ")].median())
    return float(spread / max(1.0, latencies["round"].nunique() / ROUNDS) ** 0.5)
