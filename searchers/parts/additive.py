"""Costs that are sums over a network's operations, and the best networks under any budget of such a cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from searchers.parts.ties import ROUNDING, levels

Additive = tuple[float, list[list[float]]]
"""A cost that is a sum: what is fixed, and what each option of each choice adds."""

Taken = tuple[tuple[int, int], ...]
"""Choices with the option that each takes."""


class Item(NamedTuple):
    """One of the alternatives of a group: its score, its cost, and what it stands for."""

    score: float
    cost: float
    taken: Taken


def front(groups: Sequence[Sequence[Item]], budget: float) -> list[tuple[float, float, Taken]]:
    """One item of every group, such that no other combination has a higher summed score at no higher cost: all of those
    combinations within the budget, the cheapest first, each with its score and cost.

    The multiple-choice knapsack, solved exactly for all budgets at once: group by group, whatever is beaten in both is dropped,
    as it could not be part of a solution. Scores and costs are rounded to about twelve digits of the largest first: their sums
    are exact, so that no combination is better by the order of a sum. The budget may be exceeded by as much as rounding.
    """
    every = [item for group in groups for item in group]
    ends = np.cumsum([len(group) for group in groups])[:-1]
    by_score, by_cost = levels(np.array([i.score for i in every])), levels(np.array([i.cost for i in every]))
    within = budget + ROUNDING * np.abs(by_cost).max(initial=0.0)
    scores, costs = np.zeros(1), np.zeros(1)
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for s, c in zip(np.split(by_score, ends), np.split(by_cost, ends), strict=True):
        all_s, all_c = (scores[:, None] + s).ravel(), (costs[:, None] + c).ravel()
        order = np.lexsort([-all_s, all_c])
        order = order[all_c[order] <= within]
        best = np.maximum.accumulate(all_s[order]) if len(order) else all_s[order]
        better = np.concatenate([[True], best[1:] > best[:-1]]) if len(order) else np.zeros(0, dtype=bool)
        kept = order[better]
        scores, costs = all_s[kept], all_c[kept]
        history.append(np.divmod(kept, len(s)))
    found = []
    for state in range(len(scores)):
        taken: list[tuple[int, int]] = []
        at = state
        for (before, item), group in zip(reversed(history), reversed(groups), strict=True):
            taken += group[int(item[at])].taken
            at = int(before[at])
        found.append((float(scores[state]), float(costs[state]), tuple(taken)))
    return found
