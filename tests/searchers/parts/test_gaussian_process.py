"""Properties of scales and processes on any input: constants, one network over and over, any unit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchers.parts.gaussian_process import JITTER, JITTER_FACTORS, Encoding, Kernel, Posterior, Scale, _cholesky

pytestmark = pytest.mark.numeric

SIZES = (3, 3, 2, 3)
EVERY = np.array(list(itertools.product(*map(range, SIZES))))


@st.composite
def costs(draw: st.DrawFn) -> np.ndarray:
    """Over up to 12 orders of magnitude, or constant, or constant but for rounding."""
    rng, count = np.random.default_rng(draw(st.integers(0, 10**6))), draw(st.integers(2, 24))
    unit = 10.0 ** draw(st.integers(-9, 9))
    kind = draw(st.sampled_from(["wide", "skewed", "plain", "few", "constant", "rounding"]))
    drawn = {
        "wide": 10.0 ** rng.uniform(-6, 6, count),
        "skewed": np.where(rng.random(count) < 0.2, 90.0, 15 + 5 * rng.random(count)),
        "plain": rng.normal(size=count),
        "few": rng.integers(0, 2, count).astype(float),
        "constant": np.full(count, 3.0),
        "rounding": 3.0 * (1 + 1e-16 * rng.integers(-9, 10, count)),
    }[kind]
    return unit * drawn


@settings(deadline=None, derandomize=True, max_examples=150)
@given(costs())
def test_scales_are_finite_rising_and_come_back(values: np.ndarray) -> None:
    scale = Scale(values, skewed=True)
    there = scale.to(values)
    assert np.isfinite(there).all() and np.abs(there).max() < 10
    order = np.argsort(values, kind="stable")
    assert (np.diff(there[order]) >= -1e-9).all()
    back = scale.back(there)
    np.testing.assert_allclose(back, values, rtol=1e-6, atol=1e-6 * np.abs(values).max())
    far = scale.back(np.array([-1e3, 0.0, 1e3]))
    assert np.isfinite(far).all() and far[0] <= far[1] <= far[2] <= values.max()


def test_costs_that_differ_by_rounding_alone_are_one_cost() -> None:
    shaken = 3.0 * (1 + 1e-16 * np.arange(-8, 9))
    assert np.ptp(shaken) > 0
    assert np.abs(Scale(shaken, skewed=True).to(shaken)).max() < 1e-9


@settings(deadline=None, derandomize=True, max_examples=25)
@given(costs(), st.integers(0, 10**6), st.booleans(), st.sampled_from([None, "constant", "collinear", "far"]))
def test_a_process_is_finite_and_certain_of_what_it_saw(values: np.ndarray, seed: int, same: bool, shape: str | None) -> None:
    rng = np.random.default_rng(seed)
    structure = None
    if shape is not None:
        base = rng.normal(size=len(EVERY))
        columns = {
            "constant": [np.ones_like(base), base],
            "collinear": [base, 2 * base],
            "far": [base + 1e6, base],  # whose distances lose ten digits
        }[shape]
        structure = np.column_stack(columns), [0, 0]
    encoding = Encoding(SIZES, structure)
    known = EVERY[np.full(len(values), 5) if same else rng.integers(len(EVERY), size=len(values))]
    x, z = encoding(known), Scale(values, skewed=True).to(values)
    kernel = Kernel(encoding, x, z)
    assert np.isfinite([*kernel.weights, kernel.amplitude, kernel.linear, kernel.noise]).all()
    mean, deviation = Posterior(kernel, encoding(EVERY), x).predict(z)
    assert np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation > 0).all()
    assert np.abs(mean).max() < 10 * max(1.0, np.abs(z).max())
    prior = np.sqrt(kernel.diagonal(encoding(EVERY)))
    assert (deviation <= prior * (1 + 1e-3) + 1e-3).all()  # float32


def test_a_covariance_that_is_negative_by_rounding_gets_the_least_jitter_that_helps() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for least, times in ((1.0, 1), (-5e-6, 10), (-5e-3, 10_000)):
        covariance = basis @ np.diag([3.0, 2.0, 1.0, 0.5, 0.1, least]) @ basis.T
        root = _cholesky(covariance, 0.0)
        np.testing.assert_allclose(root @ root.T, covariance + times * JITTER * np.eye(6), atol=1e-12)
    assert JITTER_FACTORS[-1] * JITTER == 0.01
    for none in (basis @ np.diag([3.0, 2.0, 1.0, 0.5, 0.1, -0.5]) @ basis.T, np.full((3, 3), np.nan)):
        with pytest.raises(ArithmeticError, match=r"no Cholesky decomposition even with 0\.01 added"):
            _cholesky(none, 0.0)
