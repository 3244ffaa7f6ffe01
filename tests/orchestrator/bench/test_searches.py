"""Whole searches at equal cost: what is paid, what fronts are truly worth, and nothing searched twice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from scipy.stats import kendalltau

from analysis import trust
from analysis.pareto import relative_hypervolume
from orchestrator.bench import searches
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import Interrupted
from orchestrator.evaluators.supernet import Supernet
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.runs import run as runs
from orchestrator.trust import assessment
from tests.fakes import DIGITS_TINY, fake_table
from tests.helpers import call

SETTINGS = (
    "data.limit=200",
    'space={name="digits-tiny"}',
    "objectives={error={}, parameters={}}",
    "training.batch=20",
    "budget={interval=2, validate=6}",
    "workers={ray=false, count=1}",
)
IMAGES = 800  # eight passes over the hundred of the training set


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each search: they take longer than the search, and have tests of their own; so do intervals."""
    monkeypatch.setattr(trust, "RESAMPLES", 20)
    monkeypatch.setattr(assessment, "NETWORKS", 20)
    monkeypatch.setattr(runs, "write_report", lambda plan, directory: (directory / "report.html").touch())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    fake_table().to_csv(tmp_path / "trained.csv", index=False)
    return tmp_path / "trained.csv"


def bench(out: Path, searchers: str, *arguments: str | Path, seeds: int = 1, cost: str = f"--images {IMAGES}") -> Result:
    return call("bench", *SETTINGS, "--searchers", searchers, "--seeds", seeds, "--out", out, *cost.split(), *arguments)


def judged_by(table: Path) -> tuple[str | Path, ...]:
    return ("--table", table, "--objectives", "val_accuracy,params")


