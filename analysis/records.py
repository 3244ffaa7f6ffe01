"""One row per evaluation. The only place that knows the columns of a run's tables, and their names."""

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
VERDICT = "trust.json"

COUNTS = ("parameters", "macs")
"""Columns of whole numbers, which people want to see as such."""

SAMPLE, VALIDATION = "sample", "validation"
"""Kinds of evaluation: on the batch that a round's samples share, or on the whole validation part at the end of a stage."""


def evaluation_columns(objectives: Sequence[str], spreads: Sequence[str]) -> list[str]:
    """seed; step (weight steps so far); stage; kind; arch; a column per objective with its unit; the interquartile range of
    what was timed; seconds of search so far. `seconds` is the one column of wall-clock time that every run has."""
    return ["seed", "step", "stage", "kind", "arch", *objectives, *spreads, "seconds"]


class Table:
    """A CSV file that is appended to, row by row, and cut back to what a checkpoint knows of when a run resumes."""

    def __init__(self, path: Path, columns: Sequence[str], rows: int = 0) -> None:
        """Keep the first `rows` rows of an existing file. Raises ValueError where it has fewer, or other columns."""
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
        """Raises KeyError for a row that lacks a column."""
        lines = [[row[column] for column in self.columns] for row in rows]
        with self.path.open("a", newline="") as file:
            file.write(_csv(lines))
        self.rows += len(lines)

    def sync(self) -> None:
        """Returns once the rows are on the disk, so that a checkpoint never knows of rows that a power cut took."""
        with self.path.open("a") as file:
            os.fsync(file.fileno())

    def read(self) -> Iterator[dict[str, str]]:
        """The rows as text, as they were written."""
        with self.path.open(newline="") as file:
            yield from csv.DictReader(file)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read(path: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """A table of a run. Raises ValueError that names the file for one that is damaged or lacks a needed column."""
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
    """The samples of a search, as it drew them; where each was measured on the whole validation part at once, all rows."""
    sampled = evaluations["kind"] == SAMPLE
    return evaluations[sampled] if sampled.any() else evaluations


def front_of(evaluations: pd.DataFrame, objectives: Sequence[str], limits: Sequence[float | None] = ()) -> pd.DataFrame:
    """The non-dominated architectures among those measured on the whole validation part, the best of the first objective
    first; of several with the same costs the first. limits: what each objective may be at most; who exceeds one is no member.
    One that was measured in several stages counts with its last measurement, as its weights were trained longest. Before any
    stage has ended, the samples stand in."""
    final = evaluations[evaluations["kind"] == VALIDATION]
    pool = final if len(final) else evaluations
    pool = pool.drop_duplicates("arch", keep="last").reset_index(drop=True)
    if any(limit is not None for limit in limits):
        pool = pool[violations(pool[list(objectives)].to_numpy(), limits) <= 0].reset_index(drop=True)
    front = pool.iloc[non_dominated(pool[list(objectives)].to_numpy())]
    # Equal in every cost is, nearly always, the same network in another notation: one of them stands for all.
    return front.drop_duplicates(list(objectives)).sort_values(list(objectives), ignore_index=True)
