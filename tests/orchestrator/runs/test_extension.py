"""Runs that go on with other settings: what they keep, what they add, and what is refused."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import paretoray as pr
from analysis import records
from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.runs import origin
from orchestrator.runs.extension import changed
from orchestrator.search.coordinator import is_complete
from tests.fakes import FAKE
from tests.helpers import assert_refused, call, run, table, timeless, tiny, tiny_plan, write_toml

SAMPLED = (
    "random-search", "nsga2", "nsga-net", "surrogate-search", "aging-evolution", "local-search", "pymoo-algorithm",
)  # fmt: skip
PLANNED = ("tnd-nas", "ddpnas", "proxyless-r", "proxyless-g", "darts", "nasp", "preference-policy")


def longer(plan: SearchPlan, **budget: Any) -> SearchPlan:
    return plan.varied(budget=replace(plan.budget, **budget))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let short searches train networks alone."""
    monkeypatch.setattr("orchestrator.config.plan.FEWEST_STEPS", 1)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_finished_search_goes_on_and_keeps_its_rows(digits: Dataset, tmp_path: Path, name: str) -> None:
    plan = tiny_plan(digits, **FAKE, searcher={"name": name}, budget={"epochs": 10}, front={"judge": False})
    run(plan, tmp_path)
    before, evaluations = (tmp_path / records.EVALUATIONS).read_text(), table(tmp_path)
    more = run(longer(plan, epochs=20.0), tmp_path)
    after = (tmp_path / records.EVALUATIONS).read_text()
    assert after.startswith(before) and len(table(tmp_path)) > len(evaluations)
    assert more.finished and more.progress().fraction == 1
    assert more.spending.epochs == pytest.approx(20) and more.progress().round == more.progress().rounds
    assert not table(tmp_path).query("kind == 'sample'")["arch"].duplicated().any(), "what was proposed is not proposed again"
    assert is_complete(longer(plan, epochs=20.0), tmp_path) and not is_complete(plan, tmp_path)


@pytest.mark.parametrize("name", ["random-search", "surrogate-search"])
def test_interrupted_while_it_goes_on_it_ends_with_equal_records(
    digits: Dataset, tmp_path: Path, alone: None, name: str
) -> None:
    budget = {"epochs": 22, "interval": 2, "landmarks": 0.4, "finalists": 0.2, "validate": 4}
    plan = tiny_plan(digits, **FAKE, searcher={"name": name}, budget=budget)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(plan, whole)
    shutil.copytree(whole, parts)
    first, more = (whole / records.EVALUATIONS).read_text(), longer(plan, epochs=46.0)
    assert plan.alone.landmarks and plan.alone.finalists
    run(more, whole)
    for rounds in (1, 9, 7):
        run(more, parts, rounds)
    run(more, parts)
    assert (whole / records.EVALUATIONS).read_text().startswith(first)
    for file in (records.EVALUATIONS, records.FRONT):
        assert timeless(parts, file) == timeless(whole, file)
    blocks = [kind for kind, _ in itertools.groupby(table(whole)["kind"])]
    assert blocks.count(records.VALIDATION) == 2 and blocks[-1] in (records.LANDMARK, records.FINALIST)
    assert name != "random-search" or blocks.count(records.LANDMARK) == 2
    (raised,) = json.loads((whole / records.SUMMARY).read_text())["raised_after"]
    assert 0 < raised["epochs"] <= 22


def test_weights_that_learn_no_more_begin_anew_and_are_warmed_up(digits: Dataset, tmp_path: Path) -> None:
    plan = tiny_plan(digits, searcher={"name": "random-search", "warmup": 0.5}, budget={"epochs": 6, "interval": 2})
    run(plan, tmp_path)
    steps, rows = table(tmp_path)["step"].max(), len(table(tmp_path))
    more = run(longer(plan, epochs=12.0), tmp_path, rounds=1)
    (group,) = more.evaluator._optimizer.param_groups  # type: ignore[attr-defined]
    assert group["lr"] > 0.9 * more.evaluator.lr  # type: ignore[attr-defined]
    run(longer(plan, epochs=12.0), tmp_path)
    added = table(tmp_path)[rows:]
    assert added["step"].min() > steps + 0.4 * steps, "at first only weights are trained"


