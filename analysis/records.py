"""Tables of a run, with a row per evaluation. The only module that knows the names of the files and of their columns."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from analysis.files import Damaged, replacing, write_text
from analysis.pareto import non_dominated, violations

T = TypeVar("T")

EVALUATIONS = "evaluations.csv"
FRONT = "front.csv"
SEARCHED_FRONT = "front-of-search.csv"
POLICY = "policy.csv"
FAILURES = "failures.csv"
RETRAINED = "retrained.csv"
SUMMARY = "summary.json"
TRUST = "trust.csv"
RANKING_QUALITY = "trust.json"

SHARE = "share_of_budget"
"""Key of summary.json: the share of the search's budget that is spent, in 0..1."""
COUNTS = ("parameters", "macs")
"""Columns of integers, to be printed in full."""

MEASURED = "measured"
"""Folder of a run directory with measurements that are kept one by one."""
PRICED = "priced"
"""Kind of a failure after the search, when the dear objectives of the front's members are measured."""
SAMPLE, VALIDATION, LANDMARK, FINALIST, TIMED = "sample", "validation", "landmark", "finalist", "timed"
"""Kinds of evaluation: a proxy evaluation on the batch that all samples of a round share, one on the validation images that all
networks share, the same of networks that were trained alone, briefly or longer, and the timing of a member of the front after
the search, alone; a `TIMED` row repeats the error that the member was chosen by."""

MEMBER = "member"
"""Number of a network of the front, from 1. It keeps it in every table, page, message and file name."""
STANDING, BEATEN_BY, TIED_WITH = "standing", "beaten_by", "tied_with"
TEST_ERROR, TEST_LOW, TEST_HIGH = "test_error_percent", "test_error_low_percent", "test_error_high_percent"
TEST_DEVIATION = "test_error_deviation_percent"
"""Column of front.csv: standard deviation over the seeds of a network, where it was trained with several."""
TEST_IMAGES, EPOCHS, SEED, SEEDS = "test_images", "retrain_epochs", "retrain_seed", "retrain_seeds"
AFTERWARDS = (STANDING, BEATEN_BY, TIED_WITH, TEST_ERROR, TEST_LOW, TEST_HIGH, TEST_DEVIATION, TEST_IMAGES, EPOCHS, SEEDS)
"""Columns of front.csv that follow from its others and from retrained.csv."""


@dataclass(frozen=True)
class Tested:
    """Columns of a test of networks by what their task minimises.

    Args:
        value: The cost on the test set; of several trainings its mean.
        low: Lower end of its interval.
        high: Upper end.
        deviation: Standard deviation over the seeds of a network, where it was trained with several.
    """

    value: str
    low: str
    high: str
    deviation: str


def tested(error: str) -> Tested:
    """Name the columns of the test that belong to the first objective's.

    Args:
        error: Column of the first objective, as `error_percent` or `rmse`.

    Example:
        >>> tested("error_percent").low, tested("rmse").low
        ('test_error_low_percent', 'test_rmse_low')
    """
    return Tested(*(_with(f"test_{error}", part) for part in ("", "_low", "_high", "_deviation")))


def _with(column: str, part: str) -> str:
    """Insert a part into the name of a column, before the unit."""
    return f"{column.removesuffix('_percent')}{part}_percent" if column.endswith("_percent") else column + part


def afterwards(error: str) -> tuple[str, ...]:
    """Name the columns of front.csv that follow from its others and from retrained.csv, in order; `error` as for `tested`."""
    return (STANDING, BEATEN_BY, TIED_WITH, *astuple(tested(error)), TEST_IMAGES, EPOCHS, SEEDS)


def tested_by(columns: Iterable[object]) -> Tested:
    """Find the columns of the test among those of a table, or of one of its rows; those of the error where it has none."""
    for column in map(str, columns):
        name = column.removesuffix("_percent")
        if (
            column.startswith("test_")
            and column not in (TEST_IMAGES, "test_errors_percent")
            and not name.endswith(("_low", "_high", "_deviation"))
        ):
            return tested(column.removeprefix("test_"))
    return tested("error_percent")


