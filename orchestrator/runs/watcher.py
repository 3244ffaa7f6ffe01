"""Interface of what watches a run: a console, a notebook, or a user's callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from orchestrator.machine import Machine
from orchestrator.search.progress import Round


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

    def search(self, happened: Round) -> None:
        """Handle a round of the search."""

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        """Handle a round of search number `index` of a sweep; `fractions` says how much of each search is done."""

    def machines(self, machines: Sequence[Machine]) -> None:
        """Handle the list of machines that took part so far."""

    def retrain(self, arch: str, fraction: float, members: int) -> None:
        """Handle the progress of training one of `members` networks, in 0..1."""

    def measure(self, done: int, members: int) -> None:
        """Handle the number of members of the front whose dear objectives are measured so far."""