@pytest.mark.parametrize("limit", [{"evaluations": 12}, {"evaluations": 12, "epochs": 20.0}])
def test_other_limits_can_be_raised_too(digits: Dataset, tmp_path: Path, limit: dict[str, Any]) -> None:
    sections = FAKE | {"searcher": {"name": "random-search", "samples": 2, "warmup": 0.0}}
    plan = tiny_plan(digits, **sections, budget={"epochs": 10, "evaluations": 6}, front={"judge": False})
    run(plan, tmp_path)
    assert sum(table(tmp_path)["kind"] == records.SAMPLE) == 6
    assert run(longer(plan, **limit), tmp_path).spending.evaluations == 12


def test_a_stopped_search_of_any_method_may_get_more_time(digits: Dataset, tmp_path: Path) -> None:
    plan = tiny_plan(digits, **FAKE, budget={"epochs": 8, "seconds": 1000.0})
    run(plan, tmp_path / "straight")
    run(plan, tmp_path / "stopped", rounds=7)
    assert run(longer(plan, seconds=5000.0), tmp_path / "stopped").finished
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "straight")


@pytest.mark.parametrize("name", PLANNED)
def test_a_method_that_plans_the_whole_search_says_so(tmp_path: Path, name: str) -> None:
    settings = FAKE | {"searcher": {"name": name}, "budget": {"epochs": 16, "interval": 1}, "front": {"judge": False}}
    directory = tmp_path / "run"
    run(SearchPlan.of(tiny(**settings)), directory)
    (directory / "experiment.toml").write_text(tiny(**settings).to_toml())
    origin.trust(directory)
    text = (directory / "experiment.toml").read_text()
    assert_refused(call("resume", directory, "budget.epochs=40"), name, "plans the whole search in advance", "new search")
    assert (directory / "experiment.toml").read_text() == text
    (directory / "experiment.toml").write_text(text.replace("epochs = 16.0", "epochs = 40.0"))
    assert_refused(call("resume", directory), name, "plans the whole search in advance")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    settings = {
        "searcher": {"name": "random-search"},
        "budget": {"epochs": 6, "interval": 2},
        "objectives": {"error": {}, "parameters": {}},
        "retrain": {"members": 1, "epochs": 1},
    }
    result = call("search", write_toml(folder, **settings), "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_a_finished_run_says_so_and_how_it_goes_on(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("_search", "retrain_front", "write_report"):
        monkeypatch.setattr(f"orchestrator.runs.run.{step}", None)
    result = call("resume", done)
    assert result.exit_code == 0 and "is finished" in result.output
    assert f"paretoray resume {done} budget.epochs=12" in result.output
    assert pr.resume(done).finished


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("budget.epochs=3", ("budget.epochs = 3", "has spent 6 epochs", "more than that")),
        ("budget.epochs=-1", ("budget.epochs",)),
        ("budget.evaluations=1", ("budget.e", "has spent")),
        ("budget.interval=4", ("budget.interval cannot change", "another run")),
        ("budget.epoch=9", ("epoch", "epochs")),
        ("workers.count=3", ("workers.count cannot change", "another run")),
        ("front.judge=false", ("front.judge cannot change",)),
        ("searcher.samples=3", ("searcher.samples cannot change", "budget, retrain, front.members, workers and logging")),
        ("space.channels=8", ("space.channels cannot change",)),
        ("seed=3", ("section.key=value",)),
        ("budget", ("section.key=value",)),
        ("budget=12", ("section.key=value",)),
        ("budget.epochs.x=12", ("budget.epochs",)),
    ],
)
def test_what_cannot_change_is_refused_with_its_name(done: Path, setting: str, parts: tuple[str, ...]) -> None:
    before = {name: (done / name).read_bytes() for name in ("experiment.toml", records.EVALUATIONS, "report.html")}
    assert_refused(call("resume", done, setting), *parts)
    assert {name: (done / name).read_bytes() for name in before} == before


