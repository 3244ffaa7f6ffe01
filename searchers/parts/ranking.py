"""The order of evaluations of several objectives by NSGA-II, as pymoo implements it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from searchers.base import Evaluation


def ranked(evaluations: Sequence[Evaluation]) -> list[tuple[float, float]]:
    """Return a sort key for each evaluation, lower is better: the rank of its front, then minus its crowding distance.

    As in NSGA-II (Deb et al., 2002). Evaluations that break a constraint come after all that keep them, in the order of their
    violation (Deb, 2000).
    """
    keys: list[tuple[float, float]] = [(np.inf, e.violation) for e in evaluations]
    feasible = [i for i, e in enumerate(evaluations) if e.violation <= 0]
    if feasible:
        costs = np.array([evaluations[i].costs for i in feasible])
        for rank, front in enumerate(NonDominatedSorting().do(costs)):
            crowding = get_crowding_function("cd").do(costs[front], n_remove=0)
            for i, distance in zip(front, crowding, strict=True):
                keys[feasible[int(i)]] = (float(rank), -round(float(distance), 9))  # of sums, whose last bits are chance
    return keys


def best(evaluations: Sequence[Evaluation], n: int) -> list[Evaluation]:
    """Return the `n` survivors, the earlier ones among equals."""
    keys = ranked(evaluations)
    return [evaluations[i] for i in sorted(range(len(evaluations)), key=keys.__getitem__)[:n]]
