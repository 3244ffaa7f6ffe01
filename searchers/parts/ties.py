"""Rounding where one of several is chosen: kernels of unlike processors differ in the last bits, and choices must not."""

from __future__ import annotations

import numpy as np
from torch import Tensor

ROUNDING = 1e-9
"""Relative; far above what float64 loses in our sums, far below any difference that means something."""
_STEPS = 2.0**40
_BITS_OF_FLOAT32 = 2.0**16


def level(values: Tensor) -> Tensor:
    """Numbers of about 1, such as probabilities, as multiples of 2 ** -40, so that those that should be equal are, and so are
    their sums, in whatever order: such sums are exact."""
    return (values * _STEPS).round() / _STEPS


def levels(values: np.ndarray) -> np.ndarray:
    """Round numbers of any size in the same way, as multiples of 2 ** -40 of the power of two above the largest."""
    largest = float(np.abs(values).max(initial=0.0))
    step = np.ldexp(1.0, int(np.frexp(largest)[1]) - 40)
    return np.asarray(np.round(values / step) * step) if largest else values


def coarse(values: np.ndarray) -> np.ndarray:
    """Numbers that come of float32 with the 16 bits, five digits, that kernels agree on, each for its own size."""
    fraction, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(fraction * _BITS_OF_FLOAT32) / _BITS_OF_FLOAT32, exponent))


def extent(costs: np.ndarray) -> np.ndarray:
    """(objectives,): how far costs, (points, objectives), reach from least to most; 1 where they differ by rounding alone."""
    found = np.ptp(costs, axis=0)
    return np.where(found > ROUNDING * np.abs(costs).max(axis=0), found, 1.0)
