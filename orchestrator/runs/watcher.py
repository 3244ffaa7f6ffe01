"""Whoever watches a run: nobody here; a console, a notebook or a user's callbacks extend it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from orchestrator.machine import Machine
from orchestrator.search.progress import Round


class Watcher:
    """Told of a run as it goes on; every method may be called as often as there is news. This one does nothing.

    Attributes:
        detailed: Whether it wants every evaluation and front, not only where a search stands.
    """

    detailed: bool = False

    def phase(self) -> AbstractContextManager[object]:
        """Enter a part of the run in which one kind of progress is shown."""
        return nullcontext()

    def warning(self, text: str) -> None:
        """Take note of why some figures are not to be trusted blindly."""

    def search(self, happened: Round) -> None:
        """Take note of a round of the search."""

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        """Take note of a round of search number `index` of several, of which `fractions` are done."""

    def machines(self, machines: Sequence[Machine]) -> None:
        """Take note of the kinds of machines that took part so far."""

    def retrain(self, arch: str, fraction: float, members: int) -> None:
        """Take note that so much of the training of one of `members` networks is over."""
