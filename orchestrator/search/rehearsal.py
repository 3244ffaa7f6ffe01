"""Rehearsal of a round with plug-ins, so that most of what is wrong with them shows before a search starts."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch

from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError, plugin_packages
from orchestrator.objectives.base import Probe
from orchestrator.search.assessor import check_cost
from orchestrator.search.rounds import mixtures_of, proposals_of
from orchestrator.search.trying import try_network
from searchers import Evaluation, GradientSearcher, Searcher, Stage


def rehearse(plan: SearchPlan) -> None:
    """Use a searcher and objectives from outside once, with made-up costs, and a user's network. Raises InputError.

    A fault that only a later round shows is a RunError then. Objectives that run networks are left to the workers.
    """
    try:
        if plugin_packages([plan.searcher_class]):
            _rehearse_searcher(plan)
        try_network(plan)
        network = plan.problem.space.largest()
        for goal, objective in zip(plan.problem.goals, plan.problem.objectives, strict=True):
            if plugin_packages([objective.code]) and not isinstance(objective, Probe):
                metrics = plan.problem.quality(plan.problem.task.guessing)
                check_cost(objective.cost(network, metrics), goal.name, lambda: plan.problem.space.format(network))
    except RunError as error:
        raise InputError(str(error)) from error


def _rehearse_searcher(plan: SearchPlan) -> None:
    searcher, name = plan.build_searcher(), plan.experiment.searcher.name
    before = _class_state(type(searcher))
    if not isinstance(searcher.stage, Stage):
        raise InputError(f"{name}.stage is {searcher.stage!r}; it must be a Stage")
    if isinstance(searcher, GradientSearcher):
        searcher.relax()
    mixtures_of(searcher, 1 if isinstance(searcher, GradientSearcher) else plan.budget.interval)
    proposals = proposals_of(searcher, min(8, plan.schedule.portion))
    costs = len(plan.problem.objectives)
    if proposals:
        searcher.tell([Evaluation(a, tuple(50.0 + i + k for k in range(costs))) for i, a in enumerate(proposals)])
    after = _class_state(type(searcher))
    if changed := [key for key, value in before.items() if after[key] != value]:
        raise InputError(
            f"{name}.{changed[0]} belongs to the class and changes, so that searches and seeds share it; make it in __init__"
        )
    _check_state(plan, searcher)


def _class_state(cls: type[Searcher]) -> dict[str, Any]:
    """Copy the containers that a class and its bases from outside hold."""
    bases = [base for base in reversed(cls.__mro__) if plugin_packages([base])]
    held = {key: value for base in bases for key, value in vars(base).items() if isinstance(value, (list, dict, set))}
    return {key: copy.copy(value) for key, value in held.items() if not key.startswith("__")}


def _check_state(plan: SearchPlan, searcher: Searcher) -> None:
    """Raise InputError unless a state goes into a checkpoint and out again."""
    state, file = searcher.state_dict(), io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        restored = torch.load(file, weights_only=True)
    except Exception as error:  # pickle, attribute, type and runtime errors, depending on what is in it
        raise InputError(
            f"{plan.experiment.searcher.name}.state_dict returns what no checkpoint can hold; return only numbers, strings, "
            "lists, dicts and tensors"
        ) from error
    plan.build_searcher().load_state_dict(restored)
