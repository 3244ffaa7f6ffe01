"""Ray's side: the same records as in process, replicas in step, dead actors, and what does not fit."""

import hashlib
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from PIL import Image

from orchestrator.cluster import replicas as replica_module
from orchestrator.cluster.replicas import Replicas, WorkersLost
from orchestrator.errors import RunError
from orchestrator.evaluators.supernet import MOST_SKIPPED
from orchestrator.search.coordinator import Coordinator
from searchers import Mixture, Stage
from tests.helpers import OTHER_KERNELS, chooses_kernels, tiny_plan

pytestmark = pytest.mark.usefixtures("cluster")
FULL = Stage(0, ((0, 1, 2, 3, 4),) * 6, rounds=10)


def timeless(directory: Path) -> str:
    return pd.read_csv(directory / "evaluations.csv").drop(columns="seconds").to_csv()


def in_process(directory: Path) -> str:
    (directory / "checkpoints").mkdir(parents=True)
    plan = tiny_plan()
    Coordinator(plan, directory, plan.build_evaluator()).run(lambda: False, lambda happened: None)
    return timeless(directory)


def bits(state: dict[str, Any]) -> str:
    """A checksum of the weights, the averages and the momentum."""
    momenta = [value for slot in state["optimizer"]["state"].values() for value in slot.values()]
    tensors = [*state["model"].values(), *(m for m in momenta if m is not None)]
    return hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors)).hexdigest()


def bits_of_each(replicas: Replicas) -> list[str]:
    return [bits(state) for state in ray.get([a.call.remote("state_dict") for a in replicas._actors])]


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_replicas_stay_in_step_and_share_out_the_work(statistics: str) -> None:
    proxy = [{"share": 0.5}]
    plan = tiny_plan(workers={"ray": True, "count": 2}, training={"statistics": statistics}, proxy=proxy)
    replicas = Replicas(plan)
    try:
        replicas.build(FULL, 10)
        uniform = Mixture(((0.2,) * 5,) * 6)
        replicas.train([uniform, Mixture.one_hot((3, 2, 3, 2, 3, 2), (5,) * 6), uniform])
        first, second = bits_of_each(replicas)
        assert first == second
        assert replicas.step == 3
        # What two of them measure is what one alone measures with the same weights.
        alone = tiny_plan(plan.problem.data, training={"statistics": statistics}, proxy=proxy).build_evaluator()
        alone.load_state_dict(replicas.state_dict())
        asked = [(3,) * 6, (2,) * 6, (1,) * 6]
        assert replicas.measure_on_batch(asked, 0) == alone.measure_on_batch(asked, 0)
        assert replicas.measure(asked[:1]) == alone.measure(asked[:1])
        assert replicas.score(asked, ["zico"]) == alone.score(asked, ["zico"])
        assert replicas.train_alone(asked[:2], 1) == alone.train_alone(asked[:2], 1)
        assert replicas.train_at(asked[:2], 1, 1) == alone.elsewhere[1].train_alone(asked[:2], 1)
        # A replica differentiates its half of the batch; normalisation makes that close to, not equal to, the whole.
        loss, cotangents = replicas.differentiate(uniform, 0)
        expected, slopes = alone.differentiate(uniform, 0)
        assert loss == pytest.approx(expected, rel=0.2)
        assert len(cotangents) == 6 and cotangents[0][0] == slopes[0][0] == 0
    finally:
        replicas.close()


