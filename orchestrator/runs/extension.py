"""Changes of a run that has begun: a larger budget, other settings of retraining, of the front's size and of the workers, and
further objectives, which are measured for the front that there is."""

from __future__ import annotations

import copy
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w

from analysis.files import write_text
from orchestrator.config.experiment import Experiment
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Goal, Problem, goals_of
from orchestrator.config.settings import Budget, Front, Logging, Retraining, Workers, with_changes
from orchestrator.errors import InputError
from orchestrator.registry import keywords, similar
from orchestrator.runs import edits, origin, sweep
from orchestrator.runs.directory import EXPERIMENT, open_run, with_devices
from orchestrator.runs.staging import shown
from orchestrator.search import retraining
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.coordinator import check_change
from searchers import Searcher

SECTIONS = {"budget": Budget, "retrain": Retraining, "front": Front, "workers": Workers, "logging": Logging}
"""Sections of which something can change once a run has begun."""
FIXED = {
    "budget.interval": "a round would have another length than those before it",
    "front.judge": "the method has been told what the judge makes of its measurements, or has not",
    "front.scores": "the judge has weighed others so far",
    "workers.count": "each worker takes a share of every batch, so that another number is another search",
}
"""Keys of these sections that stay as they are, and why."""


def changed(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a run that has begun, with other settings.

    Args:
        experiment: The run's.
        changes: Sections with their new values, as in an experiment file.

    Raises:
        InputError: For a key that cannot change any more, and for a value out of its range.
    """
    found: dict[str, Any] = {}
    objectives = dict(experiment.objectives)
    for section, values in changes.items():
        if section == "objectives":
            objectives = _with_objectives(experiment, values)
            continue
        if section not in SECTIONS or not isinstance(values, Mapping):
            key = section if not isinstance(values, Mapping) or not values else f"{section}.{next(iter(values))}"
            raise InputError(
                f"{key} cannot change in a run that has begun; only budget, retrain, front.members, workers and logging can, "
                "and further objectives be added. Start another run for it with paretoray search"
                f"{similar(section, [*SECTIONS, 'objectives'])}"
            )
        for key in values:
            if reason := FIXED.get(f"{section}.{key}"):
                raise InputError(f"{section}.{key} cannot change in a run that has begun: {reason}; start another run for it")
        cls = SECTIONS[section]
        before = getattr(experiment, section)
        now = with_changes(asdict(before), values) if section == "retrain" else {**asdict(before), **values}
        found[section] = cls(**keywords(cls, now, section))
    return replace(experiment, objectives=objectives, **found).checked()


def _with_objectives(experiment: Experiment, given: Any) -> dict[str, Goal]:
    """Return the objectives of a run with further ones, or with other dear ones; those that were searched for stay as they are.

    Args:
        experiment: The run's.
        given: Names of all objectives, or a mapping from some to their settings, of which the dear ones and new ones count.

    Raises:
        InputError: For a list without an objective that was searched for, and for one of these with other settings.
    """
    before = experiment.objectives
    searched = {name: goal for name, goal in before.items() if not goal.dear}
    if isinstance(given, Mapping):
        settings = {**{name: {} for name in before}, **given}
    else:
        settings = {str(name): {} for name in (given if isinstance(given, list) else [given])}
        if lacking := [name for name in searched if name not in settings]:
            raise InputError(
                f"objectives leaves out {lacking[0]}, which was searched for; name all of {', '.join(searched)}, then those "
                "to add"
            )
    found = {}
    for name, values in settings.items():
        if not isinstance(values, Mapping):
            raise InputError(f"objectives.{name} = {values!r}; write objectives.{name}.KEY=..., or {{}} for the defaults")
        old = before.get(name)
        if name in searched and (dict(values) and Goal.of(name, {**searched[name].to_dict(), **values}) != searched[name]):
            raise InputError(f"objectives.{name} was searched for, and stays as it is; start another run for other settings")
        found[name] = old if old and (name in searched or not values) else Goal.of(name, {**values, "dear": True})
    return goals_of(found)


def how_to_go_on(plan: SearchPlan, directory: Path) -> str:
    """Say what a finished run can go on with."""
    command = f"paretoray resume {shlex.quote(shown(directory))}"
    if plan.searcher_class.extend is Searcher.extend:
        name = plan.experiment.searcher.name
        more = f"{command} retrain.members={plan.retraining.members + 3}"
        return f"{name} plans the whole search in advance: a larger budget needs another run; to retrain more members: {more}"
    return f"it goes on with a larger budget, as in: {command} budget.epochs={2 * plan.budget.epochs:g}"


def apply(directory: Path, changes: Mapping[str, Any], problem: Problem | None = None, *, trust: bool = False) -> SearchPlan:
    """Write other settings into a run's experiment.toml, and into those of a sweep's searches, and return the plan.

    Nothing is written unless all of them can go on with these.

    Args:
        directory: The run directory.
        changes: As for `changed`.
        problem: The problem, where it was made in Python.
        trust: As for `open_run`.

    Raises:
        InputError: For what cannot change, a budget that is spent, and a recipe that does not fit.
        RunError: For a damaged checkpoint.
    """
    if problem is not None and "objectives" in changes:
        raise InputError("changes has objectives, and so has the problem that was given; write them there, with dear = True")
    sources = None if problem is None else problem.sources
    folders = sweep.folders(directory) if sweep.settings_of(directory) else []
    for settings in sweep.settings_of(directory):
        for key in settings:
            section, _, name = key.partition(".")
            if name in changes.get(section, {}):
                raise InputError(f"{key} is what the searches of this sweep differ in; it cannot be set for all of them")
    first = changed(open_run(directory, sources, trust=trust), changes)
    plan = SearchPlan.of(first) if problem is None else SearchPlan(first, problem)
    if "retrain" in changes and plan.retraining.most:
        retraining.check(plan)
    with alone_in(directory, "run.lock"):
        for folder in folders or [directory]:
            own = changed(open_run(folder, sources), changes)
            check_change(replace(plan, experiment=own), folder)
        for folder in [*folders, directory]:
            _write(folder, changes, with_devices(first, folder))
    return plan


def _write(folder: Path, changes: Mapping[str, Any], experiment: Experiment) -> None:
    """Replace experiment.toml with one that has the new values; all others stay as they are written there."""
    path = folder / EXPERIMENT
    old = tomllib.loads(path.read_text())
    given = copy.deepcopy(old)
    checked = {section: SECTIONS[section] for section in changes if section != "objectives"}
    if "objectives" in changes:
        given["objectives"] = experiment.to_dict()["objectives"]
    for section, values in changes.items():
        if section == "objectives":
            continue
        before = given.get(section, {})
        now = with_changes(before, values) if section == "retrain" else {**before, **values}
        whole = asdict(checked[section](**now))  # 20 becomes 20.0 where it is a share
        given[section] = {**now, **{key: whole[key] for key in values}}
        given[section] = {key: value for key, value in given[section].items() if value is not None}
    if "objectives" in changes or "logging" in changes:
        origin.sign(folder, given)  # which was trusted before, and says now what its user has named
    text = tomli_w.dumps(given)
    new = tomllib.loads(text)
    edits.note(folder, old, new)  # whichever a process leaves that dies in between
    write_text(path, text)
    edits.note(folder, new)
