"""The Ray Tune side: a search is a trial with its actors in one placement group, a retraining is a trial of its own."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.tune.error
import ray.util
import torch
from ray import tune

from orchestrator.actors import Replicas, WorkersLost, last_line
from orchestrator.coordinator import Coordinator, Progress
from orchestrator.data import Dataset
from orchestrator.errors import InputError, Interrupted, RunError
from orchestrator.experiment import Experiment, Workers
from orchestrator.machine import set_threads

REPORT_EVERY = 1.0
RESTARTS = 3


@contextmanager
def cluster(workers: Workers, searches: int = 1) -> Iterator[None]:
    """A connection to the cluster at `workers.address`, or a private one on this machine, for as long as it is needed.

    searches: how many a private one should have room for at a time, as far as the machine allows.
    Raises InputError where the workers do not fit, before anything is started on this machine.
    """
    if ray.is_initialized():
        check_fit(workers, ray.cluster_resources())
        _check_room(workers)
        yield
        return
    # Tune's own handler would kill the trial before it can save; the driver's handler asks it to stop instead.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if workers.address is None:
        check_fit(workers, local_resources())
        each = workers.count * workers.cpus
        room = max(each, min(searches * each, int(local_resources()["CPU"])))
        ray.init(address="local", num_cpus=room, include_dashboard=False, **quiet)
    else:
        try:
            host, _, port = workers.address.rpartition(":")
            if host and port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address=workers.address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"workers.address = {workers.address!r}: no Ray cluster answers there ({error})") from error
    try:
        check_fit(workers, ray.cluster_resources())
        _check_room(workers)
        yield
    finally:
        ray.shutdown()


def _check_room(workers: Workers, patience: float = 120.0) -> None:
    """Raises InputError where the bundles of a search find no place: the totals may suffice and no node have room."""
    group = ray.util.placement_group(_bundles(workers))
    try:
        if not group.wait(patience):
            raise InputError(
                f"{workers.count} workers of {workers.cpus} CPUs and {workers.gpus:g} GPUs found no place within "
                f"{patience:.0f} s: no node has room for one, or the cluster is busy; lower workers.cpus or workers.gpus, or "
                "try again later"
            )
    finally:
        ray.util.remove_placement_group(group)


def _bundles(workers: Workers) -> list[dict[str, float]]:
    """What each actor of a search needs."""
    return [{"CPU": float(workers.cpus)} | ({"GPU": workers.gpus} if workers.gpus else {})] * workers.count


def local_resources() -> dict[str, float]:
    """What a private cluster on this machine would have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"CPU": float(cores), "GPU": float(torch.cuda.device_count())}


def check_fit(workers: Workers, resources: dict[str, float]) -> None:
    """Raises InputError where `workers` need more than there is: Ray itself would wait for ever without a word."""
    for name, each, key in (("CPU", workers.cpus, "cpus"), ("GPU", workers.gpus, "gpus")):
        need, have = each * workers.count, resources.get(name, 0.0)
        if need > have:
            raise InputError(
                f"{workers.count} workers of {each:g} {name}s need {need:g}; there are {have:g}. "
                f"Lower workers.count or workers.{key}"
            )


def search(experiment: Experiment, directory: Path, data: Dataset, show: Callable[[Progress], None]) -> bool:
    """Runs or continues the search of `directory` as a Tune trial; False when it was asked to stop. Raises RunError."""
    return all(searches([(experiment, directory)], directory, data, lambda index, progress: show(progress)))


def searches(
    points: Sequence[tuple[Experiment, Path]], directory: Path, data: Dataset, show: Callable[[int, Progress], None]
) -> list[bool]:
    """Runs or continues searches, each in a directory of its own, as one Tune grid; as many at a time as the cluster has room
    for. Which of them are finished; the others were asked to stop, in `directory`. Raises RunError."""
    # A coordinator mostly waits, so its bundle is empty; then one for each actor.
    resources = tune.PlacementGroupFactory([{}, *_bundles(points[0][0].workers)])
    results = _fit(
        tune.with_resources(tune.with_parameters(_search_trial, data=data), resources),
        {
            "searches": [{"experiment": e.to_dict(), "directory": str(d)} for e, d in points],
            "stop": str(stop_file(directory)),
            "search": tune.grid_search(list(range(len(points)))),
        },
        directory,
        "search",
        lambda result: show(result["search"], Progress(**result["progress"])) if "progress" in result else None,
        failures=1,
    )
    return [bool(result.metrics and result.metrics.get("finished")) for result in results]


