"""Answers for programs: with --json, standard output of every command is one document, and numbers in it are numbers."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.commands.base import Answer, Command, plain
from orchestrator.errors import InputError
from tests.helpers import assert_refused, call, write_toml

UNANSWERED = {"watch"}
"""Commands that have no result, but go on until they are ended."""


def asked(*arguments: str | int | Path) -> dict[str, Any]:
    """Return the document that a command prints, which must be all that it prints to standard output."""
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    document = json.loads(result.stdout, parse_constant=refuse)
    assert isinstance(document, dict) and result.stdout.count("\n") == 1
    return document


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole run with one network retrained, and its document."""
    folder = tmp_path_factory.mktemp("json")
    path = write_toml(
        folder,
        space={"name": "digits-tiny", "channels": 4},
        searcher={"name": "random-search", "samples": 4},
        objectives={"error": {}, "parameters": {}},
        budget={"epochs": 2, "landmarks": 0, "finalists": 0},
        retrain={"members": 1, "epochs": 1},
    )
    return folder / "run", asked("search", path, "--out", folder / "run")


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_with_a_result_can_print_it_as_json(name: str) -> None:
    options = [option for parameter in main.commands[name].params for option in parameter.opts]
    assert ("--json" in options) == (name not in UNANSWERED)


def test_whatever_else_is_printed_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    @click.command(cls=Command)
    def loud() -> Answer:
        print("from Python")
        os.write(1, b"from a library")
        return Answer({"value": math.nan}, ["for people"])

    result = CliRunner().invoke(loud, ["--json"])
    assert result.stdout == '{"value": null}\n' and result.stderr == "from Python\n"
    assert capfd.readouterr() == ("", "from a library")
    assert CliRunner().invoke(loud).stdout.startswith("from Python\nfor people")


def test_an_error_leaves_standard_output_empty() -> None:
    @click.command(cls=Command)
    def broken() -> Answer:
        raise InputError("data.size = 0: write 1 or more")

    result = CliRunner().invoke(broken, ["--json"])
    assert (result.exit_code, result.stdout) == (2, "") and result.stderr == "error: data.size = 0: write 1 or more\n"


def test_an_exit_code_comes_after_the_answer() -> None:
    @click.command(cls=Command)
    def half() -> Answer:
        return Answer({"written": 1}, ["one of two"], code=1)

    result = CliRunner().invoke(half, ["--json"])
    assert (result.exit_code, result.stdout) == (1, '{"written": 1}\n')


def test_values_become_those_of_json() -> None:
    values = {
        "table": pd.DataFrame({"a": [1, 2], "b": pd.array([3, None], dtype="Int64"), "c": [0.5, np.nan]}),
        "numbers": (np.int64(4), np.float32(0.25), float("inf"), True),
        "array": np.array([[1.0, -np.inf]]),
        "path": Path("runs") / "one",
        "set": {"b", "a"},
    }
    assert json.loads(json.dumps(plain(values), allow_nan=False)) == {
        "table": [{"a": 1, "b": 3, "c": 0.5}, {"a": 2, "b": None, "c": None}],
        "numbers": [4, 0.25, None, True],
        "array": [[1.0, None]],
        "path": "runs/one",
        "set": ["a", "b"],
    }


def test_a_search_answers_with_its_front(searched: tuple[Path, dict[str, Any]]) -> None:
    run, said = searched
    front = pd.read_csv(run / "front.csv")
    assert said["run"] == str(run) and Path(said["report"]).is_file() and said["finished"] is True
    assert [m["arch"] for m in said["members"]] == front["arch"].tolist()
    assert said["members"][0]["member"] == front["member"][0] == said["recommended"]
    assert said["members"][0]["test_error_percent"] == pytest.approx(front["test_error_percent"][0])
    assert said["hypervolume"] == json.loads((run / "summary.json").read_text())["hypervolume"]
    assert list(said["objectives"]) == ["error_percent", "parameters"] and said["spent"]["evaluations"] > 0


def test_a_finished_run_answers_that_nothing_was_started(searched: tuple[Path, dict[str, Any]]) -> None:
    run, said = searched
    assert asked("resume", run) == {**said, "started": False}


def test_a_report_answers_with_its_file(searched: tuple[Path, dict[str, Any]]) -> None:
    run, _ = searched
    assert asked("report", run) == {"reports": [{"run": str(run), "report": str(run / "report.html")}]}


def test_trust_answers_with_its_statistics(searched: tuple[Path, dict[str, Any]]) -> None:
    run, _ = searched
    table = ["--table", "digits-tiny", "--column", "test_accuracy"]
    said = asked("trust", run, *table, "--networks", 12, "--images", 40)
    kept = json.loads((run / "trust.json").read_text())
    assert {key: said[key] for key in kept} == kept and said["agreements"][0]["networks"] == 12
    assert isinstance(said["warnings"], list)


