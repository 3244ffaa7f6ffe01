import itertools

import numpy as np
import pytest

from analysis.curves import hypervolume_curve
from analysis.pareto import hypervolume, non_dominated, ranked, relative_hypervolume, spread_out

pytestmark = pytest.mark.numeric


def dominates(u: np.ndarray, v: np.ndarray) -> bool:
    return bool((u <= v).all() and (u < v).any())


@pytest.mark.parametrize("objectives", [2, 3])
def test_sorting_equals_brute_force(objectives: int) -> None:
    costs = np.random.default_rng(objectives).integers(0, 6, (60, objectives)).astype(float)
    expected = [i for i in range(60) if not any(dominates(costs[j], costs[i]) for j in range(60))]
    assert non_dominated(costs) == expected
    fronts = ranked(costs)
    assert sorted(i for front in fronts for i in front) == list(range(60))
    assert fronts[0] == expected
    for earlier, later in itertools.pairwise(fronts):
        assert all(any(dominates(costs[i], costs[j]) for i in earlier) for j in later)


def test_hypervolume_of_two_rectangles() -> None:
    assert hypervolume([[1.0, 4.0], [3.0, 2.0]], [5.0, 8.0]) == pytest.approx((4 * 4 + 2 * 2) / 40)


def test_hypervolume_by_monte_carlo_in_three_dimensions() -> None:
    rng = np.random.default_rng(0)
    costs = rng.random((20, 3)) * 2
    points = rng.random((200_000, 3)) * 2
    inside = np.zeros(len(points), dtype=bool)
    for c in costs:
        inside |= (points >= c).all(axis=1)
    assert hypervolume(costs, [2, 2, 2]) == pytest.approx(inside.mean(), abs=0.005)


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume([[6.0, 0.0], [0.0, 8.0]], [5.0, 8.0]) == 0
    assert hypervolume(np.empty((0, 2)), [1, 1]) == 0


@pytest.mark.parametrize("bad", [[[np.nan, 1.0]], [[np.inf, 1.0]], [1.0, 2.0]])
def test_bad_costs_are_refused(bad: list) -> None:
    with pytest.raises(ValueError, match="costs must"):
        non_dominated(bad)


def test_curve_equals_recomputing_every_prefix() -> None:
    costs = np.random.default_rng(1).random((40, 2))
    expected = [hypervolume(costs[: i + 1], [1, 1]) for i in range(40)]
    assert hypervolume_curve(costs, [1, 1]) == pytest.approx(expected)
    grouped = hypervolume_curve(costs, [1, 1], np.arange(40) // 8)
    assert grouped == pytest.approx([expected[8 * (i // 8) + 7] for i in range(40)])


def test_spread_out_keeps_the_extremes_and_distances() -> None:
    costs = np.array([[0.0, 10.0], [0.1, 9.9], [5.0, 5.0], [5.1, 4.9], [10.0, 0.0]])
    assert spread_out(costs, 3) == [0, 2, 4]
    assert spread_out(costs, 99) == [0, 1, 2, 3, 4]
    assert len(spread_out(costs, 1)) == 1


def test_relative_hypervolume_does_not_depend_on_units_and_is_1_for_the_whole_front() -> None:
    front = np.array([[0.0, 10.0], [1.0, 4.0], [3.0, 0.0]])
    assert relative_hypervolume(front, front) == pytest.approx(1.0)
    assert relative_hypervolume([], front) == 0.0
    # By hand, with the reference at 1.1: the middle point alone, at (1/3, 0.4).
    whole = (1.1 * 0.1) + (1.1 - 1 / 3) * (1.1 - 0.4 - 0.1) + 0.1 * (1.1 - 0.7)
    assert relative_hypervolume(front[1:2], front) == pytest.approx((1.1 - 1 / 3) * 0.7 / whole)
    scaled = front * [1e6, 1e-3] + [5, 7]
    assert relative_hypervolume(scaled[1:2], scaled) == pytest.approx(relative_hypervolume(front[1:2], front))
    with pytest.raises(ValueError, match="no trade-off"):
        relative_hypervolume(front, front[:, [0, 0]] * [1, 0])
