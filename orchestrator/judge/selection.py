"""Which networks make a front, where their errors are known with uncertainty only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.pareto import non_dominated
from analysis.trust import cost_levels
from orchestrator.judge.process import Floats

DIRECTIONS = 128
"""Directions over which the hypervolume is averaged."""
SLOPE = 1.0
"""Fall of the error with the logarithm of the costs that may come of more training, each in deviations over the networks."""
MARGIN = 0.1
"""Distance of the reference point beyond a front's worst costs, as a share of their range."""


def levels(costs: Floats) -> NDArray[np.int64]:
    """Number the cost level of each network, (networks,); networks of one level share the levels of all their costs.

    Args:
        costs: Costs after the error, (networks, costs).
    """
    each = np.stack([cost_levels(column) for column in costs.T], axis=1)
    return np.asarray(np.unique(each, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)


def best_of_levels(errors: Floats, costs: Floats, count: int) -> list[int]:
    """Choose the best `count` networks level by level in turn: first the best of each, then the second of each, ...

    Args:
        errors: What networks are ordered by within a level, (networks,).
        costs: Costs after the error, (networks, costs).
        count: How many are chosen; all where there are fewer.
    """
    level = levels(costs)
    order = np.lexsort([np.arange(len(errors)), errors.round(6)])
    place = np.empty(len(errors), dtype=int)
    for number in np.unique(level):
        inside = order[level[order] == number]
        place[inside] = np.arange(len(inside))
    return [int(i) for i in np.lexsort([errors.round(6), place])[:count]]


def best_of_others(errors: Floats, costs: Floats, chosen: Sequence[int], count: int) -> list[int]:
    """Choose the best network of cost levels that have none among `chosen`, evenly over those levels where they are too many.

    Args:
        errors: What networks are ordered by within a level, (networks,).
        costs: Costs after the error, (networks, costs).
        chosen: Networks whose levels are left out.
        count: How many are chosen at most.
    """
    level = levels(costs)
    taken = set(level[list(chosen)].tolist())
    firsts = {int(level[i]): i for i in best_of_levels(errors, costs, int(level.max()) + 1)}
    left = [firsts[number] for number in sorted(set(firsts) - taken)]
    places = np.linspace(0, len(left) - 1, min(count, len(left))).round().astype(int)
    return [left[i] for i in places]


def sizes_of(costs: Floats) -> Floats:
    """Return how large networks are by each cost: its logarithm, of mean 0 and deviation 1 over them, (networks, costs).

    A cost that is not positive throughout, such as a score, is taken as it is.
    """
    logs = [np.log(column) if (column > 0).all() else column for column in costs.T]
    return np.column_stack([(column - column.mean()) / max(float(column.std()), 1e-12) for column in logs])


def outgrown(draws: Floats, sizes: Floats, rng: np.random.Generator) -> Floats:
    """Let larger networks gain more from the training that is still to come, by another unknown amount in each draw.

    A short training, shared weights or a small proxy favours networks that learn quickly, which are small. How much the error
    falls with the size is half normal, so that networks stay where they were measured in the first place.

    Args:
        draws: Errors of all networks in each draw, (draws, networks).
        sizes: Of the networks by each cost, (networks, costs), as `sizes_of` returns them.
        rng: Source of the amounts.
    """
    slopes = np.abs(rng.standard_normal((len(draws), sizes.shape[1]))) * SLOPE / sizes.shape[1]
    return np.asarray(draws - slopes @ sizes.T * draws.std(axis=1, keepdims=True))


def choose(
    draws: Floats, costs: Floats, count: int, chosen: Sequence[int] = (), among: Sequence[int] | None = None
) -> list[int]:
    """Choose the networks that together have the highest expected hypervolume, greedily.

    Each draw is a possible truth. Its hypervolume is relative to its own front: scaled to that front's ideal and nadir, with
    the reference point 10 % beyond, so that no draw decides for all.

    Args:
        draws: Errors of all networks in each draw, (draws, networks).
        costs: Costs after the error, (networks, costs).
        count: How many to choose besides `chosen`; fewer where no other network adds anything.
        chosen: Networks that are taken already.
        among: Networks that may be chosen; None for all.

    Returns:
        The indices of the new ones, in the order in which they were chosen.
    """
    objectives = 1 + costs.shape[1]
    rng = np.random.default_rng(0)
    directions = np.abs(rng.standard_normal((DIRECTIONS, objectives)))
    if objectives == 2:
        angle = (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS * np.pi / 2
        directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    directions = np.maximum(directions / np.linalg.norm(directions, axis=1, keepdims=True), 1e-6)
    reach = np.empty((len(draws), len(costs), DIRECTIONS), dtype=np.float32)
    for i, errors in enumerate(draws):
        points = np.column_stack([errors, costs])
        front = points[non_dominated(points)]
        extent = np.ptp(front, axis=0)
        extent[extent <= 0] = 1.0
        left = np.maximum(1 + MARGIN - (points - front.min(axis=0)) / extent, 0.0)
        # How far along each direction a point dominates; the mean of its power over directions is the hypervolume.
        reach[i] = np.min(left[:, None, :] / directions, axis=2) ** objectives
    reached = reach[:, list(chosen)].max(axis=1, initial=0.0)
    barred = np.zeros(len(costs), dtype=bool)
    if among is not None:
        barred[:] = True
        barred[list(among)] = False
    barred[list(chosen)] = True
    found: list[int] = []
    for _ in range(count):
        gains = np.where(barred, 0.0, np.maximum(reach - reached[:, None], 0.0).mean(axis=(0, 2)))
        best = int(np.argmax(gains.round(9)))
        if gains[best] <= 0:
            break
        found.append(best)
        barred[best] = True
        reached = np.maximum(reached, reach[:, best])
    return found


def likely(draws: Floats, costs: Floats, count: int, taken: Sequence[int] = ()) -> list[int]:
    """Choose networks that are on the front in some draw, each from another draw and cost level in turn.

    This is what is worth measuring next: a network that may well be on the front, and is not known to be (Thompson sampling).

    Args:
        draws: Errors of all networks in each draw, (draws, networks).
        costs: Costs after the error, (networks, costs).
        count: How many to choose; fewer where all of the draws' fronts are taken.
        taken: Networks that are not chosen.
    """
    level, used = levels(costs), set(taken)
    visits = np.zeros(level.max() + 1, dtype=int)
    fronts = [non_dominated(np.column_stack([errors, costs])) for errors in draws]
    found: list[int] = []
    for turn in range(4 * count):
        left = [i for i in fronts[turn % len(fronts)] if i not in used]
        if not left:
            continue
        best = min(left, key=lambda i: (visits[level[i]], draws[turn % len(fronts), i], i))
        found.append(best)
        used.add(best)
        visits[level[best]] += 1
        if len(found) == count:
            break
    return found


def least_visited(errors: Floats, visits: Mapping[int, int], level: NDArray[np.int64], count: int) -> list[int]:
    """Choose the best network of whichever cost level has been visited least, again and again.

    Args:
        errors: Expected errors of networks, (networks,).
        visits: How often each level was visited before.
        level: The level of each network, (networks,).
        count: How many to choose; all where there are fewer.
    """
    waiting = {
        int(number): sorted(
            np.flatnonzero(level == number).tolist(), key=lambda i: (round(float(errors[i]), 6), i), reverse=True
        )
        for number in np.unique(level)
    }
    seen = dict(visits)
    found: list[int] = []
    while len(found) < count and waiting:
        number = min(waiting, key=lambda n: (seen.get(n, 0), n))
        found.append(waiting[number].pop())
        seen[number] = seen.get(number, 0) + 1
        if not waiting[number]:
            del waiting[number]
    return found


def promise(draws: Floats, costs: Floats) -> Floats:
    """Return the share of draws in which each network is on the front, (networks,).

    Args:
        draws: Errors of all networks in each draw, (draws, networks).
        costs: Costs after the error, (networks, costs).
    """
    found = np.zeros(len(costs))
    for errors in draws:
        found[non_dominated(np.column_stack([errors, costs]))] += 1 / len(draws)
    return found


def teaching(
    covariances: Sequence[Floats],
    reach: Floats,
    noise: Floats,
    cost: Floats,
    promise: Floats,
    done: NDArray[np.bool_],
    count: int,
    budget: float,
) -> list[tuple[int, int]]:
    """Choose measurements by the variance that they are expected to take from the errors that matter, for their cost.

    Greedily: each choice takes its part of the covariance before the next (Cohn's criterion for active learning, of several
    sources by cost as in Takeno et al., ICML 2020, with a variance in place of the entropy of the maximum).

    Args:
        covariances: Covariance of networks' errors by each source, (networks, networks) each.
        reach: How far the error that matters rises with that of each source, (sources,).
        noise: Variance of a measurement by chance, (sources,).
        cost: Cost of a measurement, (sources,).
        promise: How much the error of each network matters, (networks,).
        done: Whether a network was measured by a source already, (sources, networks).
        count: How many to choose.
        budget: What they may cost together.

    Returns:
        Source and network of each choice; fewer where nothing else teaches anything, or can be paid for.
    """
    found: list[tuple[int, int]] = []
    left, barred = [c.copy() for c in covariances], done.copy()
    while len(found) < count and left:
        worth = np.stack(
            [r**2 * (promise @ c**2) / (np.diag(c) + n) / each for c, r, n, each in zip(left, reach, noise, cost, strict=True)]
        )
        worth[barred | (cost > budget)[:, None]] = 0.0
        source, network = np.unravel_index(int(np.argmax(worth.round(12))), worth.shape)
        if worth[source, network] <= 0:
            break
        c = left[source]
        left[source] = c - np.outer(c[network], c[network]) / (c[network, network] + noise[source])
        barred[source, network] = True
        budget -= float(cost[source])
        found.append((int(source), int(network)))
    return found
