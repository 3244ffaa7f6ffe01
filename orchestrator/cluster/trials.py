"""Searches and trainings as Tune trials: a search has its actors in one placement group, a training is a trial of its own."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.tune.error
from ray import tune

from orchestrator.cluster.replicas import RESTARTS, START, Replicas, WorkersLost, last_line
from orchestrator.cluster.room import SHORT, NoRoom, Room, Waiting, capacity, describe_nodes, on_this_node
from orchestrator.cluster.storage import beside
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import Fault, InputError, Interrupted, RunError, attributed_to, checked_by, doing, unexpected
from orchestrator.machine import cap_gpu_memory, set_threads
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.control import stop_file
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.logs import logging_to
from orchestrator.search.progress import Observer, Progress, Round, TrainingProgress
from orchestrator.search.retraining import Member, try_member
from searchers import Evaluation

log = logging.getLogger(__name__)

REPORT_EVERY = 1.0
"""Seconds between two reports of a trial."""
STARTING = 15.0
"""Seconds that a trial may take to start before that is worth mentioning."""
LOOK_EVERY = 5.0
"""Seconds between two looks whether a search with fewer workers can have all of them again."""


def search(
    plan: SearchPlan,
    directory: Path,
    observe: Observer,
    *,
    detailed: bool = False,
    until: float = math.inf,
    waiting: Waiting = lambda text: None,
) -> bool:
    """Run or continue the search of `directory` as a Tune trial; see `searches`."""
    observe_it = lambda index, happened: observe(happened)  # noqa: E731
    return all(searches([(plan, directory)], directory, observe_it, detailed=detailed, until=until, waiting=waiting))


def searches(
    points: Sequence[tuple[SearchPlan, Path]],
    directory: Path,
    observe: Callable[[int, Round], None],
    *,
    detailed: bool = False,
    timing: bool = True,
    until: float = math.inf,
    conclude: bool = False,
    waiting: Waiting = lambda text: None,
) -> list[bool]:
    """Run or continue searches as one Tune grid, as many at a time as the cluster has room for.

    Where a node is lost, the searches that it leaves without room go on once the others have ended.

    Args:
        points: Each search with a directory of its own.
        directory: Run directory of all of them; its stop file ends them.
        observe: Called with the index of a search and what happened in it, about once a second.
        detailed: Whether to report every evaluation, not only where a search stands and its front.
        timing: Whether each times the members of its front again at its end.
        until: Share of the budget after which each of them pauses.
        conclude: Whether to end them there rather than to pause.
        waiting: Told what a search waits for.

    Returns:
        Whether each of them is finished, or has come as far as `until`; the others were asked to stop.

    Raises:
        RunError: Where a trial failed, or none of them has room.
    """
    # A coordinator mostly waits, so it takes nothing but its place with the driver, without which it would end anyway.
    resources = tune.PlacementGroupFactory([on_this_node()])
    trainable = tune.with_parameters(_search_trial, plans=[plan for plan, _ in points])
    finished, left = [False] * len(points), list(range(len(points)))

    def show(result: dict[str, Any]) -> None:
        if "progress" in result:
            observe(result["search"], _unpacked(result))
        elif "waiting" in result:
            waiting(result["waiting"])

    while left:
        workers = points[0][0].workers
        results = _fit(
            tune.with_resources(trainable, resources),
            {
                "directories": [str(path) for _, path in points],
                "stop": str(stop_file(directory)),
                "detailed": detailed,
                "timing": timing,
                "until": until,
                "conclude": conclude,
                "search": tune.grid_search(left),
            },
            directory,
            "search",
            show,
            failures=1,
            together=max(1, capacity(workers) // workers.count),
            patience=max(workers.patience, START),
            waiting=waiting,
        )
        reported = [result.metrics or {} for result in results]
        for metrics in reported:
            if "search" in metrics:
                finished[metrics["search"]] = bool(metrics.get("finished"))
        lacking = [metrics["search"] for metrics in reported if "no_room" in metrics]
        if len(lacking) == len(left):
            raise NoRoom(f"{reported[0]['no_room']}; what was saved is safe, and resume goes on from it")
        left = lacking
    return finished


def _search_trial(config: dict[str, Any], plans: Sequence[SearchPlan]) -> None:
    index = config["search"]
    plan, directory, stop = plans[index], Path(config["directories"][index]), Path(config["stop"])
    set_threads(plan.workers.cpus)  # so that the searcher's sums, too, are those of a run in one process
    last = 0.0
    evaluations: list[Evaluation] = []
    front: tuple[Evaluation, ...] | None = None

    def observe(happened: Round) -> None:
        nonlocal last, evaluations, front
        front = happened.front if happened.front is not None else front
        if config["detailed"]:
            evaluations = [*evaluations, *happened.evaluations]
        if time.monotonic() - last > REPORT_EVERY:
            tune.report(_packed(Round(happened.progress, tuple(evaluations), front)) | {"search": index})
            last, evaluations, front = time.monotonic(), [], None

    def wait(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY:
            tune.report({"waiting": text, "search": index})
            last = time.monotonic()

    room = Room(plan.workers, wait)
    try:
        with logging_to(directory), doing(f"searching, in {directory}"), attributed_to(plan.plugins):
            coordinator, finished = resilient(
                plan,
                directory,
                observe,
                stop,
                timing=config["timing"],
                until=config["until"],
                conclude=config["conclude"],
                room=room,
            )
    except Interrupted:
        tune.report({"search": index, "finished": False})
        return
    except NoRoom as error:
        tune.report({"search": index, "finished": False, "no_room": str(error)})
        return
    except Exception as error:
        tune.report(_failure(error))
        return
    rest = Round(coordinator.progress(), tuple(evaluations), front)
    tune.report(_packed(rest) | {"search": index, "finished": finished})


def resilient(
    plan: SearchPlan,
    directory: Path,
    observe: Observer,
    stop: Path | None = None,
    *,
    timing: bool = True,
    until: float = math.inf,
    conclude: bool = False,
    room: Room | None = None,
) -> tuple[Coordinator, bool]:
    """Run a search over actors; when one dies, all begin again from the last checkpoint, up to `RESTARTS` times from the same.

    Args:
        plan: The search.
        directory: Its run directory.
        observe: Called after every round.
        stop: File whose presence ends it; by default the directory's own.
        timing: Whether it times the members of its front again at its end.
        until: Share of the budget after which it pauses.
        conclude: Whether to end it there rather than to pause.
        room: Place for its actors, which may become smaller and larger; None for the placement group of the trial in which
            this is called.

    Returns:
        The coordinator, and whether the search is finished, or has come as far as `until`.

    Raises:
        NoRoom: Where the cluster has not enough left of it.
        Interrupted: By the stop file, while it waits for workers.
    """
    stop = stop or stop_file(directory)
    saved, deaths, patience, looked = _saved(directory), 0, None, time.monotonic()

    def has_grown() -> bool:
        nonlocal looked
        if room is None or time.monotonic() - looked < LOOK_EVERY:
            return False
        looked = time.monotonic()
        return room.has_grown()

    try:
        while True:
            replicas = None
            try:
                group = None if room is None else room.reserve(stop.exists, patience)
                replicas = Replicas(plan, group, 1 if room is None else room.sharing)
                coordinator = Coordinator(plan, directory, replicas, timing=timing)
                grown = False

                def ending() -> bool:
                    nonlocal grown
                    grown = has_grown()
                    return grown or stop.exists()

                finished = coordinator.run(ending, observe, until, conclude=conclude)
                if finished or not grown:
                    return coordinator, finished
                log.info("the cluster has room for all workers again")
                patience = SHORT  # it may have been taken by somebody else since
            except WorkersLost as error:
                log.warning("%s; starting again from the last checkpoint", error)
                before, saved, patience = saved, _saved(directory), None
                deaths = deaths + 1 if saved == before else 1
                if deaths > RESTARTS:
                    raise RunError(f"workers died {deaths} times ({error}); the last checkpoint is safe") from error
            finally:
                if replicas is not None:
                    replicas.close()
    finally:
        if room is not None:
            room.release()


def _saved(directory: Path) -> int:
    """Return what tells one checkpoint of a search from the next."""
    latest = Checkpoints(directory / "checkpoints").latest
    return latest.stat().st_mtime_ns if latest.exists() else 0


def _packed(happened: Round) -> dict[str, Any]:
    """Convert to plain data for Tune: a scalar for its schedulers, a counter (Tune restarts its own), and the rest."""
    progress = happened.progress
    packed = {"hypervolume": progress.hypervolume, "evaluations": progress.evaluations, "progress": asdict(progress)}
    if happened.evaluations:
        packed["measured"] = [e.to_data() for e in happened.evaluations]
    if happened.front is not None:
        packed["front"] = [e.to_data() for e in happened.front]
    return packed


def _unpacked(result: dict[str, Any]) -> Round:
    def evaluations(rows: Sequence[Any]) -> tuple[Evaluation, ...]:
        return tuple(map(Evaluation.from_data, rows))

    front = evaluations(result["front"]) if "front" in result else None
    return Round(Progress(**result["progress"]), evaluations(result.get("measured", ())), front)


def retrain(
    plan: SearchPlan,
    directory: Path,
    members: Sequence[Member],
    done: Callable[[str, TrainingProgress], None],
    waiting: Waiting = lambda text: None,
) -> None:
    """Train each of `members` as a trial, in parallel; one whose worker dies goes on from its last checkpoint.

    Args:
        plan: The search, with the settings of retraining.
        directory: Run directory, whose stop file ends it.
        members: Networks to train.
        done: Called with a member's name and how far its training is.
        waiting: Told what the trainings wait for.

    Raises:
        RunError: Where a trial failed.
        NoRoom: Where the cluster has had no room for a single one for `workers.patience` seconds, and two minutes at least.
    """
    workers, left = plan.workers, list(members)
    resources = {"cpu": workers.cpus} | ({"gpu": min(workers.gpus, 1)} if workers.gpus else {})
    resources |= beside(directory, workers)
    _fit(
        tune.with_resources(tune.with_parameters(_retrain_trial, plan=plan, members=left), resources),
        {"stop": str(stop_file(directory)), "member": tune.grid_search(list(range(len(left))))},
        directory,
        "retrain",
        lambda result: done(result["name"], _told(result)) if "fraction" in result else None,
        failures=RESTARTS,
        patience=max(workers.patience, START),
        waiting=waiting,
    )


def _retrain_trial(config: dict[str, Any], plan: SearchPlan, members: Sequence[Member]) -> None:
    member, stop = members[config["member"]], Path(config["stop"])
    set_threads(plan.workers.cpus)
    cap_gpu_memory(plan.workers.gpus)
    last = time.monotonic()
    losses: dict[int, float] = {}
    if stop.exists():
        return

    def progress(told: TrainingProgress) -> None:
        nonlocal last, losses
        losses |= told.losses
        if stop.exists():
            raise Interrupted
        if time.monotonic() - last > REPORT_EVERY:
            tune.report({"name": member.name, "fraction": told.fraction, "losses": list(losses.items())})
            last, losses = time.monotonic(), {}

    try:
        with logging_to(stop.parent), doing(f"training {member.arch}, for {member.result}"), attributed_to(plan.plugins):
            try_member(plan, member, progress)
    except Interrupted:
        return  # the driver sees that the result is missing
    except Exception as error:
        # Only the death of a process is worth another try.
        tune.report({"failed": unexpected(error, "a training"), "kind": "fault"} if _fault(error) else _failure(error))
        return
    told = {"name": member.name, "fraction": 1.0, "losses": list(losses.items())}
    tune.report(told | member.read())


def _told(result: dict[str, Any]) -> TrainingProgress:
    return TrainingProgress(result["fraction"], dict(result["losses"]))


def _fault(error: Exception) -> bool:
    return not isinstance(error, InputError | RunError) and checked_by(error) is None


def _failure(error: Exception) -> dict[str, Any]:
    """Wrap as a result an error that would come up again: raised, it would make Tune try again. Any other is raised."""
    if isinstance(error, InputError | RunError):
        return {"failed": str(error), "kind": "input" if isinstance(error, InputError) else "run"}
    if checked_by(error) is None:
        raise error
    return {"failed": unexpected(error, "a trial"), "kind": "fault"}


class _Watch(tune.Stopper):  # type: ignore[misc]
    """Ends trials that have had no place on the cluster for too long; Tune itself would wait for ever."""

    def __init__(self, waiting: Waiting, patience: float) -> None:
        self.waiting, self.patience = waiting, patience
        self.without: float | None = None
        self.gave_up = False

    def look(self, trials: Sequence[Any]) -> None:
        """Take note of what runs."""
        pending = [trial for trial in trials if trial.status == "PENDING"]
        if not pending or any(trial.status == "RUNNING" for trial in trials):
            self.without = None
            return
        now = time.monotonic()
        self.without = now if self.without is None else self.without
        self.gave_up = now - self.without > self.patience
        if now - self.without > STARTING:
            left = self.patience - (now - self.without)
            self.waiting(f"a place for any of {len(pending)} tasks ({describe_nodes()}); gives up in {left:.0f} s")

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.gave_up

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for `_Show`


class _Show(tune.Callback):  # type: ignore[misc]
    def __init__(self, show: Callable[[dict[str, Any]], None], watch: _Watch) -> None:
        self.show, self.watch = show, watch

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        self.watch.look(trials)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.show(result)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for Tuner.restore. We go on from our own checkpoint, and a terminal cannot be pickled.
        return {}


def _fit(
    trainable: Any,
    space: dict[str, Any],
    directory: Path,
    name: str,
    show: Callable[[dict[str, Any]], None],
    *,
    failures: int,
    patience: float,
    waiting: Waiting,
    together: int | None = None,
) -> tune.ResultGrid:
    storage, watch = directory / "tune", _Watch(waiting, patience)
    # What became of trials is said below; Tune would print the traceback of each that was lost with a node.
    for logger in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    try:
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}", max_concurrent_trials=together
            ),
            run_config=tune.RunConfig(
                name=f"{name}-{time.strftime('%Y%m%d-%H%M%S')}",
                storage_path=str(storage),
                failure_config=tune.FailureConfig(max_failures=failures),
                callbacks=[_Show(show, watch)],
                stop=watch,
                verbose=0,
            ),
        )
    except OSError as error:
        raise RunError(f"Ray Tune cannot write to {storage}: {error}; make room or permit it, then resume") from error
    try:
        results = tuner.fit()
    except (ray.exceptions.RayError, ray.tune.error.TuneError) as error:
        raise RunError(f"Ray gave up: {last_line(error)}; resume goes on from the last checkpoint") from error
    if watch.gave_up:
        raise NoRoom(
            f"the cluster has had no room for {patience:g} s: {describe_nodes()}. What was saved is safe: start nodes, or free "
            "some, then resume"
        )
    for result in results:
        if result.error is not None:
            raise RunError(f"the trial failed: {last_line(result.error)}; its files are in {result.path}")
        if result.metrics and "failed" in result.metrics:
            raise {"input": InputError, "run": RunError, "fault": Fault}[result.metrics["kind"]](result.metrics["failed"])
    return results
