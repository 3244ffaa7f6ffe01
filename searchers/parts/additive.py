"""Additive costs, which are sums over a network's operations, and the best networks under any budget of such a cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Additive = tuple[float, list[list[float]]]
"""A cost that is a sum over a network's operations: a fixed part, and what each option of each choice adds."""

Taken = tuple[tuple[int, int], ...]
"""Pairs of a choice and its option."""


class Item(NamedTuple):
    """An alternative of a group: its score, its cost, and the options that it stands for."""

    score: float
    cost: float
    taken: Taken


def front(groups: Sequence[Sequence[Item]], budget: float) -> list[tuple[float, float, Taken]]:
    """Solve the multiple-choice knapsack exactly for all budgets at once.

    One item is taken of every group. Group by group, whatever is dominated in score and cost is dropped, as it cannot be part
    of a solution.

    Args:
        groups: The alternatives of each group.
        budget: Largest summed cost.

    Returns:
        The summed score, the summed cost and the options of every non-dominated combination, the cheapest first.
    """
    scores, costs = np.zeros(1), np.zeros(1)
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for group in groups:
        s = np.array([item.score for item in group])
        c = np.array([item.cost for item in group])
        all_s, all_c = (scores[:, None] + s).ravel(), (costs[:, None] + c).ravel()
        order = np.lexsort([-all_s, all_c])
        order = order[all_c[order] <= budget]
        best = np.maximum.accumulate(all_s[order]) if len(order) else all_s[order]
        better = np.concatenate([[True], best[1:] > best[:-1]]) if len(order) else np.zeros(0, dtype=bool)
        non_dominated = order[better]
        scores, costs = all_s[non_dominated], all_c[non_dominated]
        history.append(np.divmod(non_dominated, len(group)))
    solutions = []
    for state in range(len(scores)):
        taken: list[tuple[int, int]] = []
        at = state
        for (before, item), group in zip(reversed(history), reversed(groups), strict=True):
            taken += group[int(item[at])].taken
            at = int(before[at])
        solutions.append((float(scores[state]), float(costs[state]), tuple(taken)))
    return solutions
