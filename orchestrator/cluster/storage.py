"""Storage of a run directory: which nodes of a cluster see it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.room import on_node, on_this_node
from orchestrator.config.settings import Workers
from orchestrator.errors import RunError

PATIENCE = 60.0
"""Seconds within which a node has to answer; one that does not is on its way out."""


def blind_nodes(directory: Path) -> list[str]:
    """List the addresses of the nodes that do not see what this one writes into `directory`."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1:
        return []

    def sees(path: str) -> bool:  # nested, so that it travels by value, and a node starts without importing torch
        return Path(path).exists()

    look = ray.remote(sees)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".seen-") as mark:
        answers = {
            look.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(mark.name): node["NodeManagerAddress"]
            for node in nodes
        }
        done, _ = ray.wait(list(answers), num_returns=len(answers), timeout=PATIENCE)
        blind = []
        for answer in done:
            try:
                if not ray.get(answer):
                    blind.append(answers[answer])
            except ray.exceptions.RayError:
                continue  # a node that has gone since
    return sorted(blind)


def beside(directory: Path, workers: Workers) -> dict[str, float]:
    """Return the resource that ties a task to this node where others do not see `directory`; nothing where all of them do.

    Raises:
        RunError: Where it would have to run here, and this node has no room for a worker.
    """
    blind = blind_nodes(directory)
    if not blind:
        return {}
    here = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    if not on_node(workers, resources):
        raise RunError(
            f"{directory} is on a disk that {', '.join(blind)} cannot see, so networks are trained on this node, which has no "
            f"room for a worker of {workers.cpus} CPUs and {workers.gpus:g} GPUs; copy the run to storage that all nodes "
            "share, and resume it there"
        )
    return on_this_node()
