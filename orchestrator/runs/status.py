"""Progress of a run, kept in its directory for those who look at it from another process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import Interrupted
from orchestrator.machine import Machine
from orchestrator.runs.display import duration
from orchestrator.runs.watcher import Relay, Watcher
from orchestrator.search.progress import Progress, Round

STATUS = "progress.json"
"""File of a run directory with the latest that `Recording` was told."""
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
EVERY = 1.0
"""Seconds between two versions of the file, at least."""


class Recording(Relay):
    """Keeps what it is told in `STATUS`, and passes it on.

    Args:
        watcher: Whom to pass it on to.
        directory: The run directory.
        workers: The workers, in words.
    """

    def __init__(self, watcher: Watcher, directory: Path, workers: str) -> None:
        super().__init__(watcher)
        self._path, self._facts = directory / STATUS, {"workers": workers}
        self._latest: dict[str, Any] = {"part": "starting", "fraction": 0.0, "seconds_left": None}
        self._written, self._began = 0.0, time.monotonic()
        self._members: dict[str, float] = {}

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Record how the run ends."""
        self._write(RUNNING)
        try:
            yield
        except (Interrupted, KeyboardInterrupt):
            self._write(STOPPED)
            raise
        except BaseException:
            self._write(FAILED)
            raise
        self._write(FINISHED)

    def phase(self) -> AbstractContextManager[object]:
        self._began = time.monotonic()
        return self.watcher.phase()

    def waiting(self, text: str) -> None:
        self._latest = self._latest | {"facts": self._latest.get("facts", {}) | {"waiting for": text}, "seconds_left": None}
        if time.monotonic() - self._written > EVERY:
            self._write(RUNNING)
        self.watcher.waiting(text)

    def search(self, happened: Round) -> None:
        p = happened.progress
        self._note("search", p.fraction, p.seconds_left, _facts(p), p.machines)
        self.watcher.search(happened)

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        share = sum(fractions) / len(fractions)
        facts = {"searches": f"{sum(f >= 1 for f in fractions)} of {len(fractions)} done", **_facts(happened.progress)}
        self._note("sweep", share, self._left(share), facts, happened.progress.machines)
        self.watcher.sweep(index, fractions, happened)

    def retrain(self, arch: str, fraction: float, members: int) -> None:
        self._members[arch] = fraction
        share = sum(self._members.values()) / members
        done = f"{sum(f >= 1 for f in self._members.values())} of {members}"
        self._note("retraining", share, self._left(share), {"retrained": done}, ())
        self.watcher.retrain(arch, fraction, members)

    def _left(self, share: float) -> float | None:
        """Seconds that are left of a phase, by its pace so far."""
        return (time.monotonic() - self._began) * (1 / share - 1) if share > 0.01 else None

    def _note(self, part: str, fraction: float, left: float | None, facts: dict[str, str], machines: Sequence[Machine]) -> None:
        if machines:
            listed = (", ".join(f"{key} {value}" for key, value in machine.items()) for machine in machines)
            self._facts["machines"] = "; ".join(listed)
        self._latest = {"part": part, "fraction": fraction, "seconds_left": left, "facts": facts}
        if time.monotonic() - self._written > EVERY:
            self._write(RUNNING)

    def _write(self, state: str) -> None:
        """Replace the file. It need not outlive a power failure, and a disk that is full is no reason to stop."""
        told = self._latest | {"state": state, "at": time.time(), "facts": self._latest.get("facts", {}) | self._facts}
        temporary = self._path.with_suffix(".new.json")
        try:
            temporary.write_text(json.dumps(told))
            os.replace(temporary, self._path)
        except OSError:
            pass
        self._written = time.monotonic()


def read_status(directory: Path) -> dict[str, Any]:
    """Read what a run has recorded of itself; empty where it has not, as runs of earlier versions."""
    try:
        told = json.loads((directory / STATUS).read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) and "state" in told else {}


def _facts(p: Progress) -> dict[str, str]:
    error = p.best if p.best_error is None else f"{p.best} on {p.judged_on}"
    return {
        "stage": f"{p.stage + 1} ({p.phase})",
        "round": f"{p.round} of {p.rounds}",
        "measured": f"{p.evaluations:,} samples" + (f", {p.failed} networks failed" if p.failed else ""),
        f"lowest {p.quantity}": error,
        "hypervolume": f"{p.hypervolume:.3f}",
        "spent": duration(p.seconds),
    }
