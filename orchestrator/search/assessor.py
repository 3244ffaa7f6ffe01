"""From architectures that a searcher asks about to evaluations: measured, priced, and recorded."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import pareto, records
from orchestrator.config.problem import Problem
from orchestrator.errors import RunError, blamed
from orchestrator.evaluators.base import Evaluator
from orchestrator.objectives.base import Metrics, Probe
from orchestrator.search.budget import Spending
from orchestrator.search.recorder import Recorder
from searchers import Architecture, Evaluation, Stage
from searchers.base import check_architecture

TIMINGS = 5
"""Rounds in which the members of the front are timed again."""


class Assessor:
    """Measures architectures with an evaluator, prices them by the problem's objectives, and records both.

    Args:
        problem: Objectives, limits and the space.
        evaluator: Measures accuracies, and whatever has to be run on the device.
        recorder: Where every evaluation goes.
        spending: Counts what is measured.
        full: Measure on the whole validation part at once, as for networks that have just been trained; otherwise on one
            batch that the architectures of a round share.

    Attributes:
        stage: The stage that evaluations belong to; set it with `begin`.
        samples: Costs of every sample of the stage, by architecture.
    """

    def __init__(self, problem: Problem, evaluator: Evaluator, recorder: Recorder, spending: Spending, *, full: bool) -> None:
        self.problem, self.evaluator, self.recorder, self.spending, self.full = problem, evaluator, recorder, spending, full
        self.kind = records.VALIDATION if full else records.SAMPLE
        self.samples: dict[Architecture, list[tuple[float, ...]]] = {}
        self.stage: Stage
        self._on_device: dict[Architecture, Metrics] = {}

    def begin(self, stage: Stage) -> None:
        """Start a stage, whose samples are judged by weights of their own."""
        self.stage, self.samples = stage, {}

    def reference(self) -> list[float]:
        """Return the costs where hypervolume begins to count, by the largest network. Raises RunError."""
        largest = self.problem.space.largest()
        metrics = self.measure_on_device([largest])[0] | {"accuracy": 0.0}
        self.price(largest, metrics)  # names an objective whose cost is no number
        reference = []
        for objective in self.problem.objectives:
            with blamed(objective, "reference"):
                reference.append(objective.reference(metrics))
        return reference

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Metrics]:
        """Return what the objectives that run networks find out about each; each is run once in a search."""
        new = [a for a in dict.fromkeys(architectures) if a not in self._on_device]
        self._on_device |= dict(zip(new, self.evaluator.measure_on_device(new), strict=True))
        return [self._on_device[a] for a in architectures]

    def __call__(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Evaluate what a searcher asked about; one that it named twice is measured and recorded once.

        Raises:
            RunError: For an architecture outside of the space, or a cost that is not finite.
        """
        unique = list(dict.fromkeys(architectures))
        for architecture in unique:
            try:
                check_architecture(architecture, self.problem.space.sizes)
            except (ValueError, TypeError) as error:
                raise RunError(f"the searcher asked for what is not in the space: {error}") from error
        evaluations = self._evaluate(unique, self.kind)
        for evaluation in evaluations:
            self.samples.setdefault(evaluation.architecture, []).append(evaluation.costs)
        self.spending.evaluations += len(unique)
        by_architecture = {evaluation.architecture: evaluation for evaluation in evaluations}
        return [by_architecture[a] for a in architectures]

    def validate(self, derived: Sequence[Architecture], limit: int) -> None:
        """Measure the best of the stage again, on the whole validation part, while its weights still exist.

        A sample is judged on one batch, so the front of all samples favours the lucky. Repeated samples count with their mean.

        Args:
            derived: What the method itself would return; measured in any case.
            limit: How many of the samples are measured besides.
        """
        before = self.spending.seconds
        self._evaluate(list(dict.fromkeys([*derived, *self._best(limit)])), records.VALIDATION)
        self.spending.validating += self.spending.seconds - before

    def time_again(self, front: Mapping[Architecture, Sequence[float]]) -> None:
        """Measure on the device once more, alone: while a search runs, its workers disturb each other's timings.

        The median of several rounds counts, so that a short disturbance does not stay with one network. A spread is the larger
        of the rounds' median one and the interquartile range over the rounds.

        Args:
            front: Costs of each member; those that need no device stay.
        """
        before, networks = self.spending.seconds, list(front)
        rounds = [self.evaluator.measure_alone(networks) for _ in range(TIMINGS)]
        evaluations, metrics = [], []
        for architecture, *measured in zip(networks, *rounds, strict=True):
            merged = {key: statistics.median(m[key] for m in measured) for key in measured[0]}
            costs = list(front[architecture])
            for index, objective in enumerate(self.problem.objectives):
                if isinstance(objective, Probe):
                    each = [objective.cost(architecture, m) for m in measured]
                    costs[index] = statistics.median(each)
                    if objective.spread is not None:
                        between = float(np.subtract(*np.percentile(each, [75, 25])))
                        merged[objective.spread] = max(merged[objective.spread], between)
            evaluations.append(self.evaluation(architecture, tuple(costs)))
            metrics.append(merged)
        self.recorder.evaluated(evaluations, metrics, step=self.evaluator.step, stage=self.stage.index, kind=records.TIMED)
        self.spending.timing += self.spending.seconds - before

    def _best(self, limit: int) -> list[Architecture]:
        """Choose samples front by front, those of a front spread out; then those that come nearest to the limits."""
        sampled = list(self.samples)
        costs = np.array([np.mean(self.samples[a], axis=0) for a in sampled]).reshape(
            len(sampled), len(self.problem.objectives)
        )
        broken = pareto.violations(costs, self.problem.limits)
        # Equal in every cost is, nearly always, the same network in another notation: one of them is enough.
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
        if not architectures:
            return []
        if kind == records.VALIDATION:
            measured = self.evaluator.measure(architectures)
        else:
            measured = self.evaluator.measure_on_batch(architectures, self.evaluator.step)
        on_device = self.measure_on_device(architectures)
        metrics = [accuracy | device for accuracy, device in zip(measured, on_device, strict=True)]
        evaluations = [self.price(a, m) for a, m in zip(architectures, metrics, strict=True)]
        self.recorder.evaluated(evaluations, metrics, step=self.evaluator.step, stage=self.stage.index, kind=kind)
        return evaluations

    def price(self, architecture: Architecture, metrics: Metrics) -> Evaluation:
        """Turn what was measured into costs. Raises RunError that names the objective whose cost is no finite number."""
        listed = []
        for objective in self.problem.objectives:
            with blamed(objective, "cost"):
                listed.append(objective.cost(architecture, metrics))
        costs = tuple(listed)
        for cost, goal in zip(costs, self.problem.goals, strict=True):
            if not isinstance(cost, (int, float, np.number)) or not math.isfinite(cost):
                raise RunError(
                    f"objective {goal.name} gives {cost!r} for {self.problem.space.format(architecture)}; a cost must be a "
                    "finite number"
                )
        return self.evaluation(architecture, costs)

    def evaluation(self, architecture: Architecture, costs: tuple[float, ...]) -> Evaluation:
        """Pair an architecture's costs with the amount by which they break the limits."""
        return Evaluation(architecture, costs, float(pareto.violations([costs], self.problem.limits)[0]))

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint; samples are read back from the records."""
        return {"probed": [[list(a), m] for a, m in self._on_device.items()]}

    def load_state_dict(self, state: dict[str, Any], stage: Stage) -> list[Evaluation]:
        """Go on where `state` was taken, in `stage`; returns all evaluations of the searcher's kind so far."""
        self._on_device = {tuple(a): m for a, m in state["probed"]}
        self.begin(stage)
        evaluations = []
        # The records hold every digit.
        for index, architecture, costs in self.recorder.read(self.kind):
            evaluations.append(self.evaluation(architecture, costs))
            if index == stage.index:
                self.samples.setdefault(architecture, []).append(costs)
        return evaluations
