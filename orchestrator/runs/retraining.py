"""Training of the front's members from scratch, on all workers, continued where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import pareto, records
from orchestrator.cluster import trials
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import Interrupted
from orchestrator.machine import threads, unique
from orchestrator.runs.watcher import Watcher
from orchestrator.search.control import stop_file
from orchestrator.search.retraining import Member, retrain_member


def retrain_front(plan: SearchPlan, directory: Path, watcher: Watcher) -> None:
    """Train up to `retrain.members` of the front from scratch, and write retrained.csv and networks/.

    summary.json names the machines that did so, too.
    """
    chosen = _chosen(plan, directory)
    if chosen.empty:
        return  # nothing to do, or no network keeps the constraints
    members = front_members(plan, directory)
    members[0].result.parent.mkdir(exist_ok=True)
    results = retrain_all(plan, directory, members, watcher)
    chosen.merge(results.drop(columns="machine", errors="ignore"), on="arch").to_csv(directory / records.RETRAINED, index=False)
    summary = json.loads((directory / records.SUMMARY).read_text())
    searched, trained = summary.get("machines", []), results.get("machine", pd.Series()).dropna()
    summary["machines"] = unique([*searched, *trained])
    if summary["machines"] != searched:
        (directory / records.SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
        watcher.machines(summary["machines"])


def front_members(plan: SearchPlan, directory: Path) -> list[Member]:
    """List the members of the front that are to be trained, those already trained included."""
    networks = directory / "networks"
    archs = _chosen(plan, directory)["arch"]
    return [Member(arch, networks / f"{i}.json", networks / f"{i}.pt") for i, arch in enumerate(archs)]


def _chosen(plan: SearchPlan, directory: Path) -> pd.DataFrame:
    columns = plan.problem.columns
    front = records.read(directory / records.FRONT, [*columns, "arch"])
    return front.iloc[pareto.spread_out(front[columns].to_numpy(), plan.retraining.members)] if len(front) else front


def retrain_all(plan: SearchPlan, directory: Path, members: Sequence[Member], watcher: Watcher) -> pd.DataFrame:
    """Train those of `members` that have no result yet; returns the results of all.

    Raises:
        Interrupted: Once the directory's stop file is there.
    """
    missing = [member for member in members if not member.done]
    if missing:
        for member in members:
            watcher.retrain(member.name, float(member not in missing), len(members))
        if plan.workers.ray:
            trials.retrain(plan, directory, missing, lambda name, share: watcher.retrain(name, share, len(members)))
        else:
            with threads(plan.workers.cpus):
                for member in missing:

                    def progress(fraction: float, name: str = member.name) -> None:
                        watcher.retrain(name, fraction, len(members))
                        if stop_file(directory).exists():
                            raise Interrupted

                    retrain_member(plan, member, progress)
    if not all(member.done for member in members):
        raise Interrupted
    return pd.DataFrame([json.loads(member.result.read_text()) for member in members])
