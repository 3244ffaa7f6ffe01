"""Callbacks of a search in Python: told of every evaluation, front and stage, and able to stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.problem import Problem
from orchestrator.runs.watcher import Relay, Watcher
from orchestrator.search.control import stop_file
from orchestrator.search.progress import Progress, Round
from searchers import Architecture, Evaluation


class StopSearch(Exception):
    """Raised in a callback to have the search save its state and stop."""


@dataclass(frozen=True)
class Measured:
    """An architecture that was measured.

    Args:
        architecture: An option index per choice.
        arch: The same in the notation of its space.
        costs: Its costs by column, lower is better.
        violation: By how much it breaks the limits, as a sum of `cost / limit - 1`; 0 where it keeps them all.
        failed: Whether it could not be trained, measured or run; costs that are not known then stand at their worst, and
            failures.csv has the reason.
    """

    architecture: Architecture
    arch: str
    costs: dict[str, float]
    violation: float
    failed: bool = False


class Callback:
    """Base of a user's callbacks; override what is of interest, and raise `StopSearch` to stop.

    With Ray workers the methods are called in the process that called `search`, about once a second with all that happened
    since. An exception of a callback stops the search with its state saved, and is raised by `search` then.

    Example:
        >>> class Enough(Callback):
        ...     def on_front(self, front):
        ...         if front[0].costs["error_percent"] < 5:
        ...             raise StopSearch
    """

    def on_evaluation(self, evaluations: Sequence[Measured]) -> None:
        """Take note of what was measured."""

    def on_front(self, front: Sequence[Measured]) -> None:
        """Take note of a front that has changed, the lowest error first."""

    def on_stage(self, stage: int) -> None:
        """Take note that stage number `stage` has begun, counted from 0."""

    def on_progress(self, progress: Progress) -> None:
        """Take note of where the search stands."""

    def on_retraining(self, arch: str, fraction: float) -> None:
        """Take note that so much of the training of a member of the front is over."""


class CallingBack(Relay):
    """Passes what happens on to a user's callbacks.

    Args:
        problem: Whose notation and columns they are told in.
        callbacks: Called in their order.
        directory: The run directory, whose stop file ends the search.
        shown: Another watcher that is told, too.
    """

    def __init__(self, problem: Problem, callbacks: Sequence[Callback], directory: Path, shown: Watcher) -> None:
        super().__init__(shown)
        self.problem, self.callbacks, self.directory = problem, callbacks, directory
        self.detailed = bool(callbacks)
        self.failure: Exception | None = None
        self._stages: dict[int, int] = {}

    def search(self, happened: Round) -> None:
        super().search(happened)
        self._tell(0, happened)

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        super().sweep(index, fractions, happened)
        self._tell(index, happened)

    def retrain(self, arch: str, fraction: float, members: int) -> None:
        super().retrain(arch, fraction, members)
        for callback in self.callbacks:
            self._call(callback.on_retraining, arch, fraction)

    def _tell(self, search: int, happened: Round) -> None:
        stage = happened.progress.stage
        front = sorted(happened.front or (), key=lambda e: e.costs)
        # A stage may be over before anything was reported of it; a search that is resumed begins where it stands.
        begun = self._stages.get(search, -1 if happened.progress.evaluations == len(happened.evaluations) else stage - 1)
        for callback in self.callbacks:
            for index in range(begun + 1, stage + 1):
                self._call(callback.on_stage, index)
            if happened.evaluations:
                self._call(callback.on_evaluation, [self._measured(e) for e in happened.evaluations])
            if front:
                self._call(callback.on_front, [self._measured(e) for e in front])
            self._call(callback.on_progress, happened.progress)
        self._stages[search] = stage

    def _call(self, method: object, *arguments: object) -> None:
        if self.failure is not None:
            return
        assert callable(method)
        try:
            method(*arguments)
        except Exception as error:  # whatever a user's callback raises, the state is saved first
            self.failure = error
            stop_file(self.directory).touch()

    def _measured(self, evaluation: Evaluation) -> Measured:
        costs = dict(zip(self.problem.columns, evaluation.costs, strict=True))
        arch = self.problem.space.format(evaluation.architecture)
        return Measured(evaluation.architecture, arch, costs, evaluation.violation, evaluation.failed)
