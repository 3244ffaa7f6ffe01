import numpy as np
import pytest

from hw_profiles.fit import Floats, agreement, fit

pytestmark = pytest.mark.numeric

KINDS = ["conv"] * 4 + ["pool"] * 4 + ["skip"]
RNG = np.random.default_rng(0)
ALONE = np.array([5.0, 3.0, 2.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.01])
TRUE = 1.3 * ALONE + np.array([0.5] * 4 + [0.1] * 4 + [0.0])  # what is usual: a factor, and an overhead of each kind
TRUE[1] += 1.0  # what is not
FIXED = 4.0


def drawn(networks: int, seed: int, noise: float = 0.0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (networks, len(TRUE))).astype(float)
    return counts, (FIXED + counts @ TRUE) * np.exp(noise * rng.normal(size=networks))


def test_exact_sums_are_found_again() -> None:
    counts, values = drawn(60, 1)
    for alone in (None, ALONE):
        found = fit(counts, values, KINDS, alone)
        np.testing.assert_allclose(found.costs, TRUE, atol=0.01)
        assert found.fixed == pytest.approx(FIXED, abs=0.05)


def test_operations_measured_alone_stand_in_for_networks() -> None:
    """Measurements with more parts than networks, as in most spaces."""
    rng = np.random.default_rng(2)
    kinds = [f"kind{i % 4}" for i in range(60)]
    alone = np.exp(rng.uniform(-3, 1, 60))
    true = 1.3 * alone + 0.05 * (np.arange(60) % 4)
    counts = rng.integers(0, 3, (240, 60)).astype(float)
    values = FIXED + counts @ true
    with_alone, without = (fit(counts[:40], values[:40], kinds, a).predict(counts[40:]) for a in (alone, None))
    assert agreement(values[40:], with_alone)["mape"] < 1 and agreement(values[40:], without)["mape"] > 2


def test_an_operation_that_could_not_be_measured_alone_costs_what_networks_say() -> None:
    counts, values = drawn(60, 4)
    alone = ALONE.copy()
    alone[[0, 5]] = np.nan
    np.testing.assert_allclose(fit(counts, values, KINDS, alone).costs, TRUE, atol=0.02)


def test_a_part_that_no_network_had_is_expected_to_cost_like_its_kind() -> None:
    counts, values = drawn(60, 5)
    counts[:, 3] = 0
    values = FIXED + counts @ TRUE
    found = fit(counts, values, KINDS, ALONE)
    assert found.costs[3] == pytest.approx(TRUE[3], rel=0.35)


def test_no_cost_is_negative() -> None:
    counts, values = drawn(40, 6, noise=0.05)
    values -= 0.9 * FIXED  # what a clock that counts too little leaves
    found = fit(counts, np.maximum(values, 0.1), KINDS, ALONE)
    assert found.fixed >= 0 and found.costs.min() >= 0
    assert (found.predict(counts) >= 0).all()


def test_the_scale_of_values_does_not_matter() -> None:
    counts, values = drawn(40, 7, noise=0.03)
    small, large = fit(counts, values * 1e-6, KINDS, ALONE * 1e-6), fit(counts, values * 1e6, KINDS, ALONE * 1e6)
    np.testing.assert_allclose(small.costs * 1e12, large.costs, rtol=1e-6)


def test_what_cannot_be_fitted_is_refused() -> None:
    counts, values = drawn(40, 8)
    with pytest.raises(ValueError, match="9 networks are too few"):
        fit(counts[:9], values[:9], KINDS)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite and above 0"):
            fit(counts, np.where(np.arange(40) == 3, bad, values), KINDS)


def test_agreement_is_that_of_the_textbook() -> None:
    measured = np.array([1.0, 2.0, 4.0, 8.0])
    found = agreement(measured, np.array([1.1, 1.8, 8.0, 4.0]))
    assert found["mape"] == pytest.approx((10 + 10 + 100 + 50) / 4)
    assert found["spearman"] == pytest.approx(0.8) and found["kendall"] == pytest.approx(2 / 3)
    assert found["r2"] == pytest.approx(1 - (0.01 + 0.04 + 16 + 16) / 28.75)
    assert agreement(measured, np.ones(4))["spearman"] == 0  # not NaN, which would pass for good
