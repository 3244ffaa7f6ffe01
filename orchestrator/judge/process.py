"""Gaussian process of one source of measurements: what they say of networks, less the chance of when they were taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from searchers.parts.gaussian_process import JITTER, JITTER_FACTORS, MAX_FITTED, OPTION_SPREAD, Encoding
from searchers.parts.ties import ROUNDING

Floats = NDArray[np.float64]

ITERATIONS = 50
"""Iterations of L-BFGS for the hyperparameters."""
NOISES = (0.03, 0.5)
"""Shares of the variance that are noise at the two starts of the fit."""
BOUNDS = (-9.0, 5.0)
"""Range of the logarithm of every hyperparameter; values have deviation 1."""


@dataclass(frozen=True)
class Rows:
    """What a process knows of measurements, or of networks that it is asked about.

    Args:
        features: Features of the networks, (rows, features), of an `Encoding`.
        slopes: Quantities that may tell the value of a network by a straight line, (rows, slopes), of deviation about 1: what
            other sources say of it, and training-free scores.
        when: Share of the training of shared weights that was over, (rows,), in 0..1.
        batch: Number of the images that a measurement was taken on, (rows,); those of equal number share its chance. Negative
            numbers share it with nothing.
        variance: Known variance of each measurement, (rows,), on the scale of the values.
    """

    features: Floats
    slopes: Floats
    when: Floats
    batch: NDArray[np.int64]
    variance: Floats

    @classmethod
    def of_networks(cls, features: Floats, slopes: Floats) -> Self:
        """Describe networks at the end of the training of shared weights, whatever the images."""
        n = len(features)
        return cls(features, slopes, np.ones(n), np.full(n, -1), np.zeros(n))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, which: NDArray[np.int64]) -> Rows:
        return Rows(
            self.features[which], self.slopes[which], self.when[which], self.batch[which], self.variance[which]
        )  # fmt: skip


class Process:
    """Posterior over the values of networks, given noisy measurements.

    The covariance of two measurements is a sum: of the networks (by their features, and by options), of the slopes, of the time
    when they were taken (shared weights improve during a search), of the images that they share, of noise. All hyperparameters
    are fitted at once, as the most probable ones under broad log-normal priors (as in `parts/gaussian_process.py`, which
    surrogate search uses and which has fewer terms). A slope whose quantity says nothing gets a variance of nearly 0.

    Args:
        encoding: Features of architectures.
        rows: The measurements.
        values: Their values, (rows,), of mean 0 and deviation 1.
        own: Prior of the variance that features explain, beside what slopes do.

    Raises:
        ArithmeticError: Where the covariance has no Cholesky decomposition.
    """

    def __init__(self, encoding: Encoding, rows: Rows, values: Floats, own: float = 1.0) -> None:
        self._groups = torch.from_numpy(encoding.groups)
        self._own, self._choices = encoding.own, len(encoding.sizes)
        count, slopes = len(encoding.typical), rows.slopes.shape[1]
        parts = [count, 3, encoding.own, 3, slopes]
        self._at = np.cumsum([0, *parts])
        # Network, linear and noise; drift over time, its inverse length, and images: a priori the first explains most.
        mean = [*np.log(encoding.typical), *np.log([own, 0.3 * own, 0.1]), *np.zeros(encoding.own), *np.log([0.1, 4.0, 0.1])]
        deviation = [*encoding.spread, 1.0, 1.5, 1.5, *np.full(encoding.own, OPTION_SPREAD), 1.5, 1.0, 1.5]
        prior = np.array([*mean, *np.full(slopes, np.log(0.5))]), np.array([*deviation, *np.full(slopes, 1.5)])
        fitted = np.arange(len(rows))
        if len(rows) > MAX_FITTED:
            fitted = np.linspace(0, len(rows) - 1, MAX_FITTED).astype(int)
        some, z = _Tensors.of(rows[fitted]), torch.from_numpy(values[fitted])

        def loss(log: Floats) -> tuple[float, Floats]:
            """Minus the log posterior of the logarithms of all hyperparameters, and its gradient."""
            leaf = torch.from_numpy(log).requires_grad_()
            root = _cholesky(self._covariance(leaf, some, some, noisy=True))
            away = (leaf - torch.from_numpy(prior[0])) / torch.from_numpy(prior[1])
            fit = 0.5 * z @ torch.cholesky_solve(z[:, None], root)[:, 0] + root.diagonal().log().sum()
            total = fit + 0.5 * away @ away
            total.backward()  # type: ignore[no-untyped-call]
            assert leaf.grad is not None
            return total.item(), leaf.grad.numpy()

        limits = {"maxiter": ITERATIONS}
        starts = []
        for noise in NOISES:  # explaining all and explaining little are two optima, and each hides the other
            start = prior[0].copy()
            start[self._at[1] + 2] = np.log(noise)
            starts.append(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[BOUNDS] * len(start), options=limits))
        best = starts[0] if starts[0].fun <= starts[1].fun + ROUNDING * abs(starts[1].fun) else starts[1]
        self._log = torch.from_numpy(np.clip(best.x, *BOUNDS))
        with torch.no_grad():
            self._known = _Tensors.of(rows)
            self._root = _cholesky(self._covariance(self._log, self._known, self._known, noisy=True))
            self._solved = torch.cholesky_solve(torch.from_numpy(values)[:, None], self._root)[:, 0]

    @property
    def slopes(self) -> Floats:
        """How much the value rises, on average, with each of the slopes' quantities, (slopes,)."""
        variance = self._log[self._at[4] :].exp()
        return np.asarray((variance * (self._known.slopes.T @ self._solved)).numpy())

    @property
    def noise(self) -> float:
        """Variance of a measurement that nothing explains."""
        return float(self._log[self._at[1] + 2].exp())

    @property
    def shared(self) -> float:
        """Variance that measurements on the same images have in common."""
        return float(self._log[self._at[3] + 2].exp())

    @torch.no_grad()
    def predict(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return mean and deviation of the value of each of `rows`, without the noise of a measurement, (rows,) each."""
        means, variances = [], []
        for start in range(0, len(rows), 4096):  # a whole space at once would take gigabytes
            some = _Tensors.of(rows[np.arange(start, min(start + 4096, len(rows)))])
            across = self._covariance(self._log, self._known, some)
            left = torch.linalg.solve_triangular(self._root, across, upper=False)
            means.append(across.T @ self._solved)
            variances.append(self._variance(some) - left.square().sum(dim=0))
        mean, variance = torch.cat(means), torch.cat(variances)
        return np.asarray(mean.numpy()), np.asarray(variance.clamp(min=JITTER).sqrt().numpy())

    @torch.no_grad()
    def joint(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return the mean, (rows,), and a root of the covariance, (rows, rows), of the values of `rows`."""
        some = _Tensors.of(rows)
        across = self._covariance(self._log, self._known, some)
        left = torch.linalg.solve_triangular(self._root, across, upper=False)
        covariance = self._covariance(self._log, some, some) - left.T @ left
        return np.asarray((across.T @ self._solved).numpy()), np.asarray(_cholesky(covariance).numpy())

    def _covariance(self, log: Tensor, a: _Tensors, b: _Tensors, *, noisy: bool = False) -> Tensor:
        """Covariance of rows, (rows of a, rows of b); with the chance of each measurement where `a` and `b` are the same."""
        at = self._at
        weights = log[: at[1]][self._groups]
        weights = (weights + torch.nn.functional.pad(log[at[2] : at[3]], (0, len(weights) - self._own))).exp()
        amplitude, linear, noise = log[at[1] : at[2]].exp()
        drift, pace, shared = log[at[3] : at[4]].exp()
        apart = (a.features.square() @ weights)[:, None] + b.features.square() @ weights
        apart = apart - 2 * (a.features * weights) @ b.features.T
        total: Tensor = amplitude * (-apart.clamp(min=0)).exp()
        total = total + linear / self._choices * a.features[:, : self._own] @ b.features[:, : self._own].T
        total = total + (a.slopes * log[at[4] :].exp()) @ b.slopes.T
        total = total + drift * (-pace * (a.when[:, None] - b.when).square()).exp()
        if not noisy:
            return total
        same = (a.batch[:, None] == b.batch) & (a.batch >= 0)[:, None]
        return total + shared * same + torch.diag(a.variance + noise)  # type: ignore[no-any-return]

    def _variance(self, rows: _Tensors) -> Tensor:
        """Prior variance of the values, (rows,)."""
        at, log = self._at, self._log
        amplitude, linear, _ = log[at[1] : at[2]].exp()
        options = rows.features[:, : self._own].square().sum(dim=1)
        slopes: Tensor = rows.slopes.square() @ log[at[4] :].exp()
        return slopes + amplitude + linear / self._choices * options + log[at[3]].exp()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Tensors:
    """`Rows` for torch."""

    features: Tensor
    slopes: Tensor
    when: Tensor
    batch: Tensor
    variance: Tensor

    @classmethod
    def of(cls, rows: Rows) -> Self:
        arrays = (rows.features, rows.slopes, rows.when, rows.batch, rows.variance)
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def _cholesky(covariance: Tensor) -> Tensor:
    """The lower root of what may be singular but for rounding. Raises ArithmeticError for what is no covariance."""
    for times in JITTER_FACTORS:
        jitter = times * JITTER * torch.eye(len(covariance), dtype=covariance.dtype)
        root, failed = torch.linalg.cholesky_ex(covariance + jitter)
        if not failed and torch.isfinite(root[-1, -1]):
            return torch.as_tensor(root)
    raise ArithmeticError(f"the covariance of {len(covariance)} measurements has no Cholesky decomposition")
