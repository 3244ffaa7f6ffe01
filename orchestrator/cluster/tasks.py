"""A user's function in a task of Ray, which holds the resources that a measurement takes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
import torch

from orchestrator.cluster.replicas import last_line
from orchestrator.errors import InputError, in_a_line
from orchestrator.objectives.base import Objective
from orchestrator.objectives.measured import NoMeasurement, number
from orchestrator.objectives.own import NetworkFunction

_RAYS_OWN = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
"""Resources that Ray has words of its own for."""


def held(objectives: Iterable[Objective]) -> dict[str, float]:
    """Return the resources other than CPUs, GPUs and memory that objectives hold, of each the most that one of them does."""
    found: dict[str, float] = {}
    for objective in objectives:
        if isinstance(objective, NetworkFunction):
            for key, amount in (objective.resources or {}).items():
                if key not in _RAYS_OWN:
                    found[key] = max(found.get(key, 0.0), amount)
    return found


def in_task(function: Callable[..., Any], given: dict[str, Any], resources: dict[str, float], timeout: float | None) -> object:
    """Call a function in a task of Ray that holds `resources`, for `timeout` seconds at most from its start.

    Raises:
        InputError: Where no node has the resources.
        NoMeasurement: For an exception of the function, a time-out, and a task that died.
    """
    if lacking := [key for key, amount in resources.items() if ray.cluster_resources().get(key, 0) < amount]:
        raise InputError(
            f"resources: the cluster has not enough {lacking[0]}; start a node with it, as in ray start "
            f"--resources='{{\"{lacking[0]}\": 1}}'"
        )
    options: dict[str, Any] = {"num_cpus": 0} | {_RAYS_OWN[k]: v for k, v in resources.items() if k in _RAYS_OWN}
    options["resources"] = {key: value for key, value in resources.items() if key not in _RAYS_OWN}
    # Outside of the trial's placement group, which has no such resources.
    task = ray.remote(_timed).options(scheduling_strategy="DEFAULT", max_retries=0, **options)
    try:
        outcome, value = ray.get(task.remote(function, given, timeout))
    except ray.exceptions.WorkerCrashedError as error:
        late = "" if timeout is None else f", or took more than {timeout:g} s"
        raise NoMeasurement(f"the process of the task died{late}") from error
    except ray.exceptions.RayError as error:
        raise NoMeasurement(f"the task failed: {last_line(error)}") from error
    if outcome == "failed":
        raise NoMeasurement(value)
    return value


def _timed(function: Callable[..., Any], given: Mapping[str, Any], timeout: float | None) -> tuple[str, Any]:
    outcome: list[tuple[str, Any]] = []

    def work() -> None:
        try:
            with torch.no_grad():
                outcome.append(("done", number(function(**given))))
        except NoMeasurement as error:
            outcome.append(("failed", str(error)))
        except BaseException as error:  # whatever a user's code raises
            outcome.append(("failed", in_a_line(error)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if not outcome:
        os._exit(1)  # a thread cannot be ended, so the process ends with it
    return outcome[0]
