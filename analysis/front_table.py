"""Table of a front's members as text, the same on the page and on the console."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import members
from analysis.records import (
    CONFIDENCE,
    COUNTS,
    MEMBER,
    STANDING,
    TIED_WITH,
    forecast_of,
    margins,
    spreads_of,
    tested_by,
)


@dataclass(frozen=True)
class Row:
    """A member.

    Args:
        arch: Its notation.
        cells: A value for each head, with what follows it in smaller print, if anything does.
        faint: Whether it is shown in grey: another one beats it, or a limit rules it out.
    """

    arch: str
    cells: list[tuple[str, str]]
    faint: bool


def lead(front: pd.DataFrame, summary: Mapping[str, Any]) -> list[str]:
    """Lines above the table; arguments as for `heads`."""
    retrained = members.hypervolume(front, summary)
    if retrained is None:
        return [f"The front: hypervolume {summary['hypervolume']:.3f}"]
    name = name_of(next(iter(summary["objectives"].values())))
    names = "errors" if name == "error" else name
    known, order = members.retrained(front), members.agreement(front, next(iter(summary["objectives"])))
    tau = f"; tau of the search's order with the true one {order.value:+.2f}" if order.known else ""
    foretold = members.foretold(front, summary)
    forecast = f"; {foretold[0]} of {foretold[1]} are as the search forecast, within its intervals" if foretold else ""
    return [
        f"The front: hypervolume {retrained:.3f} after retraining, {summary['hypervolume']:.3f} by the {names} of the search",
        f"{len(known)} networks were {members.protocol(front, summary)}, with {CONFIDENCE:.0%} intervals; "
        f"{len(members.on_front(front))} of them stay non-dominated{tau}{forecast}",
    ]


def heads(front: pd.DataFrame, summary: Mapping[str, Any], *, short: bool = False) -> list[str]:
    """Heads of the table.

    Args:
        front: Rows as `members.table` returns them.
        summary: Content of summary.json.
        short: Leave out of titles whatever is neither name nor unit.
    """
    error, *costs = map(_short, summary["objectives"].values()) if short else summary["objectives"].values()
    standing = ["standing"] if _has_standing(front) else []
    columns = tested_by(front)
    if columns.value not in front:
        interval = "" if short else f" ({CONFIDENCE:.0%} interval)"
        forecast = [f"{name_of(test_title(error))} forecast{interval}"] if _forecast(front, summary) in front else []
        return ["#", *standing, error, *forecast, *costs]
    deviation = "\N{PLUS-MINUS SIGN}deviation of the seeds, " if columns.deviation in front else ""
    test = test_title(error) + ("" if short else f", {deviation}{CONFIDENCE:.0%} interval")
    return ["#", *standing, test, *costs, error if short else f"{error}, in the search"]


def rows(front: pd.DataFrame, summary: Mapping[str, Any]) -> list[Row]:
    """Rows of the table, in order; arguments as for `heads`."""
    error, *costs = summary["objectives"]
    spreads, margin, test = spreads_of(summary), margins(front, error), tested_by(front)
    listed = []
    for (_, row), half in zip(front.iterrows(), margin, strict=True):
        searched = (number(error, row[error]), _plus_minus(error, half))
        cells = [(str(row[MEMBER]), "")]
        if _has_standing(front):
            cells.append((members.words(row), ""))
        if test.value in front:
            known = not pd.isna(row[test.value])
            several = _plus_minus(test.value, row.get(test.deviation, float("nan")))
            said = " ".join(filter(None, [several, interval(row) if known else ""]))
            cells.append((number(test.value, row[test.value]), said) if known else ("", ""))
        else:
            cells.append(searched)
            if _forecast(front, summary) in front:
                cells.append(forecast(row, error))
        cells += [(number(c, row[c]), _plus_minus(c, row[spreads[c]]) if c in spreads else "") for c in costs]
        if test.value in front:
            cells.append(searched)
        listed.append(Row(str(row["arch"]), cells, row.get(STANDING) in (members.BEATEN, members.OUTSIDE, members.FAILED)))
    return listed


def forecast(row: pd.Series, error: str) -> tuple[str, str]:
    """Format the test error that was forecast for a member, and its interval, both "" where none was; `error` is its column."""
    value, low, high = (float(row.get(column, math.nan)) for column in forecast_of(error))
    return ("", "") if math.isnan(value) else (number(error, value), _between(error, low, high))


def _forecast(front: pd.DataFrame, summary: Mapping[str, Any]) -> str:
    return forecast_of(next(iter(summary["objectives"])))[0]


def _has_standing(front: pd.DataFrame) -> bool:
    return STANDING in front or (TIED_WITH in front and bool(front[TIED_WITH].notna().any()))


def _plus_minus(column: str, half: float) -> str:
    return "" if pd.isna(half) else f"\N{PLUS-MINUS SIGN}{number(column, half)}"


def interval(row: pd.Series) -> str:
    """Format the interval of a member's test error, in its unit."""
    test = tested_by(row.index)
    return _between(test.value, row[test.low], row[test.high])


def _between(column: str, low: float, high: float) -> str:
    """Format the ends of an interval of an error, in the unit of its column."""
    ends = [f"{end:.1f}" if column.endswith("_percent") else number(column, end) for end in (low, high)]
    return f"({ends[0]}\N{EN DASH}{ends[1]})"


def test_error(row: pd.Series) -> str:
    """Format a member's test error with its interval, in its unit."""
    test = tested_by(row.index).value
    return f"{number(test, row[test])} {interval(row)}"


def test_title(title: str) -> str:
    """Title of the test error; `title` is that of the search's error, as `error (%, validation set)`."""
    unit = unit_of(title)
    return f"test {name_of(title)}" + (f" ({unit})" if unit else "")


def _short(title: str) -> str:
    return name_of(title) + (f" ({unit_of(title)})" if unit_of(title) else "")


def unit_of(title: str) -> str:
    """Unit in a title's parentheses; "" for counts, and for what has none."""
    unit = title.partition(" (")[2].rstrip(")").partition(",")[0]
    return "" if unit in ("count", "validation set") else unit


def number(column: str, value: float) -> str:
    """Format a cost for reading: counts in full, percentages and measurements with their significant digits.

    Args:
        column: Name of the cost, which tells counts and percentages.
        value: The cost in the column's unit.
    """
    if column in COUNTS or (value >= 100 and not column.endswith("_percent")):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or not value else f"{value:.2g}"


def name_of(title: str) -> str:
    """Name of a quantity without the unit and conditions that its title adds in parentheses."""
    return title.partition(" (")[0]


def with_unit(title: str, column: str, value: float) -> str:
    """Format a cost with its unit, which is the first word in its title's parentheses; counts have none.

    Args:
        title: Title of the quantity, as `latency (ms, batch 1, 1 thread)`.
        column: Name of the cost.
        value: The cost in the column's unit.
    """
    unit = unit_of(title)
    return f"{number(column, value)} {unit}" if unit else number(column, value)


def measure(title: str, column: str, value: float) -> str:
    """Format a cost for prose, with its unit or else with its name: 2.50 ms, or 4,370 parameters; arguments as `with_unit`."""
    shown = with_unit(title, column, value)
    return shown if " " in shown else f"{shown} {name_of(title)}"


def limits(summary: Mapping[str, Any]) -> str:
    """Say the limits of a search in words."""
    titles = summary["objectives"]
    return " and ".join(f"{name_of(titles[c])} at most {with_unit(titles[c], c, v)}" for c, v in summary["limits"].items())
