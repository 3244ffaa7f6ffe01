"""Memory of the judge in searches that measure many networks."""

from __future__ import annotations

import itertools

import pytest

from analysis import records
from orchestrator.config.plan import SearchPlan
from orchestrator.judge import judge as module
from orchestrator.judge.judge import Judge
from searchers import Architecture, Evaluation, Stage
from tests.helpers import tiny

TRAINED_ALONE = {"training": {"name": "from-scratch", "epochs": 1}, "searcher": {"name": "random-search"}}


def measured(count: int) -> Judge:
    """Return a judge that was told of so many networks, each of which was trained alone."""
    plan = SearchPlan.of(tiny(**TRAINED_ALONE))
    space = plan.problem.space
    others = len(plan.problem.objectives) - 1

    def price(architecture: Architecture) -> tuple[float, ...]:
        return (float(space.parameters(architecture)),) * others

    judge = Judge(plan, price, lambda architectures, names: [{} for _ in architectures])
    some = itertools.islice(itertools.product(*map(range, space.sizes)), 0, None, 5)
    evaluations = [Evaluation(a, (50.0 - 3 * sum(a), *price(a))) for a in itertools.islice(some, count)]
    judge.observe(evaluations, kind=records.VALIDATION, stage=0, step=0)
    judge.settle(Stage(0, tuple(tuple(range(size)) for size in space.sizes), 1))
    return judge


def test_the_shortlist_has_a_limit_however_many_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTLIST", 6)
    judge = measured(40)
    assert 6 < len(judge._pool) <= 12
    assert judge.front(), "those that were measured, and are most promising, are among them"


def test_all_that_were_measured_are_on_the_shortlist_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTLIST", 20)
    judge = measured(20)
    assert {judge._key(m.architecture) for m in judge.evidence.measurements} <= set(map(judge._key, judge._pool))


def test_the_belief_is_asked_of_each_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Architecture] = []
    belief = module.Belief.__call__

    def noted(self: module.Belief, architectures: list[Architecture]) -> object:
        asked.extend(architectures)
        return belief(self, architectures)

    monkeypatch.setattr(module.Belief, "__call__", noted)
    monkeypatch.setattr(module, "LISTED", 0)  # so that candidates are bred, generation by generation
    measured(20)
    assert len(asked) == len(set(asked)) > 20