def test_fronts_are_judged_by_the_table_and_searches_cost_the_same(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = bench(out, "random-search:warmup=0.5,tnd-nas", *judged_by(table))
    assert result.exit_code == 0, result.output
    assert "tnd-nas" in result.output and "search 2 of 2" in result.output
    found, fronts = pd.read_csv(out / "searches.csv"), pd.read_csv(out / "fronts.csv")
    assert list(zip(found["searcher"], found["seed"], strict=True)) == [("random-search:warmup=0.5", 0), ("tnd-nas", 0)]
    trained = TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"])
    for row in found.to_dict("records"):
        own = fronts[(fronts["searcher"] == row["searcher"]) & (fronts["seed"] == row["seed"])]
        true = [trained.costs[DIGITS_TINY.parse(a)] for a in own["arch"]]
        np.testing.assert_allclose(own[["true error_percent", "true parameters"]], true)
        assert row["members"] == len(own) and row["hypervolume"] == pytest.approx(relative_hypervolume(true, trained.front()))
        assert IMAGES <= row["images_trained_on"] <= IMAGES + 5 * 40, "to the end of a round"
        folder = next((out / "searches").glob(f"{row['searcher'].replace(':', '-')}-{row['seed']}"))
        judged = pd.read_csv(folder / "evaluations.csv")
        kinds = judged["kind"].value_counts()
        # Of the hundred images of the validation set each batch has all; it has room for 256.
        assert row["images"] - row["images_trained_on"] == 100 * (kinds["sample"] + kinds["validation"])
        last = judged[judged["kind"] == "validation"].drop_duplicates("arch", keep="last")
        tau = kendalltau(last["error_percent"], [trained.costs[DIGITS_TINY.parse(a)][0] for a in last["arch"]]).statistic
        assert row["tau"] == pytest.approx(tau, nan_ok=True)
    page = (out / "report.html").read_text()
    for words in (
        "trained.csv",
        "Hypervolume against measured cost",
        "The fronts returned",
        "Pairwise comparison",
        "true front",
    ):
        assert words in page, words
    assert {p.name for p in (out / "plots").iterdir()} == {"cost.png", "fronts.png", "trust.png"}


def test_methods_that_are_behind_are_stopped_early(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    searchers = "random-search:warmup=0.0,random-search:samples=1:warmup=0.0"
    result = bench(out, searchers, *judged_by(table), "sweep={halving=2, first=0.4}")
    assert result.exit_code == 0, result.output
    assert "after 40% of the budget: " in result.output and " go on, 1 are stopped" in result.output
    found = pd.read_csv(out / "searches.csv")
    (survivor,) = found["searcher"]
    (other,) = set(searchers.split(",")) - {survivor}
    assert f"{other} was stopped after 40% of the budget: a hypervolume of" in (out / "report.html").read_text()
    said = [json.loads((folder / "summary.json").read_text()) for folder in (out / "searches").iterdir()]
    assert sorted(s["finished"] for s in said) == [False, True]
    assert min(s["share_of_budget"] for s in said) == pytest.approx(0.4) and max(s["share_of_budget"] for s in said) == 1
    again = bench(out, searchers, *judged_by(table), "sweep={halving=2, first=0.4}")
    assert again.exit_code == 0 and "search 1 of" not in again.output, "nothing is searched again"
    alone = bench(tmp_path / "one", "random-search", *judged_by(table), "sweep.halving=2")
    assert alone.exit_code == 2 and "compares methods, and this is one" in alone.output


def test_weights_are_tried_on_random_networks_which_costs_the_search_nothing(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    scratch = "nsga-net:training.name=from-scratch:training.epochs=2:training.batch=20:population=4:samples=2"
    result = bench(out, f"random-search,{scratch}", *judged_by(table))
    assert result.exit_code == 0, result.output
    folder = out / "searches" / "random-search-0"
    found = pd.read_csv(out / "searches.csv").set_index("searcher")
    ranked = pd.read_csv(folder / "trust.csv")
    random = ranked[ranked["kind"] == "random"]
    true = fake_table().set_index("arch")["val_accuracy"]
    assert len(random) == found.loc["random-search", "ranked"] == 20
    np.testing.assert_allclose(ranked["true_val_accuracy"], true[ranked["arch"]])
    for statistics in ("batch", "recalibrated"):
        tau = kendalltau(random[f"{statistics}_accuracy_percent"], random["true_val_accuracy"]).statistic
        low, value, high = (found.loc["random-search", f"tau_{statistics}{end}"] for end in ("_low", "", "_high"))
        assert value == pytest.approx(tau) and low < tau < high
    assert found.loc[scratch].filter(like="tau_").isna().all() and np.isnan(found.loc[scratch, "ranked"])
    spent = json.loads((folder / "summary.json").read_text())["spent"]
    assert found.loc["random-search", "images"] == spent["images_trained_on"] + spent["images_judged_on"]
    drawn = pd.read_csv(folder / "evaluations.csv").query("kind == 'sample'")["arch"]
    assert found.loc["random-search", "repeated"] == pytest.approx(drawn.duplicated().mean())
    front = pd.read_csv(folder / "front.csv")["arch"]
    skips = np.mean([arch.split("-").count("skip") / 4 for arch in front])
    assert found.loc["random-search", "skips"] == pytest.approx(skips) and found["skips_by_chance"].tolist() == [0.2, 0.2]
    page = (out / "report.html").read_text()
    assert "Can the weights be trusted?" in page and "True against inherited" in page
    # It is kept; and without its checkpoint a search still has its place on the page.
    monkeypatch.setattr(Supernet, "measure", None)
    assert bench(out, f"random-search,{scratch}", *judged_by(table)).exit_code == 0
    for checkpoint in (folder / "checkpoints").glob("*.pt"):
        checkpoint.unlink()
    result = bench(out, f"random-search,{scratch}", *judged_by(table))
    assert result.exit_code == 0 and "weights are not judged" in result.output, result.output
    assert (
        "tau_batch" not in pd.read_csv(out / "searches.csv")
        and "True against inherited" not in (out / "report.html").read_text()
    )


def test_candidates_trained_from_scratch_compete_and_retraining_judges(tmp_path: Path) -> None:
    out = tmp_path / "out"
    scratch = "nsga-net:training.name=from-scratch:training.epochs=2:training.batch=20:population=4:samples=2"
    result = bench(out, f"{scratch},darts:targets=1", "retrain={members=2, epochs=1, batch=20}", "front.judge=false")
    assert result.exit_code == 0, result.output
    found, fronts = pd.read_csv(out / "searches.csv").set_index("searcher"), pd.read_csv(out / "fronts.csv")
    assert found.loc[scratch, "architectures"] == 4, "four networks for two epochs of a hundred images"
    assert found.loc[scratch, "images_trained_on"] == IMAGES
    assert found.loc[scratch, "images"] == IMAGES + 4 * 2 * 100, "each is judged after both epochs"
    for folder in (out / "searches").iterdir():
        retrained = pd.read_csv(folder / "retrained.csv").set_index("arch")["test_error_percent"]
        own = fronts[fronts["arch"].isin(retrained.index)]
        assert len(retrained) <= 2 and set(retrained) <= set(own["true error_percent"])
    # A gradient is asked on a batch of validation images, here all hundred, for every weight step after the warm-up.
    darts = json.loads(next((out / "searches").glob("darts-*/summary.json")).read_text())["spent"]
    assert darts["images_judged_on"] > 100 * darts["weight_steps"] / 2
    page = (out / "report.html").read_text()
    assert "best of all" in page and "test error (%)" in page and "the true one is not known" in page


def test_seconds_set_the_length_by_a_trial_run(table: Path, tmp_path: Path) -> None:
    result = bench(tmp_path / "out", "tnd-nas", *judged_by(table), cost="--seconds 4")
    assert result.exit_code == 0, result.output
    epochs = json.loads((tmp_path / "out" / "epochs.json").read_text())
    assert 1 < epochs["tnd-nas"] < 10_000
    steps = json.loads((tmp_path / "out" / "searches" / "tnd-nas-0" / "summary.json").read_text())["spent"]["weight_steps"]
    assert steps == pytest.approx(epochs["tnd-nas"] * 5, abs=2 + 5)


def test_a_trial_run_of_a_single_candidate_counts_with_all_its_epochs(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = searches.estimate
    monkeypatch.setattr(searches, "estimate", lambda plan: replace(estimate(plan), seconds=1e4))  # so that it has no time
    scratch = "nsga-net:training.name=from-scratch:training.epochs=3:training.batch=20:population=4:samples=2"
    assert bench(tmp_path / "out", scratch, *judged_by(table), cost="--seconds 3").exit_code == 0
    (epochs,) = json.loads((tmp_path / "out" / "epochs.json").read_text()).values()
    (pilot,) = (tmp_path / "out" / "pilots").glob("*/summary.json")
    spent = json.loads(pilot.read_text())["spent"]
    assert spent["images_trained_on"] == 3 * 100
    left, took = 3 - spent["seconds_validating"], spent["seconds"] - spent["seconds_validating"]
    assert epochs == pytest.approx(3 * left / took)


def test_what_is_finished_is_not_searched_again(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assessment, "NETWORKS", 3)
    go, made = searches.go, []

    def counted(plan: SearchPlan, directory: Path, *rest: Any, **options: Any) -> None:
        if len(made) == stop_after:
            raise Interrupted
        made.append(directory.name)
        go(plan, directory, *rest, **options)

    monkeypatch.setattr(searches, "go", counted)
    stop_after = 1
    out = tmp_path / "out"
    result = bench(out, "random-search,nsga2", *judged_by(table))
    assert result.exit_code == 130 and "the same command with --out" in result.output and made == ["random-search-0"]
    stop_after = 9
    assert bench(out, "random-search,nsga2", *judged_by(table)).exit_code == 0
    assert made == ["random-search-0", "nsga2-0"]
    assert bench(out, "random-search,nsga2,local-search", *judged_by(table), seeds=2).exit_code == 0
    assert sorted(made[2:]) == ["local-search-0", "local-search-1", "nsga2-1", "random-search-1"]
    result = bench(out, "random-search", *judged_by(table), cost="--images 900")
    assert result.exit_code == 1 and "another benchmark" in result.output


@pytest.mark.parametrize(
    ("searchers", "arguments", "words"),
    [
        ("random-serch", [], "did you mean 'random-search'"),
        ("nsga2,nsga2", [], "name each once"),
        ("nsga2,nsga2:space.channels=4", [], "agree in their data, space"),
        ("darts:training.name=from-scratch", [], "needs shared weights"),
        ("nsga2", ["--seeds", "0"], "seeds = 0"),
        ("nsga2", ["--seconds", "5"], "say --seconds S or --images N"),
        ("nsga2", ["--budget", "5"], "--budget: means nothing for whole searches"),
        ("nsga2", ["--objectives", "val_accuracy,params"], "give both, or neither"),
        ("nsga2", ["retrain.members=0"], "judged by retraining"),
        ("nsga2", ["--table", "nothing.csv", "--objectives", "a,b"], "there is no table nothing.csv"),
        ("nsga2", ["--table", "{table}", "--objectives", "val_accuracy"], "name a column for each"),
        ("nsga2", ["--table", "{half}", "--objectives", "val_accuracy,params"], "all are needed"),
    ],
)
def test_wrong_input_is_told_before_any_search(
    searchers: str, arguments: list[str], words: str, table: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.csv"
    fake_table().iloc[::2].to_csv(half, index=False)
    result = bench(tmp_path / "out", searchers, *(a.format(table=table, half=half) for a in arguments))
    assert result.exit_code == 2 and result.output.startswith("error: ") and words in result.output, result.output
    assert not (tmp_path / "out").exists()


def test_a_cost_is_needed(tmp_path: Path) -> None:
    result = bench(tmp_path / "out", "nsga2", cost="")
    assert result.exit_code == 2 and "say --seconds S or --images N" in result.output
