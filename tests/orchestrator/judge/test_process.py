"""The process of one source: it smooths, weighs other sources, and tells networks from the time and the images."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau

from orchestrator.judge.process import Process, Rows
from searchers.parts.gaussian_process import Encoding

SIZES = (4, 4, 4, 4)
ALL = list(itertools.product(*map(range, SIZES)))
ENCODING = Encoding(SIZES)


def truth() -> np.ndarray:
    """A value for each of 256 networks, of mean 0 and deviation 1: options add up, and two of them work together."""
    rng = np.random.default_rng(0)
    gains = rng.standard_normal((4, 4))
    values = np.array([sum(gains[c, o] for c, o in enumerate(a)) + 1.5 * (a[0] == a[1]) for a in ALL])
    return (values - values.mean()) / values.std()


def rows(
    places: np.ndarray,
    *,
    slopes: np.ndarray | None = None,
    when: np.ndarray | None = None,
    batch: np.ndarray | None = None,
) -> Rows:
    n = len(places)
    return Rows(
        ENCODING([ALL[i] for i in places]),
        np.zeros((n, 0)) if slopes is None else slopes,
        np.ones(n) if when is None else when,
        np.full(n, -1) if batch is None else batch,
        np.zeros(n),
    )


def everything(slopes: np.ndarray | None = None) -> Rows:
    return Rows.of_networks(ENCODING(ALL), np.zeros((len(ALL), 0)) if slopes is None else slopes)


@pytest.fixture
def drawn() -> np.ndarray:
    return np.random.default_rng(1).choice(len(ALL), 80, replace=False)


def test_noisy_measurements_are_smoothed(drawn: np.ndarray) -> None:
    value = truth()
    noisy = value[drawn] + np.random.default_rng(2).standard_normal(len(drawn))
    mean, deviation = Process(ENCODING, rows(drawn), noisy).predict(everything())
    assert np.abs(mean[drawn] - value[drawn]).mean() < 0.7 * np.abs(noisy - value[drawn]).mean()
    assert kendalltau(mean, value).statistic > 0.5
    away = np.abs(mean - value) / deviation
    assert 0.5 < (away < 1).mean() < 0.95  # 0.68 of a normal distribution


def test_a_slope_is_weighed_by_what_it_says(drawn: np.ndarray) -> None:
    value = truth()
    chance = np.random.default_rng(3)
    slopes = np.stack([value + 0.3 * chance.standard_normal(len(ALL)), chance.standard_normal(len(ALL))], axis=1)
    few = drawn[:25]
    process = Process(ENCODING, rows(few, slopes=slopes[few]), value[few], own=0.3)
    telling, useless = process.slopes
    assert telling > 0.5 and abs(useless) < 0.2
    with_slopes = kendalltau(process.predict(everything(slopes))[0], value).statistic
    without = kendalltau(Process(ENCODING, rows(few), value[few]).predict(everything())[0], value).statistic
    assert with_slopes > without


def test_weights_that_improve_are_no_merit_of_the_networks(drawn: np.ndarray) -> None:
    value = truth()
    when = np.linspace(0, 1, len(drawn))
    late = Process(ENCODING, rows(drawn, when=when), value[drawn] + 3 * (1 - when)).predict(everything())[0]
    assert (
        kendalltau(late, value).statistic
        > kendalltau(Process(ENCODING, rows(drawn), value[drawn] + 3 * (1 - when)).predict(everything())[0], value).statistic
    )
    assert abs(late.mean() - value.mean()) < 0.5  # as the last weights have it


def test_images_that_are_shared_shift_all_that_were_measured_on_them(drawn: np.ndarray) -> None:
    value = truth()
    batch = np.repeat(np.arange(8), 10)
    shift = 2 * np.random.default_rng(4).standard_normal(8)[batch]
    aware = Process(ENCODING, rows(drawn, batch=batch), value[drawn] + shift)
    assert aware.shared > 5 * aware.noise
    unaware = Process(ENCODING, rows(drawn), value[drawn] + shift)
    taus = [kendalltau(process.predict(everything())[0], value).statistic for process in (aware, unaware)]
    assert taus[0] > taus[1]


def test_joint_agrees_with_predict(drawn: np.ndarray) -> None:
    process = Process(ENCODING, rows(drawn), truth()[drawn])
    some = rows(np.arange(40))
    mean, deviation = process.predict(some)
    joint, root = process.joint(some)
    assert np.allclose(joint, mean, atol=1e-8)  # the same sums in another order
    assert np.allclose(np.sqrt((root**2).sum(axis=1)), deviation, rtol=0.05)  # but for the jitter


def test_what_was_measured_alike_is_no_error(drawn: np.ndarray) -> None:
    mean, deviation = Process(ENCODING, rows(drawn), np.zeros(len(drawn))).predict(everything())
    assert np.abs(mean).max() < 1e-6 and np.isfinite(deviation).all()
