"""Fronts and hypervolumes on arrays of costs, where lower is better. pymoo does the sorting and the measuring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

Floats = NDArray[np.float64]

ROUNDING = 1e-9
"""Relative; what differs by less, differs by the order of a sum or by the processor that made it."""


def as_costs(costs: ArrayLike) -> Floats:
    """Convert costs to a (points, objectives) array.

    Raises:
        ValueError: For another shape, or a value that is not finite, since pymoo would drop the point silently.
    """
    array = np.asarray(costs, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"costs must have the shape (points, objectives), not {array.shape}")
    if not np.isfinite(array).all():
        row = int(np.nonzero(~np.isfinite(array).all(axis=1))[0][0])
        raise ValueError(f"costs must be finite; row {row} is {array[row].tolist()}")
    return array


def non_dominated(costs: ArrayLike) -> list[int]:
    """Indices of the non-dominated points, ascending. Equal points do not dominate each other.

    Args:
        costs: (points, objectives).
    """
    array = as_costs(costs)
    if not len(array):
        return []
    return sorted(int(i) for i in NonDominatedSorting().do(array, only_non_dominated_front=True))


def violations(costs: ArrayLike, limits: Sequence[float | None]) -> Floats:
    """Total relative constraint violation of each point: the sum of `cost / limit - 1` over the limits that it exceeds
    by more than rounding.

    Args:
        costs: (points, objectives).
        limits: Upper bound of each objective, in its unit; None for no bound.

    Returns:
        (points,), 0 for feasible points.
    """
    array = as_costs(costs)
    bounds = np.array([np.inf if limit is None else limit for limit in limits])
    excess = array / bounds - 1.0
    violation: Floats = np.where(excess > ROUNDING, excess, 0.0).sum(axis=1)
    return violation


def distinct(costs: ArrayLike) -> list[int]:
    """Indices of the points that no earlier one is equal to, but for rounding, ascending."""
    array = as_costs(costs)
    size = np.abs(array).max(axis=0, initial=0.0)
    return sorted(np.unique(np.round(array / np.where(size > 0, size, 1.0), 9), axis=0, return_index=True)[1].tolist())


def ranked(costs: ArrayLike) -> list[list[int]]:
    """Sort all points into fronts F0, F1, ..., where F1 is non-dominated once F0 is removed, and so on.

    Args:
        costs: (points, objectives).

    Returns:
        Indices of the points of each front, ascending within a front.
    """
    array = as_costs(costs)
    if not len(array):
        return []
    return [sorted(int(i) for i in front) for front in NonDominatedSorting().do(array)]


def hypervolume(costs: ArrayLike, reference: Sequence[float]) -> float:
    """Share of the box between 0 and `reference` that the points dominate, in 0..1.

    The ideal point is 0 in every objective, since errors, counts and times cannot fall below it. A point that is not better
    than the reference in every objective contributes nothing.

    Args:
        costs: (points, objectives).
        reference: Reference point, one positive value per objective in its unit.

    Raises:
        ValueError: For a reference that is not positive in every objective.
    """
    if not all(r > 0 for r in reference):
        raise ValueError(f"the reference point must be positive in every objective; it is {tuple(reference)}")
    array = as_costs(costs)
    if not len(array):
        return 0.0
    return float(HV(ref_point=np.ones(len(reference)))(array / np.asarray(reference, dtype=np.float64)))


def best_together(
    sets: Sequence[ArrayLike], reference: Sequence[float], count: int, kept: Sequence[int] = ()
) -> tuple[list[int], list[float]]:
    """Choose sets of points with a large hypervolume together: each time the set that adds most to those chosen before.

    The hypervolume of a union is submodular, so that this greedy choice has at least 1 - 1/e of the largest one. Of sets that
    add as much, the one with the larger hypervolume of its own is chosen, then the first.

    Args:
        sets: Each (points, objectives).
        reference: Reference point, as for `hypervolume`.
        count: Number of sets to choose, those of `kept` included.
        kept: Indices of sets that are chosen in any case, before all others.

    Returns:
        The indices of the chosen sets, in order; and what every set added when it was chosen, or would add to the chosen ones.
    """
    arrays = [as_costs(points) for points in sets]
    arrays = [array[non_dominated(array)] for array in arrays]
    alone = [hypervolume(array, reference) for array in arrays]
    union, volume = np.empty((0, len(reference))), 0.0
    chosen: list[int] = []
    gains = [0.0] * len(arrays)
    coming = list(kept)
    while True:
        left = [i for i in range(len(arrays)) if i not in chosen]
        for i in left:
            gains[i] = max(0.0, hypervolume(np.concatenate([union, arrays[i]]), reference) - volume)
        if not left or (not coming and len(chosen) >= count):
            return chosen, gains
        best = coming.pop(0) if coming else max(left, key=lambda i: (round(gains[i], 12), round(alone[i], 12), -i))
        chosen.append(best)
        union = np.concatenate([union, arrays[best]])
        union, volume = union[non_dominated(union)], volume + gains[best]


def relative_hypervolume(costs: ArrayLike, front: ArrayLike) -> float:
    """Hypervolume of the points relative to that of the true front; 1 is the whole front.

    Objectives are scaled so that the true front's ideal point is 0 and its nadir 1; the reference point is 1.1.

    Args:
        costs: (points, objectives); may be empty.
        front: The true front, (points, objectives).

    Raises:
        ValueError: For a front with a single value in some objective, which leaves that objective without a scale.
    """
    best = as_costs(front)
    ideal, extent = best.min(axis=0), _extent(best)
    if not (extent > 0).all():
        raise ValueError("the true front is one value in some objective, so there is no trade-off to measure")
    volume = HV(ref_point=np.full(best.shape[1], 1.1))
    array = as_costs(costs) if len(np.asarray(costs)) else np.empty((0, best.shape[1]))
    return float(volume((array - ideal) / extent) / volume((best - ideal) / extent)) if len(array) else 0.0


def spread_out(costs: ArrayLike, count: int) -> list[int]:
    """Choose at most `count` well-separated points: the best in each objective, then farthest point first.

    Args:
        costs: (points, objectives); distances are taken after scaling each objective to 0..1 over the points.
        count: Number of points to choose.

    Returns:
        Indices of the chosen points, ascending.
    """
    array = as_costs(costs)
    if count >= len(array):
        return list(range(len(array)))
    extent = _extent(array)
    scaled = (array - array.min(axis=0)) / np.where(extent > 0, extent, 1.0)
    chosen: list[int] = []
    for column in range(array.shape[1]):
        best = int(np.lexsort([scaled.sum(axis=1).round(9), scaled[:, column].round(9)])[0])
        if best not in chosen:
            chosen.append(best)
    chosen = chosen[:count]
    while len(chosen) < count:
        distance = np.linalg.norm(scaled[:, None] - scaled[None, chosen], axis=-1).min(axis=1)
        distance[chosen] = -1.0
        chosen.append(int(distance.round(9).argmax()))  # the first of those that are as far
    return sorted(chosen)


def _extent(array: Floats) -> Floats:
    """(objectives,): from least to most; 0 where points differ by rounding alone."""
    extent: Floats = np.ptp(array, axis=0)
    return np.where(extent > ROUNDING * np.abs(array).max(axis=0), extent, 0.0)


def knee(costs: ArrayLike) -> int:
    """Index of the knee of a front: where error and costs, each scaled to 0 at its best and 1 at its worst, add up to least.

    The error counts as much as the mean of all costs, since costs mostly rise together; were each to count, the error would
    count the less, the more costs there are. With one cost it is the point farthest below the line between the extremes. Where
    no point is below 1, as those are, the one nearest to the best of each objective is taken; of equal points the first.

    Args:
        costs: (points, objectives), of one point at least; the error comes first.
    """
    array = as_costs(costs)
    low, spread = array.min(axis=0), np.ptp(array, axis=0)
    scaled = np.divide(array - low, spread, out=np.zeros_like(array), where=spread > 0)
    both = np.stack([scaled[:, 0], scaled[:, 1:].mean(axis=1)], axis=1) if array.shape[1] > 1 else scaled
    total = both.sum(axis=1)
    if total.min() > 1 - ROUNDING:
        total = np.linalg.norm(both, axis=1)
    return int(np.flatnonzero(total <= total.min() + ROUNDING)[0])


def attained(costs: ArrayLike, x: ArrayLike, y: ArrayLike) -> Floats:
    """Lowest first objective that points attain within bounds of the two others.

    Args:
        costs: (points, 3).
        x: (n,), bounds of the second objective.
        y: (m,), bounds of the third objective.

    Returns:
        (m, n), NaN where no point keeps both.
    """
    array = as_costs(costs)
    within = (array[:, 1] <= np.asarray(x)[:, None])[None] & (array[:, 2] <= np.asarray(y)[:, None])[:, None]
    lowest: Floats = np.where(within, array[:, 0], np.inf).min(axis=2, initial=np.inf)
    return np.where(np.isinf(lowest), np.nan, lowest)
