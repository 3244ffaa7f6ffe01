"""Main loop of a search, from rounds to archive, records, checkpoints and progress; knows neither Ray nor any method."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.config.plan import SearchPlan
from orchestrator.errors import RunError
from orchestrator.evaluators.base import Evaluator
from orchestrator.judge.judge import Judge, Verdict
from orchestrator.machine import Machine, unique
from orchestrator.search.archive import Archive
from orchestrator.search.assessor import Assessor
from orchestrator.search.budget import Spending
from orchestrator.search.checkpoint import Checkpoints, alone_in
from orchestrator.search.closing import Closing
from orchestrator.search.progress import Observer, Progress, Round
from orchestrator.search.recorder import Recorder
from orchestrator.search.rounds import checked, rounds
from orchestrator.search.summary import front_of_search, images_of, write_results
from searchers import Architecture, Evaluation

log = logging.getLogger(__name__)


class Coordinator:
    """Runs one search in a directory, from its start or from its last checkpoint.

    Args:
        plan: The search.
        directory: Its run directory.
        evaluator: Measures architectures, here or on a cluster.
        timing: Whether to time the members of the front again at the end; not while other searches load the machine.

    Raises:
        RunError: From `run`, for a damaged checkpoint, a full disk, a loss that is not finite, or a directory that another
            process is working in.
    """

    def __init__(self, plan: SearchPlan, directory: Path, evaluator: Evaluator, *, timing: bool = True) -> None:
        self.timing, self.timed = timing, False
        self.plan, self.directory, self.evaluator = plan, directory, evaluator
        self.searcher = plan.build_searcher()
        self.spending = self._new_spending()
        self.recorder = Recorder(directory, plan.problem, self.spending, plan.seed, str(plan.proxy) if plan.proxy else None)
        # Networks with weights of their own, or just trained, are measured once, on the full validation set.
        full = not plan.shares_weights or self.searcher.full_validation
        self.assessor = Assessor(plan.problem, evaluator, self.recorder, self.spending, full=full)
        self.judge: Judge | None = None
        self.closing: Closing | None = None
        if plan.front.judge:
            self.judge = self.assessor.judge = Judge(plan, self.assessor.known_costs, evaluator.score)
            self.closing = Closing(plan, self.judge, self.assessor)
        self.checkpoints = Checkpoints(directory / "checkpoints")
        self.archive = Archive([1.0] * len(plan.problem.objectives))
        self.finished = self.searched = False
        self._stage_began = 0
        self.machines: list[Machine] = []

    def run(self, stop: Callable[[], bool], observe: Observer) -> bool:
        """Search until the budget is spent, or `stop` says so; the state is saved either way.

        Args:
            stop: Called after every round.
            observe: Called after every round.

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
            told = self.judge.smooth if self.judge is not None and not self.searcher.models_noise else list
            endless = rounds(self.searcher, self.evaluator, self.assessor, self.plan.budget.interval, self.spending.room, told)
            stopping = False
            while not self.finished and not stopping:
                if self.searched:
                    evaluations, changed = self._close(), False
                else:
                    evaluations = next(endless)
                    changed = self.archive.add(evaluations)
                    self._end_round()
                observe(Round(self.progress(), tuple(evaluations), tuple(self.archive.front) if changed else None))
                stopping = stop()
                if self.finished or stopping or time.monotonic() - saved > self.plan.budget.checkpoint:
                    self.recorder.sync()
                    self.checkpoints.save(self.state_dict())
                    saved = time.monotonic()
                    log.debug("checkpoint after round %d", self.spending.rounds)
            front = self.judge.front() if self.judge is not None and self.searched else []
            if self.finished and self.timing and not self.timed and self.recorder.spreads:
                self._time_again(front)
            write_results(
                self.directory, self.plan, self.recorder, self.archive, self.spending, self.evaluator,
                finished=self.finished, derived=self._derived(), machines=self.machines,
                front=front,
            )  # fmt: skip
            what = "finished" if self.finished else "stopped, its state saved"
            log.info("search %s: %d evaluations, hypervolume %.4f", what, self.spending.evaluations, self.archive.hypervolume)
            return self.finished

    def _end_round(self) -> None:
        """Count a round, record the policy, and follow the method into its next stage or to the end of the search itself."""
        self.spending.rounds += 1
        self._record_policy()
        self.searched = self.spending.searched >= 1
        self._follow_stage()
        if self.searched and not self.recorder.rows[0]:
            if self.assessor.failures:
                count = len(self.assessor.failures)
                raise RunError(f"all {count} networks that the budget paid for failed; {self.assessor.last_failure}")
            raise RunError(f"the budget ended before anything was measured; raise {self.spending.limit}")
        self.finished = self.searched and (self.closing is None or not self.plan.alone.epochs)

    def _close(self) -> list[Evaluation]:
        """Train the next networks alone; the search is finished once there are none left."""
        assert self.closing is not None
        evaluations = self.closing.step(self.spending)
        self.finished = not evaluations
        return evaluations

    def _new_spending(self) -> Spending:
        return Spending(self.plan.budget, self.plan.schedule, self.plan.alone.epochs / self.plan.budget.epochs)

    def progress(self) -> Progress:
        """Return the state of the search for those who watch it."""
        stage = self.assessor.stage
        warming_up = self.spending.rounds - self._stage_began < stage.warmup
        phase = (
            "weights only"
            if warming_up
            else "training networks alone"
            if self.searched and self.plan.alone.epochs
            else "searching"
        )
        return Progress(
            stage=stage.index,
            phase=phase,
            round=self.spending.rounds,
            rounds=self.spending.schedule.rounds,
            evaluations=self.spending.evaluations,
            best_error=min((e.costs[0] for e in self.archive.front), default=None),
            judged_on=("the validation set" if self.assessor.full else "one batch") + " of the proxy" * bool(self.plan.proxy),
            hypervolume=self.archive.hypervolume,
            failed=len(self.assessor.failures),
            fraction=1.0 if self.finished else self.spending.fraction,
            seconds=self.spending.seconds,
            machines=self.machines,
        )

    def _start(self) -> None:
        self.spending = self.recorder.spending = self.assessor.spending = self._new_spending()
        self.recorder.start()
        self._build()
        self.assessor.worst = self.assessor.reference()
        self.archive = Archive(self.assessor.worst)

    def _build(self) -> None:
        """Make fresh weights for the searcher's stage."""
        stage = self.searcher.stage
        self.assessor.begin(stage)
        self._stage_began = self.spending.rounds
        log.info("stage %d of %d: %s options", stage.index + 1, stage.stages, [len(kept) for kept in stage.options])
        self.evaluator.build(stage, stage.rounds * self.plan.budget.interval)

    def _follow_stage(self) -> None:
        """Validate the best of a stage that ends and build the next; drop the options that a stage has lost."""
        before, now = self.assessor.stage, self.searcher.stage
        if self.searched or now.index != before.index:
            if self.judge is not None:
                self.judge.settle(before)
            if not self.assessor.full:
                # A method that has moved on can no longer say what it would return of the stage before.
                derive = now.index == before.index and self.assessor.samples
                self.assessor.validate(self._derived() if derive else [], self.plan.budget.validate)
            if not self.searched:
                if self.judge is not None:
                    self.judge.reopen()
                self._build()
        elif now.options != before.options:
            self.assessor.stage = now
            self.evaluator.drop(now)

    def _derived(self) -> list[Architecture]:
        return checked(self.searcher, "derive", self.searcher.derive())

    def _time_again(self, front: Sequence[Verdict]) -> None:
        """Time the members of the front again, now that nothing else of the search runs, and save that it is done."""
        members = front_of_search(self.plan, self.recorder, front)
        errors = zip(members["arch"], members[self.recorder.columns[0]], strict=True)
        self.assessor.time_again({self.plan.problem.space.parse(str(arch)): float(error) for arch, error in errors})
        self.timed = True
        self.recorder.sync()
        self.checkpoints.save(self.state_dict())
        log.info("timed %d members of the front again, in %.1f s", len(members), self.spending.timing)

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
            "searched": self.searched,
            "judge": None if self.judge is None else self.judge.state_dict(),
            "closing": None if self.closing is None else self.closing.state_dict(),
            "timed": self.timed,
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
        self.searched = state.get("searched", self.finished)
        # A search that ended before there was such a timing stays as it is.
        self.timed = state.get("timed", self.finished)
        self.machines = state.get("machines", [])
        self.spending.load_state_dict(state)
        self.recorder.resume(*state["rows"])
        self.assessor.worst = state["reference"]
        self.archive = Archive(state["reference"])
        self.archive.add(self.assessor.load_state_dict(state, self.searcher.stage))
        if self.judge is not None and self.closing is not None:
            self.judge.load_state_dict(state["judge"], self.searcher.stage)
            self.closing.load_state_dict(state["closing"])


