"""One network trained by several workers of Ray Train, each on its share of every batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.exceptions
import torch
from ray import train
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.cluster.replicas import RESTARTS, last_line
from orchestrator.cluster.room import on_this_node
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, Interrupted, RunError, attributed_to, doing
from orchestrator.machine import cap_gpu_memory, set_threads
from orchestrator.search.control import stop_file
from orchestrator.search.logs import logging_to
from orchestrator.search.progress import TrainingProgress
from orchestrator.search.retraining import Member, Tell, Worker, try_member
from orchestrator.training.trainer import Keeper, Training


@dataclass(frozen=True)
class Together:
    """Keeper of several processes: the first one's decides, and all of them stop after the same step."""

    keeper: Keeper

    def restore(self, training: Training) -> None:
        """Load the state that the first process wrote."""
        self.keeper.restore(training)

    def after_step(self, training: Training) -> None:
        """Stop where the first process is to stop."""
        stop = torch.zeros((), device=training.device)
        if training.rank == 0:
            try:
                self.keeper.after_step(training)
            except Interrupted:
                stop += 1
        distributed.broadcast(stop, 0)
        if bool(stop):
            raise Interrupted


def retrain(plan: SearchPlan, directory: Path, members: list[Member], done: Callable[[str, TrainingProgress], None]) -> None:
    """Train each of `members` on `retrain.workers` workers, one network after the other.

    Args:
        plan: The search, with the settings of retraining.
        directory: Run directory, whose stop file ends it.
        members: Networks to train.
        done: Called with a member's name and how far its training is.

    Raises:
        RunError: Where a worker failed.
    """
    for member in members:
        if not stop_file(directory).exists():
            _retrain(plan, directory, member, lambda told, name=member.name: done(name, told))  # type: ignore[misc]


def _retrain(plan: SearchPlan, directory: Path, member: Member, done: Tell) -> None:
    workers, shares = plan.workers, Queue(actor_options={"num_cpus": 0, "resources": on_this_node()})
    resources = {"CPU": float(workers.cpus)} | ({"GPU": workers.gpus} if workers.gpus else {})
    trainer = TorchTrainer(
        _work,
        train_loop_config={"plan": plan, "member": member, "directory": str(directory), "shares": shares},
        scaling_config=train.ScalingConfig(
            num_workers=plan.retraining.workers, use_gpu=bool(workers.gpus), resources_per_worker=resources
        ),
        run_config=train.RunConfig(
            name=f"train-{member.result.stem}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str(directory / "tune"),
            # Workers that die go on from our own checkpoint; the second limit is for those that find no place to start.
            failure_config=train.FailureConfig(max_failures=RESTARTS, controller_failure_limit=RESTARTS),
        ),
    )
    failures: list[Exception] = []

    def listen(timeout: float) -> bool:
        try:
            told = shares.get(timeout=timeout)
        except Empty:
            return False
        if isinstance(told, Exception):
            failures.append(told)
        else:
            done(told)
        return True

    # In a thread of its own, as it would handle Ctrl-C itself; ours saves first.
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(trainer.fit)
        while not result.done():
            listen(0.5)
        while listen(0.01):
            pass
        shares.shutdown()
        try:
            result.result()
        except (train.TrainingFailedError, ray.exceptions.RayError) as error:
            if failures:
                raise failures[0] from error
            raise RunError(
                f"training {member.arch} on {plan.retraining.workers} workers failed: {last_line(error)}; resume goes on from "
                "the last checkpoint"
            ) from error
    if failures:
        raise failures[0]


def _work(config: dict[str, Any]) -> None:
    """Run one worker."""
    plan, member, directory = config["plan"], config["member"], Path(config["directory"])
    context, stop = train.get_context(), stop_file(directory)
    set_threads(plan.workers.cpus)
    if plan.workers.device == "cuda":
        torch.cuda.set_device(train.torch.get_device())
        cap_gpu_memory(plan.workers.gpus)

    def progress(told: TrainingProgress) -> None:
        if stop.exists():
            raise Interrupted
        config["shares"].put(told)

    def wrap(module: nn.Module) -> nn.Module:
        return DistributedDataParallel(module, find_unused_parameters=True)  # parts of a network may lead nowhere

    worker = Worker(context.get_world_rank(), context.get_world_size(), wrap, Together)
    try:
        with logging_to(directory), doing(f"training {member.arch}, for {member.result}"), attributed_to(plan.plugins):
            try_member(plan, member, progress, worker)
    except (InputError, RunError) as error:
        config["shares"].put(error)  # raised, it would make Ray Train try again
    except Interrupted:
        return  # the driver sees that the result is missing
