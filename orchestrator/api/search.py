"""Searches from Python: no signal handlers, no console unless asked for, no change of directory, no global seed."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from orchestrator.api.callbacks import Callback, CallingBack, StopSearch
from orchestrator.api.result import Result
from orchestrator.config.experiment import Experiment, listed, searcher_component, training_component
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Problem
from orchestrator.config.settings import Budget, Front, Logging, Proxy, Retraining, Workers
from orchestrator.config.start import notations
from orchestrator.errors import InputError, Interrupted
from orchestrator.registry import Component, check_subclass
from orchestrator.runs import extension
from orchestrator.runs.directory import check_out, fresh, open_run, reopen
from orchestrator.runs.display import Display
from orchestrator.runs.mirror import settle
from orchestrator.runs.proxy import settled
from orchestrator.runs.run import check, go, is_done
from orchestrator.runs.staging import opened, placed
from orchestrator.runs.watcher import Watcher
from searchers import Searcher


def search(
    problem: Problem,
    searcher: str | type[Searcher] | Component = "tnd-nas",
    *,
    budget: Budget | None = None,
    front: Front | None = None,
    workers: Workers | None = None,
    training: str | Component | Mapping[str, Any] = "supernet",
    retrain: Retraining | None = None,
    logging: Logging | None = None,
    proxy: Proxy | Sequence[Proxy] | Literal["auto"] | None = None,
    seed: int = 0,
    start_from: str | Path | Sequence[str] = (),
    out: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> Result:
    """Search for a front, retrain some of it, and write a report into a run directory.

    Args:
        problem: Space, data and objectives.
        searcher: A name, a subclass of `Searcher`, or one of `paretoray.searchers` with settings.
        budget: What the search may spend; by default 75 epochs.
        front: How the front is chosen; by default up to ten members, by all measurements together.
        workers: What it runs on; by default two Ray actors on this machine or the cluster that Ray is connected to.
        training: The evaluator: a name, one of `paretoray.evaluators` with settings, or settings of `supernet`.
        retrain: How members of the front are trained at the end.
        logging: Trackers that are told of the run; by default event files for TensorBoard in the run directory.
        proxy: Smaller networks and data to train and judge on; "auto" for those with which the search fits into
            `budget.seconds`; by default the problem's own. Of a list, the search has the first, and networks that are trained
            alone climb over the others to the target.
        seed: Seed of all randomness but the split of the data.
        start_from: Networks that the search begins with, for a method that can learn from any: notations, or the path of a run
            directory, whose front is taken, or of a table with a column `arch`.
        out: The run directory, or its URL in a store, as "s3://bucket/run". It must not exist; by default it is below `runs/`,
            named after the searcher, the data and the time.
        callbacks: Told of every evaluation, front and stage.
        progress: Show a progress bar, on a terminal or in a notebook.

    Returns:
        The result; not finished where a callback stopped the search, which `resume` continues.

    Raises:
        InputError: For what cannot be run, before anything starts.
        RunError: Where the run failed; its files are safe.

    Example:
        >>> import paretoray as pr                                                    # doctest: +SKIP
        >>> problem = pr.Problem("digits-tiny", "digits", ["error", "parameters"])    # doctest: +SKIP
        >>> result = pr.search(problem, "random-search", budget=pr.Budget(epochs=4))  # doctest: +SKIP
    """
    plan = make_plan(
        problem,
        searcher,
        budget=budget,
        front=front,
        workers=workers or Workers(),
        training=training,
        retrain=retrain,
        logging=logging,
        proxy=proxy,
        seed=seed,
        start_from=start_from,
    )
    plan, _ = settled(plan)
    experiment = plan.experiment
    name = re.sub(r"[^\w.-]", "-", f"{experiment.searcher.name}-{experiment.data.name}")
    if out is None:
        directory = fresh(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    else:
        directory = placed(out)
        check_out(directory)
    return _go(plan, directory.resolve(), callbacks, progress, new=True)


def make_plan(
    problem: Problem,
    searcher: str | type[Searcher] | Component,
    *,
    budget: Budget | None,
    front: Front | None = None,
    workers: Workers,
    training: str | Component | Mapping[str, Any],
    retrain: Retraining | None = None,
    logging: Logging | None = None,
    proxy: Proxy | Sequence[Proxy] | Literal["auto"] | None = None,
    seed: int,
    start_from: str | Path | Sequence[str] = (),
) -> SearchPlan:
    """Put a search together from its parts, as `search` takes them. Raises InputError where they do not go together."""
    if not isinstance(problem, Problem):
        raise InputError(f"problem is {type(problem).__name__}; write paretoray.Problem(space, data, objectives)")
    places = (proxy or Proxy(), ()) if proxy is None or isinstance(proxy, (str, Proxy)) else listed(proxy)
    experiment = Experiment(
        data=problem.sources.data,
        space=problem.sources.space,
        searcher=searcher_of(searcher),
        objectives=problem.sources.objectives,
        training=_training(training),
        budget=budget or Budget(),
        front=front or Front(),
        workers=workers,
        retrain=retrain or Retraining(),
        logging=logging or Logging(),
        proxy=places[0],
        ladder=places[1],
        task=problem.sources.task,
        seed=seed,
        start_from=notations(start_from),
    )
    return SearchPlan(experiment.checked(), problem)


def resume(
    directory: str | Path,
    problem: Problem | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    trust: bool = False,
) -> Result:
    """Continue a run from its last checkpoint; a finished one is returned as it is, unless it gets a larger budget.

    Args:
        directory: The run directory, or its URL in a store.
        problem: The problem, where data or space were given as objects that no file can name.
        changes: New settings by key, as `{"budget.epochs": 150, "retrain.members": 8}`: of the budget, retraining, workers, and
            the number of the front's members; and further objectives, as `{"objectives.latency": {}}`, which are measured for
            the members of the front. They are written into experiment.toml.
        callbacks: As in `search`.
        progress: As in `search`.
        trust: Whether to import the code that the run names, though somebody else made it.

    Raises:
        InputError: For a folder that is no run directory, one of somebody else's that names code to import, a setting that
            cannot change any more, and a budget that is spent.
        RunError: For a damaged checkpoint, or one of another experiment.
    """
    path = opened(directory).resolve()
    if changes:
        plan = extension.apply(path, _sections(changes), problem, trust=trust)
    else:
        plan = SearchPlan.of(open_run(path, trust=trust)) if problem is None else reopen(path, problem)
    if is_done(plan, path):
        settle(path, warnings.warn)
        return Result(plan, path)
    return _go(plan, path, callbacks, progress)


def _sections(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sort dotted keys into sections. Raises InputError for a key without a section."""
    sections: dict[str, Any] = {}
    for name, value in changes.items():
        section, dot, key = str(name).partition(".")
        if name == "objectives":
            sections[name] = value
            continue
        if not dot:
            raise InputError(f"changes has the key {name!r}; write section.key, as budget.epochs")
        sections.setdefault(section, {})[key] = value
    return sections


def _go(plan: SearchPlan, directory: Path, callbacks: Sequence[Callback], progress: bool, *, new: bool = False) -> Result:
    check(plan)
    watcher = CallingBack(plan.problem, callbacks, directory, _display() if progress else Watcher())
    with suppress(Interrupted):  # the state is saved, and the result says that it is not finished
        go(plan, directory, watcher, new=new)
    if watcher.failure is not None and not isinstance(watcher.failure, StopSearch):
        raise watcher.failure
    return Result(plan, directory)


def _display() -> Watcher:
    from rich.console import Console

    return Display(Console())


def searcher_of(searcher: str | type[Searcher] | Component) -> Component:
    """Name a method that was given by name, class or component. Raises InputError."""
    if isinstance(searcher, Component):
        return searcher
    if isinstance(searcher, str):
        return searcher_component(searcher, {})
    check_subclass(searcher, Searcher, f"searcher = {searcher!r}")
    return searcher_component(searcher, {})


def _training(training: str | Component | Mapping[str, Any]) -> Component:
    if isinstance(training, Component):
        return training
    if isinstance(training, str):
        return training_component(training, {})
    settings = dict(training)
    return training_component(settings.pop("name", "supernet"), settings)
