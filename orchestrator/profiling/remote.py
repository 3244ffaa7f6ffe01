"""Worker on a node of a Ray cluster, whose measurements come back one by one, so that none is lost with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from orchestrator.cluster.connection import cluster
from orchestrator.cluster.replicas import last_line
from orchestrator.config.settings import Workers
from orchestrator.errors import Fault, InputError, RunError, checked_by, unexpected
from orchestrator.profiling.plan import Row
from orchestrator.profiling.worker import MeasurementWorker

PATIENCE = 300.0
"""Seconds to wait for a node that others are using."""


class RemoteWorker:
    """Proxy of a `MeasurementWorker` in an actor, with the same methods.

    Args:
        actor: Handle of the actor.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def jobs(self) -> list[str]:
        return self._get(self.actor.jobs.remote())  # type: ignore[no-any-return]

    def hardware(self) -> dict[str, str]:
        return self._get(self.actor.hardware.remote())  # type: ignore[no-any-return]

    def round(self, index: int, done: Sequence[str] = ()) -> Iterator[Row]:
        for row in self.actor.round.options(num_returns="streaming").remote(index, list(done)):
            yield self._get(row)

    def _get(self, reference: Any) -> Any:
        """Fetch an answer. Raises RunError where the node is lost; measurements made until then are saved."""
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, (InputError, RunError)):
                raise error.cause from None  # Ray's own version of it would print the actor's whole traceback
            if checked_by(error) is not None:
                raise Fault(unexpected(error, "paretoray profile")) from error
            raise RunError(f"measuring failed on the node: {last_line(error)}; the same command goes on") from error
        except ray.exceptions.RayError as error:
            raise RunError(f"the node was lost: {last_line(error)}; the same command goes on") from error


@contextmanager
def station(plan: dict[str, Any], address: str, accelerator: str | None, label: str | None) -> Iterator[RemoteWorker]:
    """Open an actor with a whole GPU, or all CPUs, of a node with that accelerator and label. Raises InputError without one."""
    key, equals, value = (label or "").partition("=")
    if label and not (key and equals and value):
        raise InputError(f"--label {label}: write KEY=VALUE, as the node was started with")
    with cluster(Workers(count=1, cpus=1, address=address)):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if accelerator:
            nodes = [node for node in nodes if f"accelerator_type:{accelerator}" in node["Resources"]]
        if label:
            nodes = [node for node in nodes if node.get("Labels", {}).get(key) == value]
        gpu = plan["device"] == "cuda"
        nodes = [node for node in nodes if node["Resources"].get("GPU" if gpu else "CPU", 0) >= 1]
        if not nodes:
            wanted = [accelerator and f"a {accelerator}", label and f"the label {label}", "a GPU" if gpu else "a CPU"]
            raise InputError(f"no node of the cluster has {' and '.join(filter(None, wanted))}; see `ray list nodes`")
        node = nodes[0]
        whole: dict[str, Any] = {"num_gpus": 1, "num_cpus": 1} if gpu else {"num_cpus": node["Resources"]["CPU"]}
        pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = ray.remote(MeasurementWorker).options(scheduling_strategy=pinned, **whole).remote(plan)
        try:
            ready, _ = ray.wait([actor.jobs.remote()], timeout=PATIENCE)
            if not ready:
                raise InputError(f"{node['NodeManagerHostname']} is busy with other work; try again when it is idle")
            ray.get(ready[0])
            yield RemoteWorker(actor)
        except ray.exceptions.RayActorError as error:
            cause = last_line(error)
            raise InputError(cause.partition("InputError: ")[2] or cause) from error
        finally:
            ray.kill(actor)
