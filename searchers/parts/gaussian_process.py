"""Gaussian processes over architectures, fitted to a few hundred evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from sklearn.preprocessing import PowerTransformer, StandardScaler

from searchers.base import Architecture, PathEncoding
from searchers.parts.ties import ROUNDING

JITTER = 1e-6
"""Jitter on the diagonal of covariances of values of standard deviation 1, so that they stay positive definite."""
JITTER_FACTORS = (1, 10, 100, 1000, 10_000)
"""Multiples of the jitter that are tried in turn until a Cholesky decomposition is found."""
MAX_LBFGS_ITERATIONS = 50
OPTION_SPREAD = 0.7
"""Prior deviation of an option's log weight from that of all options."""
MAX_FITTED = 200
"""Largest number of evaluations that hyperparameters are fitted to, spread evenly; the time grows with its cube."""


class Encoding:
    """Features of architectures: one-hot rows, counts of options, and the path encoding of their graphs.

    The counts say how often each option is taken among the choices with the same number of options. Those mostly have the same
    operations, so that a lesson from one place holds at the others, too. Where they do not, the process learns to ignore the
    counts.

    Args:
        sizes: Number of options of each choice.
        path_encoding: Features of the graphs of all architectures, or None.

    Attributes:
        own: Number of features of the first two kinds.
        groups: Group of each feature, (features,); features of a group have about the same weight.
        typical: Per group, the weight at which the features of a kind set two random networks 0.6 apart (squared).
        spread: Per group, the prior deviation of its log weight: small where nothing but the choices tells networks apart, lest
            noise be taken for what sets each network apart from all others.

    Raises:
        ValueError: for a path encoding that has not a row for each architecture.
    """

    def __init__(self, sizes: Sequence[int], path_encoding: PathEncoding | None = None) -> None:
        self.sizes = np.array(sizes)
        self._at = np.cumsum([0, *sizes[:-1]])
        self.one_hot = int(self.sizes.sum())
        blocks = []
        for size in sorted(set(sizes)):
            alike = np.flatnonzero(self.sizes == size)
            if len(alike) > 1:
                block = np.zeros((self.one_hot, size))
                for choice in alike:
                    block[self._at[choice] : self._at[choice] + size] = 2.0 / np.sqrt(len(alike)) * np.eye(size)
                blocks.append(block)
        self._counts = np.hstack([np.zeros((self.one_hot, 0)), *blocks])
        self.own = self.one_hot + self._counts.shape[1]
        groups, typical = [0] * self.one_hot + [1] * self._counts.shape[1], [0.6 / len(sizes)] * 2
        spread = [0.3, 0.3]
        self._path_encoding = None
        if path_encoding is not None and len(path_encoding[1]):
            if path_encoding[0].shape != (math.prod(sizes), len(path_encoding[1])):
                raise ValueError(
                    f"path_encoding has the shape {path_encoding[0].shape}, not ({math.prod(sizes)}, {len(path_encoding[1])})"
                )
            # Only distances count, and far from 0 they would lose their digits.
            self._path_encoding = path_encoding[0] - path_encoding[0].mean(axis=0)
            of, apart = np.array(path_encoding[1]), 2 * self._path_encoding.var(axis=0)
            alone = np.isin(of, np.flatnonzero(np.bincount(of) == 1))
            for group in range(int(of.max()) + 1):
                together = alone if alone[of == group].all() else ~alone
                typical.append(0.6 / max(float(apart[together].sum()), 1e-9))
            groups += (2 + of).tolist()
            spread = [1.0] * len(typical)
        self.groups, self.typical, self.spread = np.array(groups), np.array(typical), np.array(spread)

    def __call__(self, architectures: Sequence[Architecture] | np.ndarray) -> np.ndarray:
        """Encode architectures, (architectures, features)."""
        options = np.asarray(architectures, dtype=int).reshape(-1, len(self.sizes))
        hot = np.zeros((len(options), self.one_hot))
        hot[np.arange(len(options))[:, None], self._at + options] = 1.0
        known = [hot, hot @ self._counts]
        if self._path_encoding is not None:
            known.append(self._path_encoding[np.ravel_multi_index(tuple(options.T), tuple(self.sizes))])
        return np.hstack(known)


