"""NSGA-II's order of evaluations."""

import pytest

from searchers import Evaluation
from searchers.parts.ranking import best, ranked

pytestmark = pytest.mark.numeric

FRONT = [(0.0, 10.0), (1.0, 6.0), (2.0, 5.0), (9.0, 1.0), (10.0, 0.0)]
SECOND = [(3.0, 11.0), (11.0, 3.0)]


def evaluations(costs: list[tuple[float, float]], violations: list[float] | None = None) -> list[Evaluation]:
    broken = violations or [0.0] * len(costs)
    return [Evaluation((i,), c, v) for i, (c, v) in enumerate(zip(costs, broken, strict=True))]


def test_by_front_then_by_crowding_the_extremes_first() -> None:
    order = [e.costs for e in best(evaluations(SECOND + FRONT), 7)]
    assert set(order[:2]) == {FRONT[0], FRONT[-1]}
    # By hand, as sums over both objectives of the distance between neighbours over the extent: 9 -> 0.8 + 0.5, 2 -> 0.8 + 0.5,
    # 1 -> 0.2 + 0.5; equal ones keep their order.
    assert order[2:5] == [FRONT[2], FRONT[3], FRONT[1]]
    assert order[5:] == SECOND
    ranks = [key[0] for key in ranked(evaluations(SECOND + FRONT))]
    assert ranks == [1, 1, 0, 0, 0, 0, 0]


def test_who_breaks_a_constraint_comes_last_by_how_much() -> None:
    told = evaluations([(0.0, 0.0), (5.0, 5.0), (0.0, 1.0), (6.0, 6.0)], [0.3, 0.0, 0.1, 0.0])
    assert [e.architecture for e in best(told, 4)] == [(1,), (3,), (2,), (0,)]
