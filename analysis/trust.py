"""Ranking quality of shared weights: rank correlations with intervals, repeated samples, skip connections."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, kendalltau, rankdata

from analysis.pareto import Floats

CONFIDENCE = 0.95
RESAMPLES = 1000
"""Resamples of each bootstrap."""
STATISTICS = ("running", "batch", "recalibrated")
"""Kinds of normalisation statistics, which columns of inherited accuracies begin with, as `batch_accuracy_percent`."""
ACCURACY = "accuracy (%)"
"""Title of what is inherited, where a task has no other metric."""
TRUE = "true"
"""Beginning of the column of true values, as `true_accuracy_percent`."""
RANDOM, FRONT = "random", "front"
"""Kinds of networks in trust.csv: drawn at random from the surviving options, and members of the front."""
ALL, BETTER, WITHIN = "all", "the better half", "within levels of cost"
PARAMETERS = "parameters"
"""Column of trust.csv whose levels are those of `WITHIN`; training-free scores are the columns after it."""
LEVELS, _BINS = 30, 20
"""Distinct costs up to which each is a level of its own (NAS-Bench-201 has 28), and levels that more are divided into."""
ENOUGH = 8
"""Networks needed for an interval: with fewer, a bootstrap keeps drawing the same few and calls a lucky order certain."""


@dataclass(frozen=True)
class Interval:
    """Statistic with its bootstrap 95 % interval.

    Args:
        value: The statistic; NaN where it is undefined.
        low: Lower bound; NaN for fewer than `ENOUGH` networks.
        high: Upper bound, likewise.
        networks: Number of networks that it was computed from.
    """

    value: float
    low: float
    high: float
    networks: int

    @property
    def known(self) -> bool:
        """True if the statistic is defined."""
        return bool(np.isfinite(self.value))


def tau(first: ArrayLike, second: ArrayLike) -> Interval:
    """Kendall's tau-b of two rankings, with the percentile interval of a bootstrap over the networks.

    The bootstrap is SciPy's, paired, with a fixed seed. A resample in which all values are equal ranks nothing and counts
    as 0.

    Args:
        first: (networks,).
        second: (networks,), of the same networks.

    Returns:
        The value is NaN for fewer than two networks and where a ranking is constant.

    Raises:
        ValueError: If the shapes differ or a value is not finite.
    """
    a, b = _paired(first, second)
    return _interval(lambda x, y: float(kendalltau(x, y).statistic), (a, b))


def tau_difference(first: ArrayLike, second: ArrayLike, truth: ArrayLike) -> Interval:
    """Tau of `second` with the truth minus that of `first`, with an interval of the difference on common resamples.

    Args:
        first: (networks,).
        second: (networks,).
        truth: (networks,).

    Raises:
        ValueError: As `tau` does.
    """
    a, b, c = _paired(first, second, truth)

    def gain(x: Floats, y: Floats, t: Floats) -> float:
        return float(kendalltau(y, t).statistic) - float(kendalltau(x, t).statistic)

    return _interval(gain, (a, b, c))


def tau_within(first: ArrayLike, second: ArrayLike, levels: ArrayLike) -> Interval:
    """Tau-b of two rankings inside each level of cost, averaged over levels by their networks, with an interval as `tau` has.

    It says how networks of one cost are ranked, to which cost itself adds nothing. Levels of a single network, or in which a
    ranking is constant, are left out.

    Args:
        first: (networks,).
        second: (networks,), of the same networks.
        levels: (networks,), equal for networks of one level (see `cost_levels`).

    Returns:
        The value is NaN where no level is left.

    Raises:
        ValueError: As `tau` does.
    """
    return _interval(_tau_within, _paired(first, second, levels))


def _tau_within(a: Floats, b: Floats, levels: Floats) -> float:
    i, j = np.triu_indices(len(a), 1)
    together = levels[i] == levels[j]
    i, j = i[together], j[together]
    of_level, level = np.unique(levels, return_inverse=True)

    def sums(pairs: Floats) -> Floats:
        return np.asarray(np.bincount(level[i], weights=pairs, minlength=len(of_level)), dtype=np.float64)

    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    taus = _shares(sums(x * y), np.sqrt(sums(np.abs(x)) * sums(np.abs(y))))
    known = np.isfinite(taus)
    return float(np.average(taus[known], weights=np.bincount(level)[known])) if known.any() else float("nan")


def cost_levels(costs: ArrayLike) -> NDArray[np.int64]:
    """Group networks by cost: by distinct costs, or where there are more than `LEVELS`, by 20 bins of equal ratios.

    Args:
        costs: (networks,); bins are of equal width where a cost is not positive, as it has no ratios then.

    Returns:
        (networks,), the number of each network's level.
    """
    values = np.asarray(costs, dtype=np.float64)
    distinct, level = np.unique(values, return_inverse=True)
    if len(distinct) <= LEVELS:
        return np.asarray(level, dtype=np.int64)
    spaced = np.geomspace if distinct[0] > 0 else np.linspace
    edges = spaced(distinct[0], distinct[-1], _BINS + 1)[1:-1]
    return np.asarray(np.digitize(values, edges), dtype=np.int64)


def _paired(*values: ArrayLike) -> list[Floats]:
    arrays = [np.asarray(v, dtype=np.float64) for v in values]
    if any(a.ndim != 1 or a.shape != arrays[0].shape for a in arrays):
        raise ValueError(f"rankings must be of the same networks, (networks,); they are {[a.shape for a in arrays]}")
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("rankings must be finite")
    return arrays


def _interval(statistic: Callable[..., float], arrays: Sequence[Floats]) -> Interval:
    count = len(arrays[0])
    value = statistic(*arrays) if count > 1 else np.nan
    if not np.isfinite(value) or count < ENOUGH:
        return Interval(float(value), np.nan, np.nan, count)
    interval = bootstrap(
        tuple(arrays),
        lambda *resample: np.nan_to_num(statistic(*resample)),
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        paired=True,
        vectorized=False,
        rng=0,
    ).confidence_interval
    return Interval(float(value), float(interval.low), float(interval.high), count)


def picked(inherited: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """Judge the network that inherited accuracy ranks first.

    Args:
        inherited: (networks,), higher is better.
        truth: (networks,), higher is better.

    Returns:
        The true rank of that network, 1 for the best, and how far its truth lies below the best one; means where several
        networks tie for the first place.

    Raises:
        ValueError: For no networks, and as `tau` does.
    """
    a, b = _paired(inherited, truth)
    if not len(a):
        raise ValueError("there are no networks to pick from")
    first = a == a.max()
    return float(rankdata(-b, method="min")[first].mean()), float(b.max() - b[first].mean())


def repeated(keys: Iterable[Hashable]) -> NDArray[np.bool_]:
    """Flag the keys that have occurred before, (keys,)."""
    seen: set[Hashable] = set()
    flags = []
    for key in keys:
        flags.append(key in seen)
        seen.add(key)
    return np.array(flags, dtype=bool)


@dataclass(frozen=True)
class Skips:
    """Options of a space that are skip connections, and those that could have been one.

    Args:
        sizes: Number of options of each choice.
        skip: (options of all choices, concatenated), true for options that pass their input on.
        edge: Same shape, true for the options of choices that offer a skip, except those that stand for no edge. Shares are
            taken among these.
    """

    sizes: tuple[int, ...]
    skip: NDArray[np.bool_]
    edge: NDArray[np.bool_]

    @classmethod
    def of(cls, skips: Sequence[Sequence[bool]], none_option: Sequence[int | None] | None = None) -> Skips:
        """Read the skips off the options of each choice.

        Args:
            skips: Per choice, whether each option is a skip.
            none_option: Per choice the option that stands for no edge, or None.
        """
        none = none_option or [None] * len(skips)
        edge = [[any(row) and o != gone for o in range(len(row))] for row, gone in zip(skips, none, strict=True)]
        flat = np.array([s for row in skips for s in row], dtype=bool)
        return cls(tuple(map(len, skips)), flat, np.array([e for row in edge for e in row], dtype=bool))

    @property
    def chance(self) -> float:
        """Expected share in uniformly random networks, as the mean over choices; NaN for a space without skips."""
        starts = np.cumsum([0, *self.sizes])
        shares = [
            self.skip[a:b].sum() / self.edge[a:b].sum() for a, b in itertools.pairwise(starts.tolist()) if self.edge[a:b].any()
        ]
        return float(np.mean(shares)) if shares else float("nan")

    def share(self, weights: ArrayLike) -> Floats:
        """Share of skips in probabilities.

        Args:
            weights: (rows, options of all choices).

        Returns:
            (rows,); NaN where no edge has a probability above 0.

        Raises:
            ValueError: For another shape.
        """
        rows = np.asarray(weights, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.skip):
            raise ValueError(f"weights must have the shape (rows, {len(self.skip)}), not {rows.shape}")
        return _shares(rows[:, self.skip & self.edge].sum(axis=1), rows[:, self.edge].sum(axis=1))

    def shares(self, architectures: Sequence[Sequence[int]]) -> Floats:
        """Share of skips in single networks.

        Args:
            architectures: An option index per choice, for each network.

        Returns:
            (architectures,); NaN for a network without any edge that could be a skip.
        """
        indices = np.asarray(architectures, dtype=np.int64).reshape(len(architectures), len(self.sizes))
        chosen = np.cumsum([0, *self.sizes[:-1]]) + indices
        return _shares((self.skip & self.edge)[chosen].sum(axis=1), self.edge[chosen].sum(axis=1))


def _shares(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Element-wise ratio; NaN where the denominator is 0."""
    ratio: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau between inherited and true accuracy of a group of networks.

    Args:
        kind: `RANDOM` or `FRONT`.
        among: `ALL` of that kind, or the `BETTER` half of them.
        statistics: Normalisation statistics: `batch`, `running` or `recalibrated`.
        tau: Tau-b.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        networks: Size of the group.
    """

    kind: str
    among: str
    statistics: str
    tau: float
    low: float
    high: float
    networks: int


def statistics_of(table: pd.DataFrame) -> dict[str, str]:
    """Columns of the inherited accuracies in trust.csv by the normalisation statistics that they were measured with."""
    return {statistics: str(c) for c in table.columns for statistics in STATISTICS if str(c).startswith(f"{statistics}_")}


def true_of(table: pd.DataFrame) -> pd.Series:
    """Values of the column of trust.csv that says what networks are truly worth."""
    return next(table[c] for c in table.columns if str(c).startswith(TRUE))


def agreements(table: pd.DataFrame, higher: bool = True) -> list[Agreement]:
    """Compute tau for each kind of networks and normalisation statistics in trust.csv.

    Networks of unknown truth are left out. For random networks, tau is also computed among those whose truth is at least the
    median.

    Args:
        table: Rows of trust.csv.
        higher: True if higher true values are better.
    """
    results = []
    known = table[true_of(table).notna()]
    truth = true_of(known) if higher else -true_of(known)
    for kind in (RANDOM, FRONT):
        of_kind = known["kind"] == kind
        groups = {ALL: of_kind}
        if kind == RANDOM:
            groups[BETTER] = of_kind & (truth >= truth[of_kind].median())
        for among, rows in groups.items():
            if int(rows.sum()) < (2 if among == ALL else ENOUGH):
                continue
            for statistics, column in statistics_of(table).items():
                t = tau(known.loc[rows, column], truth[rows])
                results.append(Agreement(kind, among, statistics, t.value, t.low, t.high, t.networks))
    return results


def scores_of(table: pd.DataFrame) -> list[str]:
    """Training-free scores that trust.csv has."""
    columns = list(table.columns)
    return columns[columns.index(PARAMETERS) + 1 :] if PARAMETERS in columns else []


def rankings(table: pd.DataFrame, own: str, higher: bool, inherited: str = ACCURACY) -> list[dict[str, Any]]:
    """Compute how inherited accuracy, parameters and each training-free score rank the random networks of known truth.

    Args:
        table: Rows of trust.csv.
        own: The statistics that the search used.
        higher: True if higher true values are better.
        inherited: Title of what is inherited, with its unit.

    Returns:
        For each of them, among `ALL` and `WITHIN` levels of parameters: `by`, its name; `among`; `tau` with `low` and `high`;
        `networks` that it has a value for, and `lacking`, those that it has none for. Nothing without training-free scores, or
        where the truth of fewer than two networks is known.
    """
    scores = scores_of(table)
    random = table[(table["kind"] == RANDOM) & true_of(table).notna()]
    title = inherited.partition(" (")[0]
    columns = {f"inherited {title} ({own})": statistics_of(table)[own]} | {name: name for name in (PARAMETERS, *scores)}
    results = []
    for by, column in columns.items() if scores and len(random) > 1 else ():
        rows = random[random[column].notna()]
        truth = true_of(rows) if higher else -true_of(rows)
        levels = cost_levels(rows[PARAMETERS])
        for among, found in ((ALL, tau(rows[column], truth)), (WITHIN, tau_within(rows[column], truth, levels))):
            bounds = {"tau": found.value, "low": found.low, "high": found.high}
            results.append({"by": by, "among": among, **bounds, "networks": len(rows), "lacking": len(random) - len(rows)})
    return results


def ranking_quality(
    table: pd.DataFrame, own: str, higher: bool, shares: Mapping[str, float], inherited: str = ACCURACY
) -> dict[str, Any]:
    """Summarise trust.csv.

    Args:
        table: Columns `arch`, `kind`, one of true values, and an inherited accuracy for each of `STATISTICS` that were tried.
        own: The statistics that the search used.
        higher: True if higher true values are better.
        shares: Share of skips of each architecture, NaN for one without edges; empty for a space without skips.
        inherited: Title of what is inherited, with its unit.

    Returns:
        Plain values for JSON, with None for undefined ones: `agreements`; `gains` in tau of other statistics over `own`;
        `picked`, the true rank of the network that each puts first; and `overrated_skips`, tau between a network's share of
        skips and how far it is ranked above its true place; and `rankings`.
    """
    random = table[(table["kind"] == RANDOM) & true_of(table).notna()]
    truth = (true_of(random) if higher else -true_of(random)).to_numpy(dtype=float)
    own_accuracy = random[statistics_of(table)[own]].to_numpy(dtype=float)
    gains, picks = {}, {}
    for statistics, column in statistics_of(table).items():
        values = random[column].to_numpy(dtype=float)
        if statistics != own:
            gains[statistics] = asdict(tau_difference(own_accuracy, values, truth))
        if len(values):
            rank, regret = picked(values, truth)
            picks[statistics] = {"rank": rank, "of": len(values), "short": regret}
    overrated = None
    if shares and len(random):
        rank_error = rankdata(own_accuracy) - rankdata(truth)  # positive for networks ranked above their true place
        skipping = np.array([shares[a] for a in random["arch"]])
        known = np.isfinite(skipping)  # a network without any edge has no share
        overrated = asdict(tau(skipping[known], rank_error[known]))
    plain: dict[str, Any] = _plain(
        {
            "agreements": [asdict(a) for a in agreements(table, higher)],
            "gains": gains,
            "picked": picks,
            "overrated_skips": overrated,
            "rankings": rankings(table, own, higher, inherited),
        }
    )
    return plain


def _plain(value: Any) -> Any:
    """Replace NaN by None, since JSON has no NaN."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
