"""The section of a report on shared weights: the right numbers, and a warning where something is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import plots, trust
from analysis.trust import RANDOM, Skips
from analysis.trust_section import Known, findings, repeats, section, warnings

PLACES = {f"{a}{b}": (a, b) for a in range(3) for b in range(3)}  # two choices between a skip, a convolution and a third option
SKIPS = Skips.of([[True, False, False]] * 2)
SUMMARY: dict[str, Any] = {
    "weights": "shared",
    "derived": [],
    "objectives": {"error_percent": "error (%)", "parameters": "parameters"},
}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "RESAMPLES", 50)


def evaluations(archs: list[str], kind: str = "sample") -> pd.DataFrame:
    return pd.DataFrame({"step": range(len(archs)), "kind": kind, "arch": archs})


def compose(sampled: list[str], front: list[str], **changes: Any) -> Any:
    known = changes.pop("known", Known(PLACES, None, SKIPS))
    summary = SUMMARY | changes.pop("summary", {})
    rest = {"retrained": None, "policy": None, "table": None, "quality": None} | changes
    with plots.style():
        return section(summary, evaluations(sampled), pd.DataFrame({"arch": front}), known=known, **rest)


def values(page: Any) -> dict[str, str]:
    return {what: value for what, value, _ in page.findings}


def test_repeats_are_counted_within_a_search() -> None:
    rows = evaluations(["a", "b", "a", "c", "b"])
    assert repeats(rows) == pytest.approx(2 / 5)
    assert repeats(rows.assign(search=[0, 0, 1, 1, 1])) == 0
    again = pd.concat([rows, evaluations(["a", "b"], "validation")])
    assert repeats(again) == pytest.approx(2 / 5), "full validation at the end of a stage is no sample"
    assert repeats(evaluations(["a", "b", "a"], "validation")) == pytest.approx(1 / 3), "a method without other rows"
    assert repeats(rows, {"a": 0, "b": 1, "c": 0}) == pytest.approx(3 / 5)
    assert np.isnan(repeats(evaluations([])))


def test_equal_networks_are_counted_where_the_space_has_a_canonical_form() -> None:
    sampled = ["12", "21", "12", "11"]
    assert "the same network, written differently" not in values(compose(sampled, ["11"]))
    same = {arch: tuple(sorted(place)) for arch, place in PLACES.items()}
    result = values(compose(sampled, ["11"], known=Known(PLACES, same, SKIPS)))
    assert result["repeated samples"] == "25%" and result["the same network, written differently"] == "25%"


def test_skips_are_shown_over_time_by_the_policy_and_on_the_front() -> None:
    policy = pd.DataFrame(
        {"step": [0, 9], "stage": 0, "a/0": [0.3, 0.5], "a/1": 0.5, "a/2": [0.2, 0], "b/0": [0.3, 0.2], "b/1": 0.4}
    )
    policy["b/2"] = 1 - policy["b/0"] - policy["b/1"]
    page = compose(["11", "12"] * 9 + ["01", "10"], ["00", "01"], policy=policy)
    result = values(page)
    assert result["skips among samples"] == "0%, then 50%" and result["skips on the front"] == "75%"
    assert result["skips by the policy, at its end"] == "35%"
    assert "33%" in {what: means for what, _, means in page.findings}["skips among samples"]
    assert [p.name for p in page.pictures] == ["skips"]
    lines = {line.get_label(): line for line in page.pictures[0].figure.axes[0].get_lines()}
    assert np.asarray(lines["samples"].get_ydata()).tolist() == [0] * 18 + [0.5] * 2
    assert np.asarray(lines["policy"].get_ydata()).tolist() == pytest.approx([0.3, 0.35])
    assert np.asarray(lines["by chance"].get_ydata()).tolist() == pytest.approx([1 / 3] * 2)


def test_a_collapse_to_skips_is_flagged_and_a_front_of_small_networks_is_not() -> None:
    assert not compose(["11", "12", "21"] * 7, ["00"]).flags
    (flag,) = compose(["11", "12"] * 9 + ["00", "00"], ["11"]).flags
    assert flag.startswith("100% of the choices in the last tenth of the samples are skips, 3.0 times as many as by chance")
    assert "parameters" in flag
    (flag,) = compose(["11", "12"] * 10, ["11"], summary={"derived": ["00"]}).flags
    assert "the method's final networks" in flag
    assert not compose(["11", "12"] * 9 + ["01", "10"], ["11"]).flags, "half is less than twice the share by chance"


def test_sections_without_skips_or_shared_weights() -> None:
    page = compose(["11"], ["11"], known=Known(PLACES, None, Skips.of([[False] * 3] * 2)), summary={"weights": "own"})
    assert not page.findings and not page.pictures and "paretoray trust" not in page.lead
    assert page.silent == ["repeated samples"], "no sample was repeated, which needs no row of a table"
    assert "paretoray trust" in compose(["11"], ["11"]).lead


def test_the_retrained_front_is_compared() -> None:
    retrained = pd.DataFrame({"arch": ["11", "12", "00"], "error_percent": [1, 2, 3], "test_error_percent": [1, 3, 2]})
    few = compose(["11"], ["11"], retrained=retrained)
    assert "tau, 3 retrained members of the front" in few.silent and "repeated samples" in few.silent
    archs = ["11", "12", "00"], ["01", "10", "20"], ["02", "21", "22"]
    more = pd.concat([retrained.assign(arch=a, error_percent=retrained["error_percent"] + 3 * i) for i, a in enumerate(archs)])
    assert values(compose(["11"], ["11"], retrained=more))["tau, 9 retrained members of the front"].startswith("0.10 (")
    assert not [w for w in values(compose(["11"], ["11"], retrained=retrained.head(1))) if w.startswith("tau")]


def measured(inherited: np.ndarray, better: np.ndarray, truth: np.ndarray) -> tuple[pd.DataFrame, dict[str, Any]]:
    table = pd.DataFrame(
        {
            "arch": "a",
            "kind": RANDOM,
            "batch_accuracy_percent": inherited,
            "recalibrated_accuracy_percent": better,
            "true_accuracy_percent": truth,
        }
    )
    facts = {
        "truth": "acc of t",
        "unit": "acc",
        "images": 10,
        "surviving": 99,
        "own": "batch",
        "statistics": ["batch", "recalibrated"],
    }
    return table, facts | trust.ranking_quality(table, "batch", True, {})


def test_bad_rankings_are_flagged() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=30)
    good, none = truth + 0.3 * rng.normal(size=30), rng.permutation(truth)
    assert not warnings(measured(good, good, truth)[1])
    flags = warnings(measured(none, good, truth)[1])
    assert "cannot be told from guessing" in flags[0] and "Take more networks" in flags[0]
    assert "consider training.statistics=recalibrated" in flags[1]
    assert "Take more networks" not in warnings(measured(none, good, truth)[1] | {"surviving": 30})[0], "there are no more"
    assert "against their true order" in warnings(measured(-good, -good, truth)[1])[0]
    assert "the same inherited accuracy" in warnings(measured(0 * good, 0 * good, truth)[1])[0]
    assert "too few" in warnings(measured(good[:5], good[:5], truth[:5])[1])[0]
    coarse = np.where(truth > np.median(truth), 10 + none, truth)  # good ones from bad ones, but no order among the good
    assert [f.split(":")[0] for f in warnings(measured(coarse, coarse, truth)[1])] == [
        "The shared weights tell bad networks from good ones, but not the good ones from each other"
    ]
    over = measured(good, good, truth)[1] | {"overrated_skips": {"value": 0.4, "low": 0.1, "high": 0.6}}
    assert warnings(over) == ["Networks with more skips are ranked further above their true place."]


def test_every_number_is_explained_and_every_statistics_plotted() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=30)
    table, quality = measured(truth + rng.normal(size=30), truth, truth)
    result = {what: (value, means) for what, value, means in findings(quality)}
    value, means = result["tau, 30 random networks"]
    tau = quality["agreements"][0]
    assert value.splitlines()[0] == f"batch {tau['tau']:.2f} ({tau['low']:.2f}..{tau['high']:.2f})"
    assert value.splitlines()[1].startswith("recalibrated 1.00") and f"{50 * (1 + tau['tau']):.0f} of 100 cases" in means
    assert "recalibrated statistics rank better" in result["tau, minus that of batch statistics"][1]
    assert result["true rank of the first"][0].splitlines()[1] == "recalibrated 1 of 30"
    page = compose(["11"], ["11"], table=table, quality=quality)
    (_, scatter) = page.pictures
    panels = scatter.figure.axes
    assert [ax.get_title().split(":")[0] for ax in panels] == ["batch", "recalibrated"]
    np.testing.assert_allclose(panels[1].collections[0].get_offsets(), np.stack([truth, truth], axis=1))
    assert "Truth: acc of t" in page.lead and set(values(page)) >= set(result)
    scored = table.assign(parameters=np.arange(30) % 3 + 1, zico=np.where(np.arange(30) < 2, np.nan, truth))
    quality |= trust.ranking_quality(scored, "batch", True, {})
    page = compose(["11"], ["11"], table=scored, quality=quality)
    lines = values(page)["tau of training-free scores, 30 random networks"].splitlines()
    assert lines[0] == "inherited accuracy " + value.splitlines()[0].replace("batch", "(batch)")
    assert lines[2].startswith("zico 1.00") and lines[2].endswith(", 2 without a value")
    assert (
        values(page)["tau of training-free scores, 30 random networks, within levels of cost"].splitlines()[1] == "parameters -"
    )
    (axes,) = page.pictures[-1].figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["inherited accuracy (batch)", "parameters", "zico"]
    nothing = table.assign(true_accuracy_percent=np.nan)
    page = compose(["11"], ["11"], table=nothing, quality=quality | trust.ranking_quality(nothing, "batch", True, {}))
    assert [p.name for p in page.pictures] == ["skips"]
