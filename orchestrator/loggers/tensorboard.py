"""TensorBoard: event files in the run directory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from analysis.records import MEMBER
from orchestrator.loggers.base import Logger, Subject

FOLDER = "tensorboard"
"""Folder of a run directory with its event files; that of its results is within."""
RESULTS = "results"
_DIGITS = 10


class TensorBoard(Logger):
    """Event files, written at once.

    tensorboardX comes with Ray Tune. Its `SummaryWriter` hands events to a thread that dies in silence where the disk is full,
    so the writer below it is used.

    Args:
        subject: The run.
    """

    def __init__(self, subject: Subject) -> None:
        self.folder = subject.directory / FOLDER
        self._events = _Events(self.folder)
        if subject.known is None:
            self._events.write(0, summary.text("experiment", _table(pd.Series(dict(subject.parameters)).to_frame("value"))))
        self.identifier = FOLDER

    def scalars(self, group: str, axis: str, step: int, values: Mapping[str, float]) -> None:
        self._events.write(step, *(summary.scalar(f"{group}/{name}", value) for name, value in values.items()))

    def distributions(self, group: str, step: int, values: Mapping[str, Sequence[float]]) -> None:
        arrays = {f"{group}/{name}": np.asarray(numbers, dtype=float) for name, numbers in values.items()}
        self._events.write(step, *(summary.histogram(name, array, "auto") for name, array in arrays.items()))

    def results(self, values: Mapping[str, float], front: pd.DataFrame, files: Sequence[Path]) -> None:
        """Replace the results: a chart for each column, whose steps are the numbers of the networks, and the table."""
        shutil.rmtree(self.folder / RESULTS, ignore_errors=True)
        events = _Events(self.folder / RESULTS)
        events.write(0, *(summary.scalar(f"results/{name}", value) for name, value in values.items()))
        if len(front):
            events.write(0, summary.text("front", _table(front)))
        for row in front.select_dtypes("number").to_dict("records"):
            member = int(row.pop(MEMBER))
            known = {str(name): float(value) for name, value in row.items() if np.isfinite(value)}
            events.write(member, *(summary.scalar(f"members/{name}", value) for name, value in known.items()))
        events.close()

    def close(self, state: str) -> None:
        self._events.close()


class _Events:
    """A new event file in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # A file is named after the second in which it was begun, which two may share; TensorBoard reads them in their order.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")

    def write(self, step: int, *summaries: Any) -> None:
        for one in summaries:
            self._writer.write_event(Event(step=step, wall_time=time.time(), summary=one))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _table(frame: pd.DataFrame) -> str:
    """Format a table in Markdown, as TensorBoard shows texts."""
    shown = frame.reset_index() if frame.index.dtype == object else frame
    rows = [[str(name) for name in shown.columns], ["---"] * shown.shape[1]]
    rows += [[_shown(value) for value in row] for row in shown.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shown(value: Any) -> str:
    text = f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")
