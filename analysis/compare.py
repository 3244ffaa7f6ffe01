"""Which searcher finds more for the same number of evaluations: indicators, intervals, tests. Functions on tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pymoo.indicators.igd_plus import IGDPlus
from scipy.stats import bootstrap, mannwhitneyu

from analysis.pareto import ROUNDING, Floats, as_costs, non_dominated, relative_hypervolume

CONFIDENCE = 0.95


def scores(evaluations: pd.DataFrame, columns: Sequence[str], front: Floats, budgets: Sequence[float]) -> pd.DataFrame:
    """A row for each searcher, seed and budget: `hypervolume` (relative, 1 is the true front), `igd_plus` (objectives scaled to
    the true front) and `found`, the share of the true front's points, of what was evaluated within each budget.

    evaluations: `searcher`, `seed` and the costs in `columns`, in the order in which they were made, and `spent`, what had been
    spent with each, if it is not one more with every one. front: (points, objectives).
    """
    ideal, extent = front.min(axis=0), np.ptp(front, axis=0)
    distance = IGDPlus((front - ideal) / extent)
    true = {tuple(point) for point in front.tolist()}
    rows = []
    for (searcher, seed), own in evaluations.groupby(["searcher", "seed"], sort=False):
        costs = as_costs(own[list(columns)].to_numpy())
        spent = own["spent"].to_numpy() if "spent" in own else np.arange(1, len(own) + 1)
        for budget in budgets:
            seen = costs[spent <= budget]
            kept = seen[non_dominated(seen)] if len(seen) else seen
            rows.append(
                {
                    "searcher": searcher,
                    "seed": seed,
                    "budget": budget,
                    "hypervolume": relative_hypervolume(kept, front),
                    "igd_plus": float(distance((kept - ideal) / extent)) if len(seen) else float("nan"),
                    "found": len(true & {tuple(point) for point in kept.tolist()}) / len(true),
                }
            )
    return pd.DataFrame(rows)


def summary(scored: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds for each searcher and budget, with bootstrap 95 % intervals of the hypervolume's (`low`, `high`)."""
    rows = []
    for (searcher, budget), own in scored.groupby(["searcher", "budget"], sort=False):
        values = own["hypervolume"].to_numpy()
        low = high = float(values.mean())
        if len(values) > 1 and np.ptp(values) > ROUNDING:
            low, high = bootstrap((values,), np.mean, confidence_level=CONFIDENCE, rng=0).confidence_interval
        rows.append(
            {
                "searcher": searcher,
                "budget": budget,
                "seeds": len(own),
                "hypervolume": values.mean(),
                "low": low,
                "high": high,
                "igd_plus": own["igd_plus"].mean(),
                "found": own["found"].mean(),
            }
        )
    return pd.DataFrame(rows)


def pairs(scored: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Every two searchers at a budget: how often a run of the first has more hypervolume than one of the second (ties count
    half), and the two-sided Mann-Whitney p, as it is and after Holm's correction for all the pairs (Holm, 1979)."""
    at = scored[scored["budget"] == budget]
    # Runs that found the same points in another order differ in the last bits, and are a tie.
    values = {str(name): own["hypervolume"].to_numpy().round(9) for name, own in at.groupby("searcher", sort=False)}
    rows = []
    for a, b in itertools.combinations(values, 2):
        test = mannwhitneyu(values[a], values[b])
        rows.append({"first": a, "second": b, "wins": test.statistic / (len(values[a]) * len(values[b])), "p": test.pvalue})
    order = sorted(range(len(rows)), key=lambda i: float(rows[i]["p"]))
    least = 0.0
    for place, i in enumerate(order):
        least = max(least, min(1.0, float(rows[i]["p"]) * (len(rows) - place)))
        rows[i]["p_holm"] = least
    return pd.DataFrame(rows, columns=["first", "second", "wins", "p", "p_holm"])


def median_attainment(runs: Sequence[Floats], at: Floats) -> Floats:
    """(len(at),): the second cost that half of the runs reach at a first cost of at most `at`; inf where fewer do.

    runs: costs of each, (points, 2). After Fonseca and Fleming (1996).
    """
    reached = []
    for costs in runs:
        order = np.argsort(costs[:, 0], kind="stable")
        best = np.minimum.accumulate(costs[order, 1])
        place = np.searchsorted(costs[order, 0], at, side="right")
        reached.append(np.where(place > 0, best[np.maximum(place - 1, 0)], np.inf))
    median: Floats = np.sort(np.array(reached), axis=0)[len(reached) // 2]
    return median
