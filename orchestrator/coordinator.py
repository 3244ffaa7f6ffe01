"""The loop of a search: rounds in; archive, records, checkpoints and progress out. Knows neither Ray nor any method."""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from analysis import pareto, records
from orchestrator.archive import Archive
from orchestrator.checkpoint import Checkpoints
from orchestrator.data import Dataset
from orchestrator.errors import RunError
from orchestrator.evaluators.base import Evaluator
from orchestrator.experiment import Experiment
from orchestrator.machine import Machine, processor, unique
from orchestrator.objectives.base import Metrics
from orchestrator.rounds import rounds
from searchers import Architecture, Evaluation, Stage


@dataclass(frozen=True)
class Progress:
    """Where a search stands. judged_on: what the best error was measured on. fraction: share of the budget that is spent, in
    0..1. seconds: of search so far. machines: that took part so far, each once."""

    stage: int
    warming_up: bool
    round: int
    rounds: int
    evaluations: int
    best_error: float | None
    judged_on: str
    hypervolume: float
    fraction: float
    seconds: float
    machines: list[Machine]

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far."""
        return self.seconds * (1 / self.fraction - 1) if self.fraction > 0.01 else None


class Coordinator:
    """Runs one search in `directory`, from its start or from its last checkpoint.

    evaluator: the shared weights, here or on a cluster. Raises RunError for a damaged checkpoint, a full disk, a loss that
    is not finite, or a directory that another process is working in.
    """

    def __init__(self, experiment: Experiment, directory: Path, data: Dataset, evaluator: Evaluator) -> None:
        self.experiment, self.directory, self.evaluator = experiment, directory, evaluator
        self.budget = experiment.budget
        self.space = experiment.build_space(data)
        self.objectives = experiment.build_objectives(self.space)
        batch = min(experiment.training["batch"], len(data.train))
        steps = self.budget.epochs * (len(data.train) // batch)
        self.rounds: int = max(1, math.ceil(steps / self.budget.interval))
        self._portion = 2**31  # how many architectures a round asks for at most
        self._passes = 1  # over the validation part, to judge a network
        if experiment.alone is not None:
            # The budget is spent on networks, each of which takes its epochs; a round is one for every worker.
            self._portion = experiment.workers.count
            self._passes = min(experiment.training["averaged"], experiment.alone)
            self.rounds = math.ceil(self.budget.epochs / experiment.alone / self._portion)
        self.searcher = experiment.build_searcher(self.space, self.objectives, self.rounds)
        # Networks that have weights of their own, or have just been trained, are measured once and on everything.
        self._final = experiment.alone is not None or self.searcher.whole
        self._kind = records.VALIDATION if self._final else records.SAMPLE
        self.checkpoints = Checkpoints(directory / "checkpoints")
        self._columns = [o.column for o in self.objectives]
        self._spreads = [o.spread for o in self.objectives if o.spread is not None]
        self._policy_columns = ["step", "stage"] + [f"{c.name}/{o}" for c in self.space.choices for o in c.options]
        self.round, self.evaluations, self.finished = 0, 0, False
        self.machines: list[Machine] = []
        self.archive: Archive
        self.stage: Stage = self.searcher.stage
        self._before = self._clock = self._validating = 0.0
        self._images = {"train": len(data.train), "valid": len(data.valid), "test": len(data.test), "batch": batch}

    def run(self, stop: Callable[[], bool], report: Callable[[Progress], None]) -> bool:
        """True when the search is finished, False when `stop` ended it; its state is saved either way."""
        with alone_in(self.directory, "search.lock"):
            state = self.checkpoints.load()
            if state is None:
                table = self.directory / records.EVALUATIONS
                if table.exists() and table.read_text().count("\n") > 1:
                    os.replace(table, table.with_name("evaluations-without-checkpoint.csv"))
                self._start()
            else:
                self._restore(state)
            if not self.finished:
                self.machines = unique([*self.machines, *self.evaluator.machines()])
            saved = time.monotonic()
            endless = rounds(self.searcher, self.evaluator, self._assess, self.budget.interval, self._room)
            stopping = False
            while not self.finished and not stopping:
                told = next(endless)
                self.round += 1
                self.archive.add(told)
                self._record_policy()
                self.finished = self._spent() >= 1
                if self.finished or self.searcher.stage.index != self.stage.index:
                    self._validate()
                    if not self.finished:
                        self._build()
                elif self.searcher.stage.options != self.stage.options:
                    self.stage = self.searcher.stage
                    self.evaluator.drop(self.stage)
                if self.finished and not self._table.rows:
                    raise RunError(f"the budget ended before anything was measured; raise {self._limit()}")
                report(self.progress())
                stopping = stop()
                if self.finished or stopping or time.monotonic() - saved > self.budget.checkpoint:
                    self._table.sync()
                    self._policy.sync()
                    self.checkpoints.save(self.state_dict())
                    saved = time.monotonic()
            self._write_results()
            return self.finished

    def progress(self) -> Progress:
        return Progress(
            stage=self.stage.index,
            warming_up=self.round - self._stage_began < self.stage.warmup,
            round=self.round,
            rounds=self.rounds,
            evaluations=self.evaluations,
            best_error=min((e.costs[0] for e in self.archive.front), default=None),
            judged_on="the validation part" if self._final else "one batch",
            hypervolume=self.archive.hypervolume,
            fraction=min(1.0, self._spent()),
            seconds=self.seconds(),
            machines=self.machines,
        )

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._clock

    def _spent(self) -> float:
        """The share of the budget, whichever of its limits is nearest."""
        spent = [self.round / self.rounds]
        if self.budget.seconds is not None:
            spent.append(self.seconds() / self.budget.seconds)
        if self.budget.evaluations is not None:
            spent.append(self.evaluations / self.budget.evaluations)
        return max(spent)

    def _limit(self) -> str:
        """The key of the limit that ended the search."""
        if self.round >= self.rounds:
            return "budget.epochs"
        return "budget.evaluations" if self.budget.seconds is None else "budget.seconds"

    def _room(self) -> int:
        left = self._portion if self.budget.evaluations is None else self.budget.evaluations - self.evaluations
        return max(0, min(self._portion, left))

    def _start(self) -> None:
        self._before, self._clock = 0.0, time.monotonic()
        self._probed: dict[Architecture, Metrics] = {}
        self._samples: dict[Architecture, list[tuple[float, ...]]] = {}
        self._table = records.Table(
            self.directory / records.EVALUATIONS, records.evaluation_columns(self._columns, self._spreads)
        )
        self._policy = records.Table(self.directory / records.POLICY, self._policy_columns)
        self._build()
        largest = self._probe([self.space.largest()])[0] | {"accuracy": 0.0}
        self.archive = Archive([o.reference(largest) for o in self.objectives])

    def _build(self) -> None:
        self.stage = self.searcher.stage
        self._stage_began = self.round
        self._samples = {}
        self.evaluator.build(self.stage, self.stage.rounds * self.budget.interval)

    def _probe(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        """The metrics of standalone networks; each is measured once in a search."""
        new = [a for a in dict.fromkeys(architectures) if a not in self._probed]
        self._probed |= dict(zip(new, self.evaluator.probe(new), strict=True))
        return [self._probed[a] for a in architectures]

    def _assess(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Sampled architectures; one that was drawn twice is measured and recorded once."""
        unique = list(dict.fromkeys(architectures))
        evaluations = self._evaluate(unique, self._kind, draw=None if self._final else self.evaluator.step)
        for e in evaluations:
            self._samples.setdefault(e.architecture, []).append(e.costs)
        self.evaluations += len(unique)
        found = {e.architecture: e for e in evaluations}
        return [found[a] for a in architectures]

    def _evaluate(self, architectures: Sequence[Architecture], kind: str, draw: int | None) -> list[Evaluation]:
        if not architectures:
            return []
        measured = self.evaluator.measure(architectures, draw)
        evaluations, rows = [], []
        for a, accuracy, probed in zip(architectures, measured, self._probe(architectures), strict=True):
            metrics = accuracy | probed
            evaluation = self._evaluation(a, tuple(o.cost(a, metrics) for o in self.objectives))
            evaluations.append(evaluation)
            rows.append(
                {
                    "seed": self.experiment.seed,
                    "step": self.evaluator.step,
                    "stage": self.stage.index,
                    "kind": kind,
                    "arch": self.space.format(a),
                    **dict(zip(self._columns, evaluation.costs, strict=True)),
                    **{spread: metrics[spread] for spread in self._spreads},
                    "seconds": round(self.seconds(), 3),
                }
            )
        with _writing(self._table.path):
            self._table.append(rows)
        return evaluations

    def _evaluation(self, architecture: Architecture, costs: tuple[float, ...]) -> Evaluation:
        return Evaluation(architecture, costs, float(pareto.violations([costs], self.experiment.limits)[0]))

    def _validate(self) -> None:
        """Measures the best of the stage that ends again, on the whole validation part, while its weights still exist.

        A sample is judged on one batch, so the front of all samples favours the lucky. Repeated samples count with their mean.
        """
        if self._final:
            return
        began = time.monotonic()
        sampled = list(self._samples)
        costs = np.array([np.mean(self._samples[a], axis=0) for a in sampled]).reshape(len(sampled), len(self.objectives))
        here = sampled and self.searcher.stage.index == self.stage.index
        chosen: list[Architecture] = self.searcher.derive() if here else []
        room = self.budget.validate
        broken = pareto.violations(costs, self.experiment.limits)
        # Equal in every cost is, nearly always, the same network in another notation: one of them is enough.
        first = sorted(np.unique(costs, axis=0, return_index=True)[1])
        sampled, costs, broken = [sampled[i] for i in first], costs[first], broken[first]
        kept, breaking = np.flatnonzero(broken <= 0), sorted(np.flatnonzero(broken > 0), key=broken.__getitem__)
        for front in [*([int(kept[i]) for i in f] for f in pareto.ranked(costs[kept])), *([int(i)] for i in breaking)]:
            picked = [front[i] for i in pareto.spread_out(costs[front], min(room, len(front)))]
            chosen += [sampled[i] for i in picked]
            room -= len(picked)
            if room == 0:
                break
        self._evaluate(list(dict.fromkeys(chosen)), records.VALIDATION, draw=None)
        self._validating += time.monotonic() - began

    def _record_policy(self) -> None:
        rows = self.searcher.probabilities()
        if rows is not None:
            values = [self.evaluator.step, self.searcher.stage.index, *(round(p, 6) for row in rows for p in row)]
            with _writing(self._policy.path):
                self._policy.append([dict(zip(self._policy_columns, values, strict=True))])

    def state_dict(self) -> dict[str, Any]:
        return {
            "made_by": self._identity(),
            "searcher": self.searcher.state_dict(),
            "evaluator": self.evaluator.state_dict(),
            "round": self.round,
            "stage_began": self._stage_began,
            "finished": self.finished,
            "evaluations": self.evaluations,
            "seconds": self.seconds(),
            "validating": self._validating,
            "reference": list(self.archive.reference),
            "probed": [[list(a), m] for a, m in self._probed.items()],
            "machines": self.machines,
            "rows": [self._table.rows, self._policy.rows],
        }

    def _identity(self) -> dict[str, Any]:
        """What must be the same when a search goes on."""
        plain = self.experiment.to_dict()
        sections = ("seed", "space", "searcher", "objectives", "training")
        schedule = {"rounds": self.rounds, "interval": self.budget.interval, "workers": self.experiment.workers.count}
        for objective in plain["objectives"].values():
            objective.pop("file", None)  # where it lies does not matter
        return {name: plain[name] for name in sections} | {"images": self._images, "schedule": schedule}

    def check(self, state: dict[str, Any]) -> None:
        """Raises RunError for a checkpoint of another experiment, or of other data."""
        for name, saved in state["made_by"].items():
            if saved != self._identity()[name]:
                raise RunError(
                    f"the checkpoint was made with another {name}: {saved}, now {self._identity()[name]}; put it back as it "
                    "was, or start a new run"
                )

    def _restore(self, state: dict[str, Any]) -> None:
        self.check(state)
        self.searcher.load_state_dict(state["searcher"])
        self.evaluator.load_state_dict(state["evaluator"])
        self.stage = self.searcher.stage
        self.round, self._stage_began = state["round"], state["stage_began"]
        self.finished, self.evaluations = state["finished"], state["evaluations"]
        self._before, self._clock = float(state["seconds"]), time.monotonic()
        self._validating = float(state["validating"])
        self.machines = state.get("machines", [])
        self._probed = {tuple(a): m for a, m in state["probed"]}
        try:
            self._table = records.Table(
                self.directory / records.EVALUATIONS,
                records.evaluation_columns(self._columns, self._spreads),
                state["rows"][0],
            )
            self._policy = records.Table(self.directory / records.POLICY, self._policy_columns, state["rows"][1])
        except (OSError, ValueError) as error:
            raise RunError(f"the records do not fit the checkpoint: {error}") from error
        # The archive and the samples of this stage are read back from the records, which hold every digit.
        self.archive = Archive(state["reference"])
        self._samples = {}
        told = []
        try:
            for row in self._table.read():
                if row["kind"] != self._kind:
                    continue
                evaluation = self._evaluation(self.space.parse(row["arch"]), tuple(float(row[c]) for c in self._columns))
                told.append(evaluation)
                if int(row["stage"]) == self.stage.index:
                    self._samples.setdefault(evaluation.architecture, []).append(evaluation.costs)
        except (ValueError, TypeError) as error:
            raise RunError(f"{self._table.path} is damaged: {error}") from error
        self.archive.add(told)

    def _write_results(self) -> None:
        """front.csv and summary.json."""
        table = records.read(self._table.path, self._columns)
        if table.empty:
            return  # interrupted while warming up
        front = records.front_of(table, self._columns, self.experiment.limits)
        costs = front[self._columns].to_numpy()
        kinds = table["kind"].value_counts()
        drawn = min(self.experiment.training.get("valid_batch", 0), self._images["valid"])
        whole = self._images["valid"] * self._passes
        batches = int(kinds.get(records.SAMPLE, 0)) + self.evaluator.asked
        summary = {
            "finished": self.finished,
            "hypervolume": pareto.hypervolume(costs, self.archive.reference),
            "hypervolume_of_samples": self.archive.hypervolume,
            "weights": "shared" if self.experiment.alone is None else "own",
            "reference_point": dict(zip(self._columns, self.archive.reference, strict=True)),
            "objectives": {o.column: o.title for o in self.objectives},
            "limits": {c: limit for c, limit in zip(self._columns, self.experiment.limits, strict=True) if limit is not None},
            "targets": {
                o.column: values["target"]
                for o, values in zip(self.objectives, self.experiment.objectives.values(), strict=True)
                if "target" in values
            },
            "spreads": self._spreads,
            "warnings": [o.warning for o in self.objectives if o.warning],
            "derived": [self.space.format(a) for a in self.searcher.derive()],
            "spent": {
                "rounds": self.round,
                "weight_steps": self.evaluator.step,
                "images_trained_on": self.evaluator.step * self._images["batch"],
                "images_judged_on": drawn * batches + whole * int(kinds.get(records.VALIDATION, 0)),
                "evaluations": self.evaluations,
                "architectures": int(table["arch"].nunique()),
                "seconds": round(self.seconds(), 2),
                "seconds_validating": round(self._validating, 2),
            },
            "data": self._images,
            "seed": self.experiment.seed,
            "workers": asdict(self.experiment.workers),
            "machines": self.machines,
            "hardware": {"cpu": processor(), "cores": os.cpu_count(), "system": platform.platform()},
            "versions": {name: version(name) for name in ("torch", "torchvision", "ray", "pymoo", "numpy")}
            | {"python": platform.python_version()},
        }
        with _writing(self.directory):
            front.to_csv(self.directory / records.FRONT, index=False)
            (self.directory / records.SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write to {path}: {error.strerror}; the last checkpoint is safe, make room, then resume"
        ) from error


@contextmanager
def alone_in(directory: Path, name: str, patience: float = 30.0) -> Iterator[None]:
    """Holds the directory's lock of that name, so that no second process writes to the same files.

    patience: seconds to wait for a process that is about to end, as the workers of a killed search are.
    """
    (directory / "checkpoints").mkdir(exist_ok=True)
    with (directory / "checkpoints" / name).open("w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise RunError(f"another process is working in {directory}; wait for it, or stop it") from error
                time.sleep(0.2)
        yield
