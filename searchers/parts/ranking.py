"""Who is better among evaluations of several objectives: NSGA-II's order, by pymoo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from searchers.base import Evaluation


def ranked(evaluations: Sequence[Evaluation]) -> list[tuple[float, float]]:
    """A key for each, lower is better: the front it is in, then minus its crowding distance (Deb et al., 2002).

    Whoever breaks a constraint comes after all who keep them, by how much it breaks them (Deb, 2000).
    """
    keys: list[tuple[float, float]] = [(np.inf, e.violation) for e in evaluations]
    kept = [i for i, e in enumerate(evaluations) if e.violation <= 0]
    if kept:
        costs = np.array([evaluations[i].costs for i in kept])
        for rank, front in enumerate(NonDominatedSorting().do(costs)):
            crowding = get_crowding_function("cd").do(costs[front], n_remove=0)
            for i, distance in zip(front, crowding, strict=True):
                keys[kept[int(i)]] = (float(rank), -round(float(distance), 9))  # of sums, whose last bits are chance
    return keys


def best(evaluations: Sequence[Evaluation], n: int) -> list[Evaluation]:
    """The `n` that survive, the earlier among equals."""
    keys = ranked(evaluations)
    return [evaluations[i] for i in sorted(range(len(evaluations)), key=keys.__getitem__)[:n]]
