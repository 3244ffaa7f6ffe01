"""Dear objectives of one network, which are measured after the search."""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.config.plan import SearchPlan
from orchestrator.evaluators.base import Failure, Measured, attempt, run_probes
from orchestrator.evaluators.training_free import TrainingFree
from orchestrator.objectives import measured
from orchestrator.objectives.base import Metrics, Probe, TrainingFreeScore
from orchestrator.search.assessor import check_cost


def measure_later(plan: SearchPlan, arch: str, error: float, folder: Path) -> Measured:
    """Return the costs of the dear objectives of a network, and the spreads of timed ones, by column.

    Args:
        plan: The search.
        arch: Notation of the network.
        error: Its error in the search, or what the task has in its place, for objectives that ask for an accuracy.
        folder: Folder that keeps measurements, so that none is made twice.

    Returns:
        The costs, or a `Failure` where one of the objectives could not be measured.
    """
    problem = plan.problem
    architecture = problem.space.parse(arch)
    costs: Metrics = {}
    for goal, objective in zip(problem.later_goals, problem.later, strict=True):
        metrics: Measured = {}
        if isinstance(objective, TrainingFreeScore):
            scores = TrainingFree(problem.space, problem.data, [objective.score], seed=plan.seed, device=plan.workers.device)
            metrics = scores.score(architecture).values
        elif isinstance(objective, Probe):
            what = [goal.name, goal.to_dict(), plan.seed, *measured.identity(problem.space)]
            metrics = _kept(plan, objective, arch, measured.Store(f"objectives.{goal.name}", what, run=folder))
        if isinstance(metrics, Failure):
            return metrics
        known = {**problem.quality(error), **metrics}
        cost = attempt(lambda o=objective, k=known: o.cost(architecture, k))  # type: ignore[misc]
        if isinstance(cost, Failure):
            return cost
        checked = attempt(lambda c=cost, n=goal.name: check_cost(c, n, lambda: arch))  # type: ignore[misc]
        if isinstance(checked, Failure):
            return checked
        costs[objective.column] = float(cost)
        if objective.spread is not None:
            costs[objective.spread] = known[objective.spread]
    return costs


def _kept(plan: SearchPlan, probe: Probe, arch: str, store: measured.Store) -> Measured:
    """Measure a network on the device, or find what is kept of it."""
    own = isinstance(probe, measured.MeasuredObjective)  # keeps its measurements itself
    if not own and (kept := store.read(arch)) is not None:
        return kept
    problem, began = plan.problem, time.monotonic()
    architectures = [problem.space.parse(arch)]
    (metrics,) = run_probes(problem.space, problem.data, [probe], architectures, plan.workers.device, plan.seed)
    if not own and not isinstance(metrics, Failure):
        store.write(arch, metrics, time.monotonic() - began)
    return metrics
