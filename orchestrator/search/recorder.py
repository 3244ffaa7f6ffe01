"""The tables of a search: every evaluation and the policy after every round, appended as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from analysis import records
from orchestrator.config.problem import Problem
from orchestrator.config.settings import Proxy
from orchestrator.errors import RunError
from orchestrator.objectives.base import Metrics
from orchestrator.search.budget import Spending
from searchers import Architecture, Evaluation


class Recorder:
    """Writes `evaluations.csv`, `policy.csv` and, once a network has failed, `failures.csv` of a run directory.

    Args:
        directory: The run directory.
        problem: Problem whose objectives and choices name the columns.
        spending: Source of the seconds of each row.
        seed: Seed of the search, a column of every row.
        places: Where errors are measured, a column of every row; the target alone needs none.
    """

    def __init__(
        self, directory: Path, problem: Problem, spending: Spending, seed: int, places: Sequence[Proxy] = (Proxy(),)
    ) -> None:
        self.problem, self.spending, self.seed = problem, spending, seed
        self.places = [str(place) for place in places]
        self.proxied = ["proxy"] * any(places)
        self.evaluations_path, self.policy_path = directory / records.EVALUATIONS, directory / records.POLICY
        self.failures_path = directory / records.FAILURES
        self._failures: records.Table | None = None  # a file that most runs never have
        self.columns = problem.columns
        self.spreads = [o.spread for o in problem.objectives if o.spread is not None]
        self._policy_columns = ["step", "stage", *(f"{c.name}/{o}" for c in problem.space.choices for o in c.options)]

    def start(self) -> None:
        """Begin empty tables; evaluations that no checkpoint knows of are kept beside them."""
        if self.evaluations_path.exists() and self.evaluations_path.read_text().count("\n") > 1:
            os.replace(self.evaluations_path, self.evaluations_path.with_name("evaluations-without-checkpoint.csv"))
        self._open((0, 0, 0))

    def resume(self, rows: Sequence[int], digests: Sequence[str | None]) -> None:
        """Truncate the tables to the rows that a checkpoint knows of.

        Args:
            rows: Number of rows of each of the tables, as `rows` was.
            digests: Their content, as `digests` was; empty for a checkpoint from before there were any.

        Raises:
            RunError: Where they have fewer rows, or others, or that fails.
        """
        try:
            self._open(rows, digests)
        except (FileNotFoundError, ValueError) as error:
            raise RunError(f"the records do not fit the checkpoint: {error}") from error
        except OSError as error:
            with writing(self.evaluations_path.parent):
                raise error

    def _open(self, rows: Sequence[int], digests: Sequence[str | None] = ()) -> None:
        evaluations, policy, failures = (*rows, 0)[:3]  # the last from before there were failures
        whole, course, failed = (*digests, None, None, None)[:3]
        columns = records.evaluation_columns(self.columns, self.spreads, self.proxied)
        self._evaluations = records.Table(self.evaluations_path, columns, evaluations, whole)
        self._policy = records.Table(self.policy_path, self._policy_columns, policy, course)
        self._failures = None
        if failures:
            self._failures = records.Table(self.failures_path, records.FAILURE_COLUMNS, failures, failed)
        else:
            self.failures_path.unlink(missing_ok=True)

    @property
    def rows(self) -> list[int]:
        """Number of rows of each of the tables: evaluations, policy and failures."""
        return [self._evaluations.rows, self._policy.rows, self._failures.rows if self._failures else 0]

    @property
    def digests(self) -> list[str | None]:
        """Content of each of the tables, by their checksums; None for one that is not there."""
        return [self._evaluations.digest, self._policy.digest, self._failures.digest if self._failures else None]

    def evaluated(
        self, evaluations: Sequence[Evaluation], metrics: Sequence[Metrics], *, step: int, stage: int, kind: str, place: int = 0
    ) -> None:
        """Append a row per evaluation, at a place by its number. Raises RunError where the disk is full."""
        rows = [
            {
                "seed": self.seed,
                "step": step,
                "stage": stage,
                "kind": kind,
                **dict.fromkeys(self.proxied, self.places[place]),
                "arch": self.problem.space.format(evaluation.architecture),
                **dict(zip(self.columns, evaluation.costs, strict=True)),
                **{spread: measured[spread] for spread in self.spreads},
                "seconds": round(self.spending.seconds, 3),
            }
            for evaluation, measured in zip(evaluations, metrics, strict=True)
        ]
        with writing(self.evaluations_path):
            self._evaluations.append(rows)

    def failed(self, failures: Mapping[Architecture, str], *, step: int, stage: int, kind: str) -> None:
        """Append a row per network that failed, with the reason. Raises RunError where the disk is full."""
        if not failures:
            return
        rows = [
            {
                "seed": self.seed,
                "step": step,
                "stage": stage,
                "kind": kind,
                "arch": self.problem.space.format(architecture),
                records.REASON: reason,
                "seconds": round(self.spending.seconds, 3),
            }
            for architecture, reason in failures.items()
        ]
        with writing(self.failures_path):
            if self._failures is None:
                self._failures = records.Table(self.failures_path, records.FAILURE_COLUMNS)
            self._failures.append(rows)

    def policy(self, probabilities: Sequence[Sequence[float]], *, step: int, stage: int) -> None:
        """Append a row with the probability of every option. Raises RunError where the disk is full."""
        values = [step, stage, *(round(p, 6) for row in probabilities for p in row)]
        with writing(self.policy_path):
            self._policy.append([dict(zip(self._policy_columns, values, strict=True))])

    def sync(self) -> None:
        """Flush all rows to the disk."""
        self._evaluations.sync()
        self._policy.sync()
        if self._failures is not None:
            self._failures.sync()

    def read(self) -> Iterator[tuple[str, int, int, int, Architecture, tuple[float, ...]]]:
        """Read back kind, place, stage, step, architecture and costs of every evaluation. Raises RunError for damage."""
        try:
            for row in self._evaluations.read():
                costs = tuple(float(row[column]) for column in self.columns)
                place = self.places.index(row["proxy"]) if self.proxied else 0
                yield row["kind"], place, int(row["stage"]), int(row["step"]), self.problem.space.parse(row["arch"]), costs
        except (ValueError, TypeError) as error:
            raise RunError(f"{self.evaluations_path} is damaged: {error}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an error of the file system to a RunError that says how to go on."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write to {path}: {error.strerror}; the last checkpoint is safe, make room, then resume"
        ) from error
