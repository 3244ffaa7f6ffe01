"""Training of the front's members from scratch, on all workers, continued where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analysis import members, pareto, records
from analysis.files import replacing, write_text
from orchestrator.cluster import data_parallel, trials
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import Interrupted, RunError
from orchestrator.machine import threads, unique
from orchestrator.runs.watcher import Watcher
from orchestrator.search import sums
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.control import stop_file
from orchestrator.search.progress import TrainingProgress
from orchestrator.search.retraining import FAILURE, Member, settings_of, try_member

SHARED = "shared.pt"
"""File beside the networks with the shared weights that they begin with, where these are fine-tuned."""


def retrain_front(plan: SearchPlan, directory: Path, watcher: Watcher) -> dict[str, str]:
    """Train up to `retrain.members` of the front from scratch, each with `retrain.seeds`, and make the front anew from them.

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
    if plan.inherits:
        _keep_shared_weights(directory)
    results = _retrained(plan, directory, watcher)
    failed = {
        str(arch): str(reason) for arch, reason in zip(results["arch"], results[FAILURE], strict=True) if pd.notna(reason)
    }
    results = results[results[FAILURE].isna()].drop(columns=FAILURE)
    failed = {arch: reason for arch, reason in failed.items() if arch not in set(results["arch"])}  # with all of its seeds
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
    sums.note(directory, records.FRONT, records.SUMMARY, records.RETRAINED)
    if len(summary["machines"]) > known:
        watcher.machines(summary["machines"])
    return failed


