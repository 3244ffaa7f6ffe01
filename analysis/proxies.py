"""Quality of proxies in ordering networks of one cost: concordance within cost levels with intervals, a picture, and advice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis import plots, records
from analysis.trust import CONFIDENCE, ENOUGH, RESAMPLES, Interval, tau

WIDTH = 1.1
"""Costs of a level differ by less than this factor, where they are continuous."""
ACCURACY = "accuracy_percent"
"""Column of proxies.csv, which has a row for each network and place of training."""
SAVED = 0.2
"""Share of the target's seconds that a proxy has to save."""
LEAST = 1e-3
"""Seconds that a judgement takes at least in the picture, whose axis is logarithmic."""
TARGET = "target"
"""Name of the target among the places where networks are trained."""


def levels(costs: ArrayLike) -> NDArray[np.int64]:
    """Number the cost level of each network: distinct costs, or bins of the logarithm where most costs occur once.

    Args:
        costs: (networks,), positive.

    Returns:
        (networks,), rising with the cost.
    """
    values = np.asarray(costs, dtype=np.float64)
    known, level = np.unique(values, return_inverse=True)
    if 4 * len(known) > len(values):
        level = np.unique(np.floor(np.log(values) / math.log(WIDTH)), return_inverse=True)[1]
    return level.astype(np.int64)


def concordance(judged: ArrayLike, truth: ArrayLike, level: ArrayLike) -> Interval:
    """Agreement of two orders among pairs of networks of one cost level: concordant minus discordant pairs, over all pairs.

    1 is the true order, 0 is guessing. Pairs that tie in the truth are left out, those that tie in the judgement count as
    neither. The interval is the percentile bootstrap's, over the networks within each level.

    Args:
        judged: (networks,), higher is better.
        truth: (networks,), higher is better.
        level: (networks,), cost level of each.

    Returns:
        The value is NaN where no level has two networks.
    """
    a, b, of = np.asarray(judged, dtype=np.float64), np.asarray(truth, dtype=np.float64), np.asarray(level)
    groups = [np.flatnonzero(of == number) for number in np.unique(of)]
    value = _agreement(a, b, groups)
    if not np.isfinite(value) or len(a) < ENOUGH:
        return Interval(value, np.nan, np.nan, len(a))
    rng = np.random.default_rng(0)
    drawn = [_agreement(a, b, [rng.choice(group, len(group)) for group in groups]) for _ in range(RESAMPLES)]
    low, high = np.quantile(np.nan_to_num(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high), len(a))


def _agreement(judged: NDArray[np.float64], truth: NDArray[np.float64], groups: Sequence[NDArray[np.int64]]) -> float:
    agreeing = pairs = 0.0
    for group in groups:
        i, j = np.triu_indices(len(group), 1)
        true = np.sign(truth[group[i]] - truth[group[j]])
        agreeing += float((np.sign(judged[group[i]] - judged[group[j]]) * true).sum())
        pairs += float(np.abs(true).sum())
    return agreeing / pairs if pairs else np.nan


@dataclass(frozen=True)
class Judged:
    """Worth of a proxy.

    Args:
        name: The proxy, as a command line writes it.
        tau: Kendall's tau with the results at the target, over all networks.
        within: Concordance with them within cost levels.
        seconds: Mean seconds of training a network there, of one core on a CPU.
    """

    name: str
    tau: Interval
    within: Interval
    seconds: float


def judge(table: pd.DataFrame, metric: str = ACCURACY, *, higher: bool = True) -> list[Judged]:
    """Compare each proxy with the target.

    Args:
        table: A row for each network and place of training: `arch`, `level`, `proxy`, the metric and `seconds`.
        metric: Column that networks are judged by.
        higher: Whether more of it is better.
    """
    wide = table.pivot(index="arch", columns="proxy", values=metric) * (1 if higher else -1)
    level = table.drop_duplicates("arch").set_index("arch")["level"].loc[wide.index].to_numpy()
    truth, seconds = wide[TARGET].to_numpy(), table.groupby("proxy")["seconds"].mean()
    return [
        Judged(name, tau(wide[name], truth), concordance(wide[name], truth, level), float(seconds[name]))
        for name in table["proxy"].unique()
        if name != TARGET
    ]


