"""Sums in any order are equal once they are level, and what is apart stays apart."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from searchers.parts.additive import Item, front
from searchers.parts.categorical import Categorical
from searchers.parts.ties import coarse, extent, level, levels

pytestmark = pytest.mark.numeric

often = settings(deadline=None, derandomize=True, max_examples=60)


@often
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_sums_of_levels_do_not_hang_on_their_order(values: list[float], random: object) -> None:
    levelled = level(torch.tensor(values, dtype=torch.float64)).tolist()
    shuffled = list(levelled)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sum(levelled) == sum(shuffled)
    np.testing.assert_allclose(levelled, values, atol=1e-12)


@often
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_so_do_those_of_any_size(values: list[float], random: object) -> None:
    levelled = levels(np.array(values)).tolist()
    shuffled = list(levelled)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sum(levelled) == sum(shuffled)
    np.testing.assert_allclose(levelled, values, atol=1e-12 * np.abs(values).max())


def test_what_float32_cannot_tell_apart_is_equal_and_what_it_can_is_not() -> None:
    values = np.array([0.3, 0.3 * (1 + 1e-7), 0.3 * (1 + 1e-3), 1e-9, 1.001e-9, 0.0])
    one, close, apart, small, larger, nothing = coarse(values)
    assert one == close < apart and small < larger and nothing == 0


def test_costs_that_differ_by_rounding_have_no_extent() -> None:
    costs = np.array([[0.1 + 0.2, 5.0, 0.0], [0.3, 7.0, 0.0]])
    np.testing.assert_array_equal(extent(costs), [1.0, 2.0, 1.0])


def test_the_first_of_equal_options_is_taken_however_their_probabilities_were_rounded() -> None:
    for rounding in itertools.product((0.0, 1e-15), repeat=3):
        policy = Categorical((3,))
        with torch.no_grad():
            policy.logits.copy_(torch.tensor([rounding], dtype=torch.float64))
        assert policy.mode() == (0,)
        policy.keep([2])
        assert policy.options() == ((0, 1),)


@often
@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_a_budget_that_is_met_but_for_rounding_is_met(seed: int, unit: float) -> None:
    """Five choices, each at a fifth of the budget, summed as it comes."""
    rng = np.random.default_rng(seed)
    groups = [[Item(float(rng.random()), unit * c, ((g, o),)) for o, c in enumerate((0.1, 0.2, 0.3))] for g in range(5)]
    found = front(groups, unit * 1.0)
    assert found and max(cost for _, cost, _ in found) <= unit * (1 + 1e-9)
    exactly = {t for t in itertools.product(range(3), repeat=5) if sum(t) == 5}  # 0.1 each, and five times 0.1
    best = max(sum(groups[g][o].score for g, o in enumerate(t)) for t in exactly)
    assert found[-1][0] >= best - 1e-9


def test_of_equal_networks_the_first_is_on_the_knapsack_front() -> None:
    third = 1 / 3
    groups = [[Item(0.1, third, ((g, 0),)), Item(0.1, third * (1 + 1e-16), ((g, 1),))] for g in range(4)]
    ((_, _, taken),) = front(groups, 10.0)
    assert sorted(taken) == [(g, 0) for g in range(4)]
