"""Ray's side: the same records as in process, replicas in step, dead actors, and what does not fit."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import torch

from orchestrator.cluster import trials as tune
from orchestrator.cluster.replicas import Replicas, WorkersLost
from orchestrator.config.experiment import Workers
from orchestrator.errors import InputError, RunError
from orchestrator.search.coordinator import Coordinator
from searchers import Mixture, Stage
from tests.conftest import tiny

pytestmark = pytest.mark.usefixtures("cluster")
FULL = Stage(0, ((0, 1, 2, 3, 4),) * 6, rounds=10)


def timeless(directory: Path) -> str:
    return pd.read_csv(directory / "evaluations.csv").drop(columns="seconds").to_csv()


def in_process(directory: Path) -> str:
    (directory / "checkpoints").mkdir(parents=True)
    experiment = tiny()
    data = experiment.load_data()
    Coordinator(experiment, directory, data, experiment.build_evaluator(data)).run(lambda: False, lambda p: None)
    return timeless(directory)


def test_a_tune_trial_with_one_actor_gives_the_records_of_one_process(tmp_path: Path) -> None:
    shown: list[Any] = []
    experiment = tiny(workers={"ray": True, "count": 1})
    directory = tmp_path / "ray"
    (directory / "checkpoints").mkdir(parents=True)
    assert tune.search(experiment, directory, experiment.load_data(), shown.append)
    assert timeless(directory) == in_process(tmp_path / "here")
    assert shown and shown[-1].fraction == 1 and shown[-1].hypervolume > 0
    assert list(directory.glob("tune/search-*/trial-*/result.json"))


def test_replicas_stay_in_step_and_share_out_the_work() -> None:
    experiment = tiny(workers={"ray": True, "count": 2})
    data = experiment.load_data()
    replicas = Replicas(experiment, data)
    try:
        replicas.build(FULL, 10)
        uniform = Mixture(((0.2,) * 5,) * 6)
        replicas.train([uniform, Mixture.one_hot((3, 2, 3, 2, 3, 2), (5,) * 6), uniform])
        states = ray.get([a.call.remote("state_dict") for a in replicas._actors])
        for name, value in states[0]["model"].items():
            assert torch.equal(value, states[1]["model"][name]), name
        assert replicas.step == 3
        # What two of them measure is what one alone measures with the same weights.
        alone = tiny().build_evaluator(data)
        alone.load_state_dict(replicas.state_dict())
        asked = [(3,) * 6, (2,) * 6, (1,) * 6]
        assert replicas.measure_on_batch(asked, 0) == alone.measure_on_batch(asked, 0)
        assert replicas.measure(asked[:1]) == alone.measure(asked[:1])
        # A replica differentiates its half of the batch; normalisation makes that close to, not equal to, the whole.
        loss, cotangents = replicas.differentiate(uniform, 0)
        expected, slopes = alone.differentiate(uniform, 0)
        assert loss == pytest.approx(expected, rel=0.2)
        assert len(cotangents) == 6 and cotangents[0][0] == slopes[0][0] == 0
    finally:
        replicas.close()


BIAS = "network.classifier.2.bias"


def test_two_replicas_take_the_gradient_of_both_halves() -> None:
    """With normalisation out of the picture, two halves sum to exactly the step that one process takes."""
    experiment = tiny(workers={"ray": True, "count": 2}, training={"skip_dropout": ()})
    data = experiment.load_data()
    replicas, alone = Replicas(experiment, data), tiny(training={"skip_dropout": ()}).build_evaluator(data)
    try:
        replicas.build(FULL, 10)
        state = replicas.state_dict()
        alone.load_state_dict(state)
        zero = Mixture.one_hot((0,) * 6, (5,) * 6)  # the cells add nothing, so only the classifier's bias learns
        replicas.train([zero])
        alone.train([zero])
        here, there = alone.model.state_dict(), replicas.state_dict()["model"]
        assert torch.allclose(here[BIAS], there[BIAS], atol=1e-6)
        assert not torch.allclose(here[BIAS], state["model"][BIAS], atol=1e-6)
    finally:
        replicas.close()


def test_a_killed_actor_costs_no_more_than_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray" / "checkpoints").mkdir(parents=True)
    kept: list[Replicas] = []

    class Watched(Replicas):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(self)

    monkeypatch.setattr(tune, "Replicas", Watched)
    rounds = 0

    def kill_once(progress: Any) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 7:
            ray.kill(kept[0]._actors[0])

    experiment = tiny(workers={"ray": True, "count": 1}, budget={"checkpoint": 1e-6})
    _, finished = tune.resilient(experiment, tmp_path / "ray", experiment.load_data(), kill_once)
    assert finished and len(kept) == 2
    assert timeless(tmp_path / "ray") == in_process(tmp_path / "here")


def test_one_of_two_actors_dead_is_noticed() -> None:
    experiment = tiny(workers={"ray": True, "count": 2})
    replicas = Replicas(experiment, experiment.load_data())
    try:
        replicas.build(FULL, 10)
        ray.kill(replicas._actors[1])
        with pytest.raises(WorkersLost, match="a worker died"):
            replicas.train([Mixture(((0.2,) * 5,) * 6)])
    finally:
        replicas.close()


def test_an_actor_that_cannot_be_placed_is_an_error_not_a_wait() -> None:
    experiment = tiny(workers={"ray": True, "count": 3})
    with pytest.raises(RunError, match=r"3 workers of 1 CPUs and 0\.0 GPUs could not be placed within 3 s; lower"):
        Replicas(experiment, experiment.load_data(), patience=3)


def test_workers_that_do_not_fit_the_cluster_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 workers of 1 CPUs need 3; there are 2"), tune.cluster(Workers(count=3)):
        raise AssertionError


def test_our_own_errors_come_back_from_an_actor() -> None:
    experiment = tiny(workers={"ray": True, "count": 1}, training={"lr": 1e30, "clip": 1e30})
    replicas = Replicas(experiment, experiment.load_data())
    try:
        replicas.build(FULL, 10)
        with pytest.raises(RunError, match=r"lower training\.lr"):
            replicas.train([Mixture(((0.2,) * 5,) * 6)] * 8)
    finally:
        replicas.close()


def test_a_failing_search_is_one_clear_error_and_not_tried_twice(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    experiment = tiny(workers={"ray": True, "count": 1}, training={"lr": 1e30, "clip": 1e30})
    with pytest.raises(RunError, match=r"^the training loss became .* lower training\.lr") as caught:
        tune.search(experiment, tmp_path, experiment.load_data(), lambda progress: None)
    assert "\n" not in str(caught.value)
    assert len(list(tmp_path.glob("tune/search-*/trial-*/result.json"))) == 1


def test_members_of_a_front_are_retrained_as_parallel_trials(tmp_path: Path) -> None:
    experiment = tiny(workers={"ray": True, "count": 2}, retrain={"epochs": 2})
    space = experiment.build_space(experiment.load_data())
    members = [
        {"arch": space.format(a), "result": str(tmp_path / f"{i}.json"), "weights": str(tmp_path / f"{i}.pt")}
        for i, a in enumerate([(3,) * 6, (1,) * 6])
    ]
    seen: dict[str, float] = {}
    tune.retrain(experiment, tmp_path, experiment.load_data(), members, seen.__setitem__)
    assert set(seen) == {m["arch"] for m in members} and set(seen.values()) == {1.0}
    for member in members:
        result = pd.read_json(member["result"], typ="series")
        assert result["arch"] == member["arch"] and 0 <= result["test_error_percent"] <= 100
        network = space.network(space.parse(member["arch"]))
        network.load_state_dict(torch.load(member["weights"], weights_only=True))
