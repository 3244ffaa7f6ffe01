"""Dear objectives of the front's members, measured after the search: what a front costs in what the search could not afford."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import members, pareto, records
from analysis.files import write_text
from orchestrator.cluster.later import measure_on_cluster
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import Interrupted, RunError
from orchestrator.evaluators.base import Failure, Measured
from orchestrator.machine import threads
from orchestrator.objectives.base import Metrics
from orchestrator.runs.watcher import Watcher
from orchestrator.search import sums
from orchestrator.search.control import stop_file
from orchestrator.search.later import measure_later

log = logging.getLogger(__name__)

KEPT = ("objectives", "reference_point", "limits", "spreads", "hypervolume", "warnings", "failed")
"""Key of summary.json for the search alone, once more objectives were measured."""


def price_front(plan: SearchPlan, directory: Path, watcher: Watcher) -> None:
    """Measure the dear objectives of the members of the front, and write front.csv and summary.json with them.

    A member that cannot be measured is written to failures.csv; it leaves the front, as does one that breaks a limit. The
    search's own front stays in front-of-search.csv, so that other objectives can be measured later.

    Raises:
        Interrupted: Once the directory's stop file is there; what was measured is kept.
        RunError: Where not one of the members could be measured.
    """
    summary = json.loads((directory / records.SUMMARY).read_text())
    if not plan.problem.later and "searched" not in summary:
        return
    source = directory / (records.SEARCHED_FRONT if "searched" in summary else records.FRONT)
    front = records.read_front(source, plan.problem.columns)
    searched = summary.pop("searched", None) or {key: summary[key] for key in KEPT if key in summary}
    measured = _measure(plan, directory, front, watcher)
    failures = {arch: m.reason for arch, m in measured.items() if isinstance(m, Failure)}
    if failures and len(failures) == len(front):
        raise RunError(
            f"the search is finished, but not one of the {len(front)} members of its front could be measured, the last: "
            f"{list(failures.values())[-1]}; resume tries again"
        )
    costs = {arch: m for arch, m in measured.items() if not isinstance(m, Failure)}
    records.write(front, directory / records.SEARCHED_FRONT)
    _note(directory / records.FAILURES, failures, front, plan.seed)
    summary |= {"searched": searched, "priced": _asked(plan)} | _facts(plan, searched, costs, len(failures))
    priced = _with_costs(plan, front, costs)
    limits = [summary["limits"].get(column) for column in summary["objectives"]]
    priced = priced[pareto.violations(priced[list(summary["objectives"])].to_numpy(), limits) <= 0].reset_index(drop=True)
    points = priced[list(summary["objectives"])].to_numpy()
    summary["hypervolume"] = pareto.hypervolume(points, list(summary["reference_point"].values()))
    write_text(
        directory / records.SUMMARY, json.dumps(summary, indent=2) + "\n"
    )  # before the front, which says that it is done
    records.write(members.of_run(priced, None, summary), directory / records.FRONT)
    sums.note(directory, records.FRONT, records.SUMMARY)


def is_priced(plan: SearchPlan, directory: Path) -> bool:
    """Tell whether front.csv and summary.json have the dear objectives of the plan, and no others."""
    try:
        summary = json.loads((directory / records.SUMMARY).read_text())
        if summary.get("priced", {}) != _asked(plan):
            return False
        if plan.problem.later:
            records.read_front(directory / records.FRONT, list(summary["objectives"]))
        return True
    except (OSError, ValueError, LookupError):
        return False


def _asked(plan: SearchPlan) -> Any:
    """Return the dear objectives with their settings, as JSON has them."""
    return json.loads(json.dumps({goal.name: goal.to_dict() for goal in plan.problem.later_goals}))


def _measure(plan: SearchPlan, directory: Path, front: pd.DataFrame, watcher: Watcher) -> dict[str, Measured]:
    if not plan.problem.later:
        return {str(arch): {} for arch in front["arch"]}
    error = plan.problem.columns[0]
    networks = [(str(arch), float(e)) for arch, e in zip(front["arch"], front[error], strict=True)]
    measured: dict[str, Measured] = {}
    with threads(plan.workers.cpus):
        run = measure_on_cluster if plan.workers.ray else _here
        for arch, outcome in run(plan, networks, directory / records.MEASURED):
            measured[arch] = outcome
            if isinstance(outcome, Failure):
                log.warning("%s failed: %s", arch, outcome.reason)
            watcher.measure(len(measured), len(networks))
            if stop_file(directory).exists():
                raise Interrupted
    return measured


def _here(plan: SearchPlan, networks: Sequence[tuple[str, float]], folder: Path) -> Iterator[tuple[str, Measured]]:
    for arch, error in networks:
        yield arch, measure_later(plan, arch, error, folder)


def _with_costs(plan: SearchPlan, front: pd.DataFrame, costs: Mapping[str, Metrics]) -> pd.DataFrame:
    """Return the members that were measured, with a column for each objective and spread."""
    kept = front[front["arch"].isin(costs)].reset_index(drop=True)
    columns = [column for o in plan.problem.later for column in (o.column, o.spread) if column is not None]
    return kept.assign(**{column: [costs[arch][column] for arch in kept["arch"]] for column in columns})


def _facts(plan: SearchPlan, searched: Mapping[str, Any], costs: Mapping[str, Metrics], failed: int) -> dict[str, Any]:
    """Return what summary.json says of all objectives.

    The reference point in a dear objective is 1.1 times the largest cost of a member, as the largest network, which bounds the
    others, is no member and would have to be measured as well.
    """
    later = plan.problem.later
    goals = zip(later, plan.problem.later_goals, strict=True)
    worst = {o.column: max((m[o.column] for m in costs.values()), default=1.0) for o in later}
    return {
        "objectives": searched["objectives"] | {o.column: o.title for o in later},
        "reference_point": searched["reference_point"] | {c: 1.1 * max(value, 1e-12) for c, value in worst.items()},
        "limits": searched["limits"] | {o.column: g.at_most for o, g in goals if g.at_most is not None},
        "spreads": searched["spreads"] | {o.column: o.spread for o in later if o.spread is not None},
        "warnings": [*searched.get("warnings", []), *(o.warning for o in later if o.warning)],
        "failed": searched.get("failed", 0) + failed,
    }


def _note(path: Path, failures: Mapping[str, str], front: pd.DataFrame, seed: int) -> None:
    """Write the members that failed into failures.csv, in the place of those of an earlier attempt."""
    before = records.read_failures(path)
    before = before[before["kind"] != records.PRICED]
    rows = front[front["arch"].isin(failures)]
    values: dict[str, Any] = {"seed": seed, "kind": records.PRICED, records.REASON: rows["arch"].map(failures)}
    noted = rows.reindex(columns=list(records.FAILURE_COLUMNS)).assign(**values)
    table = pd.concat([t for t in (before, noted) if len(t)] or [before], ignore_index=True)
    if len(table) or path.exists():
        records.write(table, path)
