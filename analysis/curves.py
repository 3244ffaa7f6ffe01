"""Convergence curves: an indicator against the budget spent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from analysis.pareto import Floats, as_costs, hypervolume, non_dominated


def hypervolume_curve(costs: ArrayLike, reference: Sequence[float], groups: ArrayLike | None = None) -> Floats:
    """Hypervolume of the first 1, 2, ... points.

    Args:
        costs: (points, objectives), in order of arrival.
        reference: Reference point, as for `hypervolume`.
        groups: (points,) labels of points that arrived together, non-decreasing. The value is then computed once per group,
            and all its points carry it. By default each point is a group.

    Returns:
        (points,), each in 0..1.
    """
    array = as_costs(costs)
    labels = np.arange(len(array)) if groups is None else np.asarray(groups)
    if labels.shape != (len(array),):
        raise ValueError(f"groups must have the shape ({len(array)},), not {labels.shape}")
    curve = np.zeros(len(array))
    front = array[:0]
    value = 0.0
    bounds = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(array)]
    for start, end in itertools.pairwise(bounds):
        merged = np.concatenate([front, array[start:end]])
        kept = non_dominated(merged)
        if kept != list(range(len(front))):
            front = merged[kept]
            value = hypervolume(front, reference)
        curve[start:end] = value
    return curve
