"""Where targets lie, and what networks are worth under them."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from searchers import Evaluation
from searchers.parts.targets import (
    PENALTY,
    TARGETS,
    TradeOffs,
    check_targets,
    cost_range,
    normal_scores,
    read_targets,
    spread_targets,
)


@pytest.mark.parametrize(
    ("targets", "costs", "single", "read"),
    [
        (None, 1, False, TARGETS),
        (None, 1, True, 1),
        (None, 0, False, 1),
        (4, 2, False, 4),
        ([5.0], 1, False, [[5.0]]),
        ([5.0, 6.0], 1, False, [[5.0], [6.0]]),
        ([5.0, 6.0], 2, False, [[5.0, 6.0]]),
        ([[5.0, 6.0], [7.0, 8.0]], 2, False, [[5.0, 6.0], [7.0, 8.0]]),
    ],
)
def test_forms_of_the_setting(targets: Any, costs: int, single: bool, read: Any) -> None:
    assert read_targets(targets, costs, single=single) == read


@pytest.mark.parametrize(
    ("targets", "costs", "says"),
    [
        (0, 1, "at least 1"),
        (3, 0, "no objective after the error"),
        ([], 1, "one cost each"),
        ([1.0, 2.0, 3.0], 2, "need one cost each"),
        ([[1.0, 2.0], [3.0]], 2, "each needs a cost"),
        ([1.0, -2.0], 1, "positive"),
    ],
)
def test_impossible_targets_are_refused(targets: Any, costs: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_targets(targets, costs)


def test_the_range_of_a_sum_is_that_of_all_networks() -> None:
    fixed, rows = 2.0, [[1.0, -4.0], [0.0, 3.0, 5.0]]
    every = [fixed + sum(choice) for choice in itertools.product(*rows)]
    assert cost_range((fixed, rows)) == (min(every), max(every))


def test_the_range_of_cells_keeps_two_edges_of_each_node() -> None:
    rows = [[0.5, 1.0, 7.0], [0.5, 2.0, 4.0], [0.5, 3.0, 3.5], [1.0, 9.0, 9.0]]
    options = [(1, 2), (1, 2), (1, 2)]
    every = []
    for kept in itertools.combinations(range(3), 2):
        for picked in itertools.product(*(options[c] for c in kept)):
            edges = sum(rows[c][picked[kept.index(c)]] if c in kept else 0.5 for c in range(3))
            every += [edges + alone for alone in rows[3]]
    assert cost_range((0.0, rows), [(0, 1, 2)], [0, 0, 0, None]) == (min(every), max(every))


def test_targets_are_spread_over_the_logarithm_of_a_cost() -> None:
    assert spread_targets([(1.0, 16.0)], 5) == [[pytest.approx(t)] for t in (1.0, 2.0, 4.0, 8.0, 16.0)]
    assert spread_targets([(1.0, 16.0)], 1) == [[16.0]]
    assert spread_targets([(-1.0, 3.0)], 3) == [[-1.0], [1.0], [3.0]]  # no logarithm there


def test_several_costs_have_a_grid_of_targets_and_the_rest_on_its_diagonal() -> None:
    ranges = [(1.0, 4.0), (9.0, 36.0)]
    assert np.allclose(spread_targets(ranges, 9), [[a, b] for a in (1.0, 2.0, 4.0) for b in (9.0, 18.0, 36.0)])
    assert np.allclose(spread_targets(ranges, 5), [[1.0, 9.0], [1.0, 36.0], [4.0, 9.0], [4.0, 36.0], [2.0, 18.0]])


def test_a_constant_cost_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="cost 2 after the error is 5 for all architectures"):
        assert [row[1] for row in spread_targets([(1.0, 4.0), (5.0, 5.0)], 4)] == [5.0, 5.0]


def test_targets_outside_what_the_space_costs_are_refused() -> None:
    check_targets([[1.0], [4.0]], [(1.0, 4.0)])
    check_targets([[99.0]], [None])
    for target in (0.9, 4.1):
        with pytest.raises(ValueError, match=rf"{target} lies outside what networks of this space cost, which is 1 to 4"):
            check_targets([[2.0], [target]], [(1.0, 4.0)])


def test_normal_scores_are_those_of_ranks() -> None:
    scores = normal_scores([30.0, 10.0, 20.0, 20.0])
    assert scores[1] == -scores[0] > 0 and scores[2] == scores[3] == pytest.approx(0.0, abs=1e-12)
    assert np.array_equal(normal_scores([90.0, 10.0, 11.0]), normal_scores([30.0, 10.0, 20.0]))
    assert np.array_equal(normal_scores([7.0, 7.0]), [0.0, 0.0])


def test_worth_is_the_score_less_what_costs_exceed_the_target_by() -> None:
    trade_offs = TradeOffs([[2.0, 9.0], [8.0, 3.0]], [None, None])
    trade_offs.history = [Evaluation((0,), (10.0, 2.0, 3.0)), Evaluation((1,), (20.0, 8.0, 9.0), violation=0.5)]
    trade_offs.begin()
    z = float(normal_scores([10.0, 20.0])[0])
    # Two costs each, whose logarithms lie one deviation to either side of their mean.
    assert torch.allclose(
        trade_offs.worth(), torch.tensor([[z, z], [-z - 2 * PENALTY - 0.5, -z - 2 * PENALTY - 0.5]], dtype=torch.float64)
    )


def test_where_everything_is_equal_nothing_is_worth_more() -> None:
    trade_offs = TradeOffs(3, [None])
    trade_offs.history = [Evaluation((i,), (10.0, 2.0)) for i in range(4)]
    with pytest.warns(UserWarning, match="cost 1 after the error is 2"):
        trade_offs.begin()
    assert trade_offs.targets == [[2.0]] * 3 and not trade_offs.worth().any()
