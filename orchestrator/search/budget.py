"""What a search has spent of its budget."""

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

    Attributes:
        rounds: Rounds so far.
        evaluations: Architectures measured so far, repeats included.
        validating: Seconds of `seconds` that went into measuring the best of each stage again.
        timing: Seconds of `seconds` that went into timing the members of the front again.
    """

    def __init__(self, budget: Budget, schedule: Schedule) -> None:
        self.budget, self.schedule = budget, schedule
        self.rounds = self.evaluations = 0
        self.validating = self.timing = 0.0
        self._before, self._began = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of search so far, those before an interruption included."""
        return self._before + time.monotonic() - self._began

    @property
    def fraction(self) -> float:
        """The share of the budget that is spent, by whichever of its limits is nearest; 1 and above is all of it."""
        shares = [self.rounds / self.schedule.rounds]
        if self.budget.seconds is not None:
            shares.append(self.seconds / self.budget.seconds)
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
        """Return how many architectures the next round may ask for."""
        most = self.schedule.portion
        return most if self.budget.evaluations is None else max(0, min(most, self.budget.evaluations - self.evaluations))

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {
            "round": self.rounds,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "validating": self.validating,
            "timing": self.timing,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.rounds, self.evaluations = state["round"], state["evaluations"]
        self.validating, self.timing = float(state["validating"]), float(state.get("timing", 0.0))
        self._before, self._began = float(state["seconds"]), time.monotonic()
