"""Choice of a network from a front: the knee, what each member contributes, and a recommendation in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import members, pareto
from analysis.front_table import measure, name_of, test_error, test_title, unit_of, with_unit
from analysis.records import MEMBER, tested, tested_by, trained
from analysis.run import Run


def candidates(run: Run) -> pd.DataFrame:
    """Rows to choose from: the front of the retrained members, or that of the search where nothing was retrained."""
    return members.on_front(run.members)


def columns(run: Run) -> list[str]:
    """Names of the columns that candidates are compared by, the error first; it is the test error where that is known."""
    return _columns(run.members, run.summary)


def _columns(front: pd.DataFrame, summary: Mapping[str, Any]) -> list[str]:
    error, *costs = summary["objectives"]
    return [error if members.retrained(front).empty else tested(error).value, *costs]


def knee(run: Run) -> int | None:
    """Number of the member at the knee (`pareto.knee`), which is recommended; None for an empty front."""
    return knee_of(run.members, run.summary)


def knee_of(front: pd.DataFrame, summary: Mapping[str, Any]) -> int | None:
    """Number of the member at the knee; None for an empty front.

    Args:
        front: Rows as `members.table` returns them.
        summary: Content of summary.json.
    """
    rows = members.on_front(front)
    costs = rows[_columns(front, summary)].to_numpy(dtype=float)
    return int(rows[MEMBER].iloc[pareto.knee(costs)]) if len(rows) else None


def contributions(run: Run) -> dict[int, float]:
    """Share of the front's hypervolume that would be lost without each candidate, by its number, in 0..1."""
    rows, reference = candidates(run), list(run.summary["reference_point"].values())
    costs = rows[columns(run)].to_numpy(dtype=float)
    whole = pareto.hypervolume(costs, reference) if len(rows) else 0.0
    if not whole:
        return {}
    kept = [[j for j in range(len(rows)) if j != i] for i in range(len(rows))]
    lost = [whole - pareto.hypervolume(costs[others], reference) for others in kept]
    return {int(number): share / whole for number, share in zip(rows[MEMBER], lost, strict=True)}


def advice(run: Run) -> list[str]:
    """Recommend a member in sentences: what it is, what the most accurate and the cheapest one would change, and what to do."""
    number = knee(run)
    if number is None:
        return []
    rows = {int(row[MEMBER]): row for _, row in candidates(run).iterrows()}
    row, (error, *costs), titles = rows[number], columns(run), run.summary["objectives"]
    at = _listed([measure(titles[c], c, row[c]) for c in costs])
    title, unit = titles[run.error], unit_of(titles[run.error])
    if error != run.error:
        lines = [
            f"Take network {number}: {' '.join(filter(None, [name_of(test_title(title)), test_error(row), unit]))} at {at}."
        ]
    else:
        shown = with_unit(title, error, row[error])
        lines = [f"Look at network {number} first: its {name_of(title)} in the search is {shown}, at {at}."]
    if len(rows) == 1:
        lines.append("It is the only one on the front.")
    else:
        lines.append("It is the knee of the front, where less of one cost begins to take the most of another.")
        lines += _alternatives(rows, number, error, costs, titles)
    if error == run.error:
        lines.append(f"None was {trained(run.summary)} yet, so errors only rank networks. {how_to_retrain(run)}")
    return lines


def how_to_retrain(run: Run) -> str:
    """Say how the members get weights and test errors of their own."""
    if not run.summary["finished"]:
        return "Members are retrained at the end of the run."
    return f"To train them: paretoray resume {shlex.quote(run.place)} retrain.members={max(1, len(run.front))}"


def _alternatives(
    rows: Mapping[int, pd.Series], number: int, error: str, costs: Sequence[str], titles: Mapping[str, str]
) -> list[str]:
    """Say what the most accurate member and the cheapest ones would change against the one that is recommended."""
    row, lines = rows[number], []
    best = min(rows, key=lambda n: float(rows[n][error]))
    if best != number:
        better = rows[best]
        test = tested_by([error])
        overlap = error == test.value and better[test.high] >= row[test.low]
        unsure = ", though their intervals overlap" if overlap else ""
        times = _listed([_times(better[c], row[c], name_of(titles[c])) for c in costs])
        name = name_of(next(iter(titles.values())))
        first = "is the most accurate" if name.endswith("error") else f"has the least {name}"
        lines.append(f"Network {best} {first}: {_difference(row[error] - better[error], titles)}, at {times}{unsure}.")
    least: dict[int, list[str]] = {}
    for cost in costs:
        least.setdefault(min(rows, key=lambda n, c=cost: float(rows[n][c])), []).append(cost)  # type: ignore[misc]
    for other, spared in least.items():
        if other != number:
            times = _listed([_times(rows[other][c], row[c], name_of(titles[c])) for c in spared])
            more = rows[other][error] - row[error]
            change = _difference(-more, titles)
            names = _listed([name_of(titles[c]) for c in spared])
            lines.append(f"Network {other} has the least {names}: {times}, at {change}.")
    return lines


def _difference(less: float, titles: Mapping[str, str]) -> str:
    """Say by how much the error, or what the task has in its place, is less, or more for a negative number."""
    title, way = next(iter(titles.values())), "more" if less < 0 or not less else "less"
    unit = unit_of(title)
    shown = f"{abs(less):.2f} points" if unit == "%" else f"{abs(less):.3g} {unit}".rstrip()
    return f"{shown} {way} {name_of(title)}"


def _times(value: float, base: float, name: str) -> str:
    """Compare a cost with that of the network that is recommended."""
    return f"{value / base:.2g} times the {name}" if base > 0 and value >= 0 else f"{value - base:+.3g} {name}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
