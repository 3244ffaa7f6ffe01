"""Several searches side by side: what may differ, and what their merged front is."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray

from analysis import pareto
from orchestrator.errors import InputError
from orchestrator.runs import sweep
from orchestrator.search.coordinator import Coordinator
from tests.helpers import assert_refused, call, write_toml


def test_every_combination_and_every_seed_is_a_search(tmp_path: Path) -> None:
    path = write_toml(tmp_path, searcher={"name": "proxyless-r"}, seed=3)
    found = sweep.plan(path, ["searcher.samples=2"], ["searcher.power=0.02,0.1", "searcher.targets=[1.0, 2.0],[3.0, 4.0]"], 2)
    assert len(found) == 8 and len({str(settings) for settings, _ in found}) == 8
    for settings, experiment in found:
        assert (
            experiment.searcher.settings["power"] == settings["searcher.power"] and experiment.searcher.settings["samples"] == 2
        )
        assert list(experiment.searcher.settings["targets"]) == settings["searcher.targets"]
        assert experiment.seed == settings["seed"]
    assert {experiment.seed for _, experiment in found} == {3, 4}


@pytest.mark.parametrize(
    ("varied", "seeds", "says"),
    [
        (["space.channels=4,8"], 1, "must agree"),
        (["searcher.samples"], 1, "section.key=value"),
        (["searcher.samples=2", "searcher.samples=3"], 1, "twice"),
        (["searcher.sampels=2,3"], 1, "samples"),
        (["seed=1,2"], 2, "say the same"),
        ([], 0, "at least 1"),
    ],
)
def test_what_cannot_be_merged_is_refused(tmp_path: Path, varied: list[str], seeds: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        sweep.plan(write_toml(tmp_path), [], varied, seeds)


def merged_front_is_right(directory: Path, count: int) -> None:
    summary = json.loads((directory / "summary.json").read_text())
    columns = list(summary["objectives"])
    fronts = [pd.read_csv(folder / "front.csv")[columns] for folder in sweep.folders(directory)]
    assert len(fronts) == count and summary["finished"]
    every = {tuple(row) for front in fronts for row in front.to_numpy()}
    best = {a for a in every if not any(all(x <= y for x, y in zip(b, a, strict=True)) and b != a for b in every)}
    assert {tuple(row) for row in pd.read_csv(directory / "front.csv")[columns].to_numpy()} == best
    assert summary["hypervolume"] == pytest.approx(
        pareto.hypervolume(sorted(best), [summary["reference_point"][c] for c in columns])
    )
    assert summary["hypervolume"] >= max(s["hypervolume"] for s in summary["searches"])
    assert sum(s["on_merged_front"] for s in summary["searches"]) == len(best)
    rows = pd.read_csv(directory / "evaluations.csv")
    assert rows["search"].nunique() == count
    assert len(rows) == sum(len(pd.read_csv(f / "evaluations.csv")) for f in sweep.folders(directory))


def damaged_results_are_made_again(out: Path) -> None:
    """Fail unless a resume restores results that were changed, those of a search of the sweep and of a training among them."""
    (training,) = (out / "networks").glob("*.json")
    paths = [out / "front.csv", sweep.folders(out)[1] / "front.csv", out / "retrained.csv", training]
    before = [pd.read_csv(path) if path.suffix == ".csv" else json.loads(path.read_text()) for path in paths]
    for path in paths:
        path.write_text(path.read_text().replace("1", "7", 3))
    assert call("resume", out).exit_code == 0
    for path, known in zip(paths, before, strict=True):
        if path.suffix == ".csv":
            pd.testing.assert_frame_equal(pd.read_csv(path)[["arch"]], known[["arch"]])
            pd.testing.assert_frame_equal(pd.read_csv(path).filter(like="percent"), known.filter(like="percent"))
        else:
            again = json.loads(path.read_text())
            assert again["test_error_percent"] == known["test_error_percent"] and again["arch"] == known["arch"]
    records = sweep.folders(out)[0] / "evaluations.csv"
    whole = records.read_text()
    records.write_text(whole.replace(".", ",", 1) if "." in whole else whole.replace("1", "7"))
    assert_refused(call("resume", out), "the records do not fit the checkpoint", "other content than was written to it", code=1)
    records.write_text(whole)


@pytest.mark.long
def test_a_sweep_in_process_stopped_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_toml(tmp_path, searcher={"name": "random-search", "samples": 4}, retrain={"members": 1, "epochs": 1})
    began = Coordinator.run
    calls = 0

    def stops_in_the_second(self: Coordinator, stop: object, report: object, *more: Any, **others: Any) -> bool:
        nonlocal calls
        calls += 1
        return began(self, (lambda: True) if calls == 2 else stop, report, *more, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Coordinator, "run", stops_in_the_second)
    out = tmp_path / "out"
    first = call("search", path, "--sweep", "searcher.samples=2,3", "--out", out)
    assert first.exit_code == 130 and "resume" in first.output, first.output
    assert not json.loads((out / "summary.json").read_text())["finished"]
    again = call("resume", out)
    assert again.exit_code == 0 and calls == 3, again.output  # the finished one was not run again
    merged_front_is_right(out, 2)
    page = (out / "report.html").read_text()
    assert "searcher.samples = 2" in page and "on the merged front" in page
    assert (out / "retrained.csv").exists()
    assert call("resume", out).exit_code == 0 and calls == 3  # nor is any of them now
    damaged_results_are_made_again(out)
    assert call("search", path, "searcher.samples=3", "--out", tmp_path / "one").exit_code == 0
    folders = (tmp_path / "one", sweep.folders(out)[1])
    alone, swept = (pd.read_csv(folder / "evaluations.csv").drop(columns="seconds") for folder in folders)
    pd.testing.assert_frame_equal(alone, swept)


@pytest.mark.usefixtures("cluster")
def test_a_sweep_is_one_tune_grid(tmp_path: Path) -> None:
    assert ray.is_initialized()
    timed = {"error": {}, "parameters": {}, "latency": {"seconds": 0.001}}
    method, workers = {"name": "proxyless-r", "samples": 4}, {"ray": True, "count": 1}
    path = write_toml(tmp_path, searcher=method, workers=workers, objectives=timed)
    done = call("search", path, "--sweep", "searcher.power=0.02,0.2", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    merged_front_is_right(tmp_path / "out", 2)
    grid, *alone = sorted((tmp_path / "out").glob("tune/search-*"))
    assert len(list(grid.glob("trial-*"))) == 2
    # Members are timed again in one search after the other.
    assert [len(list(run.glob("trial-*"))) for run in alone] == [1, 1]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["timed_again"]
