"""Progress of a search, as told to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.machine import Machine
from searchers import Evaluation


@dataclass(frozen=True)
class Progress:
    """State of a search after a round.

    Args:
        stage: Index of the stage, from 0.
        phase: What is going on, in words: "weights only", "searching" or "training networks alone".
        round: Rounds so far.
        rounds: Rounds in all.
        evaluations: Architectures measured so far.
        best_error: Lowest error so far, in `unit`; None before the first measurement.
        judged_on: Images that it was measured on, in words.
        hypervolume: Hypervolume of the front so far.
        fraction: Share of the budget that is spent, in 0..1.
        seconds: Seconds of search so far.
        machines: Kinds of machines that took part so far, each once.
        failed: Networks so far that could not be trained, measured or run.
        images: Images so far that weights were trained on, each as often as it was, by each network that a step trains.
        train_loss: Mean loss of the latest weight steps of shared weights; None where there are none.
        quantity: Name of the error, which other tasks and metrics have in its place.
        unit: Its unit; "" for none.
    """

    stage: int
    phase: str
    round: int
    rounds: int
    evaluations: int
    best_error: float | None
    judged_on: str
    hypervolume: float
    fraction: float
    seconds: float
    machines: Sequence[Machine] = ()
    failed: int = 0
    images: int = 0
    train_loss: float | None = None
    quantity: str = "error"
    unit: str = "%"

    @property
    def best(self) -> str:
        """The lowest error with its unit, "-" before the first measurement."""
        if self.best_error is None:
            return "-"
        return f"{self.best_error:.2f} %" if self.unit == "%" else f"{self.best_error:.4g} {self.unit}".rstrip()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the budget is spent, by the pace so far."""
        return self.seconds * (1 / self.fraction - 1) if self.fraction > 0.01 else None


@dataclass(frozen=True)
class Round:
    """Events of a round.

    Args:
        progress: Where the search stands now.
        evaluations: What was measured.
        front: The non-dominated evaluations, if they changed; None if they did not.
    """

    progress: Progress
    evaluations: tuple[Evaluation, ...] = ()
    front: tuple[Evaluation, ...] | None = None


@dataclass(frozen=True)
class TrainingProgress:
    """State of the training of one network from scratch.

    Args:
        fraction: Share of it that is over, in 0..1.
        losses: Mean loss of each epoch that has ended since the last news, by its number from 1.
    """

    fraction: float
    losses: Mapping[int, float] = field(default_factory=dict)


Observer = Callable[[Round], None]
"""Function that is called after every round."""
