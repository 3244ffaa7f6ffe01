"""Candidates of the judge, and its memory in searches that measure many networks."""

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
    known = {m.architecture for m in judge.evidence.measurements}
    whole = {a for a in known if judge.plan.problem.space.pruned(a, constants=True) == a}
    assert whole and set(map(judge._key, whole)) <= set(map(judge._key, judge._pool))


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


def test_operations_that_take_no_part_make_no_candidate() -> None:
    plan = SearchPlan.of(tiny(space={"name": "nas-bench-201", "channels": 4, "cells": 1}, **TRAINED_ALONE))
    space = plan.problem.space

    def price(architecture: Architecture) -> tuple[float, ...]:
        return (float(space.parameters(architecture)),) * (len(plan.problem.objectives) - 1)

    judge = Judge(plan, price, lambda architectures, names: [{} for _ in architectures])
    none, skip, conv = (space.choices[0].options.index(name) for name in ("none", "skip_connect", "nor_conv_3x3"))
    dead = [
        (none, a, b, skip, none, none) for a in (none, conv) for b in (none, conv)
    ]  # behind a node without input, or before none
    dead += [(conv, none, none, skip, none, none), (none, conv, none, skip, none, none)]
    whole = [(conv, conv, b, skip, conv, none) for b in (none, skip)] + [(conv, none, none, skip, conv, none)]
    evaluations = [Evaluation(a, (30.0 + i, *price(a))) for i, a in enumerate(dict.fromkeys([*dead, *whole]))]
    judge.observe(evaluations, kind=records.VALIDATION, stage=0, step=0)
    judge.settle(Stage(0, tuple(tuple(range(size)) for size in space.sizes), 1))
    assert judge._pool and all(space.pruned(a, constants=True) == a for a in judge._pool)
    assert (none, none, none, skip, none, none) in judge._pool, "the network without them is"
    assert {v.architecture for v in judge.front()} <= {(none, none, none, skip, none, none), *whole}


@pytest.mark.parametrize(("epochs", "unfinished"), [(2, True), (3, False)])
def test_errors_after_the_whole_training_are_taken_as_they_are(epochs: int, unfinished: bool) -> None:
    training = {"name": "from-scratch", "epochs": epochs}
    plan = SearchPlan.of(tiny(**TRAINED_ALONE | {"training": training}, retrain={"epochs": 3}))
    space, others = plan.problem.space, len(plan.problem.objectives) - 1

    def price(architecture: Architecture) -> tuple[float, ...]:
        return (float(space.parameters(architecture)),) * others

    judge = Judge(plan, price, lambda architectures, names: [{} for _ in architectures])
    some = itertools.islice(itertools.product(*map(range, space.sizes)), 0, 400, 10)
    judge.observe([Evaluation(a, (50.0 + sum(a), *price(a))) for a in some], kind=records.VALIDATION, stage=0, step=0)
    judge.settle(Stage(0, tuple(tuple(range(size)) for size in space.sizes), 1))
    draws, dearest = judge._draws(), int(judge._costs[:, 0].argmax())
    assert draws is not None and judge._belief is not None
    mean, deviation = judge._belief([judge._pool[dearest]])
    # Half a deviation is four standard errors of the mean of 64 draws.
    assert (draws[:, dearest].mean() < mean[0] - deviation[0] / 2) == unfinished
