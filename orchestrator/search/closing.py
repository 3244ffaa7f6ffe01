"""The end of a search over shared weights: networks trained alone, for the judge to learn from and to decide between."""

from __future__ import annotations

from typing import Any

from analysis import records
from orchestrator.config.plan import Alone, SearchPlan
from orchestrator.judge.judge import Judge
from orchestrator.search.assessor import Assessor
from orchestrator.search.budget import Spending
from searchers import Architecture, Evaluation

TOGETHER = 6
"""Networks that are chosen by the same belief, or twice as many as there are workers where that is more."""


class Closing:
    """Trains landmarks, then finalists, a network on every worker at a time.

    Args:
        plan: Says how many, and how long.
        judge: Chooses them.
        assessor: Trains and records them.
    """

    def __init__(self, plan: SearchPlan, judge: Judge, assessor: Assessor) -> None:
        self.plan, self.judge, self.assessor = plan, judge, assessor
        self.begin(plan.alone)

    def begin(self, alone: Alone) -> None:
        """Plan the end of a leg of the search."""
        self._kinds = {
            records.LANDMARK: (alone.landmarks, alone.landmark_epochs),
            records.FINALIST: (alone.finalists, alone.finalist_epochs),
        }
        self._queue: list[Architecture] = []
        self._failed = dict.fromkeys(self._kinds, 0)

    def step(self, spending: Spending) -> list[Evaluation]:
        """Train the next networks, and return what was measured; nothing where all that the budget pays for is done."""
        for kind, (total, epochs) in self._kinds.items():
            left = total - self._failed[kind] - sum(m.kind == kind for m in self.judge.of_leg)
            if left <= 0 or spending.over:
                continue
            workers = self.plan.workers.count
            if not self._queue:
                self._queue = self.judge.next(min(left, max(TOGETHER, 2 * workers)), kind)
            if self._queue:
                chosen, self._queue = self._queue[:workers], self._queue[workers:]
                evaluations = self.assessor.train_alone(chosen, kind, epochs)
                self._failed[kind] += sum(e.failed for e in evaluations)
                return evaluations
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"queue": [list(a) for a in self._queue], "failed": dict(self._failed)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._queue = [tuple(a) for a in state["queue"]]
        self._failed |= state.get("failed", {})
