"""Replicas of one supernet in Ray actors, kept in step, behind the interface of a single one."""

from __future__ import annotations

import datetime
import math
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.util
import torch
import torch.distributed as dist

from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError, attributed_to
from orchestrator.evaluators.base import Differentiable, Measured
from orchestrator.evaluators.training_free import Scored
from orchestrator.machine import Machine, machine, set_threads
from searchers import Architecture, Cotangents, Mixture, Stage


class WorkersLost(RunError):
    """Loss of an actor or its node, and with it of the weights since the last checkpoint."""


@ray.remote
class Replica:
    """Actor that hosts one evaluator, and adds the process group to it.

    Args:
        plan: The search.
        rank: Number of the replica.
    """

    def __init__(self, plan: SearchPlan, rank: int) -> None:
        workers = plan.workers
        set_threads(workers.cpus)
        if 0 < workers.gpus < 1:
            torch.cuda.set_per_process_memory_fraction(workers.gpus)
        self.workers, self.rank, self.plugins = workers, rank, plan.plugins
        self.evaluator = plan.build_evaluator(rank=rank, world=workers.count)

    def meeting_point(self) -> str:
        """Return an address on this node where the replicas can find each other."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def join(self, address: str) -> None:
        # NCCL refuses two ranks on one GPU; gloo carries tensors of shared GPUs through host memory.
        backend = "nccl" if self.workers.gpus >= 1 else "gloo"
        dist.init_process_group(
            backend,
            init_method=address,
            rank=self.rank,
            world_size=self.workers.count,
            timeout=datetime.timedelta(minutes=5),
        )

    def call(self, method: str, *arguments: Any) -> Any:
        with attributed_to(self.plugins):
            return getattr(self.evaluator, method)(*arguments)

    def ping(self) -> None:
        pass


class Replicas(Differentiable):
    """Evaluator of `workers.count` actors: weight steps and gradients are divided by images, measurements by architectures.

    Inside a Tune trial the actors land in the trial's placement group.

    Args:
        plan: The search.
        patience: Seconds to wait until the actors are placed.

    Raises:
        RunError: Where the actors cannot be placed in time.
        WorkersLost: From any call, once one of them is gone.
    """

    def __init__(self, plan: SearchPlan, patience: float = 120.0) -> None:
        shared = ray.put(plan)  # once, for all actors
        workers = plan.workers
        options = {"num_cpus": workers.cpus, "num_gpus": workers.gpus}
        self.space, self.step, self._steps_each = plan.problem.space, 0, plan.schedule.steps_each
        self._actors = [Replica.options(**options).remote(shared, rank) for rank in range(workers.count)]  # type: ignore[attr-defined]
        try:
            address = ray.get([a.meeting_point.remote() for a in self._actors], timeout=patience)[0]
            if workers.count > 1 and plan.shares_weights:
                ray.get([a.join.remote(address) for a in self._actors], timeout=patience)
        except ray.exceptions.GetTimeoutError as error:
            self.close()
            raise RunError(
                f"{workers.count} workers of {workers.cpus} CPUs and {workers.gpus} GPUs could not be placed within "
                f"{patience:.0f} s; lower workers.count, workers.cpus or workers.gpus, or wait for the cluster to have room"
            ) from error
        except ray.exceptions.RayActorError as error:
            self.close()
            raise WorkersLost(f"a worker died while it started: {last_line(error)}") from error

    def machines(self) -> list[Machine]:
        """List the machines of the workers, and this one, where the searcher computes."""
        workers = [m for (m,) in self._get([a.call.remote("machines") for a in self._actors])]
        here = machine()  # the same machine as a worker's even where it lacks that worker's GPU
        return workers if any(here.items() <= m.items() for m in workers) else [*workers, here]

    def build(self, stage: Stage, steps: int) -> None:
        self._all("build", stage, steps)

    def extend(self, steps: int) -> None:
        self._all("extend", steps)

    def drop(self, stage: Stage) -> None:
        self._all("drop", stage)

    def train(self, mixtures: Sequence[Mixture]) -> float:
        if self._steps_each:
            return math.nan  # each network is trained when it is measured
        loss: float = self._all("train", mixtures)
        self.step += len(mixtures)
        return loss

    def measure(self, architectures: Sequence[Architecture]) -> list[Measured]:
        metrics = self._shared_out("measure", architectures)
        self.step += self._steps_each * len(architectures)
        return metrics

    def measure_on_batch(self, architectures: Sequence[Architecture], batch: int) -> list[Measured]:
        metrics = self._shared_out("measure_on_batch", architectures, batch)
        self.step += self._steps_each * len(architectures)
        return metrics

    def train_alone(self, architectures: Sequence[Architecture], epochs: int) -> list[Measured]:
        return self._shared_out("train_alone", architectures, epochs)

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Measured]:
        return self._shared_out("measure_on_device", architectures)

    def score_each(self, architectures: Sequence[Architecture], names: Sequence[str]) -> list[Scored]:
        return self._shared_out("score_each", architectures, names)

    def measure_alone(self, architectures: Sequence[Architecture]) -> list[Measured]:
        metrics: list[Measured] = self._get([self._actors[0].call.remote("measure_on_device", list(architectures))])[0]
        return metrics

    def skipped_steps(self) -> int:
        return int(self._get([self._actors[0].call.remote("skipped_steps")])[0])

    def differentiate(self, mixture: Mixture, batch: int, unrolled: bool = False) -> tuple[float, Cotangents] | None:
        self.asked += 4 if unrolled else 1
        answer: tuple[float, Cotangents] | None = self._all("differentiate", mixture, batch, unrolled)
        return answer

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self._get([self._actors[0].call.remote("state_dict")])[0]
        return state | {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._all("load_state_dict", state)
        self.step, self.asked = state["step"], state.get("asked", 0)

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _all(self, method: str, *arguments: Any) -> Any:
        """Make the same call on every replica; they agree, so the first answer is returned."""
        return self._get([a.call.remote(method, *arguments) for a in self._actors])[0]

    def _shared_out(self, method: str, architectures: Sequence[Architecture], *arguments: Any) -> list[Any]:
        """Make a call per architecture on whichever replica is free, as architectures take very different times."""
        if len(self._actors) == 1:
            answer: list[Any] = self._all(method, list(architectures), *arguments)
            return answer
        pool = ray.util.ActorPool(self._actors)
        with self._noticing_the_dead():
            answers = pool.map(lambda actor, a: actor.call.remote(method, [a], *arguments), architectures)
            return [answer for (answer,) in answers]

    def _get(self, answers: Sequence[Any]) -> list[Any]:
        with self._noticing_the_dead():
            return list(ray.get(list(answers)))

    @contextmanager
    def _noticing_the_dead(self) -> Iterator[None]:
        try:
            yield
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, (RunError, InputError)):
                raise cause from None  # Ray's own version of it would print the worker's whole traceback
            # A replica whose peer died fails in the all-reduce: ask who is left before deciding what happened.
            try:
                ray.get([a.ping.remote() for a in self._actors], timeout=10)
            except (ray.exceptions.RayError, TimeoutError) as gone:
                raise WorkersLost(f"a worker died: {last_line(gone)} (seen first: {last_line(error)})") from error
            raise


def last_line(error: BaseException) -> str:
    """Return the message of an error, without the traceback that Ray puts before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
