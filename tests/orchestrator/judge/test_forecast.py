"""Forecasts of test errors after retraining: what they say, and when nothing is said."""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from analysis import records
from orchestrator.config.plan import SearchPlan
from orchestrator.judge import forecast as module
from orchestrator.judge.forecast import FARTHEST, forecast
from orchestrator.judge.judge import Judge, Verdict
from searchers import Architecture, Evaluation, Stage
from tests.helpers import tiny


def exactly(error: float) -> float:
    """Say that the choice of test examples makes no difference."""
    return 0.0


def test_intervals_contain_as_many_errors_as_they_say() -> None:
    rng = np.random.default_rng(0)
    expected, deviation, longer, images = 10.0, 1.0, 6.0, 400

    def chance(error: float) -> float:
        return math.sqrt(error * (100 - error) / images)

    found = forecast(expected, deviation, longer, 100.0, chance)
    assert found is not None
    starts = np.maximum(rng.normal(expected, deviation, 20_000), 0.1)
    true = starts * longer ** -rng.normal(module.EXPONENT, module.SPREAD, len(starts))
    measured = 100 * rng.binomial(images, np.minimum(true / 100, 1)) / images
    within = np.mean((measured >= found.low) & (measured <= found.high))
    assert within == pytest.approx(records.CONFIDENCE, abs=0.03)  # a share of few images is not log-normal
    assert np.median(true) == pytest.approx(found.value, rel=0.03)


def test_the_more_is_to_come_the_less_is_known_of_it() -> None:
    near, far = (forecast(8.0, 0.5, longer, 100.0, exactly) for longer in (1.5, 20.0))
    assert near is not None and far is not None
    assert far.value < near.value < 8 and far.high / far.low > near.high / near.low > 1
    assert forecast(90.0, 30.0, 1.1, 100.0, exactly).high == 100.0  # type: ignore[union-attr]


@pytest.mark.parametrize(("error", "longer"), [(8.0, 1.0), (8.0, 0.5), (8.0, FARTHEST + 1), (0.0, 4.0), (-3.0, 4.0)])
def test_nothing_is_said_where_nothing_can_be(error: float, longer: float) -> None:
    assert forecast(error, 1.0, longer, 100.0, exactly) is None


def members(kind: str, **sections: Any) -> tuple[SearchPlan, list[Verdict]]:
    """Return a front by errors that were measured in one way."""
    plan = SearchPlan.of(tiny(**sections))
    space, others = plan.problem.space, len(plan.problem.objectives) - 1

    def price(architecture: Architecture) -> tuple[float, ...]:
        return (float(space.parameters(architecture)),) * others

    judge = Judge(plan, price, lambda architectures, names: [{} for _ in architectures])
    some = itertools.islice(itertools.product(*map(range, space.sizes)), 0, 400, 10)
    judge.observe([Evaluation(a, (50.0 + sum(a), *price(a))) for a in some], kind=kind, stage=0, step=0)
    judge.settle(Stage(0, tuple(tuple(range(size)) for size in space.sizes), 1))
    front = judge.front()
    assert front
    return plan, front


def test_members_that_were_trained_alone_have_a_forecast_of_what_retraining_makes_of_them() -> None:
    alone = {"training": {"name": "from-scratch", "epochs": 2}, "searcher": {"name": "random-search"}}
    plan, front = members(records.VALIDATION, **alone, retrain={"epochs": 6})
    longer = 3 * (len(plan.problem.data.train) + len(plan.problem.data.valid)) / len(plan.problem.data.train)
    images = len(plan.problem.data.test)
    for member in front:
        found = forecast(
            member.costs[0], member.deviation, longer, 100.0, lambda error: math.sqrt(error * (100 - error) / images)
        )
        assert found is not None and member.forecast is not None
        assert astuple(member.forecast) == pytest.approx(astuple(found), rel=0.01)
    _, front = members(records.VALIDATION, **alone, retrain={"epochs": 1000})
    assert all(member.forecast is None for member in front), "that is too far away"


@pytest.mark.parametrize(("kind", "said"), [(records.VALIDATION, False), (records.LANDMARK, True)])
def test_errors_of_shared_weights_forecast_nothing_and_those_of_landmarks_do(kind: str, said: bool) -> None:
    plan, front = members(kind, budget={"epochs": 2000, "landmarks": 0.3, "finalists": 0}, retrain={"epochs": 100})
    assert plan.shares_weights and plan.alone.sources
    assert all((member.forecast is not None) == said for member in front)
