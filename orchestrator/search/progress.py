"""Progress of a search, as told to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
        best_error: Lowest error so far, in percent; None before the first measurement.
        judged_on: Images that it was measured on, in words.
        hypervolume: Hypervolume of the front so far.
        failed: Networks so far that could not be trained, measured or run.
        fraction: Share of the budget that is spent, in 0..1.
        seconds: Seconds of search so far.
        machines: Kinds of machines that took part so far, each once.
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


Observer = Callable[[Round], None]
"""Function that is called after every round."""
