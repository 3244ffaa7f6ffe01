"""Main loop of a search, from rounds to archive, records, checkpoints and progress; knows neither Ray nor any method."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis import records
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, RunError, attributed_to
from orchestrator.evaluators.base import Evaluator
from orchestrator.judge.judge import Judge, Verdict
from orchestrator.machine import Machine, unique
from orchestrator.search.archive import Archive
from orchestrator.search.assessor import Assessor
from orchestrator.search.budget import Leg, Spending
from orchestrator.search.checkpoint import Checkpoints, alone_in
from orchestrator.search.closing import Closing
from orchestrator.search.progress import Observer, Progress, Round
from orchestrator.search.recorder import Recorder
from orchestrator.search.rounds import checked, rounds
from orchestrator.search.summary import front_of_search, images_of, images_trained_on, write_results
from searchers import Architecture, Evaluation, Searcher

log = logging.getLogger(__name__)

LIMITS = ("epochs", "seconds", "evaluations", "landmarks", "finalists")
"""Keys of the budget with which a search that has begun may go on."""
GROWTH = 0.01
"""Relative growth of the hypervolume below which a search is on a plateau; less comes from lucky batches alone."""


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
        self.legs = [Leg(plan.budget)]
        self._planned: tuple[Leg, SearchPlan] | None = None
        self.spending = self._new_spending()
        self.recorder = Recorder(directory, plan.problem, self.spending, plan.seed, plan.places)
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
        self._grown = (0.0, 0.0)  # share of the search after which the hypervolume last grew, and to what
        self._loss: float | None = None
        self.machines: list[Machine] = []

    def run(self, stop: Callable[[], bool], observe: Observer, until: float = math.inf, *, conclude: bool = False) -> bool:
        """Search until the budget is spent, or `stop` says so; the state is saved either way.

        Args:
            stop: Called after every round.
            observe: Called after every round.
            until: Share of the budget after which it pauses, in the round that reaches it.
            conclude: Whether to end the search there rather than to pause: the best of what it has are measured on the
                validation images, and none are trained alone.

        Returns:
            Whether the search is finished, or has come as far as `until`.
        """
        with alone_in(self.directory, "search.lock"), ExitStack() as after:
            after.callback(self.evaluator.rest)
            state = self.checkpoints.load()
            if state is None:
                self._start()
            else:
                with _fitting(self.checkpoints.latest, self.plan.plugins):
                    self._restore(state)
            if not self.finished:
                self.machines = unique([*self.machines, *self.evaluator.machines()])
            name, limit = self.plan.experiment.searcher.name, self.spending.leg.rounds + self.spending.schedule.rounds
            log.info("search with %s in %s, from round %d of %d", name, self.directory, self.spending.rounds, limit)
            saved = time.monotonic()
            endless = rounds(
                self.searcher,
                self.evaluator,
                self.assessor,
                self.plan.budget.interval,
                self.spending.room,
                self._told,
                self._trained,
            )
            stopping = self.spending.fraction >= until
            while not self.finished and not stopping:
                if self.searched:
                    evaluations, changed = self._close(), False
                else:
                    evaluations = next(endless)
                    changed = self.archive.add(evaluations)
                    self._end_round()
                observe(Round(self.progress(), tuple(evaluations), tuple(self.archive.front) if changed else None))
                stopping = stop() or self.spending.fraction >= until
                if self.finished or stopping or time.monotonic() - saved > self.plan.budget.checkpoint:
                    self._save()
                    saved = time.monotonic()
                    log.debug("checkpoint after round %d", self.spending.rounds)
            if conclude and not self.finished and self.spending.fraction >= until:
                self._conclude()
            front = self.judge.front() if self.judge is not None and self.searched else []
            if self.finished and self.timing and not self.timed and self.recorder.spreads:
                self._time_again(front)
            write_results(
                self.directory, self.plan, self.recorder, self.archive, self.spending, self.evaluator,
                finished=self.finished, derived=self._derived(), machines=self.machines,
                front=front, legs=self.legs,
            )  # fmt: skip
            what = "finished" if self.finished else "stopped, its state saved"
            log.info("search %s: %d evaluations, hypervolume %.4f", what, self.spending.evaluations, self.archive.hypervolume)
            return self.finished or self.spending.fraction >= until

    def _told(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Make of what was measured what the searcher is told: smoothed by the judge, and with errors of 0 to 100."""
        smooth = self.judge is not None and not self.searcher.models_noise
        told = self.judge.smooth(evaluations) if smooth and self.judge is not None else evaluations
        scale = self.plan.problem.task.to_share
        return [replace(e, costs=(scale(e.costs[0]), *e.costs[1:])) for e in told]

    def _end_round(self) -> None:
        """Count a round, record the policy, and follow the method into its next stage or to the end of the search itself."""
        self.spending.rounds += 1
        self._record_policy()
        self.searched = self.spending.searched >= 1 or self._on_plateau()
        self._follow_stage()
        if self.searched and 0 < self.evaluator.step <= self.evaluator.skipped_steps():
            raise RunError(
                f"not one of {self.evaluator.step} weight steps could be taken (run.log says why); lower training.lr, or "
                "remove the option that cannot be trained"
            )
        if self.searched and not self.recorder.rows[0]:
            if self.assessor.failures:
                count = len(self.assessor.failures)
                raise RunError(f"all {count} networks that the budget paid for failed; {self.assessor.last_failure}")
            raise RunError(f"the budget ended before anything was measured; raise {self.spending.limit}")
        self.finished = self.searched and (self.closing is None or not self._leg_plan.alone.epochs)

    def _conclude(self) -> None:
        """End the search after the round before, as on a plateau, and save that."""
        if not self.searched:
            self.searched = True
            self._follow_stage()
        self.finished = True
        self._save()
        log.info("the search ends after %.0f %% of its budget, as others have found more", 100 * self.spending.fraction)

    def _save(self) -> None:
        self.recorder.sync()
        self.checkpoints.save(self.state_dict())

    def _trained(self, loss: float) -> None:
        self._loss = loss if math.isfinite(loss) else None  # steps that were left out, or weights of each network's own

    def _on_plateau(self) -> bool:
        """Tell whether the hypervolume has stopped growing, for as long as `budget.plateau` says."""
        patience, stage, now = self.plan.budget.plateau, self.assessor.stage, self.spending.searched
        waiting = self._warming_up or stage.index < stage.stages - 1  # fresh weights begin a rise of their own
        if waiting or self.archive.hypervolume > (1 + GROWTH) * self._grown[1]:
            self._grown = (now, self.archive.hypervolume)
        if not patience or now - self._grown[0] < patience:
            return False
        log.info(
            "the hypervolume has grown by less than %g %% over %g %% of the search, which ends here (budget.plateau)",
            100 * GROWTH,
            100 * patience,
        )
        return True

    def _close(self) -> list[Evaluation]:
        """Train the next networks alone; the search is finished once there are none left."""
        assert self.closing is not None
        evaluations = self.closing.step(self.spending)
        self.finished = not evaluations
        return evaluations

    @property
    def _leg_plan(self) -> SearchPlan:
        """The search with the budget of its present leg."""
        if self._planned is None or self._planned[0] is not self.legs[-1]:
            self._planned = self.legs[-1], _of_leg(self.plan, self.legs[-1])
        return self._planned[1]

    def _new_spending(self) -> Spending:
        leg, plan = self.legs[-1], self._leg_plan
        return Spending(leg, plan.schedule, plan.alone.epochs / leg.budget.epochs)

    @property
    def _warming_up(self) -> bool:
        return self.spending.rounds - self._stage_began < self.assessor.stage.warmup

    def progress(self) -> Progress:
        """Return the state of the search for those who watch it."""
        stage = self.assessor.stage
        phase = (
            "weights only"
            if self._warming_up
            else "training networks alone"
            if self.searched and self._leg_plan.alone.epochs
            else "searching"
        )
        return Progress(
            stage=stage.index,
            phase=phase,
            round=self.spending.rounds,
            rounds=self.spending.leg.rounds + self.spending.schedule.rounds,
            evaluations=self.spending.evaluations,
            best_error=min((e.costs[0] for e in self.archive.front), default=None),
            quantity=self.plan.problem.task.metric.cost,
            unit=self.plan.problem.task.metric.unit,
            judged_on=("the validation set" if self.assessor.full else "one batch") + " of the proxy" * bool(self.plan.proxy),
            hypervolume=self.archive.hypervolume,
            failed=len(self.assessor.failures),
            fraction=1.0 if self.finished else self.spending.fraction,
            seconds=self.spending.seconds,
            machines=self.machines,
            images=images_trained_on(self.plan, self.spending, self.evaluator),
            train_loss=self._loss,
        )

    def _start(self) -> None:
        self.legs = [Leg(self.plan.budget)]
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
            # Samples of one batch are measured again; so are those that shared weights of another age judged, for the judge.
            if not self.assessor.full or (self.judge is not None and self.plan.shares_weights):
                # A method that has moved on can no longer say what it would return of the stage before.
                derive = now.index == before.index and self.assessor.samples
                validated = self.assessor.validate(self._derived() if derive else [], self.plan.budget.validate)
                if self.assessor.full:  # the same kind of measurement as its samples, which the archive is made of
                    self.archive.add(validated)
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
        members = front_of_search(self.plan, self.recorder, front, timed=False)
        errors = zip(members["arch"], members[self.recorder.columns[0]], strict=True)
        self.assessor.time_again({self.plan.problem.space.parse(str(arch)): float(error) for arch, error in errors})
        self.timed = True
        self._save()
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
            "grown": list(self._grown),
            "finished": self.finished,
            "searched": self.searched,
            "judge": None if self.judge is None else self.judge.state_dict(),
            "closing": None if self.closing is None else self.closing.state_dict(),
            "timed": self.timed,
            "legs": [leg.to_data() for leg in self.legs],
            "reference": list(self.archive.reference),
            "rows": self.recorder.rows,
            "digests": self.recorder.digests,
            "machines": self.machines,
            **self.spending.state_dict(),
            **self.assessor.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        check_identity(self.plan, state)
        self.searcher.load_state_dict(state["searcher"])
        self.evaluator.load_state_dict(state["evaluator"])
        self._stage_began, self.finished = state["stage_began"], state["finished"]
        share, volume = state.get("grown", (0.0, 0.0))
        self._grown = (float(share), float(volume))
        self.searched = state.get("searched", self.finished)
        # A search that ended before there was such a timing stays as it is.
        self.timed = state.get("timed", self.finished)
        self.machines = state.get("machines", [])
        self.legs = _legs_of(self.plan, state)
        self.spending = self.recorder.spending = self.assessor.spending = self._new_spending()
        self.spending.load_state_dict(state)
        if "images_alone" not in state:  # an earlier version trained all of them on the search's own images
            self.spending.images_alone = round(self.spending.trained_alone) * len(self.plan.trained.data.train)
        self.recorder.resume(state["rows"], state.get("digests", ()))
        self.assessor.worst = state["reference"]
        self.archive = Archive(state["reference"])
        legs = [(leg.rows, _of_leg(self.plan, leg).alone) for leg in self.legs]
        self.archive.add(self.assessor.load_state_dict(state, self.searcher.stage, legs))
        if self.judge is not None and self.closing is not None:
            self.judge.load_state_dict(state["judge"], self.searcher.stage)
            self.closing.begin(legs[-1][1])
            self.closing.load_state_dict(state["closing"])
        if "budget" in state["made_by"] and state["made_by"] != identity(self.plan):
            self._change(state)
            self.checkpoints.save(self.state_dict())

    def _change(self, state: dict[str, Any]) -> None:
        """Go on with another budget, or another number of members of the front, than the checkpoint was made with."""
        if not has_another_budget(self.plan, state):
            self.timed = self.timed and state["made_by"]["front"] == identity(self.plan)["front"]
            return
        self.timed = False
        if not needs_another_leg(self.plan, state):
            leg = self.legs.pop()
            seconds, evaluations = self.plan.budget.seconds, self.plan.budget.evaluations
            seconds = None if seconds is None else seconds - leg.seconds
            evaluations = None if evaluations is None else evaluations - leg.evaluations
            self.legs.append(replace(leg, budget=replace(leg.budget, seconds=seconds, evaluations=evaluations)))
            self.spending.leg, self.spending.budget = self.legs[-1], self.legs[-1].budget
            return
        self.legs.append(self.spending.next_leg(self.plan.budget, self.recorder.rows[0]))
        before, self.spending = self.spending.state_dict(), self._new_spending()
        self.recorder.spending = self.assessor.spending = self.spending
        self.spending.load_state_dict(before)
        rounds, alone = self.spending.schedule.rounds, self._leg_plan.alone
        _extend(self.searcher, self.plan, rounds)
        self.evaluator.extend(rounds * self.plan.budget.interval)
        self.assessor.begin_leg(alone)
        if self.closing is not None:
            self.closing.begin(alone)
        self.assessor.stage, self._stage_began = self.searcher.stage, self.spending.rounds
        self.finished = self.searched = False
        self._grown = (0.0, self.archive.hypervolume)
        log.info("leg %d of the search, of %d rounds", len(self.legs), rounds)


