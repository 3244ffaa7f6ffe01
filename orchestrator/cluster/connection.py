"""Connection to a Ray cluster, or to a private one on this machine, and checks that the workers fit there."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray._private.node
import ray._private.ray_constants
import torch
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import AuthenticationError

from orchestrator.cluster.replicas import last_line
from orchestrator.cluster.room import SHORT, NoRoom, Room, Waiting, on_node, workers_per_node
from orchestrator.config.settings import Workers
from orchestrator.errors import InputError

log = logging.getLogger(__name__)

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
HEAD_PATIENCE = 30.0
"""Seconds within which the head of a cluster has to answer."""
TOKEN_HINT = (
    "copy ~/.ray/auth_token of whoever started it to your home here, or set RAY_AUTH_TOKEN_PATH to such a file; "
    "RAY_AUTH_MODE=disabled, if it is set, has to go"
)
NICENESS = "RAY_worker_niceness"
"""Environment variable for how far Ray's workers give way to all else on their machine. With its default, 15, they did not
start within two minutes beside other work."""


@contextmanager
def cluster(
    workers: Workers,
    searches: int = 1,
    trainers: int = 1,
    held: Mapping[str, float] | None = None,
    waiting: Waiting = lambda text: None,
) -> Iterator[None]:
    """Connect to the cluster at `workers.address`, or start a private one on this machine, for as long as it is needed.

    Args:
        workers: Workers that have to fit.
        searches: Number of searches that a private cluster should have room for at a time, as far as the machine allows.
        trainers: Workers that train one network of the front together; they have to fit, too.
        held: Resources of the user's own that objectives hold, by name; a private cluster has as much of each.
        waiting: Told what there is no room for yet.

    Raises:
        InputError: Where the workers do not fit, before anything is started on this machine.
    """
    if ray.is_initialized():
        check_fit(workers, ray.cluster_resources(), trainers)
        _check_room(workers, waiting)
        yield
        return
    # Tune's own handler would kill the trial before it can save; the driver's handler asks it to stop instead.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    if workers.address is None:
        os.environ.setdefault(NICENESS, "0")
        check_fit(workers, local_resources(), trainers)
        each = math.ceil(workers.count / workers.most_on_one) * workers.cpus
        room = max(each, trainers * workers.cpus, min(searches * each, int(local_resources()["CPU"])))
        with _keeping_sigterm(), _on_loopback(), _without_helpers():
            ray.init(address="local", num_cpus=room, resources=dict(held or {}), include_dashboard=False, **QUIET)
    else:
        _connect(workers.address, QUIET)
    try:
        check_fit(workers, ray.cluster_resources(), trainers)
        _check_room(workers, waiting)
        with _watching_the_head(waiting):
            yield
    finally:
        ray.shutdown()


def room_for(workers: Workers) -> list[int]:
    """Count the workers that fit on each node of the cluster at `workers.address`, or on this machine.

    Starts nothing, and does not wait for what others use.

    Raises:
        InputError: Where no cluster answers.
    """
    if workers.address is None:
        return [on_node(workers, local_resources())]
    if ray.is_initialized():
        return workers_per_node(workers)
    _connect(workers.address, QUIET)
    try:
        return workers_per_node(workers)
    finally:
        ray.shutdown()


def room_in_words(workers: Workers, fitting: Sequence[int]) -> str:
    """Say how many workers fit, of those that `room_for` has counted, and what follows."""
    room, least = sum(fitting), workers.min or workers.count
    where = f"{len(fitting)} nodes of the cluster ({', '.join(map(str, fitting))})" if workers.address else "this machine"
    said = f"room for {room} on {where}"
    if room >= workers.count:
        return said
    if room >= least:
        return f"{said}, which {workers.count} replicas share: equal records in about {workers.count / room:.2g} times the time"
    return f"{said}; too little: lower workers.count, workers.cpus or workers.gpus, or let replicas share it with workers.min"


@contextmanager
def _watching_the_head(waiting: Waiting) -> Iterator[None]:
    """End the process once the head has not answered for `HEAD_PATIENCE` seconds.

    Ray would end it as well, by `exit(1)` in C++ after a minute, and its calls do not return before that. So this says what
    happened first.
    """
    address = str(ray.get_runtime_context().gcs_address)
    host, _, port = address.rpartition(":")
    over = threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not over.wait(HEAD_PATIENCE / 10):
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_PATIENCE / 10).close()
                answered = time.monotonic()
                continue
            except OSError:
                silent = time.monotonic() - answered
            if over.is_set():
                return
            said = f"the head of the Ray cluster at {address}, which has not answered for {silent:.0f} s"
            waiting(f"{said}; gives up after {HEAD_PATIENCE:.0f} s")
            if silent > HEAD_PATIENCE:
                log.error("waited for %s", said)
                print(
                    f"error: waited for {said}; the last checkpoint is safe: start Ray again, then resume",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True, name="head of the cluster")
    watcher.start()
    try:
        yield
    finally:
        over.set()


def _connect(address: str, options: Mapping[str, Any]) -> None:
    """Connect to a running cluster, with a token where there is one. Raises InputError where none answers."""
    # Ray would look for one for address="auto" alone. A cluster that asks for none takes no offence.
    has_token = maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        with _keeping_sigterm():
            ray.init(address=address, **options)
    except AuthenticationError as error:
        raise InputError(f"workers.address = {address!r}: {TOKEN_HINT} ({last_line(error)})") from error
    except ConnectionError as error:
        hint = ""
        if not isinstance(error, ConnectionRefusedError):
            hint = f"; if it asks for {'another' if has_token else 'a'} token, {TOKEN_HINT}"
        raise InputError(f"workers.address = {address!r}: no Ray cluster answers there ({error}){hint}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"workers.address = {address!r}: no Ray cluster answers there ({error})") from error


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have what Ray starts listen on loopback only, as it does on systems on which it does not support clusters.

    Ray 2.60 has no other way: it replaces an address of loopback by one that other machines reach, unless this is off. It reads
    the environment variable for it on import, so that is too late here.
    """
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _without_helpers() -> Iterator[None]:
    """Have Ray leave out what a private cluster has no use for: the API server, the autoscaler, the reader of workers' logs.

    Ray 2.60 has no setting for any of them, and waits for the first, also without a dashboard: half of the time that it takes
    to come up on a machine that is busy. A version that starts them in another way has them still.
    """
    node = ray._private.node.Node
    left_out = [name for name in ("start_api_server", "start_monitor", "start_log_monitor") if hasattr(node, name)]
    before = {name: getattr(node, name) for name in left_out}
    for name in left_out:
        setattr(node, name, lambda self, *arguments, **settings: None)
    try:
        yield
    finally:
        for name, start in before.items():
            setattr(node, name, start)


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Keep the program's handler of SIGTERM, which saves first; Ray would put one in its place that ends the process."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _check_room(workers: Workers, waiting: Waiting) -> None:
    """Raise InputError where the workers of a search find no place: the totals may suffice although no single node has room."""
    room = Room(workers, waiting)
    try:
        room.reserve(patience=SHORT if workers.most_on_one > 1 else None)
    except NoRoom as error:
        raise InputError(str(error)) from error
    finally:
        room.release()


def bundles(workers: Workers) -> list[dict[str, float]]:
    """List the resources that each actor of a search needs."""
    return [workers.bundle()] * workers.count


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
    least = workers.min or workers.count
    for name, each, key in (("CPU", workers.cpus, "cpus"), ("GPU", workers.gpus, "gpus")):
        need, have = each * least, resources.get(name, 0.0)
        if need > have:
            raise InputError(
                f"{least} workers of {each:g} {name}s need {need:g}; there are {have:g}. Lower workers.count or workers.{key}, "
                "or let fewer workers do with workers.min"
            )
        if each * trainers > have:
            raise InputError(
                f"retrain.workers = {trainers}, each of {each:g} {name}s, need {each * trainers:g}; there are {have:g}. "
                f"Lower retrain.workers or workers.{key}"
            )
