"""Interface of a tracker of experiments, which is told the numbers of one run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

Plain = str | int | float | bool
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
"""Ways in which a run ends."""


@dataclass(frozen=True)
class Subject:
    """Run as a tracker shows it.

    Args:
        name: Name for people.
        directory: The run directory.
        parameters: Settings of the experiment by their keys.
        tags: What else tells it from other runs.
        parent: Identifier of the run in the same tracker that this one is a part of; None for none.
        known: Identifier that the tracker gave the run before it was interrupted; None for a new one.
    """

    name: str
    directory: Path
    parameters: Mapping[str, Plain] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    known: str | None = None


class Logger(ABC):
    """One run in a tracker, which goes on where it is known already.

    Whatever goes wrong may be raised: the caller turns it into a warning, and goes on without this logger.

    Attributes:
        identifier: Name of the run in the tracker, by which it goes on; None where it needs none.
    """

    identifier: str | None = None

    @abstractmethod
    def scalars(self, group: str, axis: str, step: int, values: Mapping[str, float]) -> None:
        """Log finite numbers.

        Args:
            group: What they are of, `search` or `retrain/network-3`; comes before each name.
            axis: What steps are counted in.
            step: Larger than all before it in this group.
            values: Numbers by their names.
        """

    def distributions(self, group: str, step: int, values: Mapping[str, Sequence[float]]) -> None:  # noqa: B027
        """Log several numbers for each name, as their histogram; nothing where a tracker has none."""

    @abstractmethod
    def results(self, values: Mapping[str, float], front: pd.DataFrame, files: Sequence[Path]) -> None:
        """Log what a run has come to, in the place of what was logged so before.

        Args:
            values: Numbers by their names.
            front: Number, notation and costs of each network of the front; empty where there is none.
            files: Files to keep with the run.
        """

    @abstractmethod
    def close(self, state: str) -> None:
        """End the run as `FINISHED`, `STOPPED` or `FAILED`."""
