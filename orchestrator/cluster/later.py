"""Dear objectives of networks, measured by tasks of Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from orchestrator.cluster.connection import bundles
from orchestrator.cluster.replicas import last_line
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError, attributed_to
from orchestrator.evaluators.base import Measured
from orchestrator.machine import cap_gpu_memory, set_threads
from orchestrator.search.later import measure_later


def measure_on_cluster(plan: SearchPlan, networks: Sequence[tuple[str, float]], folder: Path) -> Iterator[tuple[str, Measured]]:
    """Yield the notation of each network with what `measure_later` returns of it, as they end.

    Several are measured at a time, on as many workers as the search has; one at a time where something is timed.

    Args:
        plan: The search.
        networks: Notation and error of each.
        folder: As for `measure_later`.

    Raises:
        RunError: Where a worker died.
    """
    each = bundles(plan.workers)[0]
    together = 1 if any(objective.spread for objective in plan.problem.later) else plan.workers.count
    task = ray.remote(_measured).options(num_cpus=each["CPU"], num_gpus=each.get("GPU", 0))
    shared, waiting = ray.put(plan), list(networks)
    running: dict[Any, str] = {}
    while waiting or running:
        while waiting and len(running) < together:
            arch, error = waiting.pop(0)
            running[task.remote(shared, arch, error, folder)] = arch
        (done,), _ = ray.wait(list(running), num_returns=1)
        arch = running.pop(done)
        try:
            yield arch, ray.get(done)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, (RunError, InputError)):
                raise cause from None  # without the traceback of the worker
            raise RunError(f"measuring {arch} failed: {last_line(error)}; resume tries again") from error


def _measured(plan: SearchPlan, arch: str, error: float, folder: Path) -> Measured:
    set_threads(plan.workers.cpus)
    cap_gpu_memory(plan.workers.gpus)
    with attributed_to(plan.plugins):
        return measure_later(plan, arch, error, folder)
