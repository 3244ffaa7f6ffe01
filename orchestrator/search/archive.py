"""Archive of the non-dominated architectures among those measured in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.pareto import hypervolume, non_dominated
from searchers import Evaluation


class Archive:
    """Front of all feasible samples so far, updated as they come; dominated ones stay in the records."""

    def __init__(self, reference: Sequence[float]) -> None:
        self.reference = tuple(reference)
        self.front: list[Evaluation] = []
        self.hypervolume = 0.0

    def add(self, evaluations: Sequence[Evaluation]) -> bool:
        """Add new evaluations, and return whether the front has changed."""
        evaluations = [e for e in evaluations if e.violation <= 0]
        if not evaluations:
            return False
        # A converged policy repeats networks, in the same notation or in another.
        merged = list({e.costs: e for e in [*evaluations[::-1], *self.front[::-1]]}.values())[::-1]
        front = [merged[i] for i in non_dominated([e.costs for e in merged])]
        if [e.costs for e in front] == [e.costs for e in self.front]:
            return False
        self.front = front
        self.hypervolume = hypervolume([e.costs for e in front], self.reference)
        return True
