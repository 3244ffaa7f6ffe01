"""How a search went: an indicator against what was spent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from analysis.pareto import Floats, as_costs, hypervolume, non_dominated


def hypervolume_curve(costs: ArrayLike, reference: Sequence[float], groups: ArrayLike | None = None) -> Floats:
    """The hypervolume of the first 1, 2, ... points, (points,).

    groups: labels of points that arrived together, (points,), non-decreasing in order of arrival; the value is then
    computed once a group, and all its points carry it.
    """
    array = as_costs(costs)
    labels = np.arange(len(array)) if groups is None else np.asarray(groups)
    if labels.shape != (len(array),):
        raise ValueError(f"groups must have the shape ({len(array)},), not {labels.shape}")
    curve = np.zeros(len(array))
    front = array[:0]
    value = 0.0
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]]) if len(array) else []
    for start, end in zip(starts, [*starts[1:], len(array)], strict=True):
        merged = np.concatenate([front, array[start:end]])
        kept = non_dominated(merged)
        if kept != list(range(len(front))):
            front = merged[kept]
            value = hypervolume(front, reference)
        curve[start:end] = value
    return curve
