"""Successive halving of searches by hypervolume: who goes on after a share of the budget, and who is stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis import pareto, records
from analysis.files import write_text
from analysis.pareto import Floats
from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Sweep
from orchestrator.errors import RunError
from orchestrator.judge.judge import Judge
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.coordinator import fits_records
from searchers import Evaluation

HALVING = "halving.json"
"""File of a sweep or benchmark with its comparisons so far. They are decided once, and hold after every resume."""


@dataclass(frozen=True)
class Standing:
    """Result of one search in a comparison.

    Args:
        hypervolume: Hypervolume of what it had found, by the reference point of all that were compared.
        added: Hypervolume that this adds to the searches that went on, or to those that were chosen before it; None where each
            counts alone.
        kept: Whether it goes on.
    """

    hypervolume: float
    added: float | None
    kept: bool


@dataclass(frozen=True)
class Comparison:
    """Comparison of all searches that had not been stopped.

    Args:
        share: Share of the budget that each of them had spent.
        reference: The reference point, by column.
        standings: Results by the name of a search. Those that had measured nothing yet are not in it, and go on.
    """

    share: float
    reference: Mapping[str, float]
    standings: Mapping[str, Standing]

    @property
    def words(self) -> str:
        """Decision, for people."""
        kept = [name for name, standing in self.standings.items() if standing.kept]
        if not self.standings:
            return f"after {self.share:.0%} of the budget: nothing is measured yet, so that all searches go on"
        if len(kept) == len(self.standings):
            return f"after {self.share:.0%} of the budget: all searches go on"
        return f"after {self.share:.0%} of the budget: {', '.join(kept)} go on, {len(self.standings) - len(kept)} are stopped"

    def why(self, name: str) -> str:
        """Say when and why a search was stopped, for people."""
        own, kept = self.standings[name], sum(standing.kept for standing in self.standings.values())
        went_on = f"the {kept} of {len(self.standings)} that went on"
        adds = f"less than that of {went_on}" if own.added is None else f"which adds {own.added:.4f} to that of {went_on}"
        return f"after {self.share:.0%} of the budget: a hypervolume of {own.hypervolume:.4f}, {adds}"


class Halving:
    """Comparisons of the searches of a sweep, or of the methods of a benchmark.

    Args:
        directory: Its folder.
        sweep: Says when searches are compared, and how many go on.

    Raises:
        RunError: For a damaged record of earlier comparisons.
    """

    def __init__(self, directory: Path, sweep: Sweep) -> None:
        self.directory, self.sweep = directory, sweep
        self.comparisons = _read(directory / HALVING)

    @property
    def stopped(self) -> dict[str, Comparison]:
        """Names of the searches that were stopped, each with the comparison that did."""
        return {name: c for c in self.comparisons for name, standing in c.standings.items() if not standing.kept}

    def going(self, names: Sequence[str]) -> list[str]:
        """Return the names of those that were not stopped."""
        stopped = self.stopped
        return [name for name in names if name not in stopped]

    def next(self, names: Sequence[str]) -> float | None:
        """Return the share of the budget at which the next comparison is due; None where all that are left go on to the end."""
        last = self.comparisons[-1].share if self.comparisons else 0.0
        due = [share for share in self.sweep.comparisons if share > last]
        return due[0] if due and len(self.going(names)) > 1 else None

    def compare(
        self, share: float, found: Mapping[str, Sequence[Found]], finished: Sequence[str] = (), *, together: bool
    ) -> Comparison:
        """Compare all searches that are left, decide which of them go on, and keep that.

        Args:
            share: Share of the budget that each has spent.
            found: By the name of a search or method, what it has found, under each seed; empty where that is nothing yet.
            finished: Names of those whose searches are over, which go on without cost.
            together: Whether those are kept that are best together, whose fronts are to be merged; otherwise those with the
                largest hypervolume each, on average over the seeds, as methods are compared.
        """
        known = {name: parts for name, parts in found.items() if parts and all(len(part.costs) for part in parts)}
        standings: dict[str, Standing] = {}
        reference: dict[str, float] = {}
        if known:
            parts = [part for each in known.values() for part in each]
            reference = {c: max(part.reference[c] for part in parts) for c in parts[0].reference}
            count = max(1, self.sweep.remaining(len(found)) - (len(found) - len(known)))
            point = list(reference.values())
            volumes = {
                name: float(np.mean([pareto.hypervolume(part.costs, point) for part in each])) for name, each in known.items()
            }
            names = list(known)
            kept = [names.index(name) for name in finished if name in known]
            if together:
                chosen, added = pareto.best_together([part.costs for part in parts], point, count, kept)
            else:
                order = sorted(range(len(names)), key=lambda i: (i not in kept, -round(volumes[names[i]], 12), i))
                chosen, added = order[: max(count, len(kept))], []
            standings = {
                name: Standing(volumes[name], added[i] if together else None, i in chosen) for i, name in enumerate(names)
            }
        comparison = Comparison(share, reference, standings)
        self.comparisons.append(comparison)
        data = {"comparisons": [asdict(c) for c in self.comparisons]}
        write_text(self.directory / HALVING, json.dumps(data, indent=2) + "\n")
        return comparison


def stopped(directory: Path) -> dict[str, Comparison]:
    """Return the searches of a sweep that were stopped, each with the comparison that did. Raises RunError."""
    return Halving(directory, Sweep()).stopped


def _read(path: Path) -> list[Comparison]:
    if not path.exists():
        return []
    try:
        return [
            Comparison(
                float(c["share"]),
                {str(column): float(value) for column, value in c["reference"].items()},
                {str(name): Standing(**standing) for name, standing in c["standings"].items()},
            )
            for c in json.loads(path.read_text())["comparisons"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise RunError(
            f"{path} is damaged ({error!r}), and nothing else says which searches were stopped; put back a copy, or start "
            "another run"
        ) from error


@dataclass(frozen=True)
class Found:
    """Findings of a search so far.

    Args:
        costs: (networks, objectives); those that keep the limits.
        reference: Its own reference point, by column.
    """

    costs: Floats
    reference: Mapping[str, float]


def found_by(plan: SearchPlan, directory: Path) -> list[Found]:
    """Read what a search has found, which is a list of one, or of none where it has measured nothing yet.

    Errors are those that the search's judge expects, as the lowest of many measurements on a batch is a lucky one; where it has
    too few of them, or `front.judge` is false, as they were measured.

    Raises:
        RunError: For damaged records.
    """
    problem, columns = plan.problem, plan.problem.columns
    state = Checkpoints(directory / "checkpoints").load()
    if state is not None and not fits_records(state, directory):
        raise RunError(
            f"the records of {directory} have other content than was written to them; put back a copy, or search again"
        )
    try:
        summary = json.loads((directory / records.SUMMARY).read_text())
        rows = records.read(directory / records.EVALUATIONS, [*columns, "arch", "kind", "stage", "step"])
        failures = records.read_failures(directory / records.FAILURES)
        reference = {c: float(summary["reference_point"][c]) for c in columns}
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise RunError(f"the records of {directory} are damaged: {error!r}") from error
    rows = rows[(rows["kind"] != records.TIMED) & ~rows["arch"].isin(failures["arch"])]
    last = rows.drop_duplicates("arch", keep="last")
    expected = _expected(plan, rows, last["arch"].tolist()) if plan.front.judge and len(last) else None
    front = records.front_of(rows, columns) if expected is None else last.assign(**{columns[0]: expected})
    costs = front[columns].to_numpy(dtype=float)
    return [Found(costs[pareto.violations(costs, problem.limits) <= 0], reference)]


def _expected(plan: SearchPlan, rows: Any, archs: Sequence[str]) -> list[float] | None:
    """Return what a judge of these measurements expects of the networks' errors; None where they are too few."""
    judge, space, columns = (
        Judge(plan, lambda architecture: None, lambda architectures, names: []),
        plan.problem.space,
        plan.problem.columns,
    )
    for row in rows.to_dict("records"):
        evaluation = Evaluation(space.parse(str(row["arch"])), tuple(float(row[c]) for c in columns), 0.0)
        judge.observe([evaluation], kind=str(row["kind"]), stage=int(row["stage"]), step=int(row["step"]))
    return judge.expected([space.parse(arch) for arch in archs])
