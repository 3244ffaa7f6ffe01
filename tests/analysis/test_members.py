"""The front made anew: who stays on it, how sure that is, and that old tables still open."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import front_table, members, records
from analysis.members import BEATEN, FRONT, OUTSIDE, UNTRAINED

OBJECTIVES = ["error_percent", "parameters", "latency_ms"]
SPREADS = {"latency_ms": "latency_iqr_ms"}
SUMMARY: dict[str, Any] = {
    "objectives": dict(zip(OBJECTIVES, ["error (%)", "parameters", "latency (ms)"], strict=True)),
    "spreads": SPREADS,
    "limits": {},
    "reference_point": {"error_percent": 100.0, "parameters": 100.0, "latency_ms": 10.0},
    "hypervolume": 0.5,
}


def searched(**columns: Any) -> pd.DataFrame:
    rows = {
        "arch": ["a", "b", "c", "d"],
        "error_percent": [10.0, 20.0, 30.0, 40.0],
        "parameters": [40, 30, 20, 10],
        "latency_ms": [4.0, 3.0, 2.0, 1.0],
        "latency_iqr_ms": 0.1,
    }
    return records.numbered(pd.DataFrame(rows | columns))


def trainings(**errors: float | list[float]) -> pd.DataFrame:
    each = [(arch, error) for arch, listed in errors.items() for error in np.atleast_1d(listed)]
    rows = pd.DataFrame(each, columns=["arch", "test_error_percent"])
    return rows.assign(test_images=300, retrain_epochs=20)


def judged(front: pd.DataFrame, tested: pd.DataFrame | None, **limits: float) -> pd.DataFrame:
    return members.of_run(front, tested, SUMMARY | {"limits": limits})


def test_the_front_is_made_of_what_was_retrained_and_numbers_stay() -> None:
    front = judged(searched(), trainings(a=8.0, c=5.0, d=9.0))
    assert front["member"].tolist() == [3, 4, 1, 2] and front["arch"].tolist() == ["c", "d", "a", "b"]
    assert front["standing"].tolist() == [FRONT, FRONT, BEATEN, UNTRAINED]
    assert front["beaten_by"].tolist()[2] == 3 and front["beaten_by"].isna().sum() == 3
    # (95 % - 5 %) and so on of the box, with the two that stay.
    assert members.hypervolume(front, SUMMARY) == pytest.approx(0.95 * 0.8 * 0.8 + 0.91 * (0.9 * 0.9 - 0.8 * 0.8))
    assert members.agreement(front, "error_percent").value == pytest.approx(1 / 3)


def test_a_limit_on_the_error_holds_for_the_test_error() -> None:
    front = judged(searched(), trainings(a=8.0, b=9.0, d=50.0), error_percent=45.0)
    assert dict(zip(front["arch"], front["standing"], strict=True)) == {"a": FRONT, "b": FRONT, "d": OUTSIDE, "c": UNTRAINED}


def test_intervals_follow_from_the_number_of_test_images_and_the_spread_of_seeds() -> None:
    low, high = members.wilson(20.0, 300)
    assert (low, high) == (pytest.approx(16.5, abs=0.1), pytest.approx(24.1, abs=0.1))  # Wilson (1927) at 90 %
    assert members.wilson(0.0, 300)[0] == 0 and members.wilson(0.0, 300)[1] > 0.5
    one, two = (judged(searched(), trainings(a=errors)).iloc[0] for errors in (20.0, [18.0, 22.0]))
    assert one["test_error_percent"] == two["test_error_percent"] == 20.0 and two["retrain_seeds"] == 2
    # Student's quantile for two seeds is 6.31, and the standard error of their mean is 2.
    assert two["test_error_high_percent"] == pytest.approx(20 + np.hypot(high - 20, 6.314 * 2), abs=0.01)
    assert one["test_error_high_percent"] == pytest.approx(high)
    for summary, how in (({}, "trained from scratch"), ({"fine_tuned": True}, "fine-tuned from inherited weights")):
        assert members.protocol(judged(searched(), trainings(a=[1.0, 2.0], b=3.0)), summary) == (
            f"{how} for 20 epochs with 1 or 2 seeds and tested on 300 images"
        )


@pytest.mark.parametrize(("latency", "standing"), [(2.9, "tie with 1"), (2.8, "")])
def test_timings_within_their_spreads_tie(latency: float, standing: str) -> None:
    """The second is worse but for its latency, by less or by more than the root of 0.1² + 0.1²."""
    rows = {"arch": ["a", "b"], "error_percent": [10.0, 12.0], "parameters": 40, "latency_ms": [3.0, latency]}
    front = judged(records.numbered(pd.DataFrame(rows | {"latency_iqr_ms": 0.1})), None)
    assert [members.words(row) for _, row in front.iterrows()] == ["", standing]
    assert ("standing" in front_table.heads(front, SUMMARY)) == bool(standing)


def test_a_range_above_the_value_is_a_warning() -> None:
    front = searched(latency_iqr_ms=[0.1, 3.5, 0.1, 0.1])
    (warning,) = members.noisy(front, SUMMARY)
    assert "of the latency is above its value for network 2 (3 ± 3.5): something" in warning
    (warning,) = members.noisy(searched(latency_iqr_ms=5.0), SUMMARY)
    assert "networks 1 (4 ± 5), 2 (3 ± 5), 3 " in warning


def test_a_posterior_is_shown_with_its_interval() -> None:
    plain, posterior = searched(), searched(error_deviation_percent=2.0, error_measured_percent=11.0, measurements=5)
    assert front_table.rows(plain, SUMMARY)[0].cells[1] == ("10.00", "")
    assert front_table.rows(posterior, SUMMARY)[0].cells[1] == ("10.00", "±3.29")
    front = judged(posterior, trainings(a=8.0))
    assert front_table.heads(front, SUMMARY)[-1] == "error (%), in the search"
    assert front_table.rows(front, SUMMARY)[0].cells[-1] == ("10.00", "±3.29")


def test_what_was_forecast_is_shown_and_counted_once_it_is_known() -> None:
    """The second's forecast does not contain its test error, the third was not retrained, and the fourth had none."""
    nan = float("nan")
    values = {"": [5.0, 9.0, 9.0, nan], "_low": [3.0, 6.0, 6.0, nan], "_high": [8.0, 14.0, 14.0, nan]}
    searched_front = searched(**{f"forecast_error{part}_percent": column for part, column in values.items()})
    before = judged(searched_front, None)
    assert members.foretold(before, SUMMARY) is None
    assert front_table.heads(before, SUMMARY) == [
        "#", "error (%)", "test error forecast (90% interval)", "parameters", "latency (ms)"
    ]  # fmt: skip
    cells = [row.cells[2] for row in front_table.rows(before, SUMMARY)]
    assert [(value, ends.replace("\N{EN DASH}", " to ")) for value, ends in cells] == [
        ("5.00", "(3.0 to 8.0)"), ("9.00", "(6.0 to 14.0)"), ("9.00", "(6.0 to 14.0)"), ("", "")
    ]  # fmt: skip
    after = judged(searched_front, trainings(a=8.0, b=15.0, d=20.0))
    assert members.foretold(after, SUMMARY) == (1, 2)
    assert members.foretold(after, SUMMARY | {"forecast_epochs": 20}) == (1, 2)
    assert members.foretold(after, SUMMARY | {"forecast_epochs": 10}) is None, "of a shorter training"
    assert "1 of 2 are as the search forecast" in front_table.lead(after, SUMMARY)[1]
    assert not any("forecast" in head for head in front_table.heads(after, SUMMARY))
    assert members.foretold(judged(searched(), trainings(a=8.0)), SUMMARY) is None