class Scale:
    """Transform of values to mean 0 and standard deviation 1, and back.

    Args:
        values: The values that are to have that scale, (evaluations,).
        skewed: Whether to make them about normal first, by the power transform of Yeo and Johnson (2000), so that a network
            that did not learn, with an error of 90 %, does not hide the differences between good ones.
    """

    def __init__(self, values: np.ndarray, skewed: bool) -> None:
        self._centre, spread = float(np.median(values)), float(np.ptp(values))
        if spread <= ROUNDING * np.abs(values).max():  # rounding differences of sums in another order
            values, spread = np.full_like(values, self._centre), 0.0
        self._width = float(np.std(values)) if spread else 1.0
        self._scaler = PowerTransformer() if skewed and spread else StandardScaler()
        self._scaler.fit(self._even(values))
        # Far beyond what was seen the inverse of some powers has no value.
        self._bounds = 2 * values.min() - self._centre, float(values.max())
        self._inner = self.to(np.array(self._bounds))

    def _even(self, values: np.ndarray) -> np.ndarray:
        return ((values - self._centre) / self._width)[:, None]

    def to(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(self._scaler.transform(self._even(values))[:, 0])

    def back(self, values: np.ndarray) -> np.ndarray:
        """Invert the transform, within bounds: the highest value seen, and twice as far below the median as the lowest."""
        inner = np.clip(values, *self._inner).astype(float)[:, None]
        return np.asarray(np.clip(self._centre + self._width * self._scaler.inverse_transform(inner)[:, 0], *self._bounds))


class Kernel:
    """amplitude * exp(-weighted squared distance of features) + linear * dot product of choices + noise.

    Each group of features has a weight, and each one-hot and count feature a deviation of its own from that (automatic
    relevance determination; Rasmussen and Williams, 2006, section 5.1). All hyperparameters are fitted at once, as the most
    probable ones under broad log-normal priors, which keep some fifty numbers sane with twenty evaluations. What the features
    cannot explain, randomness of training included, is noise; values are not interpolated.

    Args:
        encoding: Features of architectures.
        x: Features of evaluations, (evaluations, features).
        z: Their scaled values, (evaluations,).
    """

    def __init__(self, encoding: Encoding, x: np.ndarray, z: np.ndarray) -> None:
        if len(x) > MAX_FITTED:
            x, z = (rows[np.linspace(0, len(rows) - 1, MAX_FITTED).astype(int)] for rows in (x, z))
        self._choices, self._own, self._groups = len(encoding.sizes), encoding.own, encoding.groups
        # A priori two random networks are about one length apart by each kind of feature, and noise has a thirtieth of the
        # variance.
        self._mean = np.concatenate([np.log([*encoding.typical, 1.0, 0.3, 0.03]), np.zeros(self._own)])
        self._deviation = np.array([*encoding.spread, 1.0, 1.5, 1.5, *[OPTION_SPREAD] * self._own])
        bounds = [(-9, 5)] * len(self._mean)
        limits = {"maxiter": MAX_LBFGS_ITERATIONS}
        found = minimize(self._loss, self._mean, (x, z), jac=True, method="L-BFGS-B", bounds=bounds, options=limits).x
        self.weights, (self.amplitude, self.linear, self.noise) = self._read(np.clip(found, *bounds[0]))

    def _read(self, log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split the logarithms of all hyperparameters into the weight of each feature, and amplitude, linear and noise."""
        count = len(log) - self._own - 3
        weights = log[:count][self._groups]
        weights[: self._own] += log[count + 3 :]
        return np.exp(weights), np.exp(log[count : count + 3])

    def _dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a[:, : self._own] @ b[:, : self._own].T / self._choices)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the covariance without noise, (rows of a, rows of b)."""
        return np.asarray(self.amplitude * np.exp(-_distances(a, b, self.weights)) + self.linear * self._dot(a, b))

    def prepare(self, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precompute what `against` needs of rows that are compared with many others."""
        weighted = (b * np.sqrt(self.weights)).astype(np.float32)
        own = (b[:, : self._own] * (self.linear / self._choices)).astype(np.float32)
        return weighted, np.square(weighted).sum(axis=1), own

    def against(self, a: np.ndarray, prepared: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """Return the covariance of a single row `a`, (features,), with prepared rows b, (rows of b,)."""
        weighted, norms, own = prepared
        row = (a * np.sqrt(self.weights)).astype(np.float32)
        near = np.exp(np.minimum(2 * (weighted @ row) - norms - row @ row, 0.0))
        return np.asarray(np.float32(self.amplitude) * near + own @ a[: self._own].astype(np.float32))

    def diagonal(self, a: np.ndarray) -> np.ndarray:
        return np.asarray(self.amplitude + self.linear / self._choices * (a[:, : self._own] ** 2).sum(axis=1))

    def _loss(self, log: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Return minus the log posterior of the logarithms of all hyperparameters, and its gradient."""
        weights, (amplitude, linear, noise) = self._read(log)
        similar, dot = np.exp(-_distances(x, x, weights)), self._dot(x, x)
        root = _cholesky(amplitude * similar + linear * dot, noise)
        inverse = cho_solve((root, True), np.eye(len(x)))
        solved = inverse @ z
        away = (log - self._mean) / self._deviation
        loss = 0.5 * z @ solved + np.log(np.diag(root)).sum() + 0.5 * away @ away
        outer = 0.5 * (inverse - np.outer(solved, solved))
        pull = amplitude * outer * similar
        by_weight = -2 * weights * ((x * x).T @ pull.sum(axis=1) - np.einsum("if,if->f", x, pull @ x))
        by_group = np.bincount(self._groups, by_weight, minlength=len(log) - self._own - 3)
        by_scale = [pull.sum(), linear * (outer * dot).sum(), noise * np.trace(outer)]
        slope = np.concatenate([by_group, by_scale, by_weight[: self._own]])
        return float(loss), slope + away / self._deviation


class Posterior:
    """Mean and deviation at `candidates`, conditioned on rows that can be added one at a time.

    Adding a row costs the product of known rows and candidates, not the square of the known ones, so that a whole small space
    can be predicted after every evaluation.

    Args:
        kernel: Fitted kernel.
        candidates: Features to predict at, (candidates, features).
        known: Features of the first known rows, (known, features).
        room: Number of rows that will be added.
    """

    def __init__(self, kernel: Kernel, candidates: np.ndarray, known: np.ndarray, room: int = 0) -> None:
        self._kernel, self._prepared, self._x = kernel, kernel.prepare(candidates), known
        n = len(known)
        self._root = np.zeros((n + room, n + room))
        self._root[:n, :n] = _cholesky(kernel(known, known), kernel.noise)
        # float32 halves the time, and errors stay far below the noise.
        self._rows = np.zeros((n + room, len(candidates)), dtype=np.float32)
        self._rows[:n] = solve_triangular(self._root[:n, :n], kernel(known, candidates), lower=True, check_finite=False)
        self._variance = kernel.diagonal(candidates) - np.square(self._rows[:n]).sum(axis=0)

    def __len__(self) -> int:
        return len(self._x)

    def add(self, x: np.ndarray) -> None:
        """Condition on one more row `x`, (features,)."""
        n, own = len(self), x[None]
        across = solve_triangular(self._root[:n, :n], self._kernel(self._x, own)[:, 0], lower=True, check_finite=False)
        left = float(self._kernel.diagonal(own)[0]) + self._kernel.noise + JITTER - across @ across
        self._root[n, :n], self._root[n, n] = across, np.sqrt(max(left, JITTER))
        row = self._kernel.against(x, self._prepared) - across.astype(np.float32) @ self._rows[:n]
        self._rows[n] = row / self._root[n, n]
        self._variance -= np.square(self._rows[n])
        self._x = np.vstack([self._x, own])

    def predict(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and deviations at the candidates, (candidates,) each, without the noise of a new measurement.

        Args:
            z: Scaled values at the known rows, (known,).
        """
        n = len(z)
        solved = solve_triangular(self._root[:n, :n], z, lower=True, check_finite=False)
        return solved.astype(np.float32) @ self._rows[:n], np.sqrt(np.maximum(self._variance, JITTER))


def _distances(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return weighted squared distances, (rows of a, rows of b)."""
    own, other = (a * a) @ weights, (b * b) @ weights
    return np.asarray(np.maximum(own[:, None] + other - 2 * (a * weights) @ b.T, 0.0))


def _cholesky(covariance: np.ndarray, noise: float) -> np.ndarray:
    """The lower root of a covariance and noise; the former may be singular, and negative as far as rounding goes.

    Raises ArithmeticError for what is no covariance.
    """
    for times in JITTER_FACTORS:
        try:
            root = np.linalg.cholesky(covariance + (noise + times * JITTER) * np.eye(len(covariance)))
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(root[-1, -1]):  # LAPACK lets NaN through, down to the last row
            return np.asarray(root)
    raise ArithmeticError(
        f"the covariance of {len(covariance)} evaluations, with entries from {covariance.min():g} to {covariance.max():g} and "
        f"noise {noise:g}, has no Cholesky decomposition even with {JITTER_FACTORS[-1] * JITTER:g} added to its diagonal"
    )
