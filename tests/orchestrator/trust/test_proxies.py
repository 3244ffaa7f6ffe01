"""`paretoray proxies`, in one process and on small networks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.evaluators.from_scratch import FromScratch
from orchestrator.runs.display import Display
from tests.helpers import assert_refused, call, tiny_plan, write_toml

SECTIONS: dict[str, Any] = {
    "space": {"name": "nas-bench-201", "channels": 4, "cells": 2},
    "searcher": {"name": "random-search"},
    "retrain": {"members": 0, "epochs": 1, "batch": 32, "lr": 0.1},
}


def test_of_a_run_it_takes_the_good_ones_and_goes_on_after_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, objectives = tmp_path / "run", {"error": {}, "parameters": {}}
    path = write_toml(tmp_path, **SECTIONS, budget={"epochs": 4, "validate": 4}, objectives=objectives)
    assert call("search", path, "searcher.samples=16", "--out", run).exit_code == 0
    command = ("proxies", run, "--proxy", "size=4,cells=1", "--proxy", "share=0.5,epochs=2", "--levels", 2, "--each", 2)
    shown, told = Display.retrain, []

    def retrain(self: Display, arch: str, fraction: float, members: int) -> None:
        shown(self, arch, fraction, members)
        told.append(fraction)
        if sum(told) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Display, "retrain", retrain)
    stopped = call(*command)
    assert stopped.exit_code == 130 and f"the same command with --out {run / 'proxies'} goes on" in stopped.output
    before = {file: file.stat().st_mtime_ns for file in (run / "proxies/trainings").glob("*.json")}
    assert 0 < len(before) < 12 and not (run / "proxies/proxies.csv").exists()

    monkeypatch.setattr(Display, "retrain", shown)
    done = call(*command)
    assert done.exit_code == 0, done.output
    assert all(file.stat().st_mtime_ns == written for file, written in before.items())
    table = pd.read_csv(run / "proxies/proxies.csv")
    places = ("target", "size=4,cells=1", "share=0.5,epochs=2")
    sizes = table.groupby(["proxy", "level"]).size().to_dict()
    assert sizes == {(place, level): 2 for place in places for level in table["level"].unique()}
    assert (table["seconds"] > 0).all()
    measured = pd.read_csv(run / "evaluations.csv").groupby("arch")["parameters"].first()
    assert table["parameters"].tolist() == measured[table["arch"]].tolist()
    assert table.groupby("level")["parameters"].agg(lambda costs: costs.max() / costs.min()).max() < 1.1
    summary = json.loads((run / "proxies/proxies.json").read_text())
    assert [p["proxy"] for p in summary["proxies"]] == list(places[1:])
    assert summary["advice"] in done.output and (run / "proxies/proxies.png").stat().st_size > 5000
    assert_refused(call("proxies", run, "space.channels=2"), "'space.channels=2': of a run only retrain, workers and seed")


def test_the_target_is_judged_on_the_validation_part(tmp_path: Path, digits: Dataset) -> None:
    few = ("--proxy", "size=4", "--levels", 1, "--each", 2, "--out", tmp_path / "out")
    assert call("proxies", write_toml(tmp_path, **SECTIONS), *few).exit_code == 0
    table = pd.read_csv(tmp_path / "out/proxies.csv")
    plan = tiny_plan(digits, **SECTIONS)
    training = {key: value for key, value in SECTIONS["retrain"].items() if key != "members"}
    for place, problem in (("target", plan.problem), ("size=4", plan.problem.at(type(plan.proxy)(size=4)))):
        row = table[table["proxy"] == place].iloc[0]
        evaluator = FromScratch(problem.space, problem.data, **{**training, "weight_decay": 3e-4, "averaged": 1})
        assert evaluator.measure([problem.space.parse(row["arch"])])[0]["accuracy"] == pytest.approx(row["accuracy_percent"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--each", 1), "--levels 5, --each 1: at least 1 level, and 2 networks"),
        (("--proxy", "target"), "the target is trained in any case"),
        (("--proxy", "size=99"), "proxy.size = 99: the target has 8; write at most 8"),
        (("--proxy", "size"), "write KEY=VALUE, several with commas"),
        (("--proxy", "size=4,epochs=0"), "epochs is a whole number"),
        (("--each", 499), "no cost level has 499 networks"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, arguments: tuple[Any, ...], said: str) -> None:
    assert_refused(call("proxies", write_toml(tmp_path, **SECTIONS), *arguments, "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    assert_refused(call("proxies", tmp_path), "is no run directory that has measured anything")