def _of_leg(plan: SearchPlan, leg: Leg) -> SearchPlan:
    return plan if leg.budget == plan.budget else plan.varied(budget=leg.budget)


def _legs_of(plan: SearchPlan, state: dict[str, Any]) -> list[Leg]:
    """Read the legs of a search; a checkpoint from before there were any is of one."""
    return [Leg.from_data(leg) for leg in state["legs"]] if "legs" in state else [Leg(plan.budget)]


@contextmanager
def _fitting(path: Path, plugins: Collection[str]) -> Iterator[None]:
    """Report a checkpoint that is whole, but has something else than this search would have saved."""
    try:
        with attributed_to(plugins):
            yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:  # the last for shapes
        raise RunError(
            f"the checkpoint {path} does not fit this search ({error!r}); it was changed, or made by another version of "
            "paretoray: search again, with another --out"
        ) from error


def identity(plan: SearchPlan) -> dict[str, Any]:
    """Describe what must be the same when a search goes on from a checkpoint."""
    plain = plan.experiment.to_dict()
    sections = ("seed", "space", "searcher", "objectives", "training", "front")
    schedule: dict[str, Any] = {"rounds": plan.schedule.rounds, "interval": plan.budget.interval, "workers": plan.workers.count}
    schedule["alone"] = plan.alone.to_dict()
    plain["objectives"] = {name: o for name, o in plain["objectives"].items() if not o.get("dear")}
    for objective in plain["objectives"].values():
        for place in ("file", "cache"):
            objective.pop(place, None)  # its place does not matter
    same = {name: plain[name] for name in (*sections, "proxy", "task") if name in plain}
    same["budget"] = {key: getattr(plan.budget, key) for key in LIMITS}
    return same | {"images": images_of(plan), "schedule": schedule}


