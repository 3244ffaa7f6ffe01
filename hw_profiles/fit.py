"""From measured networks to the costs of what they are made of, and how well those predict networks never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from scipy.stats import kendalltau, spearmanr

Floats = NDArray[np.float64]
Name = TypeVar("Name")

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5
TOLERANCE = 1e-10
"""Of the solver: what is so near its bound is on it. Kernels of unlike processors end on either side."""
EQUAL = 1e-6, 1e-12
"""Errors that differ by less, relative to the least or in all, say nothing of who is better: a millionth of a cost, squared."""


@dataclass(frozen=True)
class Fitted:
    """A network's cost is `fixed` and, for each part it has, that part's entry of `costs`; none of them is negative.

    error: mean square error in cross-validation, relative where the fit was.
    """

    fixed: float
    costs: Floats
    error: float = np.nan

    def predict(self, counts: Floats) -> Floats:
        """(networks,) from (networks, parts)."""
        return self.fixed + counts @ self.costs


def fit(counts: Floats, values: Floats, kinds: Sequence[str], alone: Floats | None = None, *, relative: bool = True) -> Fitted:
    """Costs of parts, by least squares on whole networks.

    counts: (networks, parts), how often each network has each part. values: (networks,), what each costs, above 0. kinds:
    (parts,), parts of a kind are expected to cost alike. alone: (parts,), what each costs by itself; NaN where
    that could not be measured. relative: whether errors count in percent.

    What a part adds to a network differs from what it takes alone, mostly in the same way for all parts and for those of a
    kind; with `alone` its cost is expected at scale * alone + overhead of its kind, without at that of its kind, and departs
    from it as far as the networks say: how readily is chosen by cross-validation. Raises ValueError where there is too little
    to fit.
    """
    if len(values) < 2 * FOLDS:
        raise ValueError(f"{len(values)} networks are too few to fit costs to; at least {2 * FOLDS} are needed")
    if not np.isfinite(values).all() or values.min() <= 0:
        raise ValueError("costs of networks must be finite and above 0")
    fold = np.random.default_rng(0).permutation(len(values)) % FOLDS
    mean = float(values.mean())
    values, alone = values / mean, None if alone is None else alone / mean
    scale = values if relative else np.ones(len(values))

    def error(penalty: float) -> float:
        total = 0.0
        for k in range(FOLDS):
            kept, out = fold != k, fold == k
            found = _solve(counts[kept], values[kept], scale[kept], kinds, alone, penalty)
            total += float((((found.predict(counts[out]) - values[out]) / scale[out]) ** 2).sum())
        return total

    errors = {penalty: error(penalty) / len(values) for penalty in PENALTIES}
    best = least(errors)
    found = _solve(counts, values, scale, kinds, alone, best)
    return Fitted(mean * found.fixed, mean * found.costs, errors[best])


def _solve(counts: Floats, values: Floats, scale: Floats, kinds: Sequence[str], alone: Floats | None, penalty: float) -> Fitted:
    """Unknown are the fixed part, each part's cost, each kind's overhead, and the scale of `alone`. Only the last two may be
    negative: an operation in a network can take less than by itself."""
    parts = counts.shape[1]
    named, kind = np.unique(np.array(kinds, dtype=str), return_inverse=True)
    unit = 1 / max(1.0, float(counts.sum(axis=1).mean()))  # the size of a usual part's cost, where a network's is 1
    data = np.hstack([np.ones((len(values), 1)), counts * unit, np.zeros((len(values), len(named) + 1))]) / scale[:, None]
    prior = np.zeros((parts, data.shape[1]))
    prior[np.arange(parts), 1 + np.arange(parts)] = 1.0
    prior[np.arange(parts), 1 + parts + kind] = -1.0
    prior[:, -1] = 0.0 if alone is None else -np.nan_to_num(alone) / unit
    # An overhead is pulled to 0, the scale to 1, so weakly that it decides only what nothing else does.
    last = np.eye(len(named) + 1, data.shape[1], 1 + parts) * 1e-4
    system = np.vstack([data / np.sqrt(len(values)), prior * np.sqrt(penalty / max(1, parts)), last])
    target = np.concatenate([values / scale / np.sqrt(len(values)), np.zeros(parts + len(named)), [1e-4]])
    low = np.r_[np.zeros(1 + parts), np.full(len(named) + 1, -np.inf)]
    method = "bvls" if len(low) < 200 else "trf"
    found = lsq_linear(system, target, (low, np.inf), method=method, tol=TOLERANCE, lsq_solver="exact").x
    found = np.where(found <= low + TOLERANCE, low, found)
    return Fitted(float(found[0]), found[1 : 1 + parts] * unit)


def least(errors: Mapping[Name, float]) -> Name:
    """The first of those whose error is the least, or no more above it than `EQUAL`."""
    bound = min(errors.values()) * (1 + EQUAL[0]) + EQUAL[1]
    return next(key for key, error in errors.items() if error <= bound)


def agreement(measured: Floats, predicted: Floats) -> dict[str, float]:
    """`mape` (mean absolute error in percent of what was measured), `r2`, `spearman` and `kendall` (tau-b)."""
    # Networks of the same parts cost the same, and a rank of the last bits would be a rank of the processor's.
    one, other = _rounded(measured), _rounded(predicted)
    rest = float(((measured - predicted) ** 2).sum())
    whole = float(((measured - measured.mean()) ** 2).sum())
    constant = np.ptp(one) == 0 or np.ptp(other) == 0
    return {
        "mape": float(100 * np.mean(np.abs(predicted / measured - 1))),
        "r2": 1 - rest / whole if np.ptp(one) else 0.0,
        "spearman": 0.0 if constant else float(spearmanr(one, other).statistic),
        "kendall": 0.0 if constant else float(kendalltau(one, other).statistic),
    }


def _rounded(values: Floats) -> Floats:
    """To nine digits each: sums in another order differ from the fifteenth."""
    fraction, exponent = np.frexp(values)
    found: Floats = np.ldexp(np.round(fraction * 2.0**30) / 2.0**30, exponent)
    return found
