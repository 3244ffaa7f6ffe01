"""The error that a network is expected to reach in retraining, from its error after a short training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from analysis.records import QUANTILE

EXPONENT, SPREAD = 0.5, 0.4
"""Exponent by which errors fall with the examples that a training sees, and its deviation. That they follow power laws is known
of different examples (Hestness et al., arXiv:1712.00409); both numbers are from our own trainings of networks on digits and
CIFAR-10 (docs/figures.md, "What short trainings are worth")."""
FARTHEST = 30.0
"""Most times as many examples that retraining may see: an interval for more would span all that is possible."""


@dataclass(frozen=True)
class Forecast:
    """Test error after retraining, before it was tried.

    Args:
        value: Median, in the unit of the task's cost.
        low: Lower end of its interval, whose probability is `analysis.records.CONFIDENCE`.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def forecast(error: float, deviation: float, longer: float, worst: float, chance: Callable[[float], float]) -> Forecast | None:
    """Forecast what is measured after a longer training, as a log-normal quantity.

    Args:
        error: What is expected after the short training.
        deviation: Of that.
        longer: How many times as many examples the longer training sees.
        worst: Error that nothing exceeds.
        chance: Deviation of a measured error by the choice of test examples, of an error.

    Returns:
        None where the training is no longer, or so much longer that nothing can be said, or where the error is not positive.

    Example:
        >>> found = forecast(8.0, 1.0, 4.0, 100.0, lambda error: 0.0)
        >>> round(found.value, 1), round(found.low, 1), round(found.high, 1)
        (4.0, 1.6, 10.2)
    """
    if error <= 0 or not 1 < longer <= FARTHEST:
        return None
    value = error * longer**-EXPONENT
    spread = math.hypot(SPREAD * math.log(longer), deviation / error, chance(value) / value)
    reach = math.exp(QUANTILE * spread)
    return Forecast(value, value / reach, min(worst, value * reach))
