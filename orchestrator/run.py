"""A run from end to end in its directory: search, retraining of the front, report. Each step goes on where it was left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from analysis import pareto, records
from orchestrator import tune
from orchestrator.coordinator import Coordinator
from orchestrator.data import Dataset
from orchestrator.errors import InputError, Interrupted
from orchestrator.evaluators.retrain import portable, retrain
from orchestrator.experiment import Experiment, Workers, read
from orchestrator.progress import Display
from orchestrator.reporting import write_report

EXPERIMENT = "experiment.toml"


def check(experiment: Experiment) -> Dataset:
    """Reads the data, once for the whole run, and tries out all that depends on it and on this machine. Raises InputError."""
    if experiment.workers.address is None:
        tune.check_fit(experiment.workers, tune.local_resources())
    data = experiment.load_data()
    Coordinator(experiment, Path(), data, replace(experiment, workers=Workers(ray=False, count=1)).build_supernet(data))
    return data


def create(experiment: Experiment, directory: Path) -> None:
    """Makes the run directory with its experiment.toml. Raises InputError where it exists or cannot be made."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        hint = f"continue it with: paretoray resume {directory}" if (directory / EXPERIMENT).exists() else "it is not empty"
        raise InputError(f"--out {directory} exists already; choose another name, or {hint}")
    try:
        (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        (directory / EXPERIMENT).write_text(experiment.to_toml())
    except OSError as error:
        raise InputError(
            f"cannot write to --out {directory}: {error.strerror}; choose a folder that you may write to"
        ) from error


def open_run(directory: Path) -> Experiment:
    """The experiment of an existing run directory. Raises InputError."""
    if not (directory / EXPERIMENT).is_file():
        raise InputError(f"{directory} is not a run directory: it has no {EXPERIMENT}")
    return read(directory / EXPERIMENT, [])


def go(experiment: Experiment, directory: Path, data: Dataset, console: Console) -> None:
    """Does whatever of the run is not done yet. Raises Interrupted once Ctrl-C has been heeded and the state is saved."""
    directory = directory.resolve()  # trials change their working directory
    stop = tune.stop_file(directory)
    stop.unlink(missing_ok=True)
    with _ctrl_c(lambda: stop.touch(), console), tune.cluster(experiment.workers) if experiment.workers.ray else nullcontext():
        with Display(console) as display:
            finished = _search(experiment, directory, data, display)
        if not finished:
            raise Interrupted
        with Display(console) as display:
            _retrain_front(experiment, directory, data, display)
    write_report(experiment, directory, data)


def _search(experiment: Experiment, directory: Path, data: Dataset, display: Display) -> bool:
    if experiment.workers.ray:
        return tune.search(experiment, directory, data, display.search)
    with _threads(experiment.workers.cpus):
        evaluator = experiment.build_supernet(data)
        coordinator = Coordinator(experiment, directory, data, evaluator)
        return coordinator.run(lambda: tune.stop_file(directory).exists(), display.search)


def _retrain_front(experiment: Experiment, directory: Path, data: Dataset, display: Display) -> None:
    """Trains up to `retrain.members` of the front from scratch, and writes retrained.csv and networks/."""
    columns = [o.column for o in experiment.build_objectives(experiment.build_space(data))]
    front = records.read(directory / records.FRONT, columns)
    if not experiment.retrain.members or front.empty:
        return
    chosen = front.iloc[pareto.spread_out(front[columns].to_numpy(), experiment.retrain.members)]
    networks = directory / "networks"
    networks.mkdir(exist_ok=True)
    members = [
        {"arch": arch, "result": str(networks / f"{i}.json"), "weights": str(networks / f"{i}.pt")}
        for i, arch in enumerate(chosen["arch"])
    ]
    missing = [m for m in members if not _done(m)]
    if missing:
        for member in members:
            display.retrain(member["arch"], float(member not in missing), len(members))
        if experiment.workers.ray:
            tune.retrain(experiment, directory, data, missing, lambda arch, f: display.retrain(arch, f, len(members)))
        else:
            with _threads(experiment.workers.cpus):
                for member in missing:

                    def progress(fraction: float, arch: str = member["arch"]) -> None:
                        display.retrain(arch, fraction, len(members))
                        if tune.stop_file(directory).exists():
                            raise Interrupted

                    retrain_member(experiment, member, data, progress)
    if not all(_done(m) for m in members):
        raise Interrupted
    results = pd.DataFrame([json.loads(Path(m["result"]).read_text()) for m in members])
    chosen.merge(results, on="arch").to_csv(directory / records.RETRAINED, index=False)


def _done(member: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(Path(member["result"]).read_text())["arch"] == member["arch"])
    except (OSError, ValueError, KeyError):
        return False


def retrain_member(experiment: Experiment, member: dict[str, Any], data: Dataset, progress: Callable[[float], None]) -> None:
    """Trains one network of the front; writes its weights, then its result."""
    space = experiment.build_space(data)
    architecture = space.parse(member["arch"])
    network = space.network(architecture)
    settings = experiment.retrain
    began = time.monotonic()
    result = retrain(
        network,
        architecture,
        data,
        epochs=settings.epochs,
        batch=settings.batch,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        seed=experiment.seed,
        device=experiment.workers.device,
        progress=lambda epoch: progress(epoch / settings.epochs),
    )
    torch.save(portable(network), member["weights"])
    line = {"arch": member["arch"], **result, "retrain_seconds": round(time.monotonic() - began, 1)}
    temporary = Path(member["result"] + ".new")
    temporary.write_text(json.dumps(line) + "\n")
    os.replace(temporary, member["result"])


@contextmanager
def _ctrl_c(ask_to_stop: Callable[[], None], console: Console) -> Iterator[None]:
    """The first Ctrl-C asks the work to save and stop; the second one ends it at once."""

    def heed(signum: int, frame: Any) -> None:
        ask_to_stop()
        console.print("stopping: saving the state first (Ctrl-C again ends at once)")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = signal.signal(signal.SIGINT, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch's threads as a worker of the experiment has them, so that in process and in an actor the same sums come out."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def estimate(experiment: Experiment) -> dict[str, Any]:
    """What a run would do and for about how long, from a few timed steps in this process. Starts no Ray, writes no file."""
    data = check(experiment)
    with _threads(experiment.workers.cpus):
        supernet = experiment.build_supernet(data)
        plan = Coordinator(experiment, Path(), data, supernet)
        stage = plan.searcher.stage
        supernet.build(stage, 1)
        mixtures = plan.searcher.train_on(3)
        largest = plan.space.largest()

        def timed(work: Callable[[], Any]) -> float:
            work()  # allocations and kernel choices of the first pass do not repeat
            began = time.perf_counter()
            work()
            return time.perf_counter() - began

        step = timed(lambda: supernet.train(mixtures)) / len(mixtures)
        measuring = timed(lambda: supernet.measure([largest], 0))
        probing = timed(lambda: supernet.probe([largest]))
    samples = int(experiment.searcher.get("samples", 1))
    asking = (1 - stage.warmup / stage.rounds) * plan.rounds
    workers = experiment.workers.count
    steps = plan.rounds * experiment.budget.interval
    search = (steps * step + asking * samples * (measuring + probing)) / workers
    if experiment.budget.seconds is not None:
        search = min(search, experiment.budget.seconds)
    images = len(data.train) + len(data.valid)
    retraining = experiment.retrain.members * experiment.retrain.epochs * images / experiment.training["batch"] * step / 2
    return {
        "data": f"{experiment.data['name']}: {len(data.train)} images for weights, {len(data.valid)} for architectures, "
        f"{len(data.test)} for the final test; {len(data.classes)} classes of {'x'.join(map(str, data.image))}",
        "space": f"{experiment.space['name']}: {plan.space.architectures:,} architectures",
        "searcher": experiment.searcher["name"],
        "objectives": ", ".join(o.title for o in plan.objectives),
        "search": f"{plan.rounds} rounds of {experiment.budget.interval} weight steps, about {asking * samples:.0f} samples",
        "workers": f"{workers} " + ("Ray actors" if experiment.workers.ray else "replica, in this process"),
        "retraining": f"{experiment.retrain.members} networks of the front, {experiment.retrain.epochs} epochs each",
        "seconds": search + retraining / workers,
    }
