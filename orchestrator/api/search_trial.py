"""A whole search as the trainable of a user's own Tuner."""

from __future__ import annotations

import math
import operator
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.utils import flatten_dict

from orchestrator.api.result import Result
from orchestrator.api.search import make_plan
from orchestrator.cluster.connection import bundles
from orchestrator.cluster.trials import REPORT_EVERY, resilient
from orchestrator.config.experiment import searcher_component, training_component
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Problem
from orchestrator.config.settings import Budget, Proxy, Workers
from orchestrator.errors import InputError, attributed_to
from orchestrator.machine import threads
from orchestrator.registry import Component, keywords
from orchestrator.runs.directory import create
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.control import stop_file
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.progress import Progress, Round
from orchestrator.search.rehearsal import rehearse
from searchers import Searcher


def trainable(
    problem: Problem,
    searcher: str | type[Searcher] | Component = "tnd-nas",
    *,
    budget: Budget | None = None,
    workers: Workers | None = None,
    training: str | Component | Mapping[str, Any] = "supernet",
    proxy: Proxy | None = None,
    seed: int = 0,
) -> Callable[[dict[str, Any]], None]:
    """Make a whole search the trainable of a user's own Tuner.

    The config of a trial overrides settings of the search: `seed`, and `searcher.KEY`, `training.KEY` and `budget.KEY`, with
    a dot or nested; `searcher.name` takes another method. About once a second it reports `hypervolume` (to be maximised),
    `best_error`, in percent or the unit of the task's metric (NaN before the first measurement), `evaluations`, `round`,
    `fraction` of the budget, and `finished`. Until then the first two are of samples; the last report has those of the front,
    measured on the whole validation set. The checkpoint is a run directory: a trial that Tune starts again goes on from
    there, with the same records as without the interruption, and `paretoray.Result.open` reads what the last one holds.

    Args:
        problem: Space, data and objectives, the same for all trials.
        searcher: A name, a subclass of `Searcher`, or one of `paretoray.searchers` with settings.
        budget: What each search may spend; by default 75 epochs.
        workers: What each search runs on, which is what a trial reserves; by default one CPU in the trial's own process.
        training: The evaluator, as for `paretoray.search`.
        proxy: Smaller networks and data to train and judge on; by default the problem's own.
        seed: Seed of all randomness but the split of the data.

    Returns:
        A function of the trial's config, for `tune.Tuner`.

    Raises:
        InputError: For what cannot be run, here and in the trial for its config.

    Example:
        >>> import paretoray as pr                                                              # doctest: +SKIP
        >>> problem = pr.Problem("digits-tiny", "digits", ["error", "parameters"])              # doctest: +SKIP
        >>> search = pr.tune.trainable(problem, "random-search", budget=pr.Budget(epochs=4))    # doctest: +SKIP
        >>> tune.Tuner(search, param_space={"seed": tune.grid_search([0, 1, 2])}).fit()         # doctest: +SKIP
    """
    workers = workers or Workers(ray=False, count=1)
    plan = make_plan(problem, searcher, budget=budget, workers=workers, training=training, proxy=proxy, seed=seed)
    if plan.problem.later_goals:
        raise InputError(f"objectives.{plan.problem.later_goals[0].name}.dear: a search in a trial measures none; leave it out")
    with attributed_to(plan.plugins, InputError):
        plan.build_searcher()
        rehearse(plan)
    alone = [{"CPU": float(workers.cpus)} | ({"GPU": workers.gpus} if workers.gpus else {})]
    # A coordinator over actors mostly waits, so its bundle is empty; then one for each actor.
    resources = tune.PlacementGroupFactory([{}, *bundles(workers)] if workers.ray else alone)
    return tune.with_resources(tune.with_parameters(paretoray_search, plan=plan), resources)  # type: ignore[no-any-return]


