"""Room for the replicas of a search on a cluster whose nodes come and go."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.util
from ray.util.placement_group import PlacementGroup, placement_group_table

from orchestrator.config.settings import Workers
from orchestrator.errors import Interrupted, RunError

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks at whether Ray has found a place."""
SHORT = 5.0
"""Seconds within which Ray places what there is room for."""

Waiting = Callable[[str], None]
"""Function that is told what a run waits for."""


class NoRoom(RunError):
    """Lack of room for the workers of a search on the cluster, for as long as `workers.patience` allows."""


class Room:
    """Reservation of a search's workers: all of them, or fewer whose room several replicas share.

    The number of replicas never changes, and with it neither do the shares of a batch nor the order in which gradients are
    summed. So the records are the same however many workers there are; fewer take longer.

    Args:
        workers: Workers of the search.
        waiting: Told what the search waits for, now and then.

    Attributes:
        sharing: Replicas that share the room of one worker; 1 where all have their own.
    """

    def __init__(self, workers: Workers, waiting: Waiting = lambda text: None) -> None:
        self.workers, self.waiting = workers, waiting
        self.sharing = 1
        self._group: PlacementGroup | None = None
        self._missing: PlacementGroup | None = None

    def reserve(self, stop: Callable[[], bool] = lambda: False, patience: float | None = None) -> PlacementGroup:
        """Reserve the workers, or after `patience` seconds as few as `workers.min`; what was reserved before is given up.

        Args:
            stop: Asked again and again whether to wait no longer.
            patience: Seconds to wait for all of them, by default `workers.patience`.

        Returns:
            A placement group with a bundle for each replica.

        Raises:
            NoRoom: Where the cluster has no room for `workers.min` within further `workers.patience` seconds.
            Interrupted: Where `stop` says so.
        """
        self.release()
        most = self.workers.most_on_one
        if patience is None:
            private = self.workers.address is None and capacity(self.workers) < self.workers.count
            patience = SHORT if private and most > 1 else self.workers.patience  # no node will join this machine
        if (group := self._placed(1, patience, stop)) is None and most > 1:
            end = time.monotonic() + self.workers.patience
            while group is None and time.monotonic() < end:
                # The fewest on one first: what is dead and not yet noticed goes by while the others are tried.
                for self.sharing in range(2, most + 1):
                    if (group := self._placed(self.sharing, SHORT, stop)) is not None:
                        break
        if group is None:
            raise NoRoom(
                f"{self._wanted(self.workers.min or self.workers.count)} found no room on the cluster within "
                f"{self.workers.patience:g} s: {describe_nodes()}. Start nodes, free some, or lower workers.count, "
                "workers.cpus, workers.gpus or workers.min"
            )
        self._group = group
        if self.sharing > 1:
            held = math.ceil(self.workers.count / self.sharing)
            log.warning("%d replicas go on with the room of %d workers; the others are taken back once there are any",
                        self.workers.count, held)  # fmt: skip
            # Ray keeps looking for a place for these, and so does an autoscaler.
            self._missing = ray.util.placement_group([self.workers.bundle()] * (self.workers.count - held))
        return group

    def has_grown(self) -> bool:
        """Tell whether the cluster has room for all workers again."""
        return self._missing is not None and _is_placed(self._missing)

    def release(self) -> None:
        """Give up what is reserved."""
        for group in (self._group, self._missing):
            if group is not None:
                ray.util.remove_placement_group(group)
        self._group = self._missing = None
        self.sharing = 1

    def _placed(self, sharing: int, patience: float, stop: Callable[[], bool]) -> PlacementGroup | None:
        """Return a group of replicas that share workers, or None where it finds no place in time."""
        group = ray.util.placement_group([self.workers.bundle(sharing)] * self.workers.count)
        began = time.monotonic()
        placed = False
        try:
            while not (placed := _is_placed(group)) and (waited := time.monotonic() - began) < patience:
                if stop():
                    raise Interrupted
                if waited > SHORT or sharing > 1:
                    self.waiting(self._explanation(sharing, patience - waited))
                time.sleep(POLL)
        finally:
            if not placed:
                ray.util.remove_placement_group(group)
        return group if placed else None

    def _wanted(self, count: int) -> str:
        cpus, gpus = self.workers.cpus, self.workers.gpus
        return f"{count} worker{'s' * (count > 1)} of {cpus} CPU{'s' * (cpus > 1)}" + f" and {gpus:g} GPUs" * (gpus > 0)

    def _explanation(self, sharing: int, left: float) -> str:
        least = self.workers.min or self.workers.count
        wanted = self._wanted(self.workers.count if sharing == 1 else least)
        then = "gives up" if self.workers.most_on_one == 1 or sharing > 1 else f"goes on with as few as {least}"
        within = f" in {left:.0f} s" if sharing == 1 else ""
        return f"room for {wanted} ({describe_nodes()}); {then}{within}"


def on_this_node() -> dict[str, float]:
    """Return the resource that ties what asks for it to this node, and takes nothing there."""
    return {f"node:{ray.util.get_node_ip_address()}": 0.001}


def capacity(workers: Workers) -> int:
    """Count the workers that the nodes of the cluster have room for while nothing else runs there."""
    return sum(workers_per_node(workers))


def workers_per_node(workers: Workers) -> list[int]:
    """Count them for each node."""
    return [on_node(workers, node["Resources"]) for node in ray.nodes() if node["Alive"]]


def on_node(workers: Workers, resources: dict[str, float]) -> int:
    """Count the workers that a node with these resources has room for."""
    return min(_units(resources.get(name, 0.0), amount) for name, amount in workers.bundle().items())


def describe_nodes() -> str:
    """Say how many nodes of the cluster there are, and which were lost, in words."""
    nodes = ray.nodes()
    alive = [node for node in nodes if node["Alive"]]
    lost = sorted({node["NodeManagerAddress"] for node in nodes if not node["Alive"]})
    cpus = sum(node["Resources"].get("CPU", 0.0) for node in alive)
    said = f"{len(alive)} node{'s' * (len(alive) != 1)} with {cpus:g} CPUs in all"
    return said + (f", lost {', '.join(lost[-3:])}" if lost else "")


def _units(have: float, each: float) -> int:
    """Count how many times `each` goes into `have`; fractions of a GPU do not reach over two."""
    return int(have) * int(1 / each + 1e-6) if each < 1 else int(have / each + 1e-6)


def _is_placed(group: PlacementGroup) -> bool:
    state: dict[str, Any] = placement_group_table(group)
    return state.get("state") == "CREATED"