def advice(judged: Sequence[Judged], target_seconds: float) -> str:
    """Recommend a proxy in one sentence: the cheapest that is as good as the best one, as far as these networks can show."""
    best = max(judged, key=lambda j: -math.inf if math.isnan(j.within.value) else j.within.value)
    if math.isnan(best.within.value):
        return "No two of these networks have one cost and different results, so nothing can be said; take more of a level."
    if not best.within.low > 0:
        return (
            f"None of these proxies can be told from guessing among networks of one cost: the best, {best.name}, has "
            f"{shown(best.within)}; take more networks, or a proxy nearer to the target."
        )
    able = [j for j in judged if j.within.low > 0 and j.within.value >= best.within.low]
    chosen = min(able, key=lambda j: j.seconds)
    known = not math.isnan(target_seconds)
    cost = f"{chosen.seconds:.3g} s a network" + (f", and the target {target_seconds:.3g} s" if known else "")
    if chosen.seconds > (1 - SAVED) * target_seconds:
        return f"Take no proxy: the cheapest that orders networks of one cost, {chosen.name}, takes {cost}."
    cases = f"{50 * (1 + chosen.within.value):.0f} of 100 cases"
    return f"Take {chosen.name}: of two networks of one cost it puts the better one first in about {cases}; it takes {cost}."


def shown(interval: Interval) -> str:
    """Format a statistic with its bounds."""
    if not interval.known:
        return "-"
    return f"{interval.value:.2f}" + ("" if math.isnan(interval.low) else f" ({interval.low:.2f}..{interval.high:.2f})")


def plain(judged: Judged) -> dict[str, Any]:
    """Plain values for JSON, with None for what is not known."""

    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    intervals = {"tau": judged.tau, "within": judged.within}
    bounds = {
        f"{name}{end}": known(getattr(i, key))
        for name, i in intervals.items()
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    return {"proxy": judged.name, **bounds, "networks": judged.within.networks, "seconds": known(judged.seconds)}


def of_search(evaluations: pd.DataFrame, error: str, cost: str) -> tuple[str, list[Judged]]:
    """Compare what a search itself measured of the networks that it picked to be trained alone.

    Args:
        evaluations: Rows of evaluations.csv.
        error: Column of what is minimised first.
        cost: Column whose levels count.

    Returns:
        The most faithful source of enough networks, whose order counts as the true one, and the worth of each source before it,
        of unknown seconds; an empty name where no source has enough.
    """
    shared = evaluations[evaluations["kind"].isin([records.SAMPLE, records.VALIDATION])]
    if shared.empty:
        return "", []
    last = shared[shared["stage"] == shared["stage"].max()]
    whole = last[last["kind"] == records.VALIDATION].groupby("arch")[error].mean()
    sources = {"the search's own judgements": whole.combine_first(last.groupby("arch")[error].mean())}
    alone = evaluations[evaluations["kind"].isin([records.LANDMARK, records.FINALIST])]
    several = "proxy" in alone and alone["proxy"].nunique() > 1
    for name, rows in alone.groupby(alone["proxy" if several else "kind"], sort=False):  # in the order of their ranks
        sources[f"trained alone at {name}" if several else f"{name}s"] = rows.groupby("arch")[error].mean()
    enough = [name for name, errors in sources.items() if len(errors) >= ENOUGH][1:]
    if not enough:
        return "", []
    truth, level = sources[enough[-1]], evaluations.groupby("arch")[cost].first()
    found = []
    for name, errors in itertools.takewhile(lambda source: source[0] != enough[-1], sources.items()):
        both = errors.index.intersection(truth.index[level[truth.index] > 0])
        if len(both) >= 2:
            pair = -errors[both].to_numpy(), -truth[both].to_numpy()
            found.append(Judged(name, tau(*pair), concordance(*pair, levels(level[both])), math.nan))
    return enough[-1], found


def judged_of(data: Mapping[str, Any]) -> Judged:
    """Invert `plain`."""

    def interval(name: str) -> Interval:
        value, low, high = (math.nan if (x := data[f"{name}{end}"]) is None else float(x) for end in ("", "_low", "_high"))
        return Interval(value, low, high, int(data["networks"]))

    seconds = data.get("seconds")
    return Judged(data["proxy"], interval("tau"), interval("within"), math.nan if seconds is None else float(seconds))


def picture(judged: Sequence[Judged], target_seconds: float, networks: int) -> plots.Picture:
    """Draw cost against concordance, with the target's cost as a line."""
    figure = plots.new_figure(6.4, 3.8)
    ax = figure.subplots()
    plots.draw_proxies(
        ax,
        [j.name for j in judged],
        np.array([max(j.seconds, LEAST) for j in judged]),
        np.array([[j.within.value, j.within.low, j.within.high] for j in judged]),
        target_seconds,
    )
    caption = f"{networks} networks, each trained at the target and at every proxy; bars are 95 % intervals, 0 is guessing."
    return plots.Picture("proxies", "Cost of proxies against what they tell", caption, figure)
