"""Trackers of experiments, told of a run: of its search or each search of its sweep, of its trainings, and of its results."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import records
from orchestrator.config.settings import Logging
from orchestrator.errors import Interrupted, first_line
from orchestrator.loggers.aside import Aside
from orchestrator.loggers.base import FAILED, FINISHED, STOPPED, Logger, Plain, Subject
from orchestrator.runs import sweep
from orchestrator.runs.directory import EXPERIMENT, is_finished
from orchestrator.runs.watcher import Relay, Watcher
from orchestrator.search.progress import Round
from orchestrator.search.retraining import Member

log = logging.getLogger(__name__)

STATE = "tracking.json"
"""File of a run directory with the last step of each group, and the names that trackers gave the run."""
EVERY = 1.0
"""Seconds between two rounds of a search that are logged, at least."""
PATIENCE = 30.0
"""Seconds that a tracker has at the end of a run to send what is left."""
SEARCH, SWEEP, PART, TRAINING = "search", "sweep", "search-of-a-sweep", "training"
"""Kinds of runs, as their tags say."""
_FILES = ("report.html", records.FRONT, records.SUMMARY, EXPERIMENT, "result.json")
_NUMBERS = ("hypervolume", "hypervolume_retrained", "train_loss", "parameters", "macs")


def check(settings: Logging) -> None:
    """Raise InputError where a tracker lacks its package, or cannot be reached."""
    if settings.mlflow is not None:
        from orchestrator.loggers.mlflow import check_mlflow

        check_mlflow(settings.mlflow, settings.project)
    if settings.wandb is not None:
        from orchestrator.loggers.wandb import check_wandb

        check_wandb(settings.wandb)


def makers(settings: Logging) -> dict[str, Callable[[Subject], Logger]]:
    """Return a function for each tracker that is asked for, which begins a run of it; by the trackers' names."""

    def tensorboard(subject: Subject) -> Logger:
        from orchestrator.loggers.tensorboard import TensorBoard

        return TensorBoard(subject)

    def mlflow(subject: Subject) -> Logger:
        from orchestrator.loggers.mlflow import Mlflow

        assert settings.mlflow is not None
        return Mlflow(settings.mlflow, settings.project, subject)

    def wandb(subject: Subject) -> Logger:
        from orchestrator.loggers.wandb import WandB

        return WandB(settings, subject)

    wanted = {"tensorboard": settings.tensorboard, "mlflow": settings.mlflow, "wandb": settings.wandb}
    known = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
    return {name: known[name] for name, value in wanted.items() if value}


class Tracked:
    """One run directory in all trackers.

    No step is logged twice, as `STATE` has the last one of each group, written before it is logged: where a process is killed
    in between, a point is missing rather than doubled. Rounds that a search repeats after a checkpoint are not logged again.

    Args:
        directory: The run directory.
        settings: Trackers.
        kind: `SEARCH`, `SWEEP`, `PART` or `TRAINING`.
        warn: Called with a warning where a tracker fails.
        parent: The sweep that this is a search of.
    """

    def __init__(
        self, directory: Path, settings: Logging, kind: str, warn: Callable[[str], None], parent: Tracked | None = None
    ) -> None:
        self.directory, self.warn = directory, warn
        self._path = directory / STATE
        state = _read(self._path)
        self._steps: dict[str, Any] = state.get("steps", {})
        self.runs: dict[str, str] = state.get("runs", {})
        self._loggers: list[Aside] = []
        experiment = tomllib.loads((directory / EXPERIMENT).read_text())
        parameters = dict(flattened(experiment))
        named = {key: str(parameters[f"{key}.name"]) for key in ("searcher", "space", "data") if f"{key}.name" in parameters}
        if kind == TRAINING:
            named.pop("searcher", None)
        tags = {"kind": kind, **named, "paretoray": version("paretoray")}
        name = directory.name if parent is None else f"{parent.directory.name}/{directory.name}"
        for tracker, make in makers(settings).items():
            above = None if parent is None else parent.runs.get(tracker)
            try:
                logger = make(Subject(name, directory, parameters, tags, above, self.runs.get(tracker)))
            except Exception as error:  # whatever a tracker raises: a search needs none
                self._drop(tracker, error)
                continue
            self._loggers.append(Aside(tracker, logger))
            if logger.identifier is not None:
                self.runs[tracker] = logger.identifier
        self._save()

    def scalars(self, group: str, axis: str, step: int, values: Mapping[str, float | None]) -> bool:
        """Log the numbers that are known, unless the step was logged before; say whether it was not."""
        known = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
        if step <= self._steps.get(group, -1):
            return False
        self._steps[group] = step
        self._save()
        self._tell(lambda logger: logger.scalars(group, axis, step, known))
        return True

    def distributions(self, group: str, step: int, values: Mapping[str, Sequence[float]]) -> None:
        """Log the histograms of numbers, with a step that `scalars` has just logged."""
        self._tell(lambda logger: logger.distributions(group, step, values))

    def losses(self, training: Member, losses: Mapping[int, float]) -> None:
        """Log losses of epochs. A training that begins anew, with other settings, goes on behind the one before it."""
        group, identity = f"retrain/{training.result.stem}", _identity(training)
        known = self._steps.get(f"{group} identity")
        if known is None or known[0] != identity:
            known = self._steps[f"{group} identity"] = [identity, self._steps.get(group, 0)]
        for epoch, loss in losses.items():
            self.scalars(group, "epoch", known[1] + epoch, {"train_loss": loss})

    def results(self) -> None:
        """Log what the files of the run directory have."""
        found: dict[str, Any] = {}
        for name in (records.SUMMARY, "result.json"):
            found |= _read(self.directory / name)
        tested = records.tested_by(found).value
        values = {name: float(found[name]) for name in (*_NUMBERS, tested) if isinstance(found.get(name), int | float)}
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        path = self.directory / records.FRONT
        front = pd.read_csv(path) if path.exists() else pd.DataFrame()
        shown = [records.MEMBER, "arch", records.STANDING, records.tested_by(front).value, *found.get("objectives", ())]
        front = front[[column for column in shown if column in front]]
        files = [self.directory / name for name in _FILES if (self.directory / name).exists()]
        self._tell(lambda logger: logger.results(values, front, files))

    def close(self, state: str) -> None:
        """End the run in all trackers, with what is left to be sent."""
        for aside in self._loggers:
            if not aside.close(state, PATIENCE):
                name = self.directory.name
                self.warn(f"{aside.name} has not taken all of {name} within {PATIENCE:g} s; the rest is missing there")
        self._look()
        self._loggers = []

    def _tell(self, call: Callable[[Logger], None]) -> None:
        self._look()
        for aside in self._loggers:
            aside(call)

    def _look(self) -> None:
        """Warn of loggers that have failed since, and leave them out from now on."""
        for aside in [aside for aside in self._loggers if aside.failure is not None]:
            self._loggers.remove(aside)
            assert aside.failure is not None
            self._drop(aside.name, aside.failure)

    def _drop(self, tracker: str, error: Exception) -> None:
        said = f"{tracker} logs nothing more of {self.directory.name}: {type(error).__name__}: {first_line(error)}"
        log.warning(said)
        self.warn(f"{said}; the run goes on")

    def _save(self) -> None:
        """Replace the state. It need not outlive a power failure, and a disk that is full is no reason to stop."""
        temporary = self._path.with_suffix(".new.json")
        try:
            temporary.write_text(json.dumps({"steps": self._steps, "runs": self.runs}))
            os.replace(temporary, self._path)
        except OSError:
            pass


