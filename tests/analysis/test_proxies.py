import numpy as np
import pandas as pd
import pytest

from analysis import records
from analysis.proxies import Judged, advice, concordance, judged_of, levels, of_search, plain
from analysis.trust import Interval


def test_levels_are_distinct_costs_or_bins_of_a_tenth() -> None:
    assert levels([7, 3, 7, 3, 3, 3, 7, 7]).tolist() == [1, 0, 1, 0, 0, 0, 1, 1]
    costs = 1000 * 1.01 ** np.arange(60)
    found = levels(costs)
    assert np.all(np.diff(found) >= 0) and 5 <= len(set(found)) <= 8
    assert all(costs[found == level].max() < 1.1 * costs[found == level].min() for level in set(found))


def test_concordance_counts_pairs_of_one_level_only() -> None:
    level, truth = [0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 50.0, 60.0]
    assert concordance([1, 2, 3, -2, -1], truth, level).value == 1.0  # the level of high truth is judged worse, as it may be
    assert concordance([2, 1, 3, -2, -1], truth, level).value == pytest.approx((3 - 1) / 4)
    assert concordance([5, 5, 5, 1, 2], truth, level).value == pytest.approx(1 / 4)  # ties in judgement are neither
    assert np.isnan(concordance([1, 2], [3, 4], [0, 1]).value)
    assert np.isnan(concordance([1, 2], [3, 4], [0, 0]).low)  # too few for an interval


def test_its_interval_covers_what_noise_leaves_uncertain() -> None:
    rng = np.random.default_rng(0)
    level, truth = np.repeat(np.arange(5), 8), rng.normal(size=40)
    good, guess = concordance(truth + rng.normal(0, 0.3, 40), truth, level), concordance(rng.normal(size=40), truth, level)
    assert 0 < good.low < good.value < good.high <= 1 and guess.low < 0 < guess.high


def judged(name: str, within: tuple[float, float, float], seconds: float) -> Judged:
    return Judged(name, Interval(0.5, 0.2, 0.8, 20), Interval(*within, 20), seconds)


@pytest.mark.parametrize(
    ("proxies", "said"),
    [
        (
            [judged("deep", (0.6, 0.4, 0.8), 9.0), judged("shallow", (0.2, -0.1, 0.5), 5.0)],
            "Take deep: .* about 80 of 100 cases",
        ),
        ([judged("deep", (0.6, 0.4, 0.8), 9.0), judged("half", (0.5, 0.3, 0.7), 6.0)], "Take half: "),
        ([judged("deep", (0.1, -0.2, 0.4), 9.0)], "None of these proxies can be told from guessing"),
        ([judged("deep", (0.6, 0.4, 0.8), 19.0)], "Take no proxy: .* deep, takes 19 s a network, and the target 20 s"),
        ([judged("deep", (np.nan, np.nan, np.nan), 9.0)], "nothing can be said"),
    ],
)
def test_advice_is_the_cheapest_that_is_about_as_good_as_the_best(proxies: list[Judged], said: str) -> None:
    import re

    assert re.search(said, advice(proxies, 20.0))


def test_what_a_search_picked_is_compared_within_levels_of_one_cost() -> None:
    """Shared weights know what costs more, and have networks of one cost the wrong way round; landmarks have them right."""
    arch = [f"net{i}" for i in range(12)]
    cost = np.repeat([10, 20, 30], 4)
    true = np.repeat([60.0, 40.0, 20.0], 4) + np.tile([0.0, 1.0, 2.0, 3.0], 3)
    wrong = np.repeat([60.0, 40.0, 20.0], 4) - np.tile([0.0, 1.0, 2.0, 3.0], 3)

    def rows(kind: str, errors: np.ndarray, stage: int = 1) -> pd.DataFrame:
        return pd.DataFrame({"kind": kind, "stage": stage, "arch": arch, "error": errors, "cost": cost})

    early = rows(records.VALIDATION, true, stage=0)  # weights that are there no more
    whole = pd.concat([early, rows(records.SAMPLE, wrong), rows(records.LANDMARK, true + 5), rows(records.FINALIST, true)])
    name, (shared, landmarks) = of_search(whole, "error", "cost")
    assert name == "finalists" and (shared.within.value, landmarks.within.value) == (-1.0, 1.0)
    assert shared.tau.value > 0.4 and landmarks.tau.value == pytest.approx(1.0) and landmarks.within.networks == 12
    assert judged_of(plain(landmarks)).within == landmarks.within
    few = whole[(whole["kind"] != records.FINALIST) | (whole["arch"] == "net0")]
    assert of_search(few, "error", "cost")[0] == "landmarks"
    assert of_search(whole[whole["kind"] == records.SAMPLE], "error", "cost") == ("", [])
