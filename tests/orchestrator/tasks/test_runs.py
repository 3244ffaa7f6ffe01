"""Runs for other tasks than classification: killed and resumed, on a worker of Ray, as a sweep, and compared with proxies."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import records
from orchestrator.cluster import trials
from orchestrator.config.experiment import Experiment
from orchestrator.config.plan import SearchPlan
from orchestrator.loggers.tensorboard import FOLDER
from tests.helpers import TINY, call, run, timeless
from tests.orchestrator.runs.test_tracking import scalars

HERE = "tests.orchestrator.tasks.other_data"
TASKS = {
    "regression": ("numbers", "perceptron", "rmse"),
    "segmentation": ("maps", "pixels", "one_minus_miou_percent"),
    "multi-label": ("halves", "branches", "one_minus_f1_percent"),
}


def sections(task: str, **more: Any) -> dict[str, Any]:
    data, space, _ = TASKS[task]
    changed = {
        "task": {"name": task},
        "data": {"name": f"{HERE}:{data}"},
        "space": {"name": f"{HERE}:{space}"},
        "searcher": {"name": "random-search", "samples": 2},
        "training": {"name": "supernet", "batch": 8, "statistics": "recalibrated"},
        "budget": {"epochs": 2, "interval": 1, "validate": 2},
        "objectives": {"error": {}, "parameters": {}},
    }
    return {**TINY, **changed, **more}


def plan_of(task: str, **more: Any) -> SearchPlan:
    return SearchPlan.of(Experiment.from_dict(sections(task, **more)))


def file_of(folder: Path, task: str, **more: Any) -> Path:
    path = folder / "run.toml"
    path.write_text(Experiment.from_dict(sections(task, **more)).to_toml())
    return path


@pytest.mark.parametrize("task", TASKS)
def test_a_killed_search_goes_on_to_the_same_records(task: str, tmp_path: Path) -> None:
    run(plan_of(task), tmp_path / "whole")
    run(plan_of(task), tmp_path / "killed", 2)  # nothing is left of it but its files
    before = timeless(tmp_path / "killed")
    run(plan_of(task), tmp_path / "killed")
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "whole") != before
    assert TASKS[task][2] in pd.read_csv(tmp_path / "whole" / records.FRONT)


@pytest.mark.usefixtures("cluster")
def test_a_worker_of_ray_gives_the_records_of_one_process(tmp_path: Path) -> None:
    task = "multi-label"  # of two inputs
    (tmp_path / "ray" / "checkpoints").mkdir(parents=True)
    assert trials.search(plan_of(task, workers={"ray": True, "count": 1}), tmp_path / "ray", lambda happened: None)
    run(plan_of(task), tmp_path / "here")
    assert timeless(tmp_path / "ray") == timeless(tmp_path / "here")


@pytest.mark.usefixtures("no_report")
def test_a_sweep_is_merged_and_logged_by_the_tasks_metric(tmp_path: Path) -> None:
    done = call("search", file_of(tmp_path, "regression"), "--seeds", 2, "--out", tmp_path / "sweep")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "sweep" / records.SUMMARY).read_text())
    assert list(summary["objectives"]) == ["rmse", "parameters"] and len(summary["searches"]) == 2
    merged = pd.read_csv(tmp_path / "sweep" / records.FRONT)
    rows = pd.read_csv(tmp_path / "sweep" / records.EVALUATIONS)
    assert set(rows["search"]) == {0, 1} and merged["rmse"].min() == rows.loc[rows["kind"] == "validation", "rmse"].min()
    (folder, _) = sorted((tmp_path / "sweep" / "searches").iterdir())
    logged = scalars(folder / FOLDER)
    assert "search/best_rmse" in logged and not any("percent" in tag for tag in logged)


def test_proxies_are_judged_by_the_tasks_metric(tmp_path: Path) -> None:
    path = file_of(tmp_path, "regression", retrain={"members": 0, "epochs": 1, "batch": 8, "lr": 0.05})
    out = tmp_path / "proxies"
    done = call("proxies", path, "--proxy", "share=0.5", "--levels", 2, "--each", 3, "--out", out)
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(out / "proxies.csv")
    assert set(rows["proxy"]) == {"target", "share=0.5"} and (rows["rmse"] > 0).all()
    assert "error_percent" not in rows
