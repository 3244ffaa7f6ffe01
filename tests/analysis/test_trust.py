"""Rank correlations, coverage of their intervals, repeats and shares of skips, against values computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from analysis import trust
from analysis.trust import ENOUGH, FRONT, RANDOM, Skips

pytestmark = pytest.mark.numeric


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "RESAMPLES", 120)


def test_tau_is_concordant_minus_discordant_pairs() -> None:
    result = trust.tau([1, 2, 3, 4], [1, 3, 2, 4])
    assert result.value == pytest.approx(4 / 6) and result.networks == 4
    assert np.isnan([result.low, result.high]).all(), "too few for a bootstrap"
    assert trust.tau([1, 2, 3, 4], [4, 3, 2, 1]).value == -1
    # tau-b: one pair is tied in the first ranking alone.
    assert trust.tau([1, 1, 2], [1, 2, 3]).value == pytest.approx(2 / np.sqrt(2 * 3))


def test_tau_within_levels_leaves_out_what_cost_explains() -> None:
    costs = [1, 1, 1, 2, 2, 2, 2, 5]
    truth = [1, 2, 3, 14, 15, 16, 17, 99]
    ranked = [1, 3, 2, 14, 15, 16, 17, 50]  # one of three pairs wrong on the first level, none on the second
    result = trust.tau_within(ranked, truth, costs)
    assert result.value == pytest.approx((3 * 1 / 3 + 4 * 1) / 7) and result.networks == 8
    assert np.isnan(trust.tau_within(costs, truth, costs).value), "cost itself ranks nothing"
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 40))
    assert trust.tau_within(a, b, np.zeros(40)).value == pytest.approx(kendalltau(a, b).statistic)


def test_levels_are_distinct_costs_or_bins_of_equal_ratios() -> None:
    assert trust.cost_levels([30.0, 10.0, 30.0, 20.0]).tolist() == [2, 0, 2, 1]
    many = trust.cost_levels(2.0 ** np.linspace(0, 10, 101))
    assert len(set(many)) == 20 and (np.diff(many) >= 0).all() and np.bincount(many).max() <= 6


def test_scores_are_ranked_where_they_and_the_truth_are_known(few_resamples: None) -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=30)
    table = pd.DataFrame(
        {"kind": RANDOM, "batch_accuracy_percent": truth, "true_accuracy_percent": np.where(np.arange(30) < 25, truth, np.nan)}
    )
    assert trust.rankings(table, "batch", True) == []
    table = table.assign(parameters=np.arange(30) % 3 + 1, zico=-truth, naswot=np.where(np.arange(30) < 5, np.nan, truth))
    found = {(a["by"], a["among"]): a for a in trust.rankings(table, "batch", True)}
    taus = [
        found[by, among]["tau"]
        for by in ("inherited accuracy (batch)", "naswot", "zico")
        for among in (trust.ALL, trust.WITHIN)
    ]
    assert taus == pytest.approx([1, 1, 1, 1, -1, -1])
    assert np.isnan(found["parameters", trust.WITHIN]["tau"])
    assert (found["naswot", trust.ALL]["networks"], found["naswot", trust.ALL]["lacking"]) == (20, 5)


def test_tau_is_undefined_without_a_ranking() -> None:
    for a, b in (([], []), ([1.0], [2.0]), ([3.0] * 9, range(9)), (range(9), [3.0] * 9)):
        result = trust.tau(a, b)
        assert np.isnan(result.value) and not result.known and result.networks == len(a)
    with pytest.raises(ValueError, match="same networks"):
        trust.tau([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="finite"):
        trust.tau([1, 2, np.nan], [1, 2, 3])


def test_intervals_have_the_nominal_coverage(few_resamples: None) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(30):
        x, noise = rng.normal(size=(2, 40))
        result = trust.tau(x, 0.6 * x + 0.8 * noise)
        assert result.low < result.value < result.high
        inside += result.low <= 2 / np.pi * np.arcsin(0.6) <= result.high  # bivariate normal with correlation 0.6
    assert 25 <= inside <= 30  # 95 % of 30 is 28.5


def test_a_constant_resample_counts_as_zero(few_resamples: None) -> None:
    result = trust.tau([0.0] * 8 + [1.0], [*range(8), 9.0])  # a third of the resamples lack the one that differs
    assert result.value > 0 and result.low == 0


def test_the_difference_is_bootstrapped_in_pairs(few_resamples: None) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=60)
    worse, better = truth + 2 * rng.normal(size=60), truth + 0.3 * rng.normal(size=60)
    result = trust.tau_difference(worse, better, truth)
    assert result.value == pytest.approx(kendalltau(better, truth).statistic - kendalltau(worse, truth).statistic)
    assert 0 < result.low < result.value < result.high
    back = trust.tau_difference(better, worse, truth)
    assert (back.value, back.low, back.high) == pytest.approx((-result.value, -result.high, -result.low))
    same = trust.tau_difference(worse, worse, truth)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    # The separate intervals overlap; the paired difference is still significant.
    slightly = truth + 1.6 * (worse - truth) / 2
    first, second = trust.tau(worse, truth), trust.tau(slightly, truth)
    assert first.high > second.low and trust.tau_difference(worse, slightly, truth).low > 0


def test_true_rank_of_the_network_ranked_first() -> None:
    assert trust.picked([1, 5, 3], [90.0, 93.0, 95.5]) == (2.0, 2.5)
    assert trust.picked([1, 2, 7], [90.0, 93.0, 95.5]) == (1.0, 0.0)
    assert trust.picked([5, 5, 3], [90.0, 93.0, 95.0]) == (2.5, 3.5)  # either of two
    with pytest.raises(ValueError, match="no networks"):
        trust.picked([], [])


def test_repeats_are_keys_seen_before() -> None:
    assert trust.repeated("abacca").tolist() == [False, False, True, False, True, True]
    assert trust.repeated([]).tolist() == []


def test_shares_of_skips_are_taken_among_edges_that_offer_one() -> None:
    # Three choices: skip or conv; no skip on offer; none, skip or conv, where none is no edge.
    skips = Skips.of([[True, False], [False, False], [False, True, False]], [None, None, 0])
    assert skips.chance == pytest.approx(1 / 2), "1 of 2, and 1 of the 2 that are edges"
    result = skips.shares([(0, 0, 1), (0, 1, 2), (1, 0, 0), (0, 0, 0)])
    assert result.tolist() == [1, 0.5, 0, 1]
    policy = [[0.25, 0.75, 0.5, 0.5, 0.6, 0.3, 0.1]]
    assert skips.share(policy).tolist() == pytest.approx([(0.25 + 0.3) / (1 + 0.4)])
    assert np.isnan(Skips.of([[False, True]], [0]).shares([(0,)])).all(), "no edge at all"
    nothing = Skips.of([[False, False]])
    assert np.isnan(nothing.chance) and np.isnan(nothing.shares([(0,), (1,)])).all()
    with pytest.raises(ValueError, match=r"\(rows, 7\)"):
        skips.share([[1.0, 0.0]])


def table(networks: int = 24, **columns: list[float]) -> pd.DataFrame:
    columns_of_random = {"arch": [f"n{i}" for i in range(networks)], "kind": [RANDOM] * networks}
    return pd.DataFrame(columns_of_random | {f"{k}_accuracy_percent": v for k, v in columns.items()})


def test_agreement_of_all_of_the_better_half_and_of_the_front(few_resamples: None) -> None:
    rng = np.random.default_rng(2)
    truth = np.arange(24.0)
    # The worse half is ranked perfectly, the better half backwards.
    inherited = np.r_[np.arange(12.0), 40 - np.arange(12.0)]
    random = table(true=truth.tolist(), batch=inherited.tolist(), recalibrated=rng.normal(size=24).tolist())
    front = pd.DataFrame(
        {"arch": ["a", "b", "c"], "kind": FRONT, "true_accuracy_percent": [1, 2, np.nan], "batch_accuracy_percent": [1, 2, 3]}
    )
    both = pd.concat([random, front.assign(recalibrated_accuracy_percent=[2, 1, 3])])
    result = {(a.kind, a.among, a.statistics): a for a in trust.agreements(both)}
    assert result[RANDOM, trust.ALL, "batch"].tau == pytest.approx(kendalltau(inherited, truth).statistic)
    assert (
        result[RANDOM, trust.BETTER, "batch"].tau == pytest.approx(-1) and result[RANDOM, trust.BETTER, "batch"].networks == 12
    )
    assert result[FRONT, trust.ALL, "batch"].tau == 1 and result[FRONT, trust.ALL, "recalibrated"].tau == -1
    assert result[FRONT, trust.ALL, "batch"].networks == 2, "the truth of the third is unknown"
    lower = {(a.kind, a.among, a.statistics): a.tau for a in trust.agreements(both, higher=False)}
    assert lower[RANDOM, trust.ALL, "batch"] == -result[RANDOM, trust.ALL, "batch"].tau
    assert lower[RANDOM, trust.BETTER, "batch"] == pytest.approx(-1), "now the lower half, where more is ranked higher"
    few = trust.agreements(table(ENOUGH, true=list(range(ENOUGH)), batch=list(range(ENOUGH))))
    assert [(a.among, a.networks) for a in few] == [(trust.ALL, ENOUGH)]


def test_ranking_quality_includes_gains_of_recalibration_and_overrated_skips(few_resamples: None) -> None:
    rng = np.random.default_rng(3)
    truth, share = rng.normal(size=40), rng.integers(0, 5, 40) / 4
    leaning = truth + 3 * share  # more skips, higher rank
    fair = truth + 0.1 * rng.normal(size=40)
    networks = table(40, true=truth.tolist(), batch=leaning.tolist(), recalibrated=fair.tolist())
    shares = dict(zip(networks["arch"], share, strict=True))
    quality = trust.ranking_quality(networks, "batch", True, shares)
    assert quality["gains"].keys() == {"recalibrated"} and quality["gains"]["recalibrated"]["low"] > 0
    assert quality["overrated_skips"]["low"] > 0
    assert trust.ranking_quality(networks, "recalibrated", True, shares)["overrated_skips"]["low"] <= 0
    assert quality["picked"]["recalibrated"]["of"] == 40
    first = int(np.argmax(leaning))
    assert quality["picked"]["batch"]["rank"] == 1 + (truth > truth[first]).sum()
    assert trust.ranking_quality(networks, "batch", True, {})["overrated_skips"] is None
    some = trust.ranking_quality(networks, "batch", True, shares | {"n0": float("nan")})["overrated_skips"]
    assert some["networks"] == 39 and some["low"] > 0, "one has no edge that could be a skip"
    alike = trust.ranking_quality(networks.assign(batch_accuracy_percent=10.0), "batch", True, {})
    assert alike["agreements"][0]["tau"] is None
    json.loads(json.dumps(alike, allow_nan=False))
