"""Evaluation of the architectures that a searcher asks for: accuracies, costs, records."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from analysis import pareto, records
from orchestrator.config.plan import Alone, Source
from orchestrator.config.problem import Problem
from orchestrator.errors import NetworkFailed, RunError
from orchestrator.evaluators.base import Evaluator, Failure, Measured, attempt
from orchestrator.judge.judge import Judge
from orchestrator.objectives.base import Metrics
from orchestrator.search.budget import Spending
from orchestrator.search.recorder import Recorder
from orchestrator.tasks import Task
from searchers import Architecture, Evaluation, Stage

log = logging.getLogger(__name__)

HOPELESS = 10
"""Networks that may fail before any has worked; then the search ends, since the fault is hardly theirs."""
TIMINGS = 5
"""Rounds in which the members of the front are timed again."""


class Assessor:
    """Measures architectures with an evaluator, computes their costs by the problem's objectives, and records both.

    Args:
        problem: Objectives, limits and the space.
        evaluator: Measures accuracies, and whatever has to be run on the device.
        recorder: Where every evaluation goes.
        spending: Counts what is measured.
        full: Measure on the whole validation set at once, as for networks that have just been trained; otherwise on one
            batch that the architectures of a round share.

    Attributes:
        judge: Is told of every measurement, and chooses what is measured again; None for the best by their own measurements.
        stage: The stage that evaluations belong to; set it with `begin`.
        samples: Costs of every sample of the stage, by architecture.
        failures: Networks that could not be trained, measured or run, and why; none of them is tried again.
        worst: Coordinates of the reference point, which stand for costs of a failed network that are not known.
    """

    judge: Judge | None = None

    def __init__(self, problem: Problem, evaluator: Evaluator, recorder: Recorder, spending: Spending, *, full: bool) -> None:
        self.problem, self.evaluator, self.recorder, self.spending, self.full = problem, evaluator, recorder, spending, full
        self.kind = records.VALIDATION if full else records.SAMPLE
        self.samples: dict[Architecture, list[tuple[float, ...]]] = {}
        self.stage: Stage
        self.failures: dict[Architecture, str] = {}
        self.worst: Sequence[float] = [1.0] * len(problem.objectives)
        self._on_device: dict[Architecture, Measured] = {}

    def begin(self, stage: Stage) -> None:
        """Start a stage, whose samples are judged by weights of their own."""
        self.stage, self.samples = stage, {}

    def reference(self) -> list[float]:
        """Return the reference point of the hypervolume, from the costs of the largest network. Raises RunError."""
        largest = self.problem.space.largest()
        measured = self.measure_on_device([largest])[0]
        if isinstance(measured, Failure):
            raise RunError(
                f"the largest network, {self.problem.space.format(largest)}, cannot be run on the device, and its costs bound "
                f"the hypervolume: {measured.reason}"
            )
        metrics = measured | self.problem.quality(self.problem.task.worst)
        self.price(largest, metrics)  # names an objective whose cost is no number
        return [objective.reference(metrics) for objective in self.problem.objectives]

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Measured]:
        """Return the metrics of the objectives that run networks, training-free scores among them.

        Each network is run once in a search.
        """
        new = [a for a in dict.fromkeys(architectures) if a not in self._on_device]
        measured = dict(zip(new, self.evaluator.measure_on_device(new), strict=True))
        running = [a for a, m in measured.items() if not isinstance(m, Failure)]
        scores = dict(zip(running, self.evaluator.score(running, self.problem.scores), strict=True))
        self._on_device |= {a: m if isinstance(m, Failure) else m | scores[a] for a, m in measured.items()}
        return [self._on_device[a] for a in architectures]

    def __call__(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Evaluate what a searcher asked for; duplicates are measured and recorded once, and no failure is tried again.

        Raises:
            RunError: For an accuracy or a cost that is not finite, and where not one of the first `HOPELESS` networks worked.
        """
        unique = list(dict.fromkeys(architectures))
        evaluations = self._evaluate(unique, self.kind)
        for evaluation in evaluations:
            if not evaluation.failed:
                self.samples.setdefault(evaluation.architecture, []).append(evaluation.costs)
        self.spending.evaluations += len(unique)
        by_architecture = {evaluation.architecture: evaluation for evaluation in evaluations}
        return [by_architecture[a] for a in architectures]

    def validate(self, derived: Sequence[Architecture], limit: int) -> list[Evaluation]:
        """Measure the best of the stage again, on the whole validation set, while its weights still exist.

        A sample is measured on one batch, so their front favours lucky batches. Repeated samples count with their mean. Where
        samples were measured on the whole set, those before the last step were by weights that were trained further since.

        Args:
            derived: What the method itself would return; measured in any case.
            limit: How many of the samples are measured besides.
        """
        before = self.spending.seconds
        derived = list(dict.fromkeys(derived))
        if self.judge is None:
            best = self._best(limit)
        else:
            best = self.judge.next(limit, records.VALIDATION, besides=derived, since=self.evaluator.step) or self._best(limit)
        evaluations = self._evaluate(list(dict.fromkeys([*derived, *best])), records.VALIDATION)
        self.spending.validating += self.spending.seconds - before
        return [e for e in evaluations if not e.failed]

    def train_alone(self, architectures: Sequence[Architecture], kind: str, source: Source, images: int) -> list[Evaluation]:
        """Train networks by themselves, measure and record them as a landmark or finalist.

        Args:
            architectures: The networks.
            kind: What they are trained for.
            source: Where and how long.
            images: Number of training images there.
        """
        measured = self.evaluator.train_at(architectures, source.epochs, source.place)
        evaluations = self._record(architectures, measured, kind, source.place)
        self.spending.trained_alone += source.cost * len(architectures)
        self.spending.images_alone += source.epochs * images * len(architectures)
        return evaluations

    def time_again(self, errors: Mapping[Architecture, float]) -> None:
        """Measure on the device once more, alone: while a search runs, its workers disturb each other's timings.

        The median of several rounds counts, so that a short disturbance does not stay with one network. A spread is the larger
        of the rounds' median one and the interquartile range over the rounds.

        Args:
            errors: Error of each member of the front, which stays.
        """
        before, networks = self.spending.seconds, list(errors)
        known = self.measure_on_device(networks)
        rounds = [self.evaluator.measure_alone(networks) for _ in range(TIMINGS)]
        evaluations, metrics = [], []
        failures: dict[Architecture, str] = {}
        for architecture, other, *each_round in zip(networks, known, *rounds, strict=True):
            measured = [m for m in each_round if not isinstance(m, Failure)]
            if isinstance(other, Failure) or len(measured) < len(each_round):
                failures[architecture] = next(m.reason for m in (other, *each_round) if isinstance(m, Failure))
                continue
            merged = {key: statistics.median(m[key] for m in measured) for key in measured[0]}
            costs = [errors[architecture]]
            for objective in self.problem.objectives[1:]:
                each = [objective.cost(architecture, other | m) for m in measured]
                costs.append(statistics.median(each))
                if objective.spread is not None:
                    between = float(np.subtract(*np.percentile(each, [75, 25])))
                    merged[objective.spread] = max(merged[objective.spread], between)
            evaluations.append(self.evaluation(architecture, tuple(costs)))
            metrics.append(merged)
        self.recorder.evaluated(evaluations, metrics, step=self.evaluator.step, stage=self.stage.index, kind=records.TIMED)
        self._note(failures, records.TIMED)
        self.spending.timing += self.spending.seconds - before

    def _best(self, limit: int) -> list[Architecture]:
        """Choose samples front by front, well separated within a front; then infeasible ones, nearest to the limits first."""
        sampled = list(self.samples)
        costs = np.array([np.mean(self.samples[a], axis=0) for a in sampled]).reshape(
            len(sampled), len(self.problem.objectives)
        )
        broken = pareto.violations(costs, self.problem.limits)
        # Samples that are equal in every cost are nearly always the same network in another notation: one is enough.
        first = pareto.distinct(costs)
        sampled, costs, broken = [sampled[i] for i in first], costs[first], broken[first]
        keeping, breaking = np.flatnonzero(broken <= 0), sorted(np.flatnonzero(broken > 0), key=broken.__getitem__)
        fronts = [[int(keeping[i]) for i in front] for front in pareto.ranked(costs[keeping])]
        chosen: list[Architecture] = []
        for front in [*fronts, *([int(i)] for i in breaking)]:
            room = limit - len(chosen)
            if room == 0:
                break
            chosen += [sampled[front[i]] for i in pareto.spread_out(costs[front], min(room, len(front)))]
        return chosen

    def _evaluate(self, architectures: Sequence[Architecture], kind: str) -> list[Evaluation]:
        untried = [a for a in architectures if a not in self.failures]
        measured: Sequence[Measured] = []
        if untried and kind == records.VALIDATION:
            measured = self.evaluator.measure(untried)
        elif untried:
            measured = self.evaluator.measure_on_batch(untried, self.evaluator.step)
        recorded = {e.architecture: e for e in self._record(untried, measured, kind)}
        return [recorded.get(a) or self._failed(a) for a in architectures]

    def _record(
        self, architectures: Sequence[Architecture], measured: Sequence[Measured], kind: str, place: int = 0
    ) -> list[Evaluation]:
        """Price what was measured, record it, and return an evaluation of each network, of those that failed, too."""
        stage, step = self.stage.index, self.evaluator.step
        _check_metrics(self.evaluator, measured, len(architectures), self.problem.task)
        trained = {a: m for a, m in zip(architectures, measured, strict=True) if not isinstance(m, Failure)}
        failures = {a: m.reason for a, m in zip(architectures, measured, strict=True) if isinstance(m, Failure)}
        metrics: dict[Architecture, Metrics] = {}
        for architecture, on_device in zip(trained, self.measure_on_device(list(trained)), strict=True):
            if isinstance(on_device, Failure):
                failures[architecture] = on_device.reason
            else:
                metrics[architecture] = trained[architecture] | on_device
        priced = {a: attempt(lambda a=a, m=m: self.price(a, m)) for a, m in metrics.items()}  # type: ignore[misc]
        failures |= {a: e.reason for a, e in priced.items() if isinstance(e, Failure)}
        evaluations = {a: e for a, e in priced.items() if not isinstance(e, Failure)}
        metrics = {a: metrics[a] for a in evaluations}
        self.recorder.evaluated(
            list(evaluations.values()), list(metrics.values()), step=step, stage=stage, kind=kind, place=place
        )
        self._note({a: failures[a] for a in architectures if a in failures}, kind)
        if self.judge is not None:
            self.judge.observe(list(evaluations.values()), kind=kind, place=place, stage=stage, step=step)
        return [evaluations.get(a) or self._failed(a) for a in architectures]

    def _note(self, failures: Mapping[Architecture, str], kind: str) -> None:
        """Record networks that failed. Raises RunError where nothing else has happened so far."""
        self.recorder.failed(failures, step=self.evaluator.step, stage=self.stage.index, kind=kind)
        for architecture, reason in failures.items():
            log.warning("%s failed: %s", self.problem.space.format(architecture), reason)
            self.failures[architecture] = reason
            if self.judge is not None:
                self.judge.fail(architecture)
        if len(self.failures) >= HOPELESS and not self.recorder.rows[0]:
            raise RunError(f"all of the first {len(self.failures)} networks failed; {self.last_failure}")

    @property
    def last_failure(self) -> str:
        """Name the network that failed last, and say why."""
        architecture, reason = list(self.failures.items())[-1]
        skipped = self.evaluator.skipped_steps()
        advice = f"; {skipped} weight steps were left out as well, so lower training.lr" if skipped else ""
        return f"the last one was {self.problem.space.format(architecture)}: {reason}{advice}"

    def _failed(self, architecture: Architecture) -> Evaluation:
        """Return what a searcher is told of a network that failed: the worst error, and that it breaks a limit."""
        on_device = self._on_device.get(architecture, {})
        known = self.problem.quality(self.problem.task.worst) | ({} if isinstance(on_device, Failure) else on_device)
        costs = []
        for objective, worst in zip(self.problem.objectives, self.worst, strict=True):
            cost: object = None
            with suppress(Exception):  # whatever its metrics are, they are not known
                cost = objective.cost(architecture, known)
            costs.append(float(cost) if is_finite(cost) else float(worst))  # type: ignore[arg-type]
        broken = float(pareto.violations([costs], self.problem.limits)[0])
        return Evaluation(architecture, tuple(costs), 1.0 + broken, failed=True)

    def known_costs(self, architecture: Architecture) -> tuple[float, ...] | None:
        """Return the costs after the error of a network that need not be measured; None where it has to be run, or fails."""
        on_device = self._on_device.get(architecture)
        if isinstance(on_device, Failure) or ((self.problem.probes or self.problem.scores) and on_device is None):
            return None
        worst = self.problem.quality(self.problem.task.worst)
        priced = attempt(lambda: self._costs(architecture, worst | (on_device or {}))[1:])
        return None if isinstance(priced, Failure) else priced

    def price(self, architecture: Architecture, metrics: Metrics) -> Evaluation:
        """Turn what was measured into costs. Raises NetworkFailed that names the objective whose cost is no finite number."""
        return self.evaluation(architecture, self._costs(architecture, metrics))

    def _costs(self, architecture: Architecture, metrics: Metrics) -> tuple[float, ...]:
        costs = []
        for goal, objective in zip(self.problem.goals, self.problem.objectives, strict=True):
            cost = objective.cost(architecture, metrics)
            check_cost(cost, goal.name, lambda: self.problem.space.format(architecture))
            costs.append(float(cost))
        return tuple(costs)

    def evaluation(self, architecture: Architecture, costs: tuple[float, ...]) -> Evaluation:
        """Pair an architecture's costs with the amount by which they break the limits."""
        return Evaluation(architecture, costs, float(pareto.violations([costs], self.problem.limits)[0]))

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint; samples are read back from the records."""
        probed = [[list(a), m] for a, m in self._on_device.items() if m and not isinstance(m, Failure)]
        return {"probed": probed, "failed": [[list(a), reason] for a, reason in self.failures.items()]}

    def load_state_dict(self, state: dict[str, Any], stage: Stage, legs: Sequence[tuple[int, Alone]]) -> list[Evaluation]:
        """Restore `state`, and return all evaluations of the searcher's kind so far.

        Args:
            state: As `state_dict` returned it.
            stage: Stage that the search is in.
            legs: Number of rows before each leg of the search, and what was trained alone in it.
        """
        coming = list(legs)
        self._on_device = {tuple(a): m for a, m in state["probed"]}
        self.failures = {tuple(a): str(reason) for a, reason in state.get("failed", [])}
        if self.judge is not None:
            for failed in self.failures:
                self.judge.fail(failed)
        self.begin(stage)
        evaluations = []
        # the records have every digit
        for row, (kind, place, index, step, architecture, costs) in enumerate(self.recorder.read()):
            while coming and coming[0][0] <= row:
                self.begin_leg(coming.pop(0)[1])
            evaluation = self.evaluation(architecture, costs)
            if self.judge is not None:
                self.judge.observe([evaluation], kind=kind, place=place, stage=index, step=step)
            if kind == self.kind:
                evaluations.append(evaluation)
                if index == stage.index:
                    self.samples.setdefault(architecture, []).append(costs)
        for _, alone in coming:
            self.begin_leg(alone)
        return evaluations

    def begin_leg(self, alone: Alone) -> None:
        """Forget samples that were judged by weights that were trained further since."""
        self.samples = {}
        if self.judge is not None:
            self.judge.begin_leg(alone)


def check_cost(cost: object, objective: str, arch: Callable[[], str]) -> None:
    """Raise NetworkFailed that names the objective unless the cost that it gives a network is a finite number.

    Args:
        cost: The cost.
        objective: Name of the objective.
        arch: Returns the notation of the network, which is asked for only where it is needed.
    """
    if not is_finite(cost):
        raise NetworkFailed(f"objective {objective} gives {cost!r} for {arch()}; a cost must be a finite number")


def _check_metrics(evaluator: Evaluator, measured: Any, networks: int, task: Task) -> None:
    metric = task.metric.name
    complete = isinstance(measured, list) and len(measured) == networks
    if not complete or not all(isinstance(m, Failure) or (isinstance(m, dict) and is_finite(m.get(metric))) for m in measured):
        raise RunError(
            f"{type(evaluator).__name__} measured {str(measured)[:80]} on {networks} networks; it must return a dict "
            f"for each in a list, with a finite `{metric}`{' in percent' * (task.metric.unit == '%')}, or a paretoray.Failure"
        )


def is_finite(value: object) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
