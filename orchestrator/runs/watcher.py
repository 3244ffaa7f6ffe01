"""Interface of what watches a run: a console, a notebook, or a user's callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from orchestrator.machine import Machine
from orchestrator.search.progress import Round
from orchestrator.search.retraining import Member


class Watcher:
    """Observer of a run, whose methods are called whenever there is news. This one does nothing.

    Attributes:
        detailed: Whether it wants every evaluation and front, in addition to the progress.
    """

    detailed: bool = False

    def phase(self) -> AbstractContextManager[object]:
        """Enter a part of the run in which one kind of progress is shown."""
        return nullcontext()

    def warning(self, text: str) -> None:
        """Handle a warning about the reliability of some figures."""

    def news(self, text: str) -> None:
        """Handle a decision about the run that its user should know of."""

    def waiting(self, text: str) -> None:
        """Handle what a run waits for, about once a second while it does."""

    def search(self, happened: Round) -> None:
        """Handle a round of the search."""

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        """Handle a round of search number `index` of a sweep; `fractions` says how much of each search is done."""

    def machines(self, machines: Sequence[Machine]) -> None:
        """Handle the list of machines that took part so far."""

    def retrain(self, arch: str, fraction: float, members: int) -> None:
        """Handle the progress of training one of `members` networks, in 0..1."""

    def losses(self, training: Member, losses: Mapping[int, float]) -> None:
        """Handle the mean losses of epochs of a training from scratch that have ended since the last news, by their numbers."""

    def measure(self, done: int, members: int) -> None:
        """Handle the number of members of the front whose dear objectives are measured so far."""


class Relay(Watcher):
    """Passes everything on to another watcher; base of those that do something besides.

    Args:
        watcher: The other one.
    """

    def __init__(self, watcher: Watcher) -> None:
        self.watcher, self.detailed = watcher, watcher.detailed

    def phase(self) -> AbstractContextManager[object]:
        return self.watcher.phase()

    def warning(self, text: str) -> None:
        self.watcher.warning(text)

    def news(self, text: str) -> None:
        self.watcher.news(text)

    def waiting(self, text: str) -> None:
        self.watcher.waiting(text)

    def search(self, happened: Round) -> None:
        self.watcher.search(happened)

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        self.watcher.sweep(index, fractions, happened)

    def machines(self, machines: Sequence[Machine]) -> None:
        self.watcher.machines(machines)

    def retrain(self, arch: str, fraction: float, members: int) -> None:
        self.watcher.retrain(arch, fraction, members)

    def losses(self, training: Member, losses: Mapping[int, float]) -> None:
        self.watcher.losses(training, losses)

    def measure(self, done: int, members: int) -> None:
        self.watcher.measure(done, members)
