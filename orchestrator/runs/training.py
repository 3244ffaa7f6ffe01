"""`paretoray train`: one network trained from scratch, as a reference point for fronts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis import members, records
from analysis.files import write_text
from orchestrator.cluster import data_parallel
from orchestrator.cluster.connection import check_fit, cluster, local_resources
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.config.spaces import find_architecture, published
from orchestrator.errors import InputError, Interrupted, NetworkFailed, attributed_to
from orchestrator.machine import threads
from orchestrator.registry import similar
from orchestrator.runs.directory import EXPERIMENT, check_out
from orchestrator.runs.tracking import TRAINING, tracked
from orchestrator.runs.tracking import check as check_trackers
from orchestrator.runs.watcher import Watcher
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.control import stop_file
from orchestrator.search.logs import logging_to
from orchestrator.search.progress import TrainingProgress
from orchestrator.search.retraining import FAILURE, Member, check, retrain_member, settings_of
from searchers import Architecture

RESULT = "result.json"
_EACH = "test_errors_percent"
"""Key of the test errors of all seeds."""
SECTIONS = ("data", "space", "retrain", "seed", "workers", "logging")


@dataclass(frozen=True)
class Training:
    """One network, and how it is to be trained.

    Args:
        name: Name of the network, or of its space.
        plan: Data, space and settings.
        architecture: The network.
    """

    name: str
    plan: SearchPlan
    architecture: Architecture

    @classmethod
    def of(cls, space: str, text: str, overrides: Sequence[str]) -> Training:
        """Read a notation or published name, and `section.key=value` overrides. Raises InputError."""
        if other := [o for o in overrides if re.split("[.=]", o)[0] not in SECTIONS]:
            raise InputError(
                f"{other[0]!r}: a training has the sections data, space, retrain and logging, a seed, and workers.gpus"
                f"{similar(re.split('[.=]', other[0])[0], SECTIONS)}"
            )
        known = published(space, text)
        shape = {k: v for k, v in (known.settings if known else {}).items() if k not in ("image", "classes")}
        fixed = [f"space.{key}={json.dumps(value)}" for key, value in shape.items()]
        plan = SearchPlan.of(read(None, [f"space.name={space}", *fixed, *overrides]))
        # As many as train this one network, whatever a search would have.
        together = plan.retraining.workers
        workers = replace(
            plan.workers, ray=together > 1, count=together, address=plan.workers.address if together > 1 else None
        )
        plan = plan.varied(workers=workers)
        training = cls(text.upper() if known else space, plan, find_architecture(plan.problem.space, text))
        check(plan, teaching=False)
        check_trackers(plan.experiment.logging)
        if workers.address is None:
            check_fit(workers, local_resources(), workers.count)
        return training

    @property
    def counts(self) -> dict[str, int]:
        """Parameters and MACs of the network."""
        space = self.plan.problem.space
        return {"parameters": space.parameters(self.architecture), "macs": space.macs(self.architecture)}

    def run(self, directory: Path, watcher: Watcher, started: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Train in this process, or on `retrain.workers` workers, and go on where the same training was interrupted.

        Writes network.pt, result.json and experiment.toml, and with several seeds those of each further one.

        Returns:
            The result; of several seeds the mean and deviation of the test error.

        Raises:
            InputError: For a folder that holds anything else.
            Interrupted: Once the folder's stop file is there.
            NetworkFailed: Where a loss or a score is not finite.
        """
        directory = directory.resolve()
        text = self.plan.experiment.to_toml()
        if not _unfinished(directory, text):
            check_out(directory)
            directory.mkdir(parents=True, exist_ok=True)
            write_text(directory / EXPERIMENT, text)
        workers = self.plan.workers
        trainings = self._members(directory)
        started()
        clustered = cluster(workers, trainers=workers.count) if workers.ray else threads(workers.cpus)
        with (
            attributed_to(self.plan.plugins),
            clustered,
            alone_in(directory, "run.lock"),
            logging_to(directory),
            tracked(directory, self.plan.experiment.logging, watcher, TRAINING) as tracking,
            tracking.phase(),
        ):
            stop_file(directory).unlink(missing_ok=True)
            for training in trainings:
                if not training.done:
                    self._train(training, directory, tracking, len(trainings))
            result = {"name": self.name} | _summary(trainings) | self.counts
            write_text(directory / RESULT, json.dumps(result) + "\n")
        return result

    def _members(self, directory: Path) -> list[Member]:
        """List the trainings of the network, one for each seed."""
        plan, arch = self.plan, self.plan.problem.space.format(self.architecture)
        teacher = None if plan.retraining.teacher is None else Path(plan.retraining.teacher).resolve()
        found = []
        for number in range(plan.retraining.seeds):
            seed = plan.seed + number
            stem = "network" if not number else f"network-seed-{seed}"
            result, settings = directory / f"{stem}.json", settings_of(plan, seed, teacher)
            found.append(Member(arch, result, directory / f"{stem}.pt", seed=seed, settings=settings, teacher=teacher))
        return found

    def _train(self, training: Member, directory: Path, watcher: Watcher, trainings: int) -> None:
        def show(name: str, told: TrainingProgress) -> None:
            watcher.retrain(name, told.fraction, trainings)
            watcher.losses(training, told.losses)

        def progress(told: TrainingProgress) -> None:
            show(training.name, told)
            if stop_file(directory).exists():
                raise Interrupted

        watcher.retrain(training.name, 0.0, trainings)
        if self.plan.workers.ray:
            data_parallel.retrain(self.plan, directory, [training], show)
        else:
            retrain_member(self.plan, training, progress)
        if not training.done:
            raise Interrupted
        if training.failed:
            reason = training.read()[FAILURE]
            training.result.unlink()
            raise NetworkFailed(reason)


def _unfinished(directory: Path, text: str) -> bool:
    """Tell whether a folder holds this very training, interrupted."""
    path = directory / EXPERIMENT
    return path.is_file() and not (directory / RESULT).exists() and path.read_text() == text


def _summary(trainings: Sequence[Member]) -> dict[str, Any]:
    """Combine the results of a network's trainings: of several the mean test error with its deviation."""
    results = [training.read() for training in trainings]
    summary: dict[str, Any] = {key: value for key, value in results[0].items() if key != "settings"}
    if len(results) > 1:
        test = records.tested_by(results[0])
        errors = np.array([result[test.value] for result in results])
        summary |= {test.value: float(errors.mean()), test.deviation: float(errors.std(ddof=1)), records.SEEDS: len(results)}
        summary[_EACH] = errors.tolist()
        if test.low in summary:
            low, high = members.interval(errors, 0, np.array([[r[test.low], r[test.high]] for r in results]))
            summary |= {test.low: low, test.high: high}
    return summary


def interval(result: dict[str, Any]) -> tuple[float, float]:
    """Return the interval of a result's test error, in its unit, as the front's members have it."""
    test = records.tested_by(result)
    if test.low in result:
        return result[test.low], result[test.high]
    errors = np.array(result.get(_EACH, [result[test.value]]))
    return members.interval(errors, result[records.TEST_IMAGES])
