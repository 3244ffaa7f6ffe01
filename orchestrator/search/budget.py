"""Account of a search's budget."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.config.settings import Budget
from orchestrator.errors import InputError
from orchestrator.evaluators.base import Schedule


@dataclass(frozen=True)
class Leg:
    """Part of a search that was planned at once: all of it, or what a larger budget adds to a search that had one already.

    Args:
        budget: What the leg may spend: the whole budget, less what was spent before it.
        epochs: Epochs that were spent before it, as are all that follow.
        rounds: Rounds.
        evaluations: Architectures measured.
        seconds: Seconds.
        trained_alone: Passes that went into networks trained alone.
        rows: Rows of evaluations.csv.
    """

    budget: Budget
    epochs: float = 0.0
    rounds: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    trained_alone: float = 0
    rows: int = 0

    def to_data(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Leg:
        """Invert `to_data`."""
        return cls(**{**data, "budget": Budget(**data["budget"])})


class Spending:
    """Counts rounds, evaluations and seconds against the budget of a leg.

    Args:
        leg: What may be spent, and what was spent before.
        schedule: How the budget's epochs are spent.
        alone: Share of the budget for networks that are trained alone, after the search itself.

    Attributes:
        rounds: Rounds so far.
        evaluations: Architectures measured so far, repeats included.
        validating: Seconds of `seconds` that went into measuring the best of each stage again.
        trained_alone: Cost of networks trained alone, beside shared weights, in passes of the search.
        images_alone: Images that these were trained on, each as often as it was.
        timing: Seconds of `seconds` that went into timing the members of the front again.
    """

    def __init__(self, leg: Leg, schedule: Schedule, alone: float = 0.0) -> None:
        self.leg, self.budget, self.schedule, self.alone = leg, leg.budget, schedule, alone
        self.rounds = self.evaluations = self.images_alone = 0
        self.trained_alone = 0.0
        self.validating = self.timing = 0.0
        self._before, self._began = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of search so far, those before an interruption included."""
        return self._before + time.monotonic() - self._began

    @property
    def fraction(self) -> float:
        """Share of the whole budget that is spent, in 0..1."""
        alone = self.trained_alone - self.leg.trained_alone
        shares = [(1 - self.alone) * min(1.0, self.searched) + alone / self.budget.epochs]
        if self.budget.seconds is not None and self.alone:
            shares.append((self.seconds - self.leg.seconds) / self.budget.seconds)
        before = self.leg.epochs / (self.leg.epochs + self.budget.epochs)
        return before + (1 - before) * min(1.0, max(shares))

    @property
    def epochs(self) -> float:
        """Epochs that are spent, those of networks trained alone included."""
        share = min(1.0, (self.rounds - self.leg.rounds) / self.schedule.rounds)
        alone = self.trained_alone - self.leg.trained_alone
        return self.leg.epochs + (1 - self.alone) * self.budget.epochs * share + alone

    @property
    def over(self) -> bool:
        """Whether the time is up, whatever else is left."""
        return self.budget.seconds is not None and self.seconds - self.leg.seconds >= self.budget.seconds

    @property
    def searched(self) -> float:
        """Share of the search itself that is over, by the limit that is nearest; 1 or more is all of it."""
        shares = [(self.rounds - self.leg.rounds) / self.schedule.rounds]
        if self.budget.seconds is not None:
            shares.append((self.seconds - self.leg.seconds) / (self.budget.seconds * (1 - self.alone)))
        if self.budget.evaluations is not None:
            shares.append((self.evaluations - self.leg.evaluations) / self.budget.evaluations)
        return max(shares)

    @property
    def limit(self) -> str:
        """The key of the limit that ended the search."""
        if self.rounds - self.leg.rounds >= self.schedule.rounds:
            return "budget.epochs"
        return "budget.evaluations" if self.budget.seconds is None else "budget.seconds"

    def room(self) -> int:
        """Return the largest number of architectures that the next round may ask for."""
        most = self.schedule.portion
        if self.budget.evaluations is None:
            return most
        return max(0, min(most, self.budget.evaluations - (self.evaluations - self.leg.evaluations)))

    def rest_of(self, budget: Budget) -> Budget:
        """Return what is left of a larger budget for the same search. Raises InputError for one that is spent."""

        def left(key: str, spent: float, unit: str) -> float | None:
            whole = getattr(budget, key)
            if whole is not None and whole - spent <= 1e-9 * spent:
                raise InputError(f"budget.{key} = {whole:g}: this search has spent {spent:g} {unit}; write more than that")
            return None if whole is None else whole - spent

        epochs = left("epochs", self.epochs, "epochs")
        seconds = left("seconds", round(self.seconds, 3), "seconds")
        evaluations = left("evaluations", self.evaluations, "evaluations")
        assert epochs is not None
        return replace(budget, epochs=epochs, seconds=seconds, evaluations=None if evaluations is None else round(evaluations))

    def next_leg(self, budget: Budget, rows: int) -> Leg:
        """Plan what is left of a larger budget. Raises InputError for one that is spent.

        Args:
            budget: The whole budget, what is spent included.
            rows: Rows of evaluations.csv so far.
        """
        return Leg(self.rest_of(budget), self.epochs, self.rounds, self.evaluations, self.seconds, self.trained_alone, rows)

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {
            "round": self.rounds,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "validating": self.validating,
            "trained_alone": self.trained_alone,
            "images_alone": self.images_alone,
            "timing": self.timing,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.rounds, self.evaluations = state["round"], state["evaluations"]
        self.validating, self.trained_alone = float(state["validating"]), float(state.get("trained_alone", 0))
        self.images_alone = state.get("images_alone", 0)
        self.timing = float(state.get("timing", 0.0))
        self._before, self._began = float(state["seconds"]), time.monotonic()