CONFIDENCE = 0.9
"""Probability of the intervals of errors."""
QUANTILE = 1.645
"""Quantile of the normal distribution for `CONFIDENCE`."""

MEASUREMENTS = "measurements"
"""Column of a judged front: how often a network was measured."""


def deviation_of(column: str) -> str:
    """Name the column of a judged front with the deviation of what `column` is expected to be."""
    return _with(column, "_deviation")


def measured_of(column: str) -> str:
    """Name the column of a judged front with what was measured of `column`, where that itself is what the judge expects."""
    return _with(column, "_measured")


FORECAST_EPOCHS = "forecast_epochs"
"""Key of summary.json: the epochs of retraining that the forecasts of test errors are of."""


def forecast_of(column: str) -> tuple[str, str, str]:
    """Name the columns of a judged front with the forecast of the test error after retraining, and the ends of its interval.

    Args:
        column: Column of the first objective.

    Example:
        >>> forecast_of("error_percent")
        ('forecast_error_percent', 'forecast_error_low_percent', 'forecast_error_high_percent')
    """
    value, low, high = (_with(f"forecast_{column}", part) for part in ("", "_low", "_high"))
    return value, low, high


RESERVED = (
    "seed", "step", "stage", "kind", "arch", "seconds", "search", "accuracy", "train_loss", "retrain_seconds", "machine",
    "proxy", MEMBER, SEED, MEASUREMENTS, *AFTERWARDS,
)  # fmt: skip
"""Columns of the tables of a run other than those of its objectives."""

RETRAINING_FAILED = "retraining_failed"
"""Key of summary.json: the reason for each member of the front whose training from scratch, or fine-tuning, failed."""
FINE_TUNED = "fine_tuned"
"""Key of summary.json: true where members of the front are fine-tuned from the weights that they inherit."""


def trained(summary: Mapping[str, Any]) -> str:
    """Say how members of a front are trained, as a participle."""
    return "fine-tuned from inherited weights" if summary.get(FINE_TUNED) else "trained from scratch"


def training(summary: Mapping[str, Any]) -> str:
    """Name the training of members of a front."""
    return "fine-tuning" if summary.get(FINE_TUNED) else "training from scratch"


REASON = "reason"
FAILURE_COLUMNS = ("seed", "step", "stage", "kind", "arch", REASON, "seconds")
"""Columns of failures.csv, which has a row for each network that could not be trained, measured or run. Such networks are in no
other table, so whatever is worked out from these leaves them out."""


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

    def __init__(self, path: Path, columns: Sequence[str], rows: int = 0, digest: str | None = None) -> None:
        """Open a table, keeping the first `rows` rows of an existing file.

        Args:
            path: The file; it is replaced atomically.
            columns: Names of the columns.
            rows: Rows to keep; 0 starts an empty table.
            digest: What `digest` was when the table had these rows; None where that is not known.

        Raises:
            ValueError: If the file has fewer rows, other columns, or other content than it had.
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
        self._sum = hashlib.sha256(text.encode())
        if digest is not None and self.digest != digest:
            raise ValueError(f"{path} has other content than was written to it; put back a copy, or search again")
        write_text(path, text)

    @property
    def digest(self) -> str:
        """SHA-256 of all rows so far."""
        return self._sum.hexdigest()

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows.

        Args:
            rows: A value for each column; further keys are ignored.

        Raises:
            KeyError: For a row that lacks a column.
        """
        lines = [[row[column] for column in self.columns] for row in rows]
        text = _csv(lines)
        with self.path.open("a", newline="") as file:
            file.write(text)
        self._sum.update(text.encode())
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


