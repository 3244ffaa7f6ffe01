"""Training of the front's members from scratch, on all workers, continued where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import members, pareto, records
from analysis.files import write_text
from orchestrator.cluster import trials
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import Interrupted
from orchestrator.machine import threads, unique
from orchestrator.runs.watcher import Watcher
from orchestrator.search.control import stop_file
from orchestrator.search.retraining import FAILURE, Member, settings_of, try_member


def retrain_front(plan: SearchPlan, directory: Path, watcher: Watcher) -> dict[str, str]:
    """Train up to `retrain.members` of the front from scratch, and make the front anew from them.

    Writes retrained.csv and networks/; adds to front.csv how each member stands, and to summary.json the hypervolume of the
    retrained front and the machines that took part.

    Returns:
        Members whose training failed, with the reasons; the front is made of the others.

    """
    front, chosen = _front(plan, directory), _chosen(plan, directory)
    if chosen.empty:
        return {}  # nothing to do, or no network keeps the constraints
    (directory / "networks").mkdir(exist_ok=True)
    _renumber(directory / "networks", dict(zip(front["arch"], front[records.MEMBER], strict=True)))
    trained = front_members(plan, directory)
    results = retrain_all(plan, directory, trained, watcher)
    failed = {
        str(arch): str(reason) for arch, reason in zip(results["arch"], results[FAILURE], strict=True) if pd.notna(reason)
    }
    results = results[results[FAILURE].isna()].drop(columns=FAILURE)
    if len(results):
        records.write(chosen.merge(results.drop(columns="machine", errors="ignore"), on="arch"), directory / records.RETRAINED)
    else:
        (directory / records.RETRAINED).unlink(missing_ok=True)
    summary = json.loads((directory / records.SUMMARY).read_text()) | {records.RETRAINING_FAILED: failed}
    known = len(summary.get("machines", []))
    summary["machines"] = unique([*summary.get("machines", []), *results.get("machine", pd.Series(dtype=object)).dropna()])
    anew = members.of_run(front, read_retrained(plan, directory), summary)
    records.write(anew, directory / records.FRONT)
    summary["hypervolume_retrained"] = members.hypervolume(anew, summary)
    write_text(directory / records.SUMMARY, json.dumps(summary, indent=2) + "\n")
    if len(summary["machines"]) > known:
        watcher.machines(summary["machines"])
    return failed


def front_members(plan: SearchPlan, directory: Path) -> list[Member]:
    """List the members of the front that are to be trained, those already trained included."""
    chosen = _chosen(plan, directory)
    numbers = zip(chosen["arch"], chosen[records.MEMBER], strict=True)
    settings = settings_of(plan)
    return [_member(directory / "networks", str(arch), int(number), settings) for arch, number in numbers]


def _front(plan: SearchPlan, directory: Path) -> pd.DataFrame:
    return records.read_front(directory / records.FRONT, plan.problem.columns)


def _chosen(plan: SearchPlan, directory: Path) -> pd.DataFrame:
    front = _front(plan, directory)
    return (
        front.iloc[pareto.spread_out(front[plan.problem.columns].to_numpy(), plan.retraining.members)] if len(front) else front
    )


def read_retrained(plan: SearchPlan, directory: Path) -> pd.DataFrame | None:
    """Read retrained.csv of a run; None where nothing was retrained. Raises ValueError for a damaged table."""
    images = len(plan.problem.data.test)
    return records.read_retrained(
        directory / records.RETRAINED, plan.problem.columns, epochs=plan.retraining.epochs, images=images
    )


def _renumber(networks: Path, numbers: Mapping[str, int]) -> None:
    """Name the files of each network after its number on the front, which another one than before has after a search went on.

    Args:
        networks: The folder.
        numbers: Number of each member of the front; the files of others are kept under a name that is no number.
    """
    found = {}
    for path in [*networks.glob("network-*.json"), *networks.glob("earlier-*.json")]:
        with suppress(OSError, ValueError, KeyError):  # what cannot be read is trained again
            arch = str(json.loads(path.read_text())["arch"])
            wanted = f"network-{numbers[arch]}" if arch in numbers else _earlier(arch)
            if path.stem != wanted:
                found[path] = (arch, wanted)
    # First out of each other's way, under names from which the next attempt can go on.
    for path, (arch, _) in found.items():
        _move(path, networks / f"{_earlier(arch)}.json")
    for arch, wanted in found.values():
        if (kept := networks / f"{_earlier(arch)}.json").exists():
            _move(kept, networks / f"{wanted}.json")


def _earlier(arch: str) -> str:
    return f"earlier-{hashlib.sha256(arch.encode()).hexdigest()[:12]}"


def _move(result: Path, to: Path) -> None:
    """Rename a network's result and weights."""
    if result == to:
        return
    with suppress(FileNotFoundError):
        os.replace(result.with_suffix(".pt"), to.with_suffix(".pt"))
    os.replace(result, to)


def _member(networks: Path, arch: str, number: int, settings: dict[str, Any]) -> Member:
    """Name a member's files by its number, or find those that it has from before members had numbers."""
    for path in [networks / f"network-{number}.json", *sorted(networks.glob("[0-9]*.json"))]:
        member = Member(arch, path, path.with_suffix(".pt"), settings=settings)
        if member.done:
            return member
    return Member(arch, networks / f"network-{number}.json", networks / f"network-{number}.pt", settings=settings)


def retrain_all(plan: SearchPlan, directory: Path, members: Sequence[Member], watcher: Watcher) -> pd.DataFrame:
    """Train those of `members` that have no result yet, and return the results of all, in order.

    A training that failed has the reason in the column `failure`, which is empty for all others, and no numbers.

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

                    try_member(plan, member, progress)
    if not all(member.done for member in members):
        raise Interrupted
    results = pd.DataFrame([json.loads(member.result.read_text()) for member in members])
    return results.drop(columns="settings", errors="ignore").assign(**{FAILURE: results.get(FAILURE)})
