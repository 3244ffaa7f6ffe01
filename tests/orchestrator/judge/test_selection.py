"""Choosing networks where errors are uncertain."""

import numpy as np

from analysis.pareto import non_dominated
from orchestrator.judge.selection import (
    best_of_levels,
    best_of_others,
    choose,
    least_visited,
    levels,
    likely,
    outgrown,
    sizes_of,
)

COSTS = np.array([[1.0], [1.0], [2.0], [2.0], [4.0], [4.0]])
ERRORS = np.array([40.0, 50.0, 30.0, 45.0, 20.0, 41.0])


def test_levels_are_distinct_costs_where_there_are_few_of_them() -> None:
    assert levels(COSTS).tolist() == [0, 0, 1, 1, 2, 2]
    both = levels(np.array([[1.0, 5.0], [1.0, 6.0], [1.0, 5.0]]))
    assert both[0] == both[2] != both[1]


def test_continuous_costs_are_binned_on_a_logarithmic_scale() -> None:
    found = levels(np.geomspace(1, 1000, 500)[:, None])
    assert len(set(found)) == 20
    counts = np.bincount(found)
    assert counts.max() - counts.min() <= 1
    assert len(set(levels(np.linspace(-1, 1, 500)[:, None]))) == 20


def test_levels_take_turns() -> None:
    assert best_of_levels(ERRORS, COSTS, 4) == [4, 2, 0, 5]
    assert sorted(best_of_levels(ERRORS, COSTS, 100)) == list(range(6))


def test_places_that_are_left_go_to_the_best_of_other_levels() -> None:
    assert best_of_others(ERRORS, COSTS, [1], 5) == [2, 4]
    assert best_of_others(ERRORS, COSTS, [0, 2, 4], 5) == best_of_others(ERRORS, COSTS, [1], 0) == []
    costs = np.arange(9.0)[:, None] + 1
    assert best_of_others(np.arange(9.0), costs, [0, 1], 3) == [2, 5, 8]


def test_without_uncertainty_the_front_is_chosen() -> None:
    rng = np.random.default_rng(0)
    errors, costs = rng.uniform(10, 90, 60), rng.uniform(1, 9, (60, 1))
    front = non_dominated(np.column_stack([errors, costs]))
    chosen = choose(np.tile(errors, (3, 1)), costs, 60)
    assert set(chosen) <= set(front) and len(chosen) >= len(front) - 1  # one may add less than a direction sees
    three = choose(np.tile(errors, (3, 1)), costs, 3)
    assert three == chosen[:3]


def test_uncertainty_keeps_members_that_a_lucky_estimate_would_hide() -> None:
    draws = np.tile(ERRORS, (40, 1))
    assert 2 in choose(draws, COSTS, 6)
    # The cheapest may be as good as the dearest: in some draws it hides all others, in most it does not.
    draws[:, 0] = np.linspace(15, 60, 40)
    chosen = choose(draws, COSTS, 6)
    assert {0, 1, 2, 4} <= set(chosen)


def test_networks_that_a_short_training_puts_behind_smaller_ones_are_members_all_the_same() -> None:
    rng = np.random.default_rng(0)
    costs = np.repeat(np.geomspace(1, 1000, 8), 4)[:, None]
    errors = np.tile([40.0, 42.0, 45.0, 60.0], 8) + 0.1 * np.arange(32)
    draws = errors + 0.2 * rng.standard_normal((64, 32))
    assert set(levels(costs)[choose(draws, costs, 8)]) <= {0, 1}, "the cheapest are the best as they were measured"
    tilted = outgrown(draws, sizes_of(costs), np.random.default_rng(1))
    members = choose(tilted, costs, 8)
    assert {0, 7} <= set(levels(costs)[members]) and len(set(levels(costs)[members])) >= 6
    assert all(i % 4 == 0 for i in members), "within a level nothing changes"
    assert (np.diff(tilted[:, ::4] - draws[:, ::4], axis=1) <= 0).all(), "none grows worse with its size"


def test_the_size_of_a_network_is_relative_and_a_constant_cost_says_nothing() -> None:
    costs = np.column_stack([np.geomspace(1e3, 1e6, 5), np.full(5, 3.0), np.linspace(-2, 2, 5)])
    sizes = sizes_of(costs)
    assert np.allclose(sizes[:, 0], sizes[:, 2]) and not sizes[:, 1].any()
    assert np.allclose(sizes.std(axis=0), [1, 0, 1])


def test_those_that_are_taken_are_not_chosen_again() -> None:
    draws = np.tile(ERRORS, (3, 1))
    assert set(choose(draws, COSTS, 6, chosen=[4])) == {0, 2}
    assert choose(draws, COSTS, 6, among=[0, 1, 3]) == [0]
    assert choose(draws, COSTS, 2, chosen=range(6)) == []


def test_what_may_be_on_the_front_is_worth_measuring() -> None:
    rng = np.random.default_rng(1)
    draws = ERRORS + np.array([1.0, 1.0, 1.0, 30.0, 1.0, 1.0]) * rng.standard_normal((50, 6))
    picked = likely(draws, COSTS, 4)
    assert len(picked) == len(set(picked)) == 4 and {0, 2, 3, 4} == set(picked)
    assert set(likely(draws, COSTS, 10, taken=[0, 2])) <= {1, 3, 4, 5}
    assert likely(np.tile(ERRORS, (3, 1)), COSTS, 5, taken=[0, 2, 4]) == []


def test_a_constant_cost_leaves_the_best_alone() -> None:
    draws = np.array([[30.0, 20.0, 40.0], [31.0, 19.0, 41.0]])
    assert choose(draws, np.ones((3, 1)), 3) == [1]
    assert best_of_levels(draws[0], np.ones((3, 1)), 2) == [1, 0]


def test_levels_that_were_visited_least_come_first() -> None:
    level = levels(COSTS)
    assert least_visited(ERRORS, {0: 2, 1: 1}, level, 4) == [4, 2, 5, 0]
    assert sorted(least_visited(ERRORS, {}, level, 100)) == list(range(6))