def holds(path: Path, rows: int, digest: str) -> bool:
    """Tell whether the first `rows` rows of a `Table` are those that it had when its digest was taken."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(b"".join(itertools.islice(file, rows + 1))).hexdigest() == digest
    except OSError:
        return False


def write(table: pd.DataFrame, path: Path) -> None:
    """Replace a table of a run."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def read(path: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table of a run.

    Args:
        path: The CSV file.
        needed: Columns that must be present; all but `arch` and `kind` must be numeric.

    Raises:
        Damaged: For a damaged file, a missing column or a value that is no number.
    """
    try:
        frame = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise Damaged(f"{path} is not a readable CSV table: {error}") from error
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise Damaged(f"{path} has no column {', '.join(missing)}; it has {', '.join(frame.columns)}")
    numeric = frame[[c for c in needed if c != "arch" and c != "kind"]]
    bad = numeric.apply(pd.to_numeric, errors="coerce").isna().any(axis=1)
    if bad.any():
        raise Damaged(f"{path}, line {int(bad.idxmax()) + 2}: a value is missing or not a number")
    return frame


def parsed(path: Path, notations: Iterable[object], parse: Callable[[str], T]) -> list[T]:
    """Read the notations of a table's networks. Raises Damaged for one that the space has not."""
    try:
        return [parse(str(notation)) for notation in notations]
    except ValueError as error:
        raise Damaged(f"{path} has a network that is not in the space: {error}") from error


def read_front(path: Path, objectives: Sequence[str]) -> pd.DataFrame:
    """Read front.csv as the search left it: a row per member in the order of their numbers, without what retraining added.

    The members of a run from before they had numbers are numbered in the order of the file.

    Args:
        path: The CSV file.
        objectives: Names of the cost columns.

    Raises:
        ValueError: As `read` does.
    """
    front = read(path, [*objectives, "arch"])
    # Names of versions that put the unit before these parts.
    front = front.rename(columns={f"{objectives[0]}{part}": _with(objectives[0], part) for part in ("_deviation", "_measured")})
    front = front.drop(columns=[column for column in {*AFTERWARDS, *afterwards(objectives[0])} if column in front])
    return front.sort_values(MEMBER, ignore_index=True) if MEMBER in front else numbered(front)


def numbered(front: pd.DataFrame) -> pd.DataFrame:
    """Return a front whose members are numbered anew, in its order."""
    front = front.drop(columns=MEMBER, errors="ignore").reset_index(drop=True)
    front.insert(0, MEMBER, range(1, len(front) + 1))
    return front


def read_retrained(path: Path, objectives: Sequence[str], *, epochs: int, images: int) -> pd.DataFrame | None:
    """Read retrained.csv, which has a row for each training; None where there is none.

    Args:
        path: The CSV file.
        objectives: Names of the cost columns.
        epochs: Epochs of each training, for a run from before the table had them.
        images: Number of test images, likewise.

    Raises:
        ValueError: As `read` does.
    """
    if not path.exists():
        return None
    table = read(path, [*objectives, "arch", tested(objectives[0]).value])
    for column, value in ((EPOCHS, epochs), (TEST_IMAGES, images)):
        table[column] = table[column].fillna(value).astype(int) if column in table else value
    return table


