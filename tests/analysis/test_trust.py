"""Rank correlations with intervals that hold, repeats, and shares of skips, against values worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from analysis import trust
from analysis.trust import ENOUGH, FRONT, RANDOM, Skips


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "RESAMPLES", 120)


def test_tau_is_the_share_of_pairs_in_order_less_that_of_pairs_out_of_order() -> None:
    found = trust.tau([1, 2, 3, 4], [1, 3, 2, 4])
    assert found.value == pytest.approx(4 / 6) and found.networks == 4
    assert np.isnan([found.low, found.high]).all(), "of so few a bootstrap is no interval"
    assert trust.tau([1, 2, 3, 4], [4, 3, 2, 1]).value == -1
    # tau-b: one pair is tied in the first ranking alone.
    assert trust.tau([1, 1, 2], [1, 2, 3]).value == pytest.approx(2 / np.sqrt(2 * 3))


def test_where_nothing_is_ranked_there_is_no_tau() -> None:
    for a, b in (([], []), ([1.0], [2.0]), ([3.0] * 9, range(9)), (range(9), [3.0] * 9)):
        found = trust.tau(a, b)
        assert np.isnan(found.value) and not found.known and found.networks == len(a)
    with pytest.raises(ValueError, match="same networks"):
        trust.tau([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="finite"):
        trust.tau([1, 2, np.nan], [1, 2, 3])


def test_intervals_cover_the_true_tau_as_often_as_they_say(few_resamples: None) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(30):
        x, noise = rng.normal(size=(2, 40))
        found = trust.tau(x, 0.6 * x + 0.8 * noise)
        assert found.low < found.value < found.high
        inside += found.low <= 2 / np.pi * np.arcsin(0.6) <= found.high  # of two normal variables of correlation 0.6
    assert 25 <= inside <= 30  # 95 % of 30 is 28.5


def test_a_resample_of_a_single_value_counts_as_no_order(few_resamples: None) -> None:
    found = trust.tau([0.0] * 8 + [1.0], [*range(8), 9.0])  # a third of the resamples lack the one that differs
    assert found.value > 0 and found.low == 0


def test_the_difference_is_judged_on_the_same_networks(few_resamples: None) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=60)
    worse, better = truth + 2 * rng.normal(size=60), truth + 0.3 * rng.normal(size=60)
    found = trust.tau_difference(worse, better, truth)
    assert found.value == pytest.approx(kendalltau(better, truth).statistic - kendalltau(worse, truth).statistic)
    assert 0 < found.low < found.value < found.high
    back = trust.tau_difference(better, worse, truth)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    same = trust.tau_difference(worse, worse, truth)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    # Taken one by one the two intervals overlap; on the same networks the small difference shows.
    slightly = truth + 1.6 * (worse - truth) / 2
    first, second = trust.tau(worse, truth), trust.tau(slightly, truth)
    assert first.high > second.low and trust.tau_difference(worse, slightly, truth).low > 0


def test_the_first_by_inheritance_and_where_it_truly_stands() -> None:
    assert trust.picked([1, 5, 3], [90.0, 93.0, 95.5]) == (2.0, 2.5)
    assert trust.picked([1, 2, 7], [90.0, 93.0, 95.5]) == (1.0, 0.0)
    assert trust.picked([5, 5, 3], [90.0, 93.0, 95.0]) == (2.5, 3.5)  # either of two
    with pytest.raises(ValueError, match="no networks"):
        trust.picked([], [])


def test_repeats_are_those_seen_before() -> None:
    assert trust.repeated("abacca").tolist() == [False, False, True, False, True, True]
    assert trust.repeated([]).tolist() == []


def test_shares_of_skips_are_among_the_edges_that_could_be_one() -> None:
    # Three choices: skip or conv; no skip on offer; none, skip or conv, of which none is no edge.
    skips = Skips.of([[True, False], [False, False], [False, True, False]], [None, None, 0])
    assert skips.chance == pytest.approx(1 / 2), "1 of 2, and 1 of the 2 that are an edge"
    found = skips.shares([(0, 0, 1), (0, 1, 2), (1, 0, 0), (0, 0, 0)])
    assert found.tolist() == [1, 0.5, 0, 1]
    policy = [[0.25, 0.75, 0.5, 0.5, 0.6, 0.3, 0.1]]
    assert skips.share(policy).tolist() == pytest.approx([(0.25 + 0.3) / (1 + 0.4)])
    assert np.isnan(Skips.of([[False, True]], [0]).shares([(0,)])).all(), "no edge at all"
    nothing = Skips.of([[False, False]])
    assert np.isnan(nothing.chance) and np.isnan(nothing.shares([(0,), (1,)])).all()
    with pytest.raises(ValueError, match=r"\(rows, 7\)"):
        skips.share([[1.0, 0.0]])


def table(networks: int = 24, **columns: list[float]) -> pd.DataFrame:
    given = {"arch": [f"n{i}" for i in range(networks)], "kind": [RANDOM] * networks}
    return pd.DataFrame(given | {k if k == "true" else f"{k}_accuracy": v for k, v in columns.items()})


def test_agreement_is_told_for_all_for_the_better_half_and_for_the_front(few_resamples: None) -> None:
    rng = np.random.default_rng(2)
    truth = np.arange(24.0)
    # The worse half is ranked perfectly, the better half backwards.
    inherited = np.r_[np.arange(12.0), 40 - np.arange(12.0)]
    random = table(true=truth.tolist(), batch=inherited.tolist(), recalibrated=rng.normal(size=24).tolist())
    front = pd.DataFrame({"arch": ["a", "b", "c"], "kind": FRONT, "true": [1, 2, np.nan], "batch_accuracy": [1, 2, 3]})
    both = pd.concat([random, front.assign(recalibrated_accuracy=[2, 1, 3])])
    found = {(a.kind, a.among, a.statistics): a for a in trust.agreements(both)}
    assert found[RANDOM, trust.ALL, "batch"].tau == pytest.approx(kendalltau(inherited, truth).statistic)
    assert found[RANDOM, trust.BETTER, "batch"].tau == pytest.approx(-1) and found[RANDOM, trust.BETTER, "batch"].networks == 12
    assert found[FRONT, trust.ALL, "batch"].tau == 1 and found[FRONT, trust.ALL, "recalibrated"].tau == -1
    assert found[FRONT, trust.ALL, "batch"].networks == 2, "of the third the truth is not known"
    lower = {(a.kind, a.among, a.statistics): a.tau for a in trust.agreements(both, higher=False)}
    assert lower[RANDOM, trust.ALL, "batch"] == -found[RANDOM, trust.ALL, "batch"].tau
    assert lower[RANDOM, trust.BETTER, "batch"] == pytest.approx(-1), "now the lower half, in which more is ranked ahead"
    few = trust.agreements(table(ENOUGH, true=list(range(ENOUGH)), batch=list(range(ENOUGH))))
    assert [(a.among, a.networks) for a in few] == [(trust.ALL, ENOUGH)]


def test_ranking_quality_includes_gains_of_recalibration_and_overrated_skips(few_resamples: None) -> None:
    rng = np.random.default_rng(3)
    truth, share = rng.normal(size=40), rng.integers(0, 5, 40) / 4
    leaning = truth + 3 * share  # the more skips, the further ahead
    fair = truth + 0.1 * rng.normal(size=40)
    made = table(40, true=truth.tolist(), batch=leaning.tolist(), recalibrated=fair.tolist())
    shares = dict(zip(made["arch"], share, strict=True))
    said = trust.ranking_quality(made, "batch", True, shares)
    assert said["gains"].keys() == {"recalibrated"} and said["gains"]["recalibrated"]["low"] > 0
    assert said["overrated_skips"]["low"] > 0
    assert trust.ranking_quality(made, "recalibrated", True, shares)["overrated_skips"]["low"] <= 0
    assert said["picked"]["recalibrated"]["of"] == 40
    first = int(np.argmax(leaning))
    assert said["picked"]["batch"]["rank"] == 1 + (truth > truth[first]).sum()
    assert trust.ranking_quality(made, "batch", True, {})["overrated_skips"] is None
    some = trust.ranking_quality(made, "batch", True, shares | {"n0": float("nan")})["overrated_skips"]
    assert some["networks"] == 39 and some["low"] > 0, "one has no edge that could be a skip"
    alike = trust.ranking_quality(made.assign(batch_accuracy=10.0), "batch", True, {})
    assert alike["agreements"][0]["tau"] is None
    json.loads(json.dumps(alike, allow_nan=False))