class Tracking(Relay):
    """Tells trackers what happens, and passes it on.

    Args:
        watcher: Whom to pass it on to.
        directory: The run directory.
        settings: Trackers.
        kind: As for `Tracked`.
        columns: Columns of the objectives.
    """

    def __init__(self, watcher: Watcher, directory: Path, settings: Logging, kind: str, columns: Sequence[str]) -> None:
        super().__init__(watcher)
        self.settings, self.columns = settings, columns
        self.whole = Tracked(directory, settings, kind, watcher.warning)
        self._parts: dict[int, Tracked] = {}
        self._last: dict[int, tuple[float, int, float]] = {}

    def search(self, happened: Round) -> None:
        super().search(happened)
        self._round(-1, self.whole, happened)

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        super().sweep(index, fractions, happened)
        for other in [other for other in self._parts if other != index and is_finished(self._parts[other].directory)]:
            _end(self._parts.pop(other), FINISHED)
        if index not in self._parts:
            folder = sweep.folders(self.whole.directory)[index]
            self._parts[index] = Tracked(folder, self.settings, PART, self.warning, self.whole)
        self._round(index, self._parts[index], happened)

    def _round(self, index: int, run: Tracked, happened: Round) -> None:
        p, now = happened.progress, time.monotonic()
        when, images, seconds = self._last.get(index, (-math.inf, p.images, p.seconds))
        if now - when < EVERY and p.fraction < 1:
            return
        self._last[index] = now, p.images, p.seconds
        rate = (p.images - images) / (p.seconds - seconds) if p.seconds > seconds else None
        values = {
            "hypervolume": p.hypervolume,
            **{f"best_{column}": p.best_error for column in self.columns[:1]},
            "evaluations": p.evaluations,
            "failed": p.failed,
            "images_per_second": rate,
            "train_loss": p.train_loss,
            "round": p.round,
            "stage": p.stage,
            "seconds": p.seconds,
        }
        front = happened.front or ()
        costs = {column: [e.costs[i] for e in front] for i, column in enumerate(self.columns)} if front else {}
        values |= {f"front/lowest_{column}": min(listed) for column, listed in costs.items()}
        values |= {"front/networks": len(front)} if front else {}
        if run.scalars(SEARCH, "images", p.images, values) and costs:
            run.distributions(SEARCH, p.images, {f"front/{column}": listed for column, listed in costs.items()})

    def losses(self, training: Member, losses: Mapping[int, float]) -> None:
        super().losses(training, losses)
        self.whole.losses(training, losses)

    def close(self, state: str) -> None:
        """End all runs in all trackers; a finished one with its results."""
        for part in self._parts.values():
            _end(part, FINISHED if is_finished(part.directory) else state)
        _end(self.whole, state)


def _end(run: Tracked, state: str) -> None:
    if state == FINISHED:
        run.results()
    run.close(state)


@contextmanager
def tracked(directory: Path, settings: Logging, watcher: Watcher, kind: str, columns: Sequence[str] = ()) -> Iterator[Watcher]:
    """Tell trackers of a run within the block, and how it ends.

    Args:
        directory: The run directory.
        settings: Trackers.
        watcher: Whom to pass everything on to.
        kind: As for `Tracked`.
        columns: Columns of the objectives.

    Yields:
        The watcher to tell.
    """
    if not makers(settings):
        yield watcher
        return
    tracking = Tracking(watcher, directory, settings, kind, columns)
    try:
        yield tracking
    except BaseException as error:
        tracking.close(STOPPED if isinstance(error, Interrupted | KeyboardInterrupt) else FAILED)
        raise
    tracking.close(FINISHED)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Plain]]:
    """Yield settings of nested sections with dotted keys; lists as JSON."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str | int | float | bool) else json.dumps(value, default=str)


def _identity(training: Member) -> str:
    said = json.dumps([training.arch, training.settings], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
