"""Tables of a run, with a row per evaluation. The only module that knows the names of the files and of their columns."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.pareto import non_dominated, violations

EVALUATIONS = "evaluations.csv"
FRONT = "front.csv"
POLICY = "policy.csv"
RETRAINED = "retrained.csv"
SUMMARY = "summary.json"
TRUST = "trust.csv"
RANKING_QUALITY = "trust.json"

RESERVED = (
    "seed", "step", "stage", "kind", "arch", "seconds", "search", "accuracy", "test_error_percent", "train_loss",
    "retrain_seconds", "machine",
)  # fmt: skip
"""Columns of the tables of a run other than those of its objectives."""

COUNTS = ("parameters", "macs")
"""Columns of integers, to be printed in full."""

SAMPLE, VALIDATION, LANDMARK, FINALIST = "sample", "validation", "landmark", "finalist"
"""Kinds of evaluation: a proxy evaluation on the batch that all samples of a round share, one on the validation images that all
networks share, and the same of networks that were trained alone, briefly or longer."""


MEASUREMENTS = "measurements"
"""Column of a judged front: how often a network was measured."""


def deviation_of(column: str) -> str:
    """Name the column of a judged front with the deviation of what `column` is expected to be."""
    return f"{column}_deviation"


def measured_of(column: str) -> str:
    """Name the column of a judged front with what was measured of `column`, where that itself is what the judge expects."""
    return f"{column}_measured"


def evaluation_columns(objectives: Sequence[str], spreads: Sequence[str], proxied: Sequence[str] = ()) -> list[str]:
    """Columns of evaluations.csv, in order.

    `step` counts weight steps so far and `seconds` the search so far; `seconds` is the only wall-clock column of every run.

    Args:
        objectives: Column of each objective, named with its unit.
        spreads: Columns of the interquartile ranges of timed objectives.
        proxied: `proxy`, where errors are measured at one rather than at the target.
    """
    return ["seed", "step", "stage", "kind", *proxied, "arch", *objectives, *spreads, "seconds"]


class Table:
    """CSV file that grows row by row, and is truncated to the rows that a checkpoint knows when a run resumes."""

    def __init__(self, path: Path, columns: Sequence[str], rows: int = 0) -> None:
        """Open a table, keeping the first `rows` rows of an existing file.

        Args:
            path: The file; it is replaced atomically.
            columns: Names of the columns.
            rows: Rows to keep; 0 starts an empty table.

        Raises:
            ValueError: If the file has fewer rows, or other columns.
        """
        self.path, self.columns, self.rows = path, list(columns), rows
        if rows:
            with path.open(newline="") as file:
                lines = file.readlines()
            if next(csv.reader(lines[:1]), None) != self.columns:
                raise ValueError(f"{path} has other columns than this run writes")
            if len(lines) < rows + 1:
                raise ValueError(f"{path} has {len(lines) - 1} rows; the checkpoint knows of {rows}")
            text = "".join(lines[: rows + 1])
        else:
            text = _csv([self.columns])
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(text, newline="")
        os.replace(temporary, path)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows.

        Args:
            rows: A value for each column; further keys are ignored.

        Raises:
            KeyError: For a row that lacks a column.
        """
        lines = [[row[column] for column in self.columns] for row in rows]
        with self.path.open("a", newline="") as file:
            file.write(_csv(lines))
        self.rows += len(lines)

    def sync(self) -> None:
        """Flush the rows to the disk, so that a checkpoint never refers to rows that a power failure has lost."""
        with self.path.open("a") as file:
            os.fsync(file.fileno())

    def read(self) -> Iterator[dict[str, str]]:
        """Iterate over the rows, with values as text."""
        with self.path.open(newline="") as file:
            yield from csv.DictReader(file)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read(path: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table of a run.

    Args:
        path: The CSV file.
        needed: Columns that must be present; all but `arch` and `kind` must be numeric.

    Raises:
        ValueError: For a damaged file, a missing column or a value that is no number; the message names the file.
    """
    try:
        frame = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable CSV table: {error}") from error
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(frame.columns)}")
    numeric = frame[[c for c in needed if c != "arch" and c != "kind"]]
    bad = numeric.apply(pd.to_numeric, errors="coerce").isna().any(axis=1)
    if bad.any():
        raise ValueError(f"{path}, line {int(bad.idxmax()) + 2}: a value is missing or not a number")
    return frame


def samples_of(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Proxy evaluations of a search, in order; all rows if every architecture went straight to the full validation set."""
    sampled = evaluations["kind"] == SAMPLE
    return evaluations[sampled] if sampled.any() else evaluations


def front_of(evaluations: pd.DataFrame, objectives: Sequence[str], limits: Sequence[float | None] = ()) -> pd.DataFrame:
    """Non-dominated feasible architectures among those measured on the full validation set.

    An architecture measured in several stages counts with its last measurement, when its weights had been trained longest.
    Before the first stage has ended, the proxy evaluations stand in.

    Args:
        evaluations: Rows of evaluations.csv.
        objectives: Names of the cost columns.
        limits: Upper bound of each objective, None for no bound; empty for no bounds at all.

    Returns:
        A row per member, sorted by the first objective; of several with equal costs the first.
    """
    final = evaluations[evaluations["kind"] == VALIDATION]
    pool = final if len(final) else evaluations
    pool = pool.drop_duplicates("arch", keep="last").reset_index(drop=True)
    if any(limit is not None for limit in limits):
        pool = pool[violations(pool[list(objectives)].to_numpy(), limits) <= 0].reset_index(drop=True)
    front = pool.iloc[non_dominated(pool[list(objectives)].to_numpy())]
    # Networks with equal costs are nearly always one network in several notations, so one of them represents all.
    return front.drop_duplicates(list(objectives)).sort_values(list(objectives), ignore_index=True)