@chooses_kernels
@pytest.mark.parametrize("statistics", ["batch", pytest.param("running", marks=pytest.mark.long)])
def test_replicas_on_unlike_processors_hold_the_same_bits(statistics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unlike:
        """Replicas of which the second one computes as another processor would."""

        def __init__(self, **options: Any) -> None:
            self.options_ = options

        options = classmethod(lambda cls, **options: cls(**options))

        def remote(self, rank: int) -> Any:
            environment = {"env_vars": OTHER_KERNELS if rank else {}}
            return real.options(**self.options_, runtime_env=environment).remote(rank)  # type: ignore[attr-defined]

    real = replica_module.Replica
    monkeypatch.setattr(replica_module, "Replica", Unlike)
    replicas = Replicas(tiny_plan(workers={"ray": True, "count": 2}, training={"statistics": statistics}))
    try:
        here, there = replicas.machines()
        assert here["torch kernels"] != there["torch kernels"] and here["BLAS"] != there["BLAS"]
        seen = []
        for stage in (FULL, Stage(1, FULL.options, rounds=10, stages=3)):
            replicas.build(stage, 10)
            for steps in (0, 1, 8):
                replicas.train([Mixture(((0.2,) * 5,) * 6)] * steps)
                first, second = bits_of_each(replicas)
                assert first == second, f"after {replicas.step} steps"
                seen.append(first)
        assert len(set(seen)) == 6
    finally:
        replicas.close()


BIAS = "network.classifier.2.bias"


def test_two_replicas_take_the_gradient_of_both_halves() -> None:
    """With normalisation out of the picture, two halves sum to exactly the step that one process takes."""
    replicas = Replicas(tiny_plan(workers={"ray": True, "count": 2}, training={"skip_dropout": ()}))
    alone = tiny_plan(training={"skip_dropout": ()}).build_evaluator()
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


def test_one_of_two_actors_dead_is_noticed() -> None:
    replicas = Replicas(tiny_plan(workers={"ray": True, "count": 2}))
    try:
        replicas.build(FULL, 10)
        ray.kill(replicas._actors[1])
        with pytest.raises(WorkersLost, match="a worker died"):
            replicas.train([Mixture(((0.2,) * 5,) * 6)])
    finally:
        replicas.close()


def test_an_actor_that_cannot_be_placed_is_an_error_not_a_wait() -> None:
    plan = tiny_plan(workers={"ray": True, "count": 3})
    with pytest.raises(RunError, match=r"3 workers of 1 CPUs and 0 GPUs did not start within 3 s; lower"):
        Replicas(plan, patience=3)


def test_our_own_errors_come_back_from_an_actor() -> None:
    replicas = Replicas(tiny_plan(workers={"ray": True, "count": 1}, training={"lr": 1e30, "clip": 1e30}))
    try:
        replicas.build(FULL, 10)
        with pytest.raises(RunError, match=r"lower training\.lr"):
            replicas.train([Mixture(((0.2,) * 5,) * 6)] * (MOST_SKIPPED + 8))
    finally:
        replicas.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.long
def test_replicas_on_a_stream_hold_the_weights_of_memory_and_leave_no_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
    found = []
    for stream in (False, True):
        data = {"name": "folder", "path": str(tmp_path), "size": 8, "stream": stream}
        plan = tiny_plan(data=data, training={"batch": 8, "valid_batch": 8}, workers={"ray": True, "count": 2})
        replicas = Replicas(plan)
        try:
            replicas.build(FULL, 10)
            losses = [replicas.train([Mixture.one_hot((3, 2, 3, 2, 3, 2), (5,) * 6)] * 2) for _ in range(2)]
            gradient = replicas.differentiate(Mixture(((0.2,) * 5,) * 6), 1)
            found.append((losses, replicas.measure([(3,) * 6, (2,) * 6]), gradient, bits_of_each(replicas)))
            children = [a.__ray_call__.remote(lambda _: [c.pid for c in active_children()]) for a in replicas._actors]
            decoders = [pid for pids in ray.get(children) for pid in pids]
        finally:
            replicas.close()
    assert found[0] == found[1]
    assert len(decoders) >= 4 and all(decoders)
    for _ in range(150):  # torch's processes look every 5 seconds whether their parent is there
        if not any(map(is_alive, decoders)):
            break
        time.sleep(0.1)
    assert not any(map(is_alive, decoders))