def identity(plan: SearchPlan) -> dict[str, Any]:
    """Describe what must be the same when a search goes on from a checkpoint."""
    plain = plan.experiment.to_dict()
    sections = ("seed", "space", "searcher", "objectives", "training", "front")
    schedule: dict[str, Any] = {"rounds": plan.schedule.rounds, "interval": plan.budget.interval, "workers": plan.workers.count}
    schedule["alone"] = asdict(plan.alone)
    for objective in plain["objectives"].values():
        objective.pop("file", None)  # its place does not matter
    same = {name: plain[name] for name in (*sections, "proxy") if name in plain}
    return same | {"images": images_of(plan), "schedule": schedule}


def is_complete(plan: SearchPlan, directory: Path) -> bool:
    """Tell whether the checkpoint in `directory` is of this very search, finished. Raises RunError for a damaged one."""
    state = Checkpoints(directory / "checkpoints").load()
    return state is not None and state["finished"] and state["made_by"] == identity(plan)


def check_identity(plan: SearchPlan, state: dict[str, Any]) -> None:
    """Raise RunError for a checkpoint of another experiment, or of other data."""
    now = identity(plan)
    for name in {"proxy": None} | state["made_by"]:
        saved, current = state["made_by"].get(name), now.get(name)
        if isinstance(saved, dict) and isinstance(current, dict):  # a newer setting had no other value then
            current = {key: value for key, value in current.items() if key in saved}
        if saved != current:
            raise RunError(
                f"the checkpoint was made with another {name}: {saved}, now {current}; put it back as it was, or start a new "
                "run"
            )
