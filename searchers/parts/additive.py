"""Additive costs, which are sums over a network's operations, and the best networks under any budget of such a cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from searchers.parts.ties import ROUNDING, levels

Additive = tuple[float, list[list[float]]]
"""A cost that is a sum over a network's operations: a fixed part, and what each option of each choice adds."""

Taken = tuple[tuple[int, int], ...]
"""Pairs of a choice and its option."""


class Item(NamedTuple):
    """An alternative of a group: its score, its cost, and the options that it stands for."""

    score: float
    cost: float
    taken: Taken


def network_groups(
    scores: Sequence[Sequence[float]],
    prices: Sequence[Sequence[float]],
    options: Sequence[Sequence[int]],
    node_inputs: Sequence[Sequence[int]] = (),
    none_option: Sequence[int | None] | None = None,
) -> list[list[Item]]:
    """Return the groups of alternatives that make up a network: the options of a choice, or two edges into a node of a cell.

    Args:
        scores: Score of each option of each choice.
        prices: What each option of each choice adds to the cost.
        options: The options that may be taken.
        node_inputs: The choices that feed each node, of which two are taken; empty where every choice is.
        none_option: Per choice the option that stands for no edge, or None.
    """
    absent = [None] * len(options) if none_option is None else none_option
    meeting = {choice for node in node_inputs for choice in node}
    groups = [[Item(scores[c][o], prices[c][o], ((c, o),)) for o in left] for c, left in enumerate(options) if c not in meeting]
    for node in node_inputs:
        rest = [(c, none) for c in node if (none := absent[c]) is not None]
        pairs = []
        for a, b in itertools.combinations(node, 2):
            for i, j in itertools.product(options[a], options[b]):
                if i != absent[a] and j != absent[b]:
                    others = tuple((c, o) for c, o in rest if c not in (a, b))
                    cost = prices[a][i] + prices[b][j] + sum(prices[c][o] for c, o in others)
                    pairs.append(Item(scores[a][i] + scores[b][j], cost, ((a, i), (b, j), *others)))
        groups.append(pairs)
    return groups


def best_within(groups: Sequence[Sequence[Item]], budget: float) -> Taken:
    """Return the options of the best combination within a budget, or of the cheapest one where none is within it."""
    solutions = front(groups, budget)
    if not solutions:
        solutions = front([[min(group, key=lambda item: (item.cost, -item.score))] for group in groups], np.inf)
    return solutions[-1][2]


def network_within(
    scores: Sequence[Sequence[float]],
    cost: Additive,
    bound: float,
    options: Sequence[Sequence[int]],
    node_inputs: Sequence[Sequence[int]] = (),
    none_option: Sequence[int | None] | None = None,
) -> tuple[int, ...]:
    """Return the network with the largest sum of scores that costs no more than `bound`, or the cheapest where none does.

    Args:
        scores: Score of each option of each choice.
        cost: A sum over the options.
        bound: Largest cost, in its own unit.
        options: The options that may be taken.
        node_inputs: As for `network_groups`, as is `none_option`.
    """
    fixed, prices = cost
    taken = best_within(network_groups(scores, prices, options, node_inputs, none_option), bound - fixed)
    return tuple(option for _, option in sorted(taken))


def front(groups: Sequence[Sequence[Item]], budget: float) -> list[tuple[float, float, Taken]]:
    """Solve the multiple-choice knapsack exactly for all budgets at once.

    One item is taken of every group. Group by group, whatever is dominated in score and cost is dropped, as it cannot be part
    of a solution. Costs may be negative: what counts is by how much they exceed the least of the group. Scores and costs are
    rounded to about twelve digits of the largest first: their sums are exact, so that no combination is better by the order of
    a sum. The budget may be exceeded by as much as rounding.

    Args:
        groups: The alternatives of each group.
        budget: Largest summed cost.

    Returns:
        The summed score, the summed cost and the options of every non-dominated combination, the cheapest first.
    """
    every = [item for group in groups for item in group]
    ends = np.cumsum([len(group) for group in groups])[:-1]
    by_score, by_cost = levels(np.array([i.score for i in every])), levels(np.array([i.cost for i in every]))
    within = budget + ROUNDING * np.abs(by_cost).max(initial=0.0)
    scores, costs = np.zeros(1), np.zeros(1)
    split_costs = np.split(by_cost, ends)
    least = [c.min(initial=np.inf) for c in split_costs]
    within -= sum(least)
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for s, c, lowest in zip(np.split(by_score, ends), split_costs, least, strict=True):
        worth_taking = _non_dominated(s, c)
        s, c = s[worth_taking], c[worth_taking] - lowest
        all_s, all_c = (scores[:, None] + s).ravel(), (costs[:, None] + c).ravel()
        affordable = np.flatnonzero(all_c <= within)
        non_dominated = affordable[_non_dominated(all_s[affordable], all_c[affordable])]
        scores, costs = all_s[non_dominated], all_c[non_dominated]
        before, item = np.divmod(non_dominated, len(s))
        history.append((before, worth_taking[item]))
    solutions = []
    for state in range(len(scores)):
        taken: list[tuple[int, int]] = []
        at = state
        for (before, item), group in zip(reversed(history), reversed(groups), strict=True):
            taken += group[int(item[at])].taken
            at = int(before[at])
        solutions.append((float(scores[state]), float(costs[state] + sum(least)), tuple(taken)))
    return solutions


def _non_dominated(scores: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return the indices of what nothing is cheaper than without a lower score, the cheapest first; the first among equals."""
    order = np.lexsort([-scores, costs])
    if not len(order):
        return order
    best = np.maximum.accumulate(scores[order])
    return np.asarray(order[np.concatenate([[True], best[1:] > best[:-1]])])