def _without_size(made_by: dict[str, Any]) -> dict[str, Any]:
    """Leave out what may change in a search that has begun."""
    schedule = {key: value for key, value in made_by["schedule"].items() if key not in ("rounds", "alone")}
    front = {key: value for key, value in made_by["front"].items() if key != "members"}
    return made_by | {"schedule": schedule, "front": front}


def has_another_budget(plan: SearchPlan, state: dict[str, Any]) -> bool:
    """Tell whether a plan may spend more, or less, than the search of a checkpoint was to."""
    return bool({key: getattr(plan.budget, key) for key in LIMITS} != state["made_by"]["budget"])


def needs_another_leg(plan: SearchPlan, state: dict[str, Any]) -> bool:
    """Tell whether another budget is planned anew, rather than as a later or earlier end of the same schedule."""
    planned = ("epochs", "landmarks", "finalists")
    same = all(getattr(plan.budget, key) == state["made_by"]["budget"][key] for key in planned)
    return not same or bool(state["searched"])


def check_change(plan: SearchPlan, directory: Path) -> None:
    """Raise InputError unless the search in `directory` can go on with the plan's budget.

    Raises:
        RunError: For a damaged checkpoint, or one of another experiment.
    """
    state = Checkpoints(directory / "checkpoints").load()
    if state is None:
        return
    check_identity(plan, state)
    if "budget" not in state["made_by"]:
        raise InputError(f"{directory} was made by an earlier version, which kept no budget to go on from; start a new search")
    if not has_another_budget(plan, state):
        return
    leg = _legs_of(plan, state)[-1]
    old = _of_leg(plan, leg)
    spending = Spending(leg, old.schedule, old.alone.epochs / leg.budget.epochs)
    spending.load_state_dict(state)
    if not needs_another_leg(plan, state):
        spending.rest_of(plan.budget)
        return
    rest = spending.next_leg(plan.budget, 0).budget
    _extend(plan.build_searcher(), plan, plan.varied(budget=rest).schedule.rounds)


