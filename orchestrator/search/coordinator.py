"""The loop of a search: rounds in; archive, records, checkpoints and progress out. Knows neither Ray nor any method."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.config.plan import SearchPlan
from orchestrator.errors import RunError
from orchestrator.evaluators.base import Evaluator
from orchestrator.machine import Machine, unique
from orchestrator.search.archive import Archive
from orchestrator.search.assessor import Assessor
from orchestrator.search.budget import Spending
from orchestrator.search.checkpoint import Checkpoints, alone_in
from orchestrator.search.progress import Observer, Progress, Round
from orchestrator.search.recorder import Recorder
from orchestrator.search.rounds import rounds
from orchestrator.search.summary import images_of, write_results

log = logging.getLogger(__name__)


class Coordinator:
    """Runs one search in a directory, from its start or from its last checkpoint.

    Args:
        plan: The search.
        directory: Its run directory.
        evaluator: Measures architectures, here or on a cluster.

    Raises:
        RunError: From `run`, for a damaged checkpoint, a full disk, a loss that is not finite, or a directory that another
            process is working in.
    """

    def __init__(self, plan: SearchPlan, directory: Path, evaluator: Evaluator) -> None:
        self.plan, self.directory, self.evaluator = plan, directory, evaluator
        self.searcher = plan.build_searcher()
        self.spending = Spending(plan.budget, plan.schedule)
        self.recorder = Recorder(directory, plan.problem, self.spending, plan.seed, str(plan.proxy) if plan.proxy else None)
        # Networks that have weights of their own, or have just been trained, are measured once and on everything.
        full = not plan.shares_weights or self.searcher.full_validation
        self.assessor = Assessor(plan.problem, evaluator, self.recorder, self.spending, full=full)
        self.checkpoints = Checkpoints(directory / "checkpoints")
        self.archive = Archive([1.0] * len(plan.problem.objectives))
        self.finished = False
        self._stage_began = 0
        self.machines: list[Machine] = []

    def run(self, stop: Callable[[], bool], observe: Observer) -> bool:
        """Search until the budget is spent, or `stop` says so; the state is saved either way.

        Args:
            stop: Asked after every round.
            observe: Told after every round.

        Returns:
            Whether the search is finished.
        """
        with alone_in(self.directory, "search.lock"):
            state = self.checkpoints.load()
            if state is None:
                self._start()
            else:
                self._restore(state)
            if not self.finished:
                self.machines = unique([*self.machines, *self.evaluator.machines()])
            name, limit = self.plan.experiment.searcher.name, self.spending.schedule.rounds
            log.info("search with %s in %s, from round %d of %d", name, self.directory, self.spending.rounds, limit)
            saved = time.monotonic()
            endless = rounds(self.searcher, self.evaluator, self.assessor, self.plan.budget.interval, self.spending.room)
            stopping = False
            while not self.finished and not stopping:
                evaluations = next(endless)
                self.spending.rounds += 1
                changed = self.archive.add(evaluations)
                self._record_policy()
                self.finished = self.spending.fraction >= 1
                self._follow_stage()
                if self.finished and not self.recorder.rows[0]:
                    raise RunError(f"the budget ended before anything was measured; raise {self.spending.limit}")
                observe(Round(self.progress(), tuple(evaluations), tuple(self.archive.front) if changed else None))
                stopping = stop()
                if self.finished or stopping or time.monotonic() - saved > self.plan.budget.checkpoint:
                    self.recorder.sync()
                    self.checkpoints.save(self.state_dict())
                    saved = time.monotonic()
                    log.debug("checkpoint after round %d", self.spending.rounds)
            write_results(
                self.directory, self.plan, self.recorder, self.archive, self.spending, self.evaluator,
                finished=self.finished, derived=self.searcher.derive(), machines=self.machines,
            )  # fmt: skip
            what = "finished" if self.finished else "stopped, its state saved"
            log.info("search %s: %d evaluations, hypervolume %.4f", what, self.spending.evaluations, self.archive.hypervolume)
            return self.finished

    def progress(self) -> Progress:
        """Say where the search stands."""
        stage = self.assessor.stage
        return Progress(
            stage=stage.index,
            warming_up=self.spending.rounds - self._stage_began < stage.warmup,
            round=self.spending.rounds,
            rounds=self.spending.schedule.rounds,
            evaluations=self.spending.evaluations,
            best_error=min((e.costs[0] for e in self.archive.front), default=None),
            judged_on=("the validation part" if self.assessor.full else "one batch") + " of the proxy" * bool(self.plan.proxy),
            hypervolume=self.archive.hypervolume,
            fraction=min(1.0, self.spending.fraction),
            seconds=self.spending.seconds,
            machines=self.machines,
        )

    def _start(self) -> None:
        self.spending = self.recorder.spending = self.assessor.spending = Spending(self.plan.budget, self.plan.schedule)
        self.recorder.start()
        self._build()
        self.archive = Archive(self.assessor.reference())

    def _build(self) -> None:
        """Have fresh weights made for the searcher's stage."""
        stage = self.searcher.stage
        self.assessor.begin(stage)
        self._stage_began = self.spending.rounds
        log.info("stage %d of %d: %s options", stage.index + 1, stage.stages, [len(kept) for kept in stage.options])
        self.evaluator.build(stage, stage.rounds * self.plan.budget.interval)

    def _follow_stage(self) -> None:
        """Where a stage ends, validate its best and build the next; where it has only lost options, go on without them."""
        before, now = self.assessor.stage, self.searcher.stage
        if self.finished or now.index != before.index:
            if not self.assessor.full:
                # A method that has moved on can no longer say what it would return of the stage before.
                derive = now.index == before.index and self.assessor.samples
                self.assessor.validate(self.searcher.derive() if derive else [], self.plan.budget.validate)
            if not self.finished:
                self._build()
        elif now.options != before.options:
            self.assessor.stage = now
            self.evaluator.drop(now)

    def _record_policy(self) -> None:
        probabilities = self.searcher.probabilities()
        if probabilities is not None:
            self.recorder.policy(probabilities, step=self.evaluator.step, stage=self.searcher.stage.index)

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the future of the search, as plain data and tensors."""
        return {
            "made_by": identity(self.plan),
            "searcher": self.searcher.state_dict(),
            "evaluator": self.evaluator.state_dict(),
            "stage_began": self._stage_began,
            "finished": self.finished,
            "reference": list(self.archive.reference),
            "rows": self.recorder.rows,
            "machines": self.machines,
            **self.spending.state_dict(),
            **self.assessor.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        check_identity(self.plan, state)
        self.searcher.load_state_dict(state["searcher"])
        self.evaluator.load_state_dict(state["evaluator"])
        self._stage_began, self.finished = state["stage_began"], state["finished"]
        self.machines = state.get("machines", [])
        self.spending.load_state_dict(state)
        self.recorder.resume(*state["rows"])
        self.archive = Archive(state["reference"])
        self.archive.add(self.assessor.load_state_dict(state, self.searcher.stage))


def identity(plan: SearchPlan) -> dict[str, Any]:
    """Describe what must be the same when a search goes on from a checkpoint."""
    plain = plan.experiment.to_dict()
    sections = ("seed", "space", "searcher", "objectives", "training")
    schedule = {"rounds": plan.schedule.rounds, "interval": plan.budget.interval, "workers": plan.workers.count}
    for objective in plain["objectives"].values():
        objective.pop("file", None)  # where it lies does not matter
    same = {name: plain[name] for name in (*sections, "proxy") if name in plain}
    return same | {"images": images_of(plan), "schedule": schedule}


def check_identity(plan: SearchPlan, state: dict[str, Any]) -> None:
    """Raise RunError for a checkpoint of another experiment, or of other data."""
    now = identity(plan)
    for name in now | state["made_by"]:
        saved, given = state["made_by"].get(name), now.get(name)
        if saved != given:
            raise RunError(
                f"the checkpoint was made with another {name}: {saved}, now {given}; put it back as it was, or start a new run"
            )