def test_export_answers_with_its_files(searched: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    run, front = searched
    said = asked("export", run, "--member", front["recommended"], "--out", tmp_path / "out", "--formats", "network")
    assert said["member"] == front["recommended"] and said["not_written"] == {}
    assert said["written"]["network"]["difference"] < 1e-5
    assert all((tmp_path / "out" / name).is_file() for name in said["written"]["network"]["files"])


def test_retrain_answers_with_the_new_front(searched: tuple[Path, dict[str, Any]], no_report: None) -> None:
    run, front = searched
    said = asked("retrain", run, "--members", 2)
    trained = [m for m in said["members"] if m["test_error_percent"] is not None]
    assert len(trained) == min(2, len(front["members"]))


def test_a_member_is_retrained_by_its_number(searched: tuple[Path, dict[str, Any]], tmp_path: Path, no_report: None) -> None:
    run = Path(shutil.copytree(searched[0], tmp_path / "run"))
    before = pd.read_csv(run / "retrained.csv")["member"].tolist()
    untrained = sorted(set(pd.read_csv(run / "front.csv")["member"]) - set(before))
    assert len(untrained) >= 2
    for number in untrained[:2]:
        said = asked("retrain", run, "--member", number)
    trained = {m["member"] for m in said["members"] if m["test_error_percent"] is not None}
    assert trained == {*before, *untrained[:2]}  # those from before stay
    assert all((run / "networks" / f"network-{number}.pt").is_file() for number in untrained[:2])
    assert_refused(call("retrain", run, "--member", 99), "--member 99", "the members of the front")


def test_a_dry_run_answers_with_counts_and_seconds(tmp_path: Path) -> None:
    said = asked("search", write_toml(tmp_path), "--dry-run", "--seeds", 2)
    assert said["data"]["images"] == {"train": 100, "validation": 100, "test": 359}
    assert said["space"]["architectures"] == 15625 and said["searches"] == 2
    assert said["search"]["weight_steps_per_round"] == 2 and said["search"]["rounds"] > 0
    assert said["seconds"] == pytest.approx(said["seconds_of_search"] + said["seconds_of_retraining"])


def test_a_benchmark_answers_with_a_row_for_each_searcher(tmp_path: Path) -> None:
    said = asked(
        "bench", "--searchers", "random-search,local-search", "--budget", 20, "--seeds", 2, "--workers", 1, "--out", tmp_path
    )
    assert {row["searcher"] for row in said["searchers"]} == {"random-search", "local-search"}
    for row in said["searchers"]:
        assert row["hypervolume_low"] <= row["hypervolume"] <= row["hypervolume_high"] and row["seeds"] == 2
    assert said["budget"] == 20 and said["budget_in"] == "evaluations" and Path(said["report"]).is_file()


def test_a_training_answers_with_the_test_error(tmp_path: Path) -> None:
    settings = ["space.channels=4", "data.limit=100", "retrain.epochs=1"]
    said = asked("train", "digits-tiny", "conv1-skip-skip-skip", *settings, "--out", tmp_path / "one")
    assert said["test_error_low_percent"] <= said["test_error_percent"] <= said["test_error_high_percent"]
    assert Path(said["weights"]).is_file() and said["parameters"] > 0


def test_proxies_answer_with_their_worth(tmp_path: Path) -> None:
    path = write_toml(tmp_path, space={"name": "digits-tiny", "channels": 4}, retrain={"members": 1, "epochs": 1})
    said = asked("proxies", path, "--proxy", "size=4", "--levels", 1, "--each", 2, "--out", tmp_path / "proxies")
    assert [p["proxy"] for p in said["proxies"]] == ["size=4"] and said["target_seconds"] > 0
    assert Path(said["table"]).is_file() and Path(said["picture"]).is_file() and said["advice"]


def test_a_profile_answers_with_its_validation(tmp_path: Path) -> None:
    space = ["--space", "digits-tiny", "channels=2"]
    few = ["--networks", 20, "--validation", 3, "--rounds", 1, "--seconds", 0.0001]
    said = asked("profile", *space, *few, "--out", tmp_path / "me.toml")
    (profile,) = said["profiles"]
    assert profile["objective"] == "latency@me" and profile["unit"] == "ms" and profile["validation"]["networks"] == 3


def test_devices_answer_with_their_agreement() -> None:
    said = asked("devices", "--space", "proxyless")
    assert said["unit"] == "ms"
    for group in said["groups"]:
        assert all(device["validation"] is None or device["validation"]["mape_percent"] > 0 for device in group["devices"])
        if group["rank_correlation"] is not None:
            assert np.diag(group["rank_correlation"]) == pytest.approx(1)


def test_data_answers_with_the_images_of_each_class() -> None:
    said = asked("data", "digits", "data.limit=200")
    assert said["image"] == {"channels": 1, "height": 8, "width": 8} and len(said["classes"]) == 10
    assert sum(c["train"] for c in said["classes"]) == said["images"]["train"] == 100


def test_lists_and_descriptions() -> None:
    listed = {entry["name"]: entry["about"] for entry in asked("list", "searchers")["searchers"]}
    assert listed["nsga2"] and "random-search" in listed
    described = {setting["name"]: setting for setting in asked("describe", "nsga2")["settings"]}
    assert described["population"]["default"] == 20 and described["population"]["about"]
    assert asked("describe", "digits-tiny")["architectures"] == 625
