"""Cards of networks: what a member costs, how sure that is, and the commands that load and export it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import choosing, front_table, members
from analysis.page.data import network_id
from analysis.page.render import svg
from analysis.plots import Picture
from analysis.records import CONFIDENCE, MEMBER, margins, spreads_of, tested
from analysis.run import Run
from analysis.trust import FRONT as TRUE_OF_FRONT
from analysis.trust import true_of

MOST_DRAWN = 1_500_000
"""Characters of drawings in a page, at most, so that it stays small."""


@dataclass(frozen=True)
class Card:
    """A member, for the page.

    Args:
        id: Name of its element.
        heading: Its number, and what stands out about it.
        arch: Its notation.
        costs: Title, value and what follows it in smaller print, of all that is known.
        commands: What to type, each with its label; empty for a member without weights.
        note: Why there are no commands.
        drawings: SVG elements, each with its caption.
    """

    id: str
    heading: str
    arch: str
    costs: Sequence[tuple[str, str, str]]
    commands: Sequence[tuple[str, str]]
    note: str
    drawings: Sequence[tuple[Any, str]]


def cards(run: Run, index: int, drawn: Mapping[str, Sequence[Picture]]) -> list[Card]:
    """Make a card of each member, in the order of the table.

    Args:
        run: The run, or another one to compare with.
        index: 0 for the page's own run, otherwise the place among the others.
        drawn: Pictures of each architecture.
    """
    knee, shares = choosing.knee(run), choosing.contributions(run)
    found, size = [], 0
    for _, row in run.members.iterrows():
        number, arch = int(row[MEMBER]), str(row["arch"])
        standing = [members.words(row), "knee of the front" if number == knee else ""]
        said = ", ".join(filter(None, standing))
        named = f"Network {number}{f' of {run.place}' if index else ''}{f' ({said})' if said else ''}"
        pictures = [(svg(p.figure), p.caption) for p in drawn.get(arch, ())] if size < MOST_DRAWN else []
        size += sum(len(text) for text, _ in pictures)
        commands = _commands(run, row)
        share = [("share of the hypervolume that only it adds", f"{shares[number]:.1%}", "")] if number in shares else []
        note = "" if commands else f"It has no weights of its own. {choosing.how_to_retrain(run)}"
        found.append(Card(network_id(index, number), named, arch, [*_costs(run, row), *share], commands, note, pictures))
    return found


def _costs(run: Run, row: pd.Series) -> list[tuple[str, str, str]]:
    titles, spreads = run.summary["objectives"], spreads_of(run.summary)
    rows = []
    test = tested(run.error).value
    if test in row and not pd.isna(row[test]):
        title = front_table.test_title(titles[run.error])
        rows.append((title, front_table.number(test, row[test]), front_table.interval(row)))
    if (truth := true_value(run, str(row["arch"]))) is not None:
        rows.append((str(run.ranking_quality["truth"]), f"{truth:.2f}", ""))  # type: ignore[index]
    for column in list(titles)[1:]:
        spread = f"\N{PLUS-MINUS SIGN}{front_table.number(column, row[spreads[column]])}" if column in spreads else ""
        rows.append((titles[column], front_table.number(column, row[column]), spread))
    half = margins(row.to_frame().T, run.error).iloc[0]
    margin = "" if pd.isna(half) else f"\N{PLUS-MINUS SIGN}{half:.2f} ({CONFIDENCE:.0%} interval)"
    rows.append((f"{titles[run.error]}, in the search", f"{row[run.error]:.2f}", margin))
    value, between = front_table.forecast(row, run.error)
    if value:
        rows.append((f"{front_table.test_title(titles[run.error])}, forecast by the search", value, between))
    for title, costs in run.devices.items():
        if str(row["arch"]) in costs:
            rows.append((title, front_table.number(title, costs[str(row["arch"])]), ""))
    return rows


def true_value(run: Run, arch: str) -> float | None:
    """Return what `paretoray trust` found out about a member, where it did."""
    if run.trust is None or run.ranking_quality is None:
        return None
    rows = true_of(run.trust)[(run.trust["arch"] == arch) & (run.trust["kind"] == TRUE_OF_FRONT)].dropna()
    return float(rows.iloc[0]) if len(rows) else None


def _commands(run: Run, row: pd.Series) -> list[tuple[str, str]]:
    """Commands for a member that was retrained, and so has weights."""
    test = tested(run.error).value
    if test not in row or pd.isna(row[test]):
        return []
    number = int(row[MEMBER])
    export = f"paretoray export {shlex.quote(run.place)} --member {number} --out network-{number}"
    return [
        ("load it in Python", f"import paretoray as pr\nnetwork = pr.load({run.place!r}, {number})"),
        ("export it, as files that need no paretoray", export),
    ]