def mean_of_seeds(retrained: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each network of retrained.csv, with the mean test error of its trainings."""
    test = tested_by(retrained).value
    means = retrained.groupby("arch")[test].transform("mean")
    return retrained.assign(**{test: means}).drop_duplicates("arch", ignore_index=True)


def read_failures(path: Path) -> pd.DataFrame:
    """Read failures.csv; an empty table where nothing has failed. Raises ValueError as `read` does."""
    if not path.exists():
        return pd.DataFrame(columns=list(FAILURE_COLUMNS))
    failures = read(path, ["arch"])
    return failures.assign(**{REASON: failures[REASON].astype(str)})


def reasons(failures: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Group failures by their reason, the most frequent first: the reason, the number of networks, and one of them.

    Args:
        failures: Rows of failures.csv.
    """
    groups = [(str(reason), len(rows), str(rows["arch"].iloc[0])) for reason, rows in failures.groupby(REASON, sort=False)]
    return sorted(groups, key=lambda group: -group[1])


def margins(front: pd.DataFrame, objective: str) -> pd.Series:
    """Half of each member's interval of an objective, whose column then has posterior means; NaN where it was measured once.

    Args:
        front: Rows of front.csv, with a `deviation_of` where the search worked out a posterior.
        objective: Name of the cost column.
    """
    column = deviation_of(objective)
    return QUANTILE * front[column] if column in front else pd.Series(float("nan"), front.index)


def measurements(front: pd.DataFrame) -> pd.Series:
    """Number of measurements behind the posterior mean of each member; empty where the search worked out no posterior."""
    return front[MEASUREMENTS] if MEASUREMENTS in front else pd.Series(dtype=int)


def objectives_of(path: Path) -> list[str]:
    """Read the objectives' columns from summary.json. Raises ValueError for a damaged file."""
    try:
        return list(json.loads(path.read_text())["objectives"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} is missing or damaged: {error!r}") from error


def spreads_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """Read from summary.json the column of the interquartile range of each timed objective.

    Older runs list the former alone, named after the objective.
    """
    spreads = summary["spreads"]
    if isinstance(spreads, Mapping):
        return dict(spreads)
    named = {column: column.replace("_ms", "_iqr_ms") for column in summary["objectives"]}
    return {column: spread for column, spread in named.items() if spread in spreads}


def samples_of(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Proxy evaluations of a search, in order; if every architecture went straight to the full validation set, those."""
    sampled = evaluations["kind"] == SAMPLE
    return evaluations[sampled] if sampled.any() else evaluations[evaluations["kind"] != TIMED]


def front_of(
    evaluations: pd.DataFrame,
    objectives: Sequence[str],
    limits: Sequence[float | None] = (),
    spreads: Sequence[str] = (),
) -> pd.DataFrame:
    """Non-dominated feasible architectures among those measured on the full validation set.

    An architecture measured in several stages counts with its last measurement, when its weights had been trained longest.
    Before the first stage has ended, the proxy evaluations stand in. Once members were timed again (`timed_again`), the front
    is made of them.

    Args:
        evaluations: Rows of evaluations.csv.
        objectives: Names of the cost columns.
        limits: Upper bound of each objective, None for no bound; empty for no bounds at all.
        spreads: Columns of the interquartile ranges of timed objectives.

    Returns:
        A row per member, sorted by the first objective; of several with equal costs the first.
    """
    final = evaluations[evaluations["kind"] == VALIDATION]
    pool = final if len(final) else samples_of(evaluations)
    pool = timed_again(pool.drop_duplicates("arch", keep="last"), evaluations, [*objectives[1:], *spreads])
    if any(limit is not None for limit in limits):
        pool = pool[violations(pool[list(objectives)].to_numpy(), limits) <= 0].reset_index(drop=True)
    front = pool.iloc[non_dominated(pool[list(objectives)].to_numpy())]
    # Networks with equal costs are nearly always one network in several notations, so one of them represents all.
    return front.drop_duplicates(list(objectives)).sort_values(list(objectives), ignore_index=True)


def timings(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Timings of members of the front after the search, the last of each; those before a search went on count no more."""
    later = ~(evaluations["kind"] != TIMED)[::-1].cummax()[::-1]
    return evaluations[later].drop_duplicates("arch", keep="last")


def timed_again(networks: pd.DataFrame, evaluations: pd.DataFrame, costs: Sequence[str]) -> pd.DataFrame:
    """Replace costs from the search by those that were measured after it, alone.

    Networks that were not timed again are left out: their timings from a busy machine do not compare.

    Args:
        networks: A row per architecture.
        evaluations: Rows of evaluations.csv; without a `TIMED` one, nothing changes.
        costs: Columns to replace: costs, and interquartile ranges of timed ones.
    """
    timed = timings(evaluations).set_index("arch")
    if timed.empty:
        return networks.reset_index(drop=True)
    networks = networks[networks["arch"].isin(timed.index)].reset_index(drop=True)
    return networks.assign(**{column: timed.loc[networks["arch"], column].to_numpy() for column in costs})
