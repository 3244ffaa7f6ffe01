"""Searches and trainings as Tune trials: the same records as in process, dead actors, and errors told once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import torch

from analysis import records
from analysis.pareto import non_dominated
from orchestrator.cluster import data_parallel, trials
from orchestrator.cluster.replicas import Replicas
from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Dataset
from orchestrator.errors import RunError
from orchestrator.search.control import stop_file
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.progress import Round, TrainingProgress
from orchestrator.search.retraining import Member, retrain_member
from tests.helpers import timeless, tiny_plan

pytestmark = pytest.mark.usefixtures("cluster")


def in_process(plan: SearchPlan, directory: Path) -> str:
    (directory / "checkpoints").mkdir(parents=True)
    Coordinator(plan, directory, plan.build_evaluator()).run(lambda: False, lambda happened: None)
    return timeless(directory)


def test_a_tune_trial_with_one_actor_gives_the_records_of_one_process(digits: Dataset, tmp_path: Path) -> None:
    shown: list[Round] = []
    plan = tiny_plan(digits, workers={"ray": True, "count": 1})
    directory = tmp_path / "ray"
    (directory / "checkpoints").mkdir(parents=True)
    assert trials.search(plan, directory, shown.append)
    assert timeless(directory) == in_process(tiny_plan(digits), tmp_path / "here")
    assert shown and shown[-1].progress.fraction == 1 and shown[-1].progress.hypervolume > 0
    assert list(directory.glob("tune/search-*/trial-*/result.json"))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Replicas]:
    """Replicas of the test's searches, in the order in which they are started."""
    kept: list[Replicas] = []

    class Watched(Replicas):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(self)

    monkeypatch.setattr(trials, "Replicas", Watched)
    return kept


@pytest.mark.long
def test_a_killed_actor_costs_no_more_than_the_last_checkpoint(digits: Dataset, tmp_path: Path, kept: list[Replicas]) -> None:
    (tmp_path / "ray" / "checkpoints").mkdir(parents=True)
    rounds = 0

    def kill_once(happened: Round) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 7:
            ray.kill(kept[0]._actors[0])

    plan = tiny_plan(digits, workers={"ray": True, "count": 1}, budget={"checkpoint": 1e-6})
    _, finished = trials.resilient(plan, tmp_path / "ray", kill_once)
    assert finished and len(kept) == 2
    assert timeless(tmp_path / "ray") == in_process(tiny_plan(digits), tmp_path / "here")


