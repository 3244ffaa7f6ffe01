"""Properties of a fit on any input: constant columns, collinear ones, one network over and over, any unit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_profiles.fit import Floats, agreement, fit, least

pytestmark = pytest.mark.numeric

often = settings(deadline=None, derandomize=True, max_examples=40)


@st.composite
def measured(draw: st.DrawFn) -> tuple[Floats, Floats, list[str], Floats | None]:
    """counts, values, kinds and, or not, what parts cost alone; ill-conditioned more often than not."""
    networks, parts = draw(st.integers(10, 24)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    counts = rng.integers(0, 4, (networks, parts)).astype(float)
    for column in range(parts):
        shape = draw(st.sampled_from(["free", "constant", "absent", "like the first", "twice the first"]))
        if shape == "constant":
            counts[:, column] = 2.0
        elif shape != "free":
            counts[:, column] = {"absent": 0, "like the first": 1, "twice the first": 2}[shape] * counts[:, 0]
    if draw(st.booleans()):
        counts[:] = counts[0]  # one network, measured again and again
    spread = draw(st.sampled_from([0, 3, 12]))  # orders of magnitude between parts
    costs = 10.0 ** rng.uniform(-spread / 2, spread / 2, parts) * rng.integers(0, 2, parts)
    fixed, unit = draw(st.sampled_from([0.0, 1e-3, 1.0])), 10.0 ** draw(st.integers(-6, 6))
    noise = draw(st.sampled_from([0.0, 1e-16, 0.05]))
    values = unit * (fixed + counts @ costs + 1e-9) * np.exp(noise * rng.normal(size=networks))
    alone = None if draw(st.booleans()) else unit * np.where(rng.random(parts) < 0.8, costs + 1e-9, np.nan)
    kinds = [f"kind{column % 2}" for column in range(parts)]
    return counts, values, kinds, alone


@often
@given(measured())
def test_costs_are_finite_and_none_is_negative(case: tuple[Floats, Floats, list[str], Floats | None]) -> None:
    counts, values, kinds, alone = case
    found = fit(counts, values, kinds, alone)
    assert np.isfinite([found.fixed, *found.costs, found.error]).all()
    assert found.fixed >= 0 and (found.costs >= 0).all() and (found.predict(counts) >= 0).all()


@often
@given(measured(), st.integers(-40, 40))
def test_a_unit_changes_nothing_but_the_unit(case: tuple[Floats, Floats, list[str], Floats | None], power: int) -> None:
    """To the last bit, as a power of two has no rounding: a choice that hung on it would hang on anything."""
    counts, values, kinds, alone = case
    one, unit = fit(counts, values, kinds, alone), 2.0**power
    other = fit(counts, values * unit, kinds, None if alone is None else alone * unit)
    np.testing.assert_array_equal(np.append(other.costs, other.fixed), unit * np.append(one.costs, one.fixed))


@often
@given(measured(), st.integers(0, 10**6))
def test_the_last_bits_of_what_was_measured_do_not_matter(
    case: tuple[Floats, Floats, list[str], Floats | None], seed: int
) -> None:
    """Another kernel is another rounding of every sum; predictions, which are what is used, agree to six digits."""
    counts, values, kinds, alone = case
    rounding = 1 + 1e-15 * np.random.default_rng(seed).choice([-1.0, 1.0], len(values))
    one, other = fit(counts, values, kinds, alone), fit(counts, values * rounding, kinds, alone)
    np.testing.assert_allclose(other.predict(counts), one.predict(counts), rtol=1e-6, atol=1e-6 * values.mean())


def test_a_solution_on_its_bound_is_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As solvers end a rounding error on either side, by the kernel of the processor."""
    from hw_profiles import fit as module

    solve = module.lsq_linear
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, (30, 3)).astype(float)
    values = counts @ np.array([1.0, 2.0, 0.0]) + 0.1
    for beside in (-8e-17, 8e-17):

        def moved(*given: object, beside: float = beside, **named: object) -> object:
            found = solve(*given, **named)
            found.x[0] = found.x[3] = beside
            return found

        monkeypatch.setattr(module, "lsq_linear", moved)
        found = fit(counts, values, ["a", "a", "b"])
        assert found.fixed == 0.0 and found.costs[2] == 0.0 and found.costs[1] > 1


def test_the_least_is_the_first_of_those_that_are_as_good() -> None:
    assert least({"a": 0.3, "b": 0.1 + 1e-17, "c": 0.1}) == "b" and least({"c": 0.1, "b": 0.1 * (1 + 1e-15)}) == "c"
    assert least({"a": 3e-25, "b": 1e-31}) == "a"  # both are exact
    assert least({"a": 0.1001, "b": 0.1}) == "b"


@often
@given(
    st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=30),
    st.lists(st.floats(0, 1e6), min_size=30, max_size=30),
    st.integers(0, 10**6),
)
def test_agreement_does_not_hang_on_the_last_bits(values: list[float], predicted: list[float], seed: int) -> None:
    measured, guess = np.array(values), np.array(predicted[: len(values)])
    rounding = 1 + 1e-15 * np.random.default_rng(seed).choice([-1.0, 1.0], len(values))
    one, other = agreement(measured, guess), agreement(measured, guess * rounding)
    assert np.isfinite(list(one.values())).all() and one["r2"] <= 1 and abs(one["spearman"]) <= 1 + 1e-12
    assert one["spearman"] == other["spearman"] and one["kendall"] == other["kendall"]


def test_one_network_over_and_over_is_ranked_by_nothing() -> None:
    once = np.full(20, 0.7)
    shaken = once * (1 + 1e-16 * np.arange(-10, 10))
    assert np.ptp(shaken) > 0
    for measured, predicted in ((once, shaken), (np.arange(1.0, 21.0), shaken), (shaken, np.arange(1.0, 21.0))):
        found = agreement(measured, predicted)
        assert found["spearman"] == found["kendall"] == 0.0
    assert agreement(shaken, once)["r2"] == 0.0
