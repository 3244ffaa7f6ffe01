"""The multiple-choice knapsack against all combinations."""

import itertools
import math

import numpy as np
import pytest

from searchers.parts.additive import Item, front

pytestmark = pytest.mark.numeric


def brute(groups: list[list[Item]], budget: float) -> list[tuple[float, float]]:
    """(score, cost) of the combinations within the budget that no other one beats, the cheapest first."""
    every = [(sum(i.score for i in c), sum(i.cost for i in c)) for c in itertools.product(*groups)]
    within = {(s, c) for s, c in every if c <= budget}
    kept = {(s, c) for s, c in within if not any((t >= s and d < c) or (t > s and d <= c) for t, d in within)}
    return sorted(kept, key=lambda pair: pair[1])


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_the_whole_front_with_ties_and_under_budgets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [
        # Small whole numbers, so that many combinations are equal in score, in cost, or in both.
        [Item(float(rng.integers(4)), float(rng.integers(4) - seed % 2 * 2), ((g, o),)) for o in range(rng.integers(1, 5))]
        for g in range(5)
    ]
    for budget in (math.inf, 7.0, 3.0, -1.0):
        found = front(groups, budget)
        assert [(s, c) for s, c, _ in found] == brute(groups, budget)
        for score, cost, taken in found:
            option = dict(taken)
            items = [next(i for i in group if i.taken == ((g, option[g]),)) for g, group in enumerate(groups)]
            assert (sum(i.score for i in items), sum(i.cost for i in items)) == (score, cost)


def test_a_budget_below_the_cheapest_leaves_nothing() -> None:
    groups = [[Item(1.0, 2.0, ((0, 0),)), Item(2.0, 3.0, ((0, 1),))], [Item(1.0, 1.0, ((1, 0),))]]
    assert front(groups, 2.5) == []
    assert [cost for _, cost, _ in front(groups, 3.0)] == [3.0]
