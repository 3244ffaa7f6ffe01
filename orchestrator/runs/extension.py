"""Changes of a run that has begun: a larger budget, other settings of retraining, of the front's size and of the workers."""

from __future__ import annotations

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
from orchestrator.config.problem import Problem
from orchestrator.config.settings import Budget, Front, Retraining, Workers, with_changes
from orchestrator.errors import InputError
from orchestrator.registry import keywords
from orchestrator.runs import sweep
from orchestrator.runs.directory import EXPERIMENT, open_run
from orchestrator.search import retraining
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.coordinator import check_change
from searchers import Searcher

SECTIONS = {"budget": Budget, "retrain": Retraining, "front": Front, "workers": Workers}
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
    for section, values in changes.items():
        if section not in SECTIONS or not isinstance(values, Mapping):
            key = section if not isinstance(values, Mapping) or not values else f"{section}.{next(iter(values))}"
            raise InputError(
                f"{key} cannot change in a run that has begun; only budget, retrain, front.members and workers can. Start "
                "another run for it with paretoray search"
            )
        for key in values:
            if reason := FIXED.get(f"{section}.{key}"):
                raise InputError(f"{section}.{key} cannot change in a run that has begun: {reason}; start another run for it")
        cls = SECTIONS[section]
        before = getattr(experiment, section)
        now = with_changes(asdict(before), values) if section == "retrain" else {**asdict(before), **values}
        found[section] = cls(**keywords(cls, now, section))
    return replace(experiment, **found).checked()


def how_to_go_on(plan: SearchPlan, directory: Path) -> str:
    """Say what a finished run can go on with."""
    command = f"paretoray resume {shlex.quote(str(directory))}"
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
    sources = None if problem is None else problem.sources
    folders = sweep.folders(directory) if sweep.settings_of(directory) else []
    for settings in sweep.settings_of(directory):
        for key in settings:
            section, _, name = key.partition(".")
            if name in changes.get(section, {}):
                raise InputError(f"{key} is what the searches of this sweep differ in; it cannot be set for all of them")
    first = changed(open_run(directory, sources, trust=trust), changes)
    plan = SearchPlan.of(first) if problem is None else SearchPlan(first, problem)
    if "retrain" in changes and plan.retraining.members:
        retraining.check(plan)
    with alone_in(directory, "run.lock"):
        for folder in folders or [directory]:
            own = changed(open_run(folder, sources), changes)
            check_change(replace(plan, experiment=own), folder)
        for folder in [*folders, directory]:
            _write(folder / EXPERIMENT, changes)
    return plan


def _write(path: Path, changes: Mapping[str, Any]) -> None:
    """Replace the file with one that has the new values; all others stay as they are written there."""
    given = tomllib.loads(path.read_text())
    checked = {section: SECTIONS[section] for section in changes}
    for section, values in changes.items():
        before = given.get(section, {})
        now = with_changes(before, values) if section == "retrain" else {**before, **values}
        whole = asdict(checked[section](**now))  # 20 becomes 20.0 where it is a share
        given[section] = {**now, **{key: whole[key] for key in values}}
        given[section] = {key: value for key, value in given[section].items() if value is not None}
    write_text(path, tomli_w.dumps(given))
