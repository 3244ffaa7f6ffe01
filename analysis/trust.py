"""Can shared weights be trusted? Rank correlations with intervals, repeats and skips. Functions on arrays and tables."""

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
"""Of each bootstrap."""
SUFFIX = "_accuracy"
"""What the columns of inherited accuracies end in; before it stand the statistics that normalisation went by."""
RANDOM, FRONT = "random", "front"
"""Kinds of networks in trust.csv: drawn from the options that survive, and the members of the front."""
ALL, BETTER = "all", "the better half"
ENOUGH = 8
"""Of fewer networks a bootstrap says nothing: it draws the same few again and again, and calls a lucky order certain."""


@dataclass(frozen=True)
class Interval:
    """A statistic of some networks, nan where there is none, with its bootstrap 95 % interval, nan of fewer than `ENOUGH`."""

    value: float
    low: float
    high: float
    networks: int

    @property
    def known(self) -> bool:
        """Whether there is a value at all."""
        return bool(np.isfinite(self.value))


def tau(first: ArrayLike, second: ArrayLike) -> Interval:
    """Kendall's tau-b of two rankings of the same networks, (networks,) each, with the percentile interval of a bootstrap over
    the networks (scipy's, paired, its seed fixed).

    nan where there are fewer than two networks, or either ranking is the same for all; no interval of fewer than `ENOUGH`. A
    resample that is a single value ranks nothing
    and counts as 0. Raises ValueError for shapes that differ or values that are not finite.
    """
    a, b = _paired(first, second)
    return _interval(lambda x, y: float(kendalltau(x, y).statistic), (a, b))


def tau_difference(first: ArrayLike, second: ArrayLike, truth: ArrayLike) -> Interval:
    """By how much `second` has the higher tau with the truth than `first`, (networks,) each; the interval is of the difference,
    on the same resamples for both. nan and errors as `tau`."""
    a, b, c = _paired(first, second, truth)

    def gain(x: Floats, y: Floats, t: Floats) -> float:
        return float(kendalltau(y, t).statistic) - float(kendalltau(x, t).statistic)

    return _interval(gain, (a, b, c))


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
    found = bootstrap(
        tuple(arrays),
        lambda *drawn: np.nan_to_num(statistic(*drawn)),
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        paired=True,
        vectorized=False,
        rng=0,
    ).confidence_interval
    return Interval(float(value), float(found.low), float(found.high), count)


def picked(inherited: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """The true rank of the network that the inherited accuracy puts first, 1 for the best, and by how much its truth is below
    the best; both arrays are (networks,), higher is better. Of several that are first, the mean.

    Raises ValueError for no networks, and as `tau` does.
    """
    a, b = _paired(inherited, truth)
    if not len(a):
        raise ValueError("there are no networks to pick from")
    first = a == a.max()
    return float(rankdata(-b, method="min")[first].mean()), float(b.max() - b[first].mean())


def repeated(keys: Iterable[Hashable]) -> NDArray[np.bool_]:
    """(keys,): whether each was there before."""
    seen: set[Hashable] = set()
    found = []
    for key in keys:
        found.append(key in seen)
        seen.add(key)
    return np.array(found, dtype=bool)


@dataclass(frozen=True)
class Skips:
    """What counts as a skip in a space, option by option, (options of all choices,) each, the choices one after the other.

    skip: options that pass their input on. edge: options of choices that have a skip among them, without those that stand for
    no edge at all; shares are among these.
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
        """The share in uniformly drawn networks; nan for a space without skips. The mean of each choice's own."""
        starts = np.cumsum([0, *self.sizes])
        shares = [
            self.skip[a:b].sum() / self.edge[a:b].sum() for a, b in itertools.pairwise(starts.tolist()) if self.edge[a:b].any()
        ]
        return float(np.mean(shares)) if shares else float("nan")

    def share(self, weights: ArrayLike) -> Floats:
        """(rows,): of probabilities, (rows, options of all choices), the skips' among the edges'; nan where all are 0."""
        rows = np.asarray(weights, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.skip):
            raise ValueError(f"weights must have the shape (rows, {len(self.skip)}), not {rows.shape}")
        return _shares(rows[:, self.skip & self.edge].sum(axis=1), rows[:, self.edge].sum(axis=1))

    def shares(self, architectures: Sequence[Sequence[int]]) -> Floats:
        """(architectures,): of single networks, an option index for each choice."""
        places = np.asarray(architectures, dtype=np.int64).reshape(len(architectures), len(self.sizes))
        chosen = np.cumsum([0, *self.sizes[:-1]]) + places
        return _shares((self.skip & self.edge)[chosen].sum(axis=1), self.edge[chosen].sum(axis=1))


def _shares(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """nan of nothing."""
    found: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return found


@dataclass(frozen=True)
class Agreement:
    """How well inherited accuracies rank networks: tau with the truth. kind: random or front. among: which of them."""

    kind: str
    among: str
    statistics: str
    tau: float
    low: float
    high: float
    networks: int


def statistics_of(table: pd.DataFrame) -> list[str]:
    """The statistics that trust.csv has inherited accuracies under."""
    return [c.removesuffix(SUFFIX) for c in table.columns if c.endswith(SUFFIX)]


def agreements(table: pd.DataFrame, higher: bool = True) -> list[Agreement]:
    """Tau for each kind of networks and statistics in trust.csv, among all that have a `true` value; of the random networks
    also among those whose truth is at least the median. higher: whether more of the truth is better."""
    found = []
    known = table[table["true"].notna()]
    truth = known["true"] if higher else -known["true"]
    for kind in (RANDOM, FRONT):
        here = known["kind"] == kind
        groups = {ALL: here}
        if kind == RANDOM:
            groups[BETTER] = here & (truth >= truth[here].median())
        for among, rows in groups.items():
            if int(rows.sum()) < (2 if among == ALL else ENOUGH):
                continue
            for statistics in statistics_of(table):
                t = tau(known.loc[rows, statistics + SUFFIX], truth[rows])
                found.append(Agreement(kind, among, statistics, t.value, t.low, t.high, t.networks))
    return found


def verdict(table: pd.DataFrame, own: str, higher: bool, shares: Mapping[str, float]) -> dict[str, Any]:
    """All that trust.csv says, as plain values (None for what cannot be said).

    table: `arch`, `kind`, `true` and an accuracy for each statistics. own: the statistics that the search went by. higher: as
    for `agreements`. shares: of skips, by architecture, nan for none; empty for a space without any.
    """
    random = table[(table["kind"] == RANDOM) & table["true"].notna()]
    truth = (random["true"] if higher else -random["true"]).to_numpy(dtype=float)
    mine = random[own + SUFFIX].to_numpy(dtype=float)
    gains, picks = {}, {}
    for statistics in statistics_of(table):
        values = random[statistics + SUFFIX].to_numpy(dtype=float)
        if statistics != own:
            gains[statistics] = asdict(tau_difference(mine, values, truth))
        if len(values):
            rank, short = picked(values, truth)
            picks[statistics] = {"rank": rank, "of": len(values), "short": short}
    overrated = None
    if shares and len(random):
        # Positive where a network with more skips is put further ahead of where it belongs.
        ahead = rankdata(mine) - rankdata(truth)
        skipping = np.array([shares[a] for a in random["arch"]])
        known = np.isfinite(skipping)  # a network without any edge has no share
        overrated = asdict(tau(skipping[known], ahead[known]))
    plain: dict[str, Any] = _plain(
        {
            "agreements": [asdict(a) for a in agreements(table, higher)],
            "gains": gains,
            "picked": picks,
            "overrated_skips": overrated,
        }
    )
    return plain


def _plain(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