def paretoray_search(config: dict[str, Any], plan: SearchPlan) -> None:
    """Run or continue a search in this trial; the name is what Tune calls its trials."""
    plan = overridden(plan, config)
    with tempfile.TemporaryDirectory(prefix="paretoray-") as folder, attributed_to(plan.plugins):
        directory = Path(folder, "search")
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            create(plan.experiment, directory)
        else:
            checkpoint.to_directory(str(directory))
        reports = _Reports(plan, directory)
        if plan.workers.ray:
            coordinator, _ = resilient(plan, directory, reports.observe)
        else:
            with threads(plan.workers.cpus):
                coordinator = Coordinator(plan, directory, plan.build_evaluator())
                coordinator.run(stop_file(directory).exists, reports.observe)
        reports.finish(coordinator.progress())


class _Reports:
    """Reports of a search to Tune, with a copy of its run directory whenever that has a new checkpoint.

    Args:
        plan: The search.
        directory: Its run directory.
    """

    def __init__(self, plan: SearchPlan, directory: Path) -> None:
        self.plan, self.directory = plan, directory
        self._latest = Checkpoints(directory / "checkpoints").latest
        self._reported = self._written()
        self._last = -math.inf

    def _written(self) -> int | None:
        return self._latest.stat().st_mtime_ns if self._latest.exists() else None

    def observe(self, happened: Round) -> None:
        """Report about once a second."""
        if time.monotonic() - self._last > REPORT_EVERY:
            self._report(happened.progress, happened.progress.hypervolume, happened.progress.best_error)
            self._last = time.monotonic()

    def finish(self, progress: Progress) -> None:
        """Report what the search has found, by measurements on the whole validation set."""
        result = Result(self.plan, self.directory)
        errors = result.front[self.plan.problem.columns[0]].tolist()
        self._report(progress, result.hypervolume, min(errors, default=None), finished=True)

    def _report(self, progress: Progress, hypervolume: float, best_error: float | None, *, finished: bool = False) -> None:
        """Report once; Tune ends the thread here where it has stopped the trial."""
        metrics = {
            "hypervolume": hypervolume,
            "best_error": math.nan if best_error is None else best_error,
            "evaluations": progress.evaluations,
            "round": progress.round,
            "fraction": progress.fraction,
            "finished": finished,
        }
        written = self._written()
        if written == self._reported and not finished:
            tune.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="paretoray-") as folder:
            copied = Path(folder, "search")
            shutil.copytree(self.directory, copied, ignore=shutil.ignore_patterns("previous.pt", "*.lock"))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(str(copied)))
        self._reported = written


def overridden(plan: SearchPlan, config: Mapping[str, Any]) -> SearchPlan:
    """Return the plan with the settings that a trial's config names. Raises InputError."""
    given: dict[str, dict[str, Any]] = {"searcher": {}, "training": {}, "budget": {}}
    seed = plan.seed
    for key, value in flatten_dict(dict(config), delimiter=".").items():
        section, _, setting = key.partition(".")
        if key == "seed":
            try:
                seed = operator.index(value)
            except TypeError as error:
                raise InputError(f"seed = {value!r} in the config of this trial; write a whole number") from error
        elif section in given and setting:
            given[section][setting] = value
        elif section in ("data", "space", "objectives"):
            raise InputError(f"{key} in the config of this trial: all trials share the problem; make a trainable for each")
        elif section == "workers":
            raise InputError(f"{key} in the config of this trial: a trial reserves its workers; write trainable(workers=...)")
        else:
            sections = ("seed", *(f"{name}.KEY" for name in given))
            raise InputError(f"unknown key {key} in the config of this trial; it may have {', '.join(sections)}")
    experiment = plan.experiment
    budget = keywords(Budget, {**asdict(plan.budget), **given["budget"]}, "budget")
    return plan.varied(
        searcher=_varied(experiment.searcher, given["searcher"], searcher_component),
        training=_varied(experiment.training, given["training"], training_component),
        budget=Budget(**budget),
        seed=seed,
    )


def _varied(component: Component, given: dict[str, Any], make: Callable[[str, Mapping[str, Any]], Component]) -> Component:
    name = given.pop("name", component.name)
    if name != component.name:
        return make(name, given)
    if not given:
        return component
    chosen = {key: value for key, value in component.settings.items() if key in component.chosen}
    return make(name, {**chosen, **given})
