"""Properties of fronts and indicators for any costs: ties, constants, twelve orders of magnitude, any order."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.compare import pairs, summary
from analysis.pareto import distinct, hypervolume, non_dominated, ranked, spread_out, violations

pytestmark = pytest.mark.numeric

often = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def points(draw: st.DrawFn) -> np.ndarray:
    """(points, objectives), above 0."""
    count, objectives = draw(st.integers(1, 14)), draw(st.integers(2, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    kind = draw(st.sampled_from(["wide", "tied", "plain"]))
    found = {
        "wide": 10.0 ** rng.uniform(-6, 6, (count, objectives)),
        "tied": rng.integers(1, 4, (count, objectives)).astype(float),
        "plain": 1 + rng.random((count, objectives)),
    }[kind]
    if draw(st.booleans()):
        found[:, 0] = found[0, 0]
    return found


@often
@given(points(), st.integers(0, 10**6))
def test_a_front_is_the_same_in_any_order_and_unit(costs: np.ndarray, seed: int) -> None:
    front = non_dominated(costs)
    assert front and sorted(i for f in ranked(costs) for i in f) == list(range(len(costs)))
    order = np.random.default_rng(seed).permutation(len(costs))
    assert sorted(int(order[i]) for i in non_dominated(costs[order])) == front
    assert non_dominated(costs * 2.0 ** np.arange(costs.shape[1])) == front
    reference = 2 * costs.max(axis=0)
    whole = hypervolume(costs, reference.tolist())
    assert 0 < whole <= 1
    for other in (hypervolume(costs[front], reference.tolist()), hypervolume(costs[order], reference.tolist())):
        np.testing.assert_allclose(other, whole, rtol=1e-9)  # the same boxes, added in another order


@often
@given(points(), st.integers(1, 6), st.integers(0, 10**6))
def test_who_is_spread_out_does_not_hang_on_the_last_bits(costs: np.ndarray, count: int, seed: int) -> None:
    chosen = spread_out(costs, count)
    assert len(chosen) == min(count, len(costs)) == len(set(chosen))
    rounding = 1 + 1e-15 * np.random.default_rng(seed).choice([-1.0, 1.0], costs.shape)
    assert spread_out(costs * rounding, count) == chosen


def test_equal_distances_take_the_first() -> None:
    """Two points in the middle, mirrored, so that both are as far from the ends but for rounding."""
    costs = np.array([[0.0, 1.0], [0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2], [1.0, 0.0]])
    assert spread_out(costs, 3) == [0, 1, 3]
    assert spread_out(costs[[0, 2, 1, 3]], 3) == [0, 1, 3]


def test_a_limit_that_is_met_but_for_rounding_is_kept() -> None:
    np.testing.assert_array_equal(violations([[0.1 + 0.2, 5.0], [0.33, 5.0]], [0.3, None]) > 0, [False, True])


def test_equal_but_for_rounding_is_one_point_the_first() -> None:
    assert distinct([[0.3, 1e9], [0.5, 2.0], [0.1 + 0.2, 1e9], [0.3, 1.0001e9]]) == [0, 1, 3]
    assert distinct(np.empty((0, 2))) == []
    assert distinct([[0.0, 1.0], [0.0, 1.0]]) == [0]


def test_runs_that_found_the_same_are_a_tie_and_have_no_interval() -> None:
    found = [0.9 + 1e-16 * i for i in range(-4, 4)]
    table = pd.DataFrame(
        [{"searcher": s, "seed": i, "budget": 9, "hypervolume": v, "igd_plus": 0.0, "found": 1.0}
         for s, own in (("a", found), ("b", found[::-1])) for i, v in enumerate(own)]
    )  # fmt: skip
    assert table["hypervolume"].nunique() > 1
    (pair,) = pairs(table, 9).to_dict("records")
    assert pair["wins"] == 0.5 and pair["p"] == 1.0
    np.testing.assert_allclose(summary(table)[["low", "high"]], 0.9)
