"""Replicas in actors: in step, sharing out the work, and heard of when they die or have no place."""

import pytest
import ray
import torch

from orchestrator.cluster.replicas import Replicas, WorkersLost
from orchestrator.data.dataset import Dataset
from orchestrator.errors import RunError
from searchers import Mixture, Stage
from tests.helpers import tiny_plan

pytestmark = pytest.mark.usefixtures("cluster")
FULL = Stage(0, ((0, 1, 2, 3, 4),) * 6, rounds=10)


def test_replicas_stay_in_step_and_share_out_the_work(digits: Dataset) -> None:
    plan = tiny_plan(digits, workers={"ray": True, "count": 2})
    replicas = Replicas(plan)
    try:
        replicas.build(FULL, 10)
        uniform = Mixture(((0.2,) * 5,) * 6)
        replicas.train([uniform, Mixture.one_hot((3, 2, 3, 2, 3, 2), (5,) * 6), uniform])
        states = ray.get([a.call.remote("state_dict") for a in replicas._actors])
        for name, value in states[0]["model"].items():
            assert torch.equal(value, states[1]["model"][name]), name
        assert replicas.step == 3
        # What two of them measure is what one alone measures with the same weights.
        alone = tiny_plan(digits).build_evaluator()
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


def test_two_replicas_take_the_gradient_of_both_halves(digits: Dataset) -> None:
    """With normalisation out of the picture, two halves sum to exactly the step that one process takes."""
    plan = tiny_plan(digits, workers={"ray": True, "count": 2}, training={"skip_dropout": ()})
    replicas, alone = Replicas(plan), tiny_plan(digits, training={"skip_dropout": ()}).build_evaluator()
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


def test_one_of_two_actors_dead_is_noticed(digits: Dataset) -> None:
    plan = tiny_plan(digits, workers={"ray": True, "count": 2})
    replicas = Replicas(plan)
    try:
        replicas.build(FULL, 10)
        ray.kill(replicas._actors[1])
        with pytest.raises(WorkersLost, match="a worker died"):
            replicas.train([Mixture(((0.2,) * 5,) * 6)])
    finally:
        replicas.close()


def test_an_actor_that_cannot_be_placed_is_an_error_not_a_wait(digits: Dataset) -> None:
    plan = tiny_plan(digits, workers={"ray": True, "count": 3})
    with pytest.raises(RunError, match=r"3 workers of 1 CPUs and 0\.0 GPUs could not be placed within 3 s; lower"):
        Replicas(plan, patience=3)


def test_our_own_errors_come_back_from_an_actor(digits: Dataset) -> None:
    plan = tiny_plan(digits, workers={"ray": True, "count": 1}, training={"lr": 1e30, "clip": 1e30})
    replicas = Replicas(plan)
    try:
        replicas.build(FULL, 10)
        with pytest.raises(RunError, match=r"lower training\.lr"):
            replicas.train([Mixture(((0.2,) * 5,) * 6)] * 8)
    finally:
        replicas.close()
