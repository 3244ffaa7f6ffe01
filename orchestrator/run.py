"""A run from end to end in its directory: search, retraining of the front, report. Each step goes on where it was left."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from analysis import pareto, records
from orchestrator import sweep, tune
from orchestrator.coordinator import Coordinator, Progress, alone_in
from orchestrator.data import Dataset, Part
from orchestrator.describe import find_architecture, published, size
from orchestrator.errors import InputError, Interrupted
from orchestrator.evaluators.retrain import portable, retrain
from orchestrator.evaluators.supernet import Supernet
from orchestrator.experiment import Experiment, Workers, read
from orchestrator.machine import machine, threads, unique
from orchestrator.objectives.base import Probe
from orchestrator.progress import Display
from orchestrator.reporting import write_report
from searchers import GradientSearcher, Mixture

EXPERIMENT = "experiment.toml"
DEVICES = "devices"


def check(experiment: Experiment, data: Dataset | None = None) -> Dataset:
    """Reads the data, once for the whole run, and tries out all that depends on it and on this machine. Raises InputError.

    data: of the experiment, where it is read already.
    """
    if experiment.workers.address is None:
        tune.check_fit(experiment.workers, tune.local_resources())
    data = experiment.load_data() if data is None else data
    if experiment.workers.address is None:
        for objective in experiment.build_objectives(experiment.build_space(data)):
            if isinstance(objective, Probe):
                objective.check(experiment.workers.device)
    Coordinator(experiment, Path(), data, replace(experiment, workers=Workers(ray=False, count=1)).build_evaluator(data))
    return data


def check_out(directory: Path) -> None:
    """Raises InputError where a new run cannot have `directory`: it is taken, or may not be made."""
    try:
        taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
        allowed = parent.is_dir() and os.access(parent, os.W_OK)
    except OSError as error:
        raise InputError(f"cannot write to --out {directory}: {error.strerror}; choose another folder") from error
    if taken:
        hint = f"continue it with: paretoray resume {directory}" if (directory / EXPERIMENT).exists() else "it is not empty"
        raise InputError(f"--out {directory} exists already; choose another name, or {hint}")
    if not allowed:
        raise InputError(f"cannot write to --out {directory}: choose a folder that you may write to")


def create(experiment: Experiment, directory: Path) -> None:
    """Makes the run directory with its experiment.toml. Raises InputError where it is taken or cannot be made."""
    check_out(directory)
    try:
        (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        (directory / EXPERIMENT).write_text(_with_devices(experiment, directory).to_toml())
    except OSError as error:
        raise InputError(f"cannot write to --out {directory}: {error.strerror}; choose another folder") from error


def _with_devices(experiment: Experiment, directory: Path) -> Experiment:
    """The same, with copies of its device files in `directory`, from where other nodes and later days find them."""
    objectives = {}
    for name, values in experiment.objectives.items():
        if "file" in values:
            source = Path(values["file"])
            (directory / DEVICES).mkdir(exist_ok=True)
            shutil.copyfile(source, directory / DEVICES / source.name)
            values = values | {"file": f"{DEVICES}/{source.name}"}  # beside experiment.toml, wherever that goes
        objectives[name] = values
    return replace(experiment, objectives=objectives)


def open_run(directory: Path) -> Experiment:
    """The experiment of an existing run directory. Raises InputError."""
    if not (directory / EXPERIMENT).is_file():
        raise InputError(f"{directory} is not a run directory: it has no {EXPERIMENT}")
    return read(directory / EXPERIMENT, [])


def go(
    experiment: Experiment,
    directory: Path,
    data: Dataset,
    console: Console,
    *,
    new: bool = False,
    searches: Sequence[tuple[dict[str, Any], Experiment]] = (),
) -> None:
    """Does whatever of the run is not done yet; a `new` one is made first, once the workers are known to have a place.

    searches: those of a new sweep (see sweep.py), of which `experiment` is the first. Raises Interrupted once Ctrl-C has been
    heeded and the state is saved.
    """
    directory = directory.resolve()  # trials change their working directory
    stop = tune.stop_file(directory)
    count = len(searches) or len(sweep.settings_of(directory)) or 1
    for objective in experiment.build_objectives(experiment.build_space(data)):
        if objective.warning:
            console.print(f"warning: {objective.warning}", soft_wrap=True, highlight=False, markup=False)
    with heeding_ctrl_c(stop, console), tune.cluster(experiment.workers, count) if experiment.workers.ray else nullcontext():
        if new and searches:
            sweep.create(directory, searches, create)
        elif new:
            create(experiment, directory)
        experiment = open_run(directory)
        with alone_in(directory, "run.lock"):
            stop.unlink(missing_ok=True)
            swept = bool(sweep.settings_of(directory))
            with Display(console) as display:
                finished = (_sweep if swept else _search)(experiment, directory, data, display)
            if swept:
                sweep.merge(directory)
            if not finished:
                raise Interrupted
            with Display(console) as display:
                _retrain_front(experiment, directory, data, display)
            write_report(experiment, directory, data)


def _search(experiment: Experiment, directory: Path, data: Dataset, display: Display) -> bool:
    if experiment.workers.ray:
        return tune.search(experiment, directory, data, display.search)
    with threads(experiment.workers.cpus):
        evaluator = experiment.build_evaluator(data)
        coordinator = Coordinator(experiment, directory, data, evaluator)
        return coordinator.run(lambda: tune.stop_file(directory).exists(), display.search)


def _sweep(experiment: Experiment, directory: Path, data: Dataset, display: Display) -> bool:
    """The searches of a sweep that are not finished, side by side with Ray, one after the other without."""
    points = [(open_run(folder), folder) for folder in sweep.folders(directory)]
    fractions = [float(_finished(folder)) for _, folder in points]

    def show(index: int, progress: Progress) -> None:
        fractions[index] = progress.fraction
        display.sweep(fractions, progress)

    left = [i for i, fraction in enumerate(fractions) if fraction < 1]
    if not left:
        return True
    if experiment.workers.ray:
        return all(tune.searches([points[i] for i in left], directory, data, lambda index, p: show(left[index], p)))
    with threads(experiment.workers.cpus):
        for i in left:
            chosen, folder = points[i]
            coordinator = Coordinator(chosen, folder, data, chosen.build_evaluator(data))
            if not coordinator.run(tune.stop_file(directory).exists, lambda p, i=i: show(i, p)):  # type: ignore[misc]
                return False
    return True


def _finished(directory: Path) -> bool:
    try:
        return bool(json.loads((directory / records.SUMMARY).read_text())["finished"])
    except (OSError, ValueError, KeyError):
        return False


def _retrain_front(experiment: Experiment, directory: Path, data: Dataset, display: Display) -> None:
    """Trains up to `retrain.members` of the front from scratch, and writes retrained.csv and networks/; summary.json then
    names the machines that did so, too."""
    columns = [o.column for o in experiment.build_objectives(experiment.build_space(data))]
    front = records.read(directory / records.FRONT, columns)
    if not experiment.retrain.members or front.empty:
        return  # nothing to do, or no network keeps the constraints
    chosen = front.iloc[pareto.spread_out(front[columns].to_numpy(), experiment.retrain.members)]
    networks = directory / "networks"
    networks.mkdir(exist_ok=True)
    members = [
        {"arch": arch, "result": str(networks / f"{i}.json"), "weights": str(networks / f"{i}.pt")}
        for i, arch in enumerate(chosen["arch"])
    ]
    results = retrain_all(experiment, directory, data, members, display)
    chosen.merge(results.drop(columns="machine", errors="ignore"), on="arch").to_csv(directory / records.RETRAINED, index=False)
    summary = json.loads((directory / records.SUMMARY).read_text())
    searched, trained = summary["machines"], results.get("machine", pd.Series()).dropna()
    summary["machines"] = unique([*searched, *trained])
    if summary["machines"] != searched:
        (directory / records.SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
        display.machines(summary["machines"])


def retrain_all(
    experiment: Experiment, directory: Path, data: Dataset, members: Sequence[dict[str, Any]], display: Display
) -> pd.DataFrame:
    """Trains those of `members` from scratch that have no result yet (see `retrain_member`); returns the results of all.

    Raises Interrupted once the directory's stop file is there.
    """
    missing = [m for m in members if not _done(m)]
    if missing:
        for member in members:
            display.retrain(member["arch"], float(member not in missing), len(members))
        if experiment.workers.ray:
            tune.retrain(experiment, directory, data, missing, lambda arch, f: display.retrain(arch, f, len(members)))
        else:
            with threads(experiment.workers.cpus):
                for member in missing:

                    def progress(fraction: float, arch: str = member["arch"]) -> None:
                        display.retrain(arch, fraction, len(members))
                        if tune.stop_file(directory).exists():
                            raise Interrupted

                    retrain_member(experiment, member, data, progress)
    if not all(_done(m) for m in members):
        raise Interrupted
    return pd.DataFrame([json.loads(Path(m["result"]).read_text()) for m in members])


def _done(member: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(Path(member["result"]).read_text())["arch"] == member["arch"])
    except (OSError, ValueError, KeyError):
        return False


def retrain_member(experiment: Experiment, member: dict[str, Any], data: Dataset, progress: Callable[[float], None]) -> None:
    """Trains one network from scratch.

    member: its notation, `arch`, and the files to write: first its `weights`, if they are named, then its `result`.
    """
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
        channels_last=settings.channels_last,
        seed=experiment.seed,
        device=experiment.workers.device,
        progress=lambda epoch: progress(epoch / settings.epochs),
    )
    if "weights" in member:
        torch.save(portable(network), member["weights"])
    line = {"arch": member["arch"], **result, "retrain_seconds": round(time.monotonic() - began, 1)}
    line["machine"] = machine(experiment.workers.device)
    temporary = Path(member["result"] + ".new")
    temporary.write_text(json.dumps(line) + "\n")
    os.replace(temporary, member["result"])


def train_one(space: str, text: str, overrides: Sequence[str], directory: Path, console: Console) -> None:
    """Trains an architecture or published network from scratch in this process; writes network.pt and result.json.

    overrides: `section.key=value` of the data, space and retrain sections. Raises InputError.
    """
    if other := [o for o in overrides if o.partition(".")[0] not in ("data", "space", "retrain", "seed")]:
        raise InputError(f"{other[0]!r}: a training has the sections data, space and retrain, and a seed")
    known = published(space, text)
    shape = {k: v for k, v in (known.settings if known else {}).items() if k not in ("image", "classes")}
    fixed = [f"space.{key}={json.dumps(value)}" for key, value in shape.items()]
    experiment = read(None, [f"space.name={space}", *fixed, *overrides])
    data = experiment.load_data()
    made = experiment.build_space(data)
    architecture = find_architecture(space, made, text)
    check_out(directory)
    directory.mkdir(parents=True, exist_ok=True)
    arch = made.format(architecture)
    member = {"arch": arch, "result": str(directory / "result.json"), "weights": str(directory / "network.pt")}
    console.print(
        f"{made.parameters(architecture):,} parameters, {made.macs(architecture):,} MACs; {len(data.train) + len(data.valid)} "
        f"images, {experiment.retrain.epochs} epochs",
        highlight=False,
    )
    with Display(console) as display:
        display.retrain(arch, 0.0, 1)
        retrain_member(experiment, member, data, lambda fraction: display.retrain(arch, fraction, 1))
    (directory / EXPERIMENT).write_text(experiment.to_toml())
    counts = {"parameters": made.parameters(architecture), "macs": made.macs(architecture)}
    result = {"name": text.upper() if known else space} | json.loads(Path(member["result"]).read_text()) | counts
    Path(member["result"]).write_text(json.dumps(result) + "\n")
    console.print(
        f"test error {result['test_error_percent']:.2f} %; weights in {member['weights']}", highlight=False, soft_wrap=True
    )


@contextmanager
def heeding_ctrl_c(stop: Path, console: Console) -> Iterator[None]:
    """The first Ctrl-C asks the work to save and stop; the second one, or one before there is any work, ends it at once."""

    def heed(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not stop.parent.exists():
            raise KeyboardInterrupt
        stop.touch()
        console.print("stopping: saving the state first (Ctrl-C again ends at once)")

    previous = signal.signal(signal.SIGINT, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _shared(plan: Coordinator, supernet: Supernet, samples: float, timed: Callable[[Callable[[], Any]], float]) -> float:
    """Seconds that a search with shared weights takes, on one worker."""
    searcher, experiment = plan.searcher, plan.experiment
    stage, seconds = searcher.stage, 0.0
    mixtures = searcher.train_on(2)
    for index in range(stage.stages):
        # Later stages are deeper and hold fewer options; which ones survive makes little difference to the time.
        share = [1.0, *experiment.searcher.get("keep", ())][index]
        options = tuple(tuple(range(n))[-max(1, math.floor(share * n + 0.5)) :] for n in plan.space.sizes)
        supernet.build(replace(stage, index=index, options=options), 1)
        left = [
            Mixture(tuple(tuple(w * (o in kept) for o, w in enumerate(r)) for r, kept in zip(m.weights, options, strict=True)))
            for m in mixtures
        ]
        step = timed(lambda left=left: supernet.train(left)) / len(left)  # type: ignore[misc]
        survivor = tuple(kept[-1] for kept in options)
        draw = None if searcher.whole else 0
        measuring = timed(lambda a=survivor, draw=draw: supernet.measure([a], draw))  # type: ignore[misc]
        seconds += (plan.rounds * experiment.budget.interval * step + samples * measuring) / stage.stages
    if isinstance(searcher, GradientSearcher):
        while (relaxed := searcher.relax()) is None:
            searcher.train_on(1)
        slope = timed(lambda: supernet.differentiate(relaxed, 0, searcher.unrolled))
        asking = (1 - stage.warmup / stage.rounds) * plan.rounds
        seconds += asking * experiment.budget.interval * slope / experiment.searcher.get("every", 1)
    return seconds


def estimate(experiment: Experiment) -> dict[str, Any]:
    """What a run would do and for about how long, from a few timed steps in this process. Starts no Ray, writes no file."""
    data = check(experiment)
    settings, workers = experiment.retrain, experiment.workers.count
    alone = replace(experiment, workers=replace(experiment.workers, count=1))
    if not torch.cuda.is_available():
        alone = replace(alone, workers=replace(alone.workers, gpus=0.0))

    def timed(work: Callable[[], Any]) -> float:
        work()  # allocations and kernel choices of the first pass do not repeat
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    with threads(experiment.workers.cpus):
        evaluator = alone.build_evaluator(data)
        plan = Coordinator(experiment, Path(), data, evaluator)
        largest = plan.space.largest()
        samples = plan.searcher.expected(plan.rounds)
        if isinstance(evaluator, Supernet):
            trained = f"{plan.rounds} rounds of {experiment.budget.interval} weight steps, about {samples:.0f} samples"
            search = samples * timed(lambda: evaluator.probe([largest])) + _shared(plan, evaluator, samples, timed)
        else:
            samples = plan.rounds * workers
            trained = f"{samples} networks, each trained for {experiment.alone} epochs"
            # A few steps of the largest network tell what an epoch takes.
            images = min(len(data.train), 4 * experiment.training["batch"])
            few = replace(data, train=Part(data.train.images[:images], data.train.labels[:images]), valid=data.valid)
            one_epoch = replace(alone, training=alone.training | {"epochs": 1}).build_evaluator(few)
            epochs = (experiment.alone or 1) * len(data.train) / images
            search = samples * (
                timed(lambda: one_epoch.measure([largest], None)) * epochs + timed(lambda: evaluator.probe([largest]))
            )
        network = plan.space.network(largest).to(alone.workers.device)
        x = data.normalise(data.train.images[: settings.batch].to(alone.workers.device))
        one = timed(lambda: network(x).sum().backward())
    search /= workers
    if experiment.budget.seconds is not None:
        search = min(search, experiment.budget.seconds)
    warnings = [objective.warning for objective in plan.objectives if objective.warning]
    steps = settings.epochs * (len(data.train) + len(data.valid)) / settings.batch
    retraining = math.ceil(settings.members / workers) * steps * one
    return {
        "data": f"{experiment.data['name']}: {len(data.train)} images for weights, {len(data.valid)} for architectures, "
        f"{len(data.test)} for the final test; {len(data.classes)} classes of {'x'.join(map(str, data.image))}",
        "space": f"{experiment.space['name']}: {size(plan.space)} architectures",
        "searcher": experiment.searcher["name"],
        "objectives": ", ".join(o.title for o in plan.objectives),
        "search": trained,
        "workers": f"{workers} " + ("Ray actors" if experiment.workers.ray else "replica, in this process"),
        "retraining": f"{settings.members} networks of the front, {settings.epochs} epochs each",
        **({"warning": "; ".join(warnings)} if warnings else {}),
        "seconds": search + retraining,
    }
