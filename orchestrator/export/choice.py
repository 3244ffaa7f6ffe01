"""Choice of the member of a front that is exported: by its number, as the knee, or as the best within limits."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import members, pareto, records
from orchestrator.errors import InputError
from orchestrator.registry import nearest
from orchestrator.runs.directory import EXPERIMENT
from orchestrator.runs.networks import read_rows, weights_file


def choose(directory: Path, member: int | None, knee: bool, under: Sequence[str]) -> int:
    """Return the number of the member that is meant; only members that were retrained can be chosen by their costs.

    Args:
        directory: The run directory.
        member: Its number.
        knee: The knee of the retrained front.
        under: The member with the lowest test error within all these limits, `objective=limit`; of the lowest second objective
            where the limits are on the error alone.

    Raises:
        InputError: Unless one of the three is given, and where no member qualifies.
    """
    if sum((member is not None, knee, bool(under))) != 1:
        raise InputError("write one of --member N, --knee, or --under OBJECTIVE=LIMIT, as in --under latency=5")
    rows = read_rows(directory)
    if member is not None:
        return member
    trained = rows[
        [weights_file(directory, int(m), str(a)) is not None for m, a in zip(rows["member"], rows["arch"], strict=True)]
    ]
    if trained.empty:
        raise InputError(
            f"no member of {directory} was retrained, so none has weights of its own; train some with: paretoray resume "
            f"{directory} retrain.members={max(1, len(rows))}"
        )
    columns = _columns(directory, rows)
    if knee:
        front = members.on_front(trained)
        return int(front[records.MEMBER].iloc[pareto.knee(front[list(columns.values())].to_numpy(dtype=float))])
    return _within(trained, columns, under)


def _columns(directory: Path, rows: pd.DataFrame) -> dict[str, str]:
    """Map the objectives' names to their columns; the error is that of the test."""
    try:
        names = list(tomllib.loads((directory / EXPERIMENT).read_text())["objectives"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise InputError(f"{directory / EXPERIMENT} is damaged: {error!r}") from error
    try:
        listed = records.objectives_of(directory / records.SUMMARY)
    except ValueError as error:
        raise InputError(f"{error}; go on with: paretoray resume {directory}") from error
    if len(names) != len(listed):
        raise InputError(
            f"{directory / records.SUMMARY} does not belong to {EXPERIMENT}; go on with: paretoray resume {directory}"
        )
    found = dict(zip(names, listed, strict=True))
    test = records.tested(listed[0]).value
    if test in rows:
        found[names[0]] = test
    return found


def _within(trained: pd.DataFrame, columns: dict[str, str], under: Sequence[str]) -> int:
    kept, limited = trained, []
    for text in under:
        name, equals, value = text.rpartition("=")
        column = columns.get(name, name if name in columns.values() else "")
        if not equals or not column:
            hint = nearest(name or text, columns)
            raise InputError(f"--under {text}: write OBJECTIVE=LIMIT with an objective of this search{hint}")
        limit = _number(value, text)
        within = kept[kept[column] <= limit]
        if within.empty:
            least = kept.sort_values(column).iloc[0]
            raise InputError(
                f"--under {text}: no retrained member keeps it; the least {column} is {least[column]:g}, of member "
                f"{least[records.MEMBER]}"
            )
        kept = within
        limited.append(column)
    error, *costs = columns.values()
    by = [*costs, error] if set(limited) == {error} else [error, *costs]
    return int(kept.sort_values([*by, records.MEMBER])[records.MEMBER].iloc[0])


def _number(value: str, text: str) -> float:
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise InputError(f"--under {text}: {value!r} is no number")
    return limit