def _search_trial(config: dict[str, Any], data: Dataset) -> None:
    index = config["search"]
    chosen, stop = config["searches"][index], Path(config["stop"])
    experiment, directory = Experiment.from_dict(chosen["experiment"]), Path(chosen["directory"])
    set_threads(experiment.workers.cpus)  # the searcher's sums, too, are those of one process
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY:
            tune.report(_metrics(progress) | {"search": index})
            last = time.monotonic()

    try:
        coordinator, finished = resilient(experiment, directory, data, report, stop)
    except (InputError, RunError) as error:
        tune.report(_failure(error))
        return
    tune.report(_metrics(coordinator.progress()) | {"search": index, "finished": finished})


def resilient(
    experiment: Experiment, directory: Path, data: Dataset, report: Callable[[Progress], None], stop: Path | None = None
) -> tuple[Coordinator, bool]:
    """Runs the search over actors; when one dies, all begin again from the last checkpoint, up to RESTARTS times.

    stop: the file whose presence ends it; by default the directory's own.
    """
    stop = stop or stop_file(directory)
    for attempt in range(RESTARTS + 1):
        replicas = None
        try:
            replicas = Replicas(experiment, data)
            coordinator = Coordinator(experiment, directory, data, replicas)
            return coordinator, coordinator.run(stop.exists, report)
        except WorkersLost as error:
            if attempt == RESTARTS:
                raise RunError(f"workers died {attempt + 1} times ({error}); the last checkpoint is safe") from error
        finally:
            if replicas is not None:
                replicas.close()
    raise AssertionError("unreachable")


def stop_file(directory: Path) -> Path:
    """Its presence asks the search in `directory` to save and stop."""
    return directory / ".stop"


def _metrics(progress: Progress) -> dict[str, Any]:
    # One scalar for Tune's schedulers, and a counter of our own (Tune's restarts with a trial).
    return {"hypervolume": progress.hypervolume, "evaluations": progress.evaluations, "progress": asdict(progress)}


def retrain(
    experiment: Experiment,
    directory: Path,
    data: Dataset,
    members: list[dict[str, Any]],
    done: Callable[[str, float], None],
) -> None:
    """Trains each of `members` (see `run.retrain_member`) as a trial, in parallel.

    done: called with a notation and the share of its training that is over. Raises RunError.
    """
    workers = experiment.workers
    resources = {"cpu": workers.cpus} | ({"gpu": min(workers.gpus, 1)} if workers.gpus else {})
    _fit(
        tune.with_resources(tune.with_parameters(_retrain_trial, data=data), resources),
        {
            "experiment": experiment.to_dict(),
            "directory": str(directory),
            "members": members,
            "member": tune.grid_search(list(range(len(members)))),
        },
        directory,
        "retrain",
        lambda result: done(result["arch"], result["fraction"]) if "fraction" in result else None,
        failures=0,
    )


def _retrain_trial(config: dict[str, Any], data: Dataset) -> None:
    from orchestrator.run import retrain_member

    experiment, member = Experiment.from_dict(config["experiment"]), config["members"][config["member"]]
    set_threads(experiment.workers.cpus)
    stop = stop_file(Path(config["directory"]))
    last = time.monotonic()

    def progress(fraction: float) -> None:
        nonlocal last
        if stop.exists():
            raise Interrupted
        if time.monotonic() - last > REPORT_EVERY:
            tune.report({"arch": member["arch"], "fraction": fraction})
            last = time.monotonic()

    try:
        retrain_member(experiment, member, data, progress)
    except Interrupted:
        return  # the driver sees that the result is missing
    except (InputError, RunError) as error:
        tune.report(_failure(error))
        return
    tune.report({"arch": member["arch"], "fraction": 1.0} | json.loads(Path(member["result"]).read_text()))


def _failure(error: Exception) -> dict[str, Any]:
    """An expected error as a result: raised, it would make Tune try again what must fail again."""
    return {"failed": str(error), "wrong_input": isinstance(error, InputError)}


class _Show(tune.Callback):  # type: ignore[misc]
    def __init__(self, show: Callable[[dict[str, Any]], None]) -> None:
        self.show = show

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.show(result)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for Tuner.restore. We go on from our own checkpoint, and a terminal cannot be pickled.
        return {}


def _fit(
    trainable: Any, space: dict[str, Any], directory: Path, name: str, show: Callable[[dict[str, Any]], None], failures: int
) -> tune.ResultGrid:
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}"),
        run_config=tune.RunConfig(
            name=f"{name}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str(directory / "tune"),
            failure_config=tune.FailureConfig(max_failures=failures),
            callbacks=[_Show(show)],
            verbose=0,
        ),
    )
    try:
        results = tuner.fit()
    except (ray.exceptions.RayError, ray.tune.error.TuneError) as error:
        raise RunError(f"Ray gave up: {last_line(error)}; resume goes on from the last checkpoint") from error
    for result in results:
        if result.error is not None:
            raise RunError(f"the trial failed: {last_line(result.error)}; its files are in {result.path}")
        if result.metrics and "failed" in result.metrics:
            raise (InputError if result.metrics["wrong_input"] else RunError)(result.metrics["failed"])
    return results