def test_tables_from_before_members_had_numbers_open(tmp_path: Path) -> None:
    searched().drop(columns="member").to_csv(tmp_path / "front.csv", index=False)
    trainings(c=5.0).drop(columns=["test_images", "retrain_epochs"]).merge(searched()).to_csv(tmp_path / "r.csv", index=False)
    front = records.read_front(tmp_path / "front.csv", OBJECTIVES)
    tested = records.read_retrained(tmp_path / "r.csv", OBJECTIVES, epochs=7, images=100)
    assert front["member"].tolist() == [1, 2, 3, 4] and tested is not None
    top = judged(front, tested).iloc[0]
    assert (top["member"], top["retrain_epochs"], top["test_images"]) == (3, 7, 100)
    assert records.read_retrained(tmp_path / "none.csv", OBJECTIVES, epochs=1, images=1) is None
    assert records.spreads_of(SUMMARY | {"spreads": ["latency_iqr_ms"]}) == SPREADS


def test_what_retraining_added_is_left_out_when_a_front_is_read_again(tmp_path: Path) -> None:
    judged(searched(), trainings(c=5.0, a=8.0)).to_csv(tmp_path / "front.csv", index=False)
    pd.testing.assert_frame_equal(records.read_front(tmp_path / "front.csv", OBJECTIVES), searched())
