"""Connection to a Ray cluster, or to a private one on this machine, and checks that the workers fit there."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import ray.util
import torch

from orchestrator.config.settings import Workers
from orchestrator.errors import InputError


@contextmanager
def cluster(workers: Workers, searches: int = 1, trainers: int = 1, held: Mapping[str, float] | None = None) -> Iterator[None]:
    """Connect to the cluster at `workers.address`, or start a private one on this machine, for as long as it is needed.

    Args:
        workers: Workers that have to fit.
        searches: Number of searches that a private cluster should have room for at a time, as far as the machine allows.
        trainers: Workers that train one network of the front together; they have to fit, too.
        held: Resources of the user's own that objectives hold, by name; a private cluster has as much of each.

    Raises:
        InputError: Where the workers do not fit, before anything is started on this machine.
    """
    if ray.is_initialized():
        check_fit(workers, ray.cluster_resources(), trainers)
        _check_room(workers)
        yield
        return
    # Tune's own handler would kill the trial before it can save; the driver's handler asks it to stop instead.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if workers.address is None:
        check_fit(workers, local_resources(), trainers)
        each = workers.count * workers.cpus
        room = max(each, trainers * workers.cpus, min(searches * each, int(local_resources()["CPU"])))
        with _keeping_sigterm():
            ray.init(address="local", num_cpus=room, resources=dict(held or {}), include_dashboard=False, **quiet)
    else:
        try:
            host, _, port = workers.address.rpartition(":")
            if host and port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            with _keeping_sigterm():
                ray.init(address=workers.address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"workers.address = {workers.address!r}: no Ray cluster answers there ({error})") from error
    try:
        check_fit(workers, ray.cluster_resources(), trainers)
        _check_room(workers)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Keep the program's handler of SIGTERM, which saves first; Ray would put one in its place that ends the process."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _check_room(workers: Workers, patience: float = 120.0) -> None:
    """Raise InputError where the bundles of a search find no place: the totals may suffice although no single node has room."""
    group = ray.util.placement_group(bundles(workers))
    try:
        if not group.wait(patience):
            raise InputError(
                f"{workers.count} workers of {workers.cpus} CPUs and {workers.gpus:g} GPUs found no place within "
                f"{patience:.0f} s: no node has room for one, or the cluster is busy; lower workers.cpus or workers.gpus, or "
                "try again later"
            )
    finally:
        ray.util.remove_placement_group(group)


def bundles(workers: Workers) -> list[dict[str, float]]:
    """List the resources that each actor of a search needs."""
    return [{"CPU": float(workers.cpus)} | ({"GPU": workers.gpus} if workers.gpus else {})] * workers.count


def local_resources() -> dict[str, float]:
    """Count the resources that a private cluster on this machine would have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"CPU": float(cores), "GPU": float(torch.cuda.device_count())}


def check_fit(workers: Workers, resources: dict[str, float], trainers: int = 1) -> None:
    """Raise InputError where `workers` need more than there is: Ray itself would wait indefinitely without a message.

    Args:
        workers: Workers of a search.
        resources: What there is.
        trainers: Workers that train one network of the front together.
    """
    for name, each, key in (("CPU", workers.cpus, "cpus"), ("GPU", workers.gpus, "gpus")):
        need, have = each * workers.count, resources.get(name, 0.0)
        if need > have:
            raise InputError(
                f"{workers.count} workers of {each:g} {name}s need {need:g}; there are {have:g}. "
                f"Lower workers.count or workers.{key}"
            )
        if each * trainers > have:
            raise InputError(
                f"retrain.workers = {trainers}, each of {each:g} {name}s, need {each * trainers:g}; there are {have:g}. "
                f"Lower retrain.workers or workers.{key}"
            )
