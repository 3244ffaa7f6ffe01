import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from analysis import compare

pytestmark = pytest.mark.numeric

FRONT = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])


def runs(**costs: list[list[tuple[float, float]]]) -> pd.DataFrame:
    """Evaluations by searcher: a list of costs for each seed."""
    rows = [
        {"searcher": name, "seed": seed, "a": a, "b": b}
        for name, seeds in costs.items()
        for seed, costs in enumerate(seeds)
        for a, b in costs
    ]
    return pd.DataFrame(rows)


def test_scores_match_a_front_computed_by_hand() -> None:
    scored = compare.scores(runs(x=[[(5.0, 5.0), (1.0, 2.0), (4.0, 0.0), (0.0, 4.0)]]), ["a", "b"], FRONT, [1, 2, 3, 4])
    # Scaled to the front: (0, 1), (.25, .5), (1, 0), within a box up to 1.1; (5, 5) lies outside.
    whole = 0.25 * 0.1 + 0.75 * 0.6 + 0.1 * 1.1
    wanted = [0.0, 0.85 * 0.6, 0.75 * 0.6 + 0.1 * 1.1, whole]
    assert scored["hypervolume"].tolist() == pytest.approx([v / whole for v in wanted])
    assert scored["found"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    # From each true point to the nearest point found, only excess cost counts.
    assert scored["igd_plus"].tolist()[1:] == pytest.approx([(0.25 + 0 + 0.5) / 3, 0.25 / 3, 0])


def test_a_run_shorter_than_the_budget_keeps_its_score() -> None:
    scored = compare.scores(runs(x=[[(1.0, 2.0)]]), ["a", "b"], FRONT, [1, 50])
    assert scored["hypervolume"].nunique() == 1


def test_budgets_are_counted_in_the_spent_column() -> None:
    evaluations = runs(x=[[(1.0, 2.0), (4.0, 0.0), (0.0, 4.0)]]).assign(spent=[2.5, 3.0, 9.0])
    scored = compare.scores(evaluations, ["a", "b"], FRONT, [2.0, 2.5, 8.0, 9.0])
    assert scored["found"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert scored["hypervolume"].tolist()[0] == 0 and np.isnan(scored["igd_plus"].tolist()[0])


def table(**values: list[float]) -> pd.DataFrame:
    rows = [
        {"searcher": name, "seed": seed, "budget": 10, "hypervolume": v, "igd_plus": 0.0, "found": 0.0}
        for name, scores in values.items()
        for seed, v in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        (row,) = compare.summary(table(x=rng.normal(0.5, 0.1, 20).tolist())).to_dict("records")
        assert row["low"] < row["hypervolume"] < row["high"] and row["seeds"] == 20
        inside += row["low"] <= 0.5 <= row["high"]
    assert 50 <= inside <= 60  # 95 % of 60 is 57; a bootstrap of 20 is a little too narrow


def test_equal_or_single_runs_have_an_empty_interval() -> None:
    for values in ([0.5], [0.5, 0.5, 0.5]):
        (row,) = compare.summary(table(x=values)).to_dict("records")
        assert row["low"] == row["high"] == row["hypervolume"] == 0.5


def test_wins_and_corrected_tests() -> None:
    rng = np.random.default_rng(1)
    values = {"a": rng.normal(0, 1, 12), "b": rng.normal(1, 1, 12), "c": rng.normal(3, 1, 12), "d": rng.normal(0.1, 1, 12)}
    pairs = compare.pairs(table(**{k: v.tolist() for k, v in values.items()}), 10)
    assert len(pairs) == 6
    for row in pairs.to_dict("records"):
        first, second = values[row["first"]], values[row["second"]]
        assert row["wins"] == pytest.approx(np.mean(first[:, None] > second[None]))
        assert row["p"] == pytest.approx(mannwhitneyu(first, second).pvalue)
    # Holm: the smallest of six p counts six times, the next five times, and none less than one before it.
    ordered = pairs.sort_values("p")
    raw = ordered["p"].to_numpy() * np.arange(6, 0, -1)
    assert ordered["p_holm"].tolist() == pytest.approx(np.minimum(1, np.maximum.accumulate(raw)).tolist())
    ties = compare.pairs(table(a=[1.0, 1.0], b=[1.0, 1.0]), 10)
    assert ties["wins"].tolist() == [0.5] and ties["p_holm"].tolist() == [1.0]


def test_median_attainment_is_reached_by_half_of_the_runs() -> None:
    attained = [np.array(costs) for costs in ([[1.0, 5.0], [3.0, 1.0]], [[2.0, 4.0]], [[1.5, 6.0], [2.5, 3.0]])]
    at = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    reached = [[np.inf, 5, 5, 5, 5, 1], [np.inf, np.inf, np.inf, 4, 4, 4], [np.inf, np.inf, 6, 6, 3, 3]]
    np.testing.assert_array_equal(compare.median_attainment(attained, at), np.median(np.array(reached), axis=0))
