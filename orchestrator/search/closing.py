"""The end of a search: networks trained alone, for the judge to learn from and to decide between."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from analysis import records
from orchestrator.config.plan import Alone, SearchPlan, Source
from orchestrator.judge.judge import Judge
from orchestrator.search.assessor import Assessor
from orchestrator.search.budget import Spending
from searchers import Architecture, Evaluation

TOGETHER = 6
"""Networks that are chosen by the same belief, or twice as many as there are workers where that is more."""


class _Job(NamedTuple):
    """A network to be trained alone, for what, and at which of the sources by its number."""

    kind: str
    number: int
    architecture: Architecture


class Closing:
    """Trains landmarks, then finalists, a network on every worker at a time.

    The first landmarks of a source come first, from the least faithful source on, then those that teach most for their cost,
    whatever the source. Landmarks and finalists of a further place are networks that were trained at the one before.

    Args:
        plan: Says how many, where and how long.
        judge: Chooses them.
        assessor: Trains and records them.
    """

    def __init__(self, plan: SearchPlan, judge: Judge, assessor: Assessor) -> None:
        self.plan, self.judge, self.assessor = plan, judge, assessor
        self.begin(plan.alone)

    def begin(self, alone: Alone) -> None:
        """Plan the end of a leg of the search."""
        self._alone = alone
        self._queue: list[_Job] = []
        self._failed: dict[str, int] = {}

    def step(self, spending: Spending) -> list[Evaluation]:
        """Train the next networks, and return what was measured; nothing where all that the budget pays for is done."""
        if spending.over:
            return []
        self._queue = self._queue or self._next()
        if not self._queue:
            return []
        kind, number, _ = self._queue[0]
        together = itertools.takewhile(lambda job: job[:2] == (kind, number), self._queue[: self.plan.workers.count])
        chosen = [job.architecture for job in together]
        self._queue = self._queue[len(chosen) :]
        source = self._alone.sources[number]
        images = len(self.plan.problem.at(self.plan.places[source.place]).data.train)
        evaluations = self.assessor.train_alone(chosen, kind, source, images)
        name = _name(kind, source)
        self._failed[name] = self._failed.get(name, 0) + sum(e.failed for e in evaluations)
        return evaluations

    def _next(self) -> list[_Job]:
        """Choose the next networks; none where the budget is spent, or nothing that it could pay for is worth it."""
        together, sources = max(TOGETHER, 2 * self.plan.workers.count), self._alone.sources
        for kind in (records.LANDMARK, records.FINALIST):
            for number, source in enumerate(sources):
                left = (source.landmarks if kind == records.LANDMARK else source.finalists) - self._done(kind, source)
                if left <= 0:
                    continue
                below = sources[number - 1] if number and source.place else None
                chosen = self.judge.next(min(left, together), kind, source=source, below=below)
                if chosen:
                    return [_Job(kind, number, a) for a in chosen]
            if kind == records.LANDMARK and self._alone.teaching:
                further = [max(0, self._done(kind, source) - source.landmarks) * source.cost for source in sources]
                taught = self.judge.teach(together, self._alone.teaching - sum(further), sources)
                if taught:
                    return [_Job(kind, number, a) for number, a in taught]
        return []

    def _done(self, kind: str, source: Source) -> int:
        trained = sum((m.kind, m.place) == (kind, source.place) for m in self.judge.of_leg)
        return trained + self._failed.get(_name(kind, source), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {
            "queue": [list(job.architecture) for job in self._queue],
            "jobs": [[job.kind, job.number] for job in self._queue],
            "failed": dict(self._failed),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; of an earlier version, whatever was chosen is chosen again."""
        jobs = state.get("jobs", [])
        self._queue = [_Job(kind, number, tuple(a)) for (kind, number), a in zip(jobs, state["queue"], strict=False)]
        self._failed = dict(state.get("failed", {}))


def _name(kind: str, source: Source) -> str:
    """Name the trainings of a kind at a source."""
    return f"{kind} {source.place}" if source.place else kind