def _keep_shared_weights(directory: Path) -> None:
    """Write the weights that the search ended with to a file of their own, unless it has them already."""
    path = directory / "networks" / SHARED
    checkpoint = Checkpoints(directory / "checkpoints").load()
    if checkpoint is None:
        if not path.exists():
            raise RunError(f"{directory} has no checkpoint any more, and networks begin with the weights in it; search again")
        return
    state = checkpoint["evaluator"]["model"]
    with suppress(OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        known = torch.load(path, weights_only=True)
        if known.keys() == state.keys() and all(torch.equal(known[name], state[name]) for name in state):
            return
    with replacing(path) as temporary:
        torch.save(state, temporary)


def _retrained(plan: SearchPlan, directory: Path, watcher: Watcher) -> pd.DataFrame:
    """Train the members that are to be trained, the largest first where the others are distilled from it."""
    if plan.retraining.parts.distill and plan.retraining.teacher is None:
        for teacher in _by_size(plan, directory):
            retrain_all(plan, directory, [teacher], watcher)
            if not teacher.failed:
                break
    members = front_members(plan, directory)
    if outdated := [member for member in members if member.outdated]:
        watcher.warning(f"{len(outdated)} of {len(members)} trainings have other settings than [retrain] now, and begin anew")
    return retrain_all(plan, directory, members, watcher)


def front_members(plan: SearchPlan, directory: Path) -> list[Member]:
    """List the trainings that members of the front are to have, those that are done included: a network's seeds in a row."""
    chosen = _chosen(plan, directory)
    teacher = _teacher(plan, directory)
    found = []
    for arch, number in zip(chosen["arch"], chosen[records.MEMBER], strict=True):
        pupil = None if teacher is None or teacher == _weights(directory, int(number)) else teacher
        found += [_member(plan, directory, str(arch), int(number), seed, pupil) for seed in range(plan.retraining.seeds)]
    return found


def _by_size(plan: SearchPlan, directory: Path) -> list[Member]:
    """List the members that are to be trained, undistilled, the one of most MACs first."""
    chosen, space = _chosen(plan, directory), plan.problem.space
    numbers = dict(zip(chosen["arch"], chosen[records.MEMBER], strict=True))
    largest = sorted(numbers, key=lambda arch: (-space.macs(space.parse(str(arch))), numbers[arch]))
    return [_member(plan, directory, str(arch), int(numbers[arch]), 0, None) for arch in largest]


def _teacher(plan: SearchPlan, directory: Path) -> Path | None:
    """Return the weights that members are distilled from; those of the largest member may not be there yet."""
    if not plan.retraining.parts.distill:
        return None
    if plan.retraining.teacher is not None:
        return Path(plan.retraining.teacher)
    return next((member.weights for member in _by_size(plan, directory) if not member.failed), None)


def _weights(directory: Path, number: int) -> Path:
    return directory / "networks" / f"network-{number}.pt"


def _front(plan: SearchPlan, directory: Path) -> pd.DataFrame:
    return records.read_front(directory / records.FRONT, plan.problem.columns)


def _chosen(plan: SearchPlan, directory: Path) -> pd.DataFrame:
    front = _front(plan, directory)
    if not len(front):
        return front
    spread = pareto.spread_out(front[plan.problem.columns].to_numpy(), plan.retraining.members)
    also = np.flatnonzero(front[records.MEMBER].isin(plan.retraining.also))
    return front.iloc[list(dict.fromkeys([*spread, *also]))]


def read_retrained(plan: SearchPlan, directory: Path) -> pd.DataFrame | None:
    """Read retrained.csv of a run; None where nothing was retrained. Raises ValueError for a damaged table."""
    images = len(plan.problem.data.test)
    return records.read_retrained(
        directory / records.RETRAINED, plan.problem.columns, epochs=plan.retraining.parts.epochs, images=images
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
            seed = "-seed-" + path.stem.partition("-seed-")[2] if "-seed-" in path.stem else ""
            wanted = f"network-{numbers[arch]}" if arch in numbers else _earlier(arch)
            if path.stem != wanted + seed:
                found[path] = (_earlier(arch) + seed, wanted + seed)
    # First out of each other's way, under names from which the next attempt can go on.
    for path, (aside, _) in found.items():
        _move(path, networks / f"{aside}.json")
    for aside, wanted in found.values():
        if (kept := networks / f"{aside}.json").exists():
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


def _member(plan: SearchPlan, directory: Path, arch: str, number: int, seed: int, teacher: Path | None) -> Member:
    """Name the files of a member's training by its number, or find those that it has from before members had numbers.

    Args:
        plan: The settings.
        directory: The run directory.
        arch: Notation of the network.
        number: Its number on the front.
        seed: Number of the training among those of the network, from 0.
        teacher: Weights to distil from.
    """
    weights, of = _weights(directory, number), plan.seed + seed
    shared = weights.parent / SHARED if plan.inherits else None
    settings = settings_of(plan, of, teacher, shared)
    if seed:
        weights = weights.with_stem(f"{weights.stem}-seed-{of}")
    earlier = [] if seed else sorted(weights.parent.glob("[0-9]*.json"))
    known = [
        Member(arch, path, path.with_suffix(".pt"), seed=of, settings=settings, teacher=teacher, shared=shared)
        for path in [weights.with_suffix(".json"), *earlier]
    ]
    return next((member for member in known if member.done), known[0])


def retrain_all(plan: SearchPlan, directory: Path, members: Sequence[Member], watcher: Watcher) -> pd.DataFrame:
    """Train those of `members` that have no result yet, and return the results of all, in order.

    A training that failed has the reason in the column `failure`, which is empty for all others, and no numbers.

    Raises:
        Interrupted: Once the directory's stop file is there.
    """
    missing = [member for member in members if not member.done]
    trained = {member.name: member for member in members}

    def show(name: str, told: TrainingProgress) -> None:
        watcher.retrain(name, told.fraction, len(members))
        watcher.losses(trained[name], told.losses)

    if missing:
        for member in members:
            watcher.retrain(member.name, float(member not in missing), len(members))
        if plan.retraining.workers > 1:
            data_parallel.retrain(plan, directory, missing, show)
        elif plan.workers.ray:
            trials.retrain(plan, directory, missing, show, watcher.waiting)
        else:
            with threads(plan.workers.cpus):
                for member in missing:

                    def progress(told: TrainingProgress, name: str = member.name) -> None:
                        show(name, told)
                        if stop_file(directory).exists():
                            raise Interrupted

                    try_member(plan, member, progress)
    if not all(member.done for member in members):
        raise Interrupted
    results = pd.DataFrame([member.read() for member in members])
    return results.drop(columns="settings", errors="ignore").assign(**{FAILURE: results.get(FAILURE)})