@pytest.mark.faults
def test_finalists_climb_over_proxies_on_two_workers_one_of_which_dies(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: list[Replicas]
) -> None:
    for name, value in (("config.plan.FEWEST_STEPS", 1), ("config.plan.FINALISTS", 8), ("judge.process.ITERATIONS", 8)):
        monkeypatch.setattr(f"orchestrator.{name}", value)
    plan = tiny_plan(
        digits,
        space={"name": "digits-tiny", "channels": 4},
        searcher={"name": "random-search", "samples": 4},
        proxy=[{"share": 0.5}],
        budget={"epochs": 150, "interval": 8, "landmarks": 0.3, "finalists": 0.4, "validate": 4, "checkpoint": 1e-6},
        workers={"ray": True, "count": 2},
    )
    alone = 0

    def kill_once(happened: Round) -> None:
        nonlocal alone
        alone += happened.progress.phase == "training networks alone"
        if alone == 6 and len(kept) == 2:
            ray.kill(kept[-1]._actors[1])

    for name in ("straight", "killed"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        assert trials.resilient(plan, tmp_path / name, kill_once if name == "killed" else lambda happened: None)[1]
    assert len(kept) == 3 and timeless(tmp_path / "killed") == timeless(tmp_path / "straight")
    rows = pd.read_csv(tmp_path / "straight" / records.EVALUATIONS)
    finalists = rows[rows["kind"] == records.FINALIST]["proxy"].value_counts()
    assert finalists["share=0.5"] > finalists["target"] >= 8


def test_a_failing_search_is_one_clear_error_and_not_tried_twice(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    plan = tiny_plan(digits, workers={"ray": True, "count": 1}, training={"lr": 1e30, "clip": 1e30})
    with pytest.raises(RunError, match=r"^all of the first \d+ networks failed; .* lower training\.lr") as caught:
        trials.search(plan, tmp_path, lambda happened: None)
    assert "\n" not in str(caught.value)
    assert len(list(tmp_path.glob("tune/search-*/trial-*/result.json"))) == 1


def test_members_of_a_front_are_retrained_as_parallel_trials(digits: Dataset, tmp_path: Path) -> None:
    plan = tiny_plan(digits, workers={"ray": True, "count": 2}, retrain={"epochs": 2})
    space = plan.problem.space
    members = [
        Member(space.format(a), tmp_path / f"{i}.json", tmp_path / f"{i}.pt") for i, a in enumerate([(3,) * 6, (1,) * 6])
    ]
    seen: dict[str, float] = {}
    losses: dict[str, dict[int, float]] = {member.arch: {} for member in members}

    def done(name: str, told: TrainingProgress) -> None:
        seen[name] = told.fraction
        losses[name] |= told.losses

    trials.retrain(plan, tmp_path, members, done)
    assert set(seen) == {m.arch for m in members} and set(seen.values()) == {1.0}
    assert all(sorted(listed) == [1, 2] for listed in losses.values()), "the loss of each epoch, once"
    for member in members:
        result = pd.read_json(member.result, typ="series")
        assert result["train_loss"] == pytest.approx(losses[member.arch][2])
        assert member.done and result["arch"] == member.arch and 0 <= result["test_error_percent"] <= 100
        network = space.network(space.parse(member.arch))
        network.load_state_dict(torch.load(member.weights, weights_only=True))


def test_every_evaluation_and_front_comes_back_where_it_is_wanted(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    shown: list[Round] = []
    plan = tiny_plan(digits, workers={"ray": True, "count": 1}, searcher={"name": "random-search", "samples": 4})
    assert trials.search(plan, tmp_path, shown.append, detailed=True)
    rows = pd.read_csv(tmp_path / records.EVALUATIONS)
    samples = rows[rows["kind"] == records.SAMPLE]
    told = [e for happened in shown for e in happened.evaluations]
    assert [plan.problem.space.format(e.architecture) for e in told] == samples["arch"].tolist()
    assert [e.costs for e in told] == [tuple(row) for row in samples[plan.problem.columns].to_numpy().tolist()]
    front = next(happened.front for happened in reversed(shown) if happened.front is not None)
    costs = sorted({e.costs for e in told})
    assert sorted(e.costs for e in front) == [costs[i] for i in non_dominated(costs)]


def together(digits: Dataset, directory: Path) -> tuple[SearchPlan, Member]:
    """A plan that trains a network on two workers, and the network."""
    retrain = {"epochs": 3, "batch": 40, "workers": 2, "auxiliary": 0.4}
    plan = tiny_plan(digits, workers={"ray": True, "count": 2}, retrain=retrain)
    arch = plan.problem.space.format((3, 0, 1, 0, 1, 3))
    return plan, Member(arch, directory / "together.json", directory / "together.pt")


def test_two_workers_train_one_network_together(digits: Dataset, tmp_path: Path) -> None:
    plan, member = together(digits, tmp_path)
    seen: list[float] = []
    data_parallel.retrain(plan, tmp_path, [member], lambda name, told: seen.append(told.fraction))
    result = pd.read_json(member.result, typ="series")
    assert member.done and result["settings"]["workers"] == 2
    assert seen == sorted(seen) and not (tmp_path / "unfinished").exists()
    # As many images a step as one worker has, in shares of 20 whose statistics differ: losses are alike, and not equal.
    alone = replace(member, result=tmp_path / "alone.json", weights=tmp_path / "alone.pt")
    retrain_member(plan.varied(retrain=replace(plan.retraining, workers=1)), alone, lambda share: None)
    lonely = pd.read_json(alone.result, typ="series")
    assert result["train_loss"] == pytest.approx(lonely["train_loss"], rel=0.15)
    assert result["train_loss"] != lonely["train_loss"]
    network = plan.problem.space.network(plan.problem.space.parse(member.arch))
    network.load_state_dict(torch.load(tmp_path / "together.pt", weights_only=True))


@pytest.mark.faults
def test_two_workers_stop_together_and_go_on_to_the_same_weights(digits: Dataset, tmp_path: Path) -> None:
    plan, member = together(digits, tmp_path)
    stopping = lambda name, share: stop_file(tmp_path).touch()  # noqa: E731
    data_parallel.retrain(plan, tmp_path, [member], stopping)
    assert not member.done and (tmp_path / "unfinished" / "together" / "latest.pt").exists()
    stop_file(tmp_path).unlink()
    data_parallel.retrain(plan, tmp_path, [member], lambda name, share: None)
    assert member.done and "goes on from step" in (tmp_path / "run.log").read_text()
    whole = replace(member, result=tmp_path / "whole.json", weights=tmp_path / "whole.pt")
    data_parallel.retrain(plan, tmp_path, [whole], lambda name, share: None)
    weights, uninterrupted = (torch.load(tmp_path / name, weights_only=True) for name in ("together.pt", "whole.pt"))
    assert all(torch.equal(weights[name], tensor) for name, tensor in uninterrupted.items())