@pytest.mark.long
def test_more_of_a_finished_run_in_several_steps(done: Path) -> None:
    before = (done / records.EVALUATIONS).read_text()
    weights = [path.read_bytes() for path in (done / "networks").glob("*.pt")]
    result = call("resume", done, "retrain.members=2", "front.members=3")
    assert result.exit_code == 0, result.output
    assert len(table(done, records.RETRAINED)) == min(2, len(table(done, records.FRONT))) and len(table(done, "front.csv")) <= 3
    assert (done / records.EVALUATIONS).read_text() == before
    assert weights[0] in [path.read_bytes() for path in (done / "networks").glob("*.pt")]
    assert "is finished" in call("resume", done).output

    result = call("resume", done, "budget.epochs=12", "retrain.epochs=2")
    assert result.exit_code == 0, result.output
    text = (done / "experiment.toml").read_text()
    assert "epochs = 12.0" in text and "epochs = 2\n" in text and "members = 3" in text
    assert (done / records.EVALUATIONS).read_text().startswith(before)
    assert "The budget was raised after 6 epochs" in (done / "report.html").read_text()
    front = table(done, records.FRONT).set_index("arch")
    for path in (done / "networks").glob("network-*.json"):
        arch = json.loads(path.read_text())["arch"]
        assert path.stem == f"network-{front['member'][arch]}" and path.with_suffix(".pt").exists()
    result = pr.resume(done, changes={"budget.epochs": 15})
    assert result.finished and (done / records.EVALUATIONS).read_text().startswith(before)
    with pytest.raises(pr.InputError, match=r"section\.key"):
        pr.resume(done, changes={"epochs": 20})


def test_a_run_that_was_given_a_problem_goes_on_with_more(digits: Dataset, tmp_path: Path) -> None:
    problem = pr.Problem(space="digits-tiny", data=digits, objectives=["error", "parameters"])
    here, few = pr.Workers(ray=False, count=1), pr.Retraining(members=0)
    settings: dict[str, Any] = {"budget": pr.Budget(epochs=4, interval=2), "workers": here, "retrain": few}
    first = pr.search(problem, "random-search", **settings, out=tmp_path / "run").evaluations
    more = pr.resume(tmp_path / "run", problem, changes={"budget.epochs": 8}).evaluations
    assert len(more) > len(first) and more.head(len(first)).equals(first)


def test_searches_of_a_sweep_go_on_together(tmp_path: Path, no_report: None) -> None:
    settings = FAKE | {"searcher": {"name": "random-search"}, "budget": {"epochs": 6}, "front": {"judge": False}}
    out = tmp_path / "run"
    result = call("search", write_toml(tmp_path, **settings), "--out", out, "--seeds", 2)
    assert result.exit_code == 0, result.output
    before = table(out)
    result = call("resume", out, "budget.epochs=12")
    assert result.exit_code == 0, result.output
    after = table(out)
    assert (after["search"].value_counts() > before["search"].value_counts()).all()
    assert_refused(call("resume", out, "budget.epochs=1"), "has spent")


def test_settings_of_a_run_are_checked_as_those_of_a_file() -> None:
    experiment = tiny()
    assert changed(experiment, {"budget": {"epochs": 99}}).budget.epochs == 99.0
    assert changed(experiment, {"workers": {"cpus": 2}}).workers.cpus == 2
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"budget": {"epochs": "many"}}, "epochs"),
        ({"retrain": {"epochz": 3}}, "epochz"),
        ({"objectives": {"error": {"at_most": 5}}}, "objectives.error was searched for"),
        ({"objectives": ["error", "macs", "latency"]}, "leaves out parameters"),
        ({"objectives": {"latency": 3}}, "objectives.latency = 3"),
        ({"objectives": {"latncy": {}}}, "did you mean 'latency'"),
        ({"objectives": {"latency": {"target": 3}}}, "objectives.latency.target"),
        ({"seed": 3}, "seed cannot change"),
    ]
    for changes, message in refusals:
        with pytest.raises(InputError, match=message):
            changed(experiment, changes)


def test_members_are_timed_again_after_a_search_went_on() -> None:
    rows = [
        ("a", "validation"),
        ("a", "timed"),
        ("b", "timed"),
        ("b", "sample"),
        ("c", "timed"),
        ("a", "timed"),
        ("c", "timed"),
    ]
    evaluations = pd.DataFrame(rows, columns=["arch", "kind"])
    assert records.timings(evaluations)["arch"].tolist() == ["a", "c"]
    assert records.timings(evaluations[:4]).empty
    assert records.timings(evaluations[:3])["arch"].tolist() == ["a", "b"]
