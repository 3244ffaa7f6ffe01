"""Comparison of searchers at equal cost: indicators, confidence intervals and tests. Functions on tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pymoo.indicators.igd_plus import IGDPlus
from scipy.stats import bootstrap, mannwhitneyu

from analysis.pareto import ROUNDING, Floats, as_costs, non_dominated, relative_hypervolume

CONFIDENCE = 0.95
WRITTEN = {"low": "hypervolume_low", "high": "hypervolume_high", "found": "share_of_front_found"}
"""Names of columns of `summary` by themselves, as in files."""


def scores(evaluations: pd.DataFrame, columns: Sequence[str], front: Floats, budgets: Sequence[float]) -> pd.DataFrame:
    """Compute the indicators of each searcher and seed at each budget.

    Args:
        evaluations: Rows in order of evaluation, with columns `searcher`, `seed`, the costs in `columns` and, unless every
            evaluation costs 1, `spent`: the budget used up to and including the row.
        columns: Names of the cost columns.
        front: The true front, (points, objectives).
        budgets: Budgets at which to look, in the unit of `spent`.

    Returns:
        A row per searcher, seed and budget: `hypervolume` (relative; 1 is the true front), `igd_plus` (objectives scaled to
        the true front; NaN before the first evaluation) and `found`, the share of the true front's points.
    """
    ideal, extent = front.min(axis=0), np.ptp(front, axis=0)
    distance = IGDPlus((front - ideal) / extent)
    true = {tuple(point) for point in front.tolist()}
    rows = []
    for (searcher, seed), run in evaluations.groupby(["searcher", "seed"], sort=False):
        costs = as_costs(run[list(columns)].to_numpy())
        spent = run["spent"].to_numpy() if "spent" in run else np.arange(1, len(run) + 1)
        for budget in budgets:
            seen = costs[spent <= budget]
            best = seen[non_dominated(seen)] if len(seen) else seen
            rows.append(
                {
                    "searcher": searcher,
                    "seed": seed,
                    "budget": budget,
                    "hypervolume": relative_hypervolume(best, front),
                    "igd_plus": float(distance((best - ideal) / extent)) if len(seen) else float("nan"),
                    "found": len(true & {tuple(point) for point in best.tolist()}) / len(true),
                }
            )
    return pd.DataFrame(rows)


def summary(scored: pd.DataFrame) -> pd.DataFrame:
    """Average the table of `scores` over seeds.

    Args:
        scored: Rows as `scores` returns them.

    Returns:
        A row per searcher and budget: the number of `seeds`, the means of `hypervolume`, `igd_plus` and `found`, and `low` and
        `high`, the bootstrap 95 % interval of the mean hypervolume.
    """
    rows = []
    for (searcher, budget), runs in scored.groupby(["searcher", "budget"], sort=False):
        values = runs["hypervolume"].to_numpy()
        low = high = float(values.mean())
        if len(values) > 1 and np.ptp(values) > ROUNDING:
            low, high = bootstrap((values,), np.mean, confidence_level=CONFIDENCE, rng=0).confidence_interval
        rows.append(
            {
                "searcher": searcher,
                "budget": budget,
                "seeds": len(runs),
                "hypervolume": values.mean(),
                "low": low,
                "high": high,
                "igd_plus": runs["igd_plus"].mean(),
                "found": runs["found"].mean(),
            }
        )
    return pd.DataFrame(rows)


def pairs(scored: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Compare every pair of searchers at a budget by the hypervolume of their runs.

    Args:
        scored: Rows as `scores` returns them.
        budget: One of the budgets in `scored`.

    Returns:
        A row per pair: `first`, `second`, `wins` (the share of pairs of runs in which the first has more hypervolume; ties
        count half), the two-sided Mann-Whitney `p`, and `p_holm`, corrected for all pairs (Holm, 1979).
    """
    at_budget = scored[scored["budget"] == budget]
    # Runs that found the same points in another order differ in the last bits, and are a tie.
    values = {str(name): runs["hypervolume"].to_numpy().round(9) for name, runs in at_budget.groupby("searcher", sort=False)}
    rows = []
    for a, b in itertools.combinations(values, 2):
        test = mannwhitneyu(values[a], values[b])
        rows.append({"first": a, "second": b, "wins": test.statistic / (len(values[a]) * len(values[b])), "p": test.pvalue})
    order = sorted(range(len(rows)), key=lambda i: float(rows[i]["p"]))
    corrected = 0.0
    for rank, i in enumerate(order):
        corrected = max(corrected, min(1.0, float(rows[i]["p"]) * (len(rows) - rank)))
        rows[i]["p_holm"] = corrected
    return pd.DataFrame(rows, columns=["first", "second", "wins", "p", "p_holm"])


def median_attainment(runs: Sequence[Floats], at: Floats) -> Floats:
    """Median attainment curve of several runs with two objectives (Fonseca and Fleming, 1996).

    Args:
        runs: Costs of each run, (points, 2).
        at: (values,) of the first cost.

    Returns:
        The second cost that half of the runs reach with a first cost of at most `at`, (values,); inf where fewer do.
    """
    attained = []
    for costs in runs:
        order = np.argsort(costs[:, 0], kind="stable")
        best = np.minimum.accumulate(costs[order, 1])
        index = np.searchsorted(costs[order, 0], at, side="right")
        attained.append(np.where(index > 0, best[np.maximum(index - 1, 0)], np.inf))
    median: Floats = np.sort(np.array(attained), axis=0)[len(attained) // 2]
    return median
