"""Fit of the costs of operations to measured networks, and the accuracy of their predictions."""

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
"""Tolerance of the solver: what is so near its bound is on it. Kernels of different processors end on either side."""
EQUAL = 1e-6, 1e-12
"""Errors that differ by less, relative to the least or in all, say nothing of who is better: a millionth of a cost, squared."""


@dataclass(frozen=True)
class Fitted:
    """Additive cost model: `fixed` plus the cost of each part of a network; none is negative.

    Args:
        fixed: Cost that all networks have.
        costs: (parts,), in the unit of the measurements.
        error: Mean squared error in cross-validation, relative if the fit was.
    """

    fixed: float
    costs: Floats
    error: float = np.nan

    def predict(self, counts: Floats) -> Floats:
        """Predict costs of networks.

        Args:
            counts: (networks, parts), how often each network has each part.

        Returns:
            (networks,).
        """
        return self.fixed + counts @ self.costs


def fit(counts: Floats, values: Floats, kinds: Sequence[str], alone: Floats | None = None, *, relative: bool = True) -> Fitted:
    """Fit the costs of parts by regularised non-negative least squares on whole networks.

    The cost of a part within a network differs from its cost alone, mostly by a common factor and by an overhead per kind.
    Each cost is therefore pulled towards `scale * alone + overhead of its kind`, or without `alone` towards the overhead of
    its kind; cross-validation chooses the strength of that pull.

    Args:
        counts: (networks, parts), how often each network has each part.
        values: (networks,), measured costs, above 0.
        kinds: (parts,), the kind of each part; parts of a kind are expected to cost alike.
        alone: (parts,), the measured cost of each part alone, in the unit of `values`; NaN where it could not be measured.
        relative: Minimise relative instead of absolute errors.

    Raises:
        ValueError: For too few networks, or costs that are not finite and positive.
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
    """Solve for the fixed cost, the cost of each part, the overhead of each kind, and the scale of `alone`.

    Only the last two may be negative, since an operation can cost less within a network than alone.
    """
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
    """Compare predictions with measurements.

    Args:
        measured: (networks,).
        predicted: (networks,), in the same unit.

    Returns:
        `mape` (mean absolute percentage error), `r2`, `spearman` and `kendall` (tau-b).
    """
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
    """Round each to nine digits: sums in another order differ from the fifteenth."""
    fraction, exponent = np.frexp(values)
    found: Floats = np.ldexp(np.round(fraction * 2.0**30) / 2.0**30, exponent)
    return found
