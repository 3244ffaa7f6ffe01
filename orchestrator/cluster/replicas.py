"""Replicas of one supernet in Ray actors, kept in step, behind the interface of a single one."""

from __future__ import annotations

import datetime
import math
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.util
import torch.distributed as dist
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch._C._distributed_c10d import TCPStore

from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError, attributed_to
from orchestrator.evaluators.base import Differentiable, Measured
from orchestrator.evaluators.training_free import Scored
from orchestrator.machine import Machine, cap_gpu_memory, machine, set_threads
from searchers import Architecture, Cotangents, Mixture, Stage

RESTARTS = 3
"""Number of times that something starts again from the same checkpoint after a worker died."""
START = 120.0
"""Seconds that an actor or a trial may take to start where it has a place."""


class WorkersLost(RunError):
    """Loss of an actor or its node, and with it of the weights since the last checkpoint."""


@ray.remote
class Replica:
    """Actor that hosts one evaluator, and adds the process group to it.

    Args:
        rank: Number of the replica.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def prepare(self, shared: list[Any], sharing: int) -> str:
        """Make the evaluator, and return an address where this replica waits for the others.

        Args:
            shared: Ray's reference to the plan. In a list, so that it is read here, where a failure can be told.
            sharing: Replicas that share the room of one worker.

        Raises:
            InputError: For code or files that this node lacks.
        """
        here = str(ray.util.get_node_ip_address())
        plan = _read(shared[0], here)
        self.workers, self.plugins = plan.workers, plan.plugins
        set_threads(plan.workers.cpus)
        self.gpus = plan.workers.gpus / sharing
        if sharing == 1:
            cap_gpu_memory(plan.workers.gpus)
        try:
            self.evaluator = plan.build_evaluator(rank=self.rank, world=plan.workers.count)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"node {here} has no {error.filename}; workers need it under the same path") from error
        if here.startswith("127."):  # a private cluster: gloo, too, is to listen on loopback only
            os.environ.setdefault("GLOO_SOCKET_IFNAME", next(n for _, n in socket.if_nameindex() if n.startswith("lo")))
        if self.rank == 0 and plan.workers.count > 1:
            listener = _listener(here)
            port = listener.getsockname()[1]
            self.store = TCPStore(
                here, port, plan.workers.count, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
            )
            return f"{here}:{port}"
        return here

    def join(self, address: str) -> None:
        # NCCL refuses two ranks on one GPU; gloo carries tensors of shared GPUs through host memory.
        backend = "nccl" if self.gpus >= 1 else "gloo"
        if self.rank:
            host, _, port = address.rpartition(":")
            self.store = TCPStore(host, int(port), self.workers.count, wait_for_workers=False)
        dist.init_process_group(
            backend,
            store=self.store,
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

    Args:
        plan: The search.
        group: Placement group with a bundle for each actor; None for that of the Tune trial in which this is called.
        sharing: Replicas that share the room of one worker there.
        patience: Seconds that the actors may take to start, and to join each other: where they read code and libraries from a
            slow disk, that is long.

    Raises:
        RunError: Where the actors find no place in the trial's group in time.
        InputError: Where a node lacks code or files.
        WorkersLost: From any call, once one of them is gone; also where one does not start in a place that was reserved.
    """

    def __init__(
        self, plan: SearchPlan, group: PlacementGroup | None = None, sharing: int = 1, patience: float = START
    ) -> None:
        shared = [ray.put(plan)]  # once, for all actors
        workers, bundle = plan.workers, plan.workers.bundle(sharing)
        self.space, self.step, self._steps_each = plan.problem.space, 0, plan.schedule.steps_each
        self._actors = []
        for rank in range(workers.count):
            options: dict[str, Any] = {"num_cpus": bundle["CPU"], "num_gpus": bundle.get("GPU", 0)}
            if group is not None:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, rank)
            self._actors.append(Replica.options(**options).remote(rank))  # type: ignore[attr-defined]
        try:
            addresses = self._get([a.prepare.remote(shared, sharing) for a in self._actors], patience)
            if workers.count > 1 and plan.shares_weights:
                self._get([a.join.remote(addresses[0]) for a in self._actors], patience)
        except ray.exceptions.GetTimeoutError as error:
            self.close()
            raise (RunError if group is None else WorkersLost)(
                f"{workers.count} workers of {workers.cpus} CPUs and {workers.gpus:g} GPUs did not start within "
                f"{patience:.0f} s; lower workers.count, workers.cpus or workers.gpus, or wait for the cluster to have room"
            ) from error
        except BaseException:
            self.close()
            raise

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

    def train_at(self, architectures: Sequence[Architecture], epochs: int, place: int) -> list[Measured]:
        return self._shared_out("train_at", architectures, epochs, place)

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

    def _get(self, answers: Sequence[Any], timeout: float | None = None) -> list[Any]:
        with self._noticing_the_dead():
            return list(ray.get(list(answers), timeout=timeout))

    @contextmanager
    def _noticing_the_dead(self) -> Iterator[None]:
        try:
            yield
        except ray.exceptions.GetTimeoutError:
            raise
        except ray.exceptions.RayActorError as error:
            raise WorkersLost(f"a worker died: {last_line(error)}") from error
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, (RunError, InputError)):
                raise cause from None  # Ray's own version of it would print the worker's whole traceback
            # A replica whose peer died fails in the all-reduce, perhaps before Ray knows of the death.
            if isinstance(cause, dist.DistError) or "gloo" in str(cause):
                raise WorkersLost("the connection from a worker to another one broke") from error
            try:
                ray.get([a.ping.remote() for a in self._actors], timeout=10)
            except (ray.exceptions.RayError, TimeoutError) as gone:
                raise WorkersLost(f"a worker died: {last_line(gone)} (seen first: {last_line(error)})") from error
            raise


def _read(plan: Any, here: str) -> SearchPlan:
    """Fetch the plan on a worker's node. Raises InputError for a module that the node lacks."""
    try:
        return ray.get(plan)  # type: ignore[no-any-return]
    except (ray.exceptions.RaySystemError, ImportError) as error:
        if missing := re.search(r"No module named '([^']+)'", str(error)):
            raise InputError(
                f"node {here} has no module {missing[1]}: install it there, or submit the search with its code, as in "
                "`ray job submit --working-dir .`"
            ) from error
        raise


def _listener(address: str) -> socket.socket:
    """Listen on a free port of this node: on `address` alone, or on all where the node itself does not have it (NAT)."""
    try:
        return socket.create_server((address, 0))
    except OSError:
        return socket.create_server(("", 0))


def last_line(error: BaseException) -> str:
    """Return the message of an error, without the traceback that Ray puts before it, and without the notes after it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Failed|Lost)(:|$)", line)]
    traced = any(line.lstrip().startswith('File "') for line in lines)
    return (raised if traced and raised else lines or [type(error).__name__])[-1].strip()