def _extend(searcher: Searcher, plan: SearchPlan, rounds: int) -> None:
    try:
        searcher.extend(rounds)
    except ValueError as error:
        name = plan.experiment.searcher.name
        raise InputError(f"searcher.name = {name!r}: {error}; start a new search with the larger budget") from error


def is_complete(plan: SearchPlan, directory: Path) -> bool:
    """Tell whether the checkpoint in `directory` is of this very search, finished, and the records are those that it knows of.

    Raises:
        RunError: For a damaged checkpoint.
    """
    state = Checkpoints(directory / "checkpoints").load()
    if state is None or not state["finished"]:
        return False
    if not fits_records(state, directory):
        return False
    now = identity(plan)
    if "budget" not in state["made_by"]:  # of an earlier version
        del now["budget"]
    return bool(state["made_by"] == now)


def fits_records(state: dict[str, Any], directory: Path) -> bool:
    """Tell whether the tables in `directory` have the rows that a checkpoint knows of; those of earlier versions know none."""
    tables = zip((records.EVALUATIONS, records.POLICY, records.FAILURES), state["rows"], state.get("digests", ()), strict=False)
    return all(digest is None or records.holds(directory / name, rows, digest) for name, rows, digest in tables)


def check_identity(plan: SearchPlan, state: dict[str, Any]) -> None:
    """Raise RunError for a checkpoint of another experiment, or of other data; the budget and the front's size may differ."""
    now, before = identity(plan), dict(state["made_by"])
    if "budget" in before:  # an earlier version kept none, and could not go on with another
        del before["budget"]
        now, before = _without_size(now), _without_size(before)
    for name in {"proxy": None, "task": None} | before:
        saved, current = before.get(name), now.get(name)
        if isinstance(saved, dict) and isinstance(current, dict):  # a newer setting had no other value then
            current = {key: value for key, value in current.items() if key in saved}
        if saved != current:
            raise RunError(
                f"the checkpoint was made with another {name}: {saved}, now {current}; put it back as it was, or start a new "
                "run"
            )
