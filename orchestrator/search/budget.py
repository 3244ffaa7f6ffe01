"""Account of a search's budget."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.config.settings import Budget
from orchestrator.evaluators.base import Schedule


class Spending:
    """Counts rounds, evaluations and seconds against a budget.

    Args:
        budget: What may be spent.
        schedule: How the budget's epochs are spent.
        alone: Share of the budget for networks that are trained alone, after the search itself.

    Attributes:
        rounds: Rounds so far.
        evaluations: Architectures measured so far, repeats included.
        validating: Seconds of `seconds` that went into measuring the best of each stage again.
        trained_alone: Passes over the training set that went into networks trained alone, beside shared weights.
        timing: Seconds of `seconds` that went into timing the members of the front again.
    """

    def __init__(self, budget: Budget, schedule: Schedule, alone: float = 0.0) -> None:
        self.budget, self.schedule, self.alone = budget, schedule, alone
        self.rounds = self.evaluations = self.trained_alone = 0
        self.validating = self.timing = 0.0
        self._before, self._began = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of search so far, those before an interruption included."""
        return self._before + time.monotonic() - self._began

    @property
    def fraction(self) -> float:
        """Share of the whole budget that is spent, in 0..1."""
        shares = [(1 - self.alone) * min(1.0, self.searched) + self.trained_alone / self.budget.epochs]
        if self.budget.seconds is not None and self.alone:
            shares.append(self.seconds / self.budget.seconds)
        return min(1.0, max(shares))

    @property
    def over(self) -> bool:
        """Whether the time is up, whatever else is left."""
        return self.budget.seconds is not None and self.seconds >= self.budget.seconds

    @property
    def searched(self) -> float:
        """Share of the search itself that is over, by the limit that is nearest; 1 or more is all of it."""
        shares = [self.rounds / self.schedule.rounds]
        if self.budget.seconds is not None:
            shares.append(self.seconds / (self.budget.seconds * (1 - self.alone)))
        if self.budget.evaluations is not None:
            shares.append(self.evaluations / self.budget.evaluations)
        return max(shares)

    @property
    def limit(self) -> str:
        """The key of the limit that ended the search."""
        if self.rounds >= self.schedule.rounds:
            return "budget.epochs"
        return "budget.evaluations" if self.budget.seconds is None else "budget.seconds"

    def room(self) -> int:
        """Return the largest number of architectures that the next round may ask for."""
        most = self.schedule.portion
        return most if self.budget.evaluations is None else max(0, min(most, self.budget.evaluations - self.evaluations))

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {
            "round": self.rounds,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "validating": self.validating,
            "trained_alone": self.trained_alone,
            "timing": self.timing,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.rounds, self.evaluations = state["round"], state["evaluations"]
        self.validating, self.trained_alone = float(state["validating"]), state.get("trained_alone", 0)
        self.timing = float(state.get("timing", 0.0))
        self._before, self._began = float(state["seconds"]), time.monotonic()
