"""Data of the part of a report in which networks are compared and chosen, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import choosing, members, plots
from analysis.front_table import name_of, test_title
from analysis.records import MEMBER, SAMPLE, STANDING, TIMED, margins, spreads_of, tested
from analysis.run import Run

MOST_POINTS = 4000
"""Evaluations that are drawn, at most; of more than that, every k-th."""
LONGEST = 160
"""Characters of a notation that are shown beside a point."""


def page_data(run: Run) -> dict[str, Any]:
    """Return what the scripts of the page draw: axes, networks of each run, and evaluations.

    Numbers that are not known are None. Networks have an `id`, which is that of their element in the page.
    """
    runs = [run, *run.others]
    axes = _axes(run)
    return {
        "axes": axes,
        "runs": [_run(other, index, axes) for index, other in enumerate(runs)],
        "references": [_reference(reference, run.error) for reference in run.references],
        "knee": None if (knee := choosing.knee(run)) is None else network_id(0, knee),
        "groups": run.searches,
    }


def network_id(run: int, member: int) -> str:
    """Name the element of a network; runs are counted from 0, the page's own."""
    return f"network-{run}-{member}"


def _axes(run: Run) -> list[dict[str, Any]]:
    """Quantities that the plot can show: objectives first, of which limits can be set, then the others that are known."""
    titles, limits = run.summary["objectives"], run.summary["limits"]
    error, *costs = titles
    after, test = not members.retrained(run.members).empty, tested(error).value
    listed = [(test, test_title(titles[error]), error)] if after else [(error, titles[error], error)]
    listed += [(cost, titles[cost], cost) for cost in costs]
    axes = [
        {"key": key, "title": title, "name": name_of(title), "objective": True, "limit": limits.get(column)}
        for key, title, column in listed
    ]
    if after:
        axes.append({"key": error, "title": f"{titles[error]}, in the search", "objective": False, "limit": None})
    axes += [{"key": title, "title": title, "objective": False, "limit": None} for title in run.devices]
    for axis in axes:
        values = run.members[axis["key"]] if axis["key"] in run.members else pd.Series(run.devices[axis["key"]])
        axis["log"] = plots.needs_log(values.dropna().to_numpy(dtype=float))
    return axes


def _run(run: Run, index: int, axes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shares, half, test = choosing.contributions(run), margins(run.members, run.error), tested(run.error)
    networks = []
    for (_, row), margin in zip(run.members.iterrows(), half, strict=True):
        number, arch = int(row[MEMBER]), str(row["arch"])
        known = {axis["key"]: row.get(axis["key"], run.devices.get(axis["key"], {}).get(arch)) for axis in axes}
        spreads = {c: row.get(spread) for c, spread in spreads_of(run.summary).items()} | {run.error: margin}
        below = {test.value: row.get(test.value, math.nan) - row.get(test.low, math.nan)} | spreads
        above = {test.value: row.get(test.high, math.nan) - row.get(test.value, math.nan)} | spreads
        networks.append(
            {
                "id": network_id(index, number),
                "number": number,
                "arch": arch[:LONGEST],
                "values": plain(known),
                "below": plain(below),
                "above": plain(above),
                "standing": members.words(row),
                "kind": _kind(row),
                "group": int(row["search"]) if "search" in row else None,
                "share": shares.get(number),
            }
        )
    samples = {} if index else _samples(run)
    return {"name": run.title if index == 0 else run.place, "networks": networks, "samples": samples}


def _kind(row: pd.Series) -> str:
    """Tell which mark a member gets: front, beaten (or otherwise out), or open, where it was not retrained."""
    if STANDING not in row or row[STANDING] == members.FRONT:
        return "front"
    return "open" if row[STANDING] == members.UNTRAINED else "beaten"


def _samples(run: Run) -> dict[str, Any]:
    """Evaluations of the search, column by column; those on one batch apart from those on the validation set."""
    rows = run.evaluations[run.evaluations["kind"] != TIMED]
    step = math.ceil(len(rows) / MOST_POINTS) if len(rows) else 1
    drawn = rows.iloc[::step]
    return {
        "every": step,
        "of": len(rows),
        "values": {column: rounded(drawn[column]) for column in run.summary["objectives"]},
        "batch": [bool(kind == SAMPLE) for kind in drawn["kind"]],
        "group": drawn["search"].tolist() if "search" in drawn else None,
        "arch": [str(arch)[:LONGEST] for arch in drawn["arch"]],
    }


def _reference(reference: Mapping[str, float | str], error: str) -> dict[str, Any]:
    values = {key: value for key, value in reference.items() if not isinstance(value, str)}
    return {"name": str(reference["name"]), "values": plain(values)}


def plain(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Convert numbers to what JSON has: None for those that are missing or not finite."""
    return {k: float(v) if v is not None and not pd.isna(v) and math.isfinite(v) else None for k, v in values.items()}


def rounded(values: pd.Series) -> list[float]:
    """Round to six significant digits, which is more than a plot shows."""
    return [float(f"{value:.6g}") for value in np.nan_to_num(values.to_numpy(dtype=float))]
