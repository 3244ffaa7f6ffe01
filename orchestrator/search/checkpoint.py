"""Checkpoint of a search: plain data, written atomically, with the one before it kept."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from orchestrator.errors import RunError

FORMAT = 1


class Checkpoints:
    """`latest.pt` and `previous.pt` of a run directory."""

    def __init__(self, directory: Path) -> None:
        self.latest, self.previous = directory / "latest.pt", directory / "previous.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint. Raises RunError where that fails; the one before it is then untouched."""
        temporary = self.latest.with_name("writing.pt")
        try:
            self.latest.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save({"format": FORMAT, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            if self.latest.exists():
                os.replace(self.latest, self.previous)
            os.replace(temporary, self.latest)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a write that fails half-way
            temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write a checkpoint to {self.latest.parent}: {error}; make room, then resume") from error

    def load(self) -> dict[str, Any] | None:
        """Read the latest checkpoint; None before the first. Raises RunError for one that is damaged or of another format."""
        if not self.latest.exists():
            # The process died between the two renames of `save`.
            if not self.previous.exists():
                return None
            os.replace(self.previous, self.latest)
        try:
            state = torch.load(self.latest, map_location="cpu", weights_only=True)
            version = state["format"]
        except Exception as error:  # zip, pickle, EOF, key and type errors: whatever damage looks like
            hint = "; to go on from the one before it, delete it and resume" if self.previous.exists() else ""
            raise RunError(f"the checkpoint {self.latest} is damaged ({type(error).__name__}){hint}") from error
        if version != FORMAT:
            raise RunError(
                f"the checkpoint {self.latest} has format {version}; this version of paretoray reads format {FORMAT}"
            )
        assert isinstance(state, dict)
        return state


@contextmanager
def alone_in(directory: Path, name: str, patience: float = 30.0) -> Iterator[None]:
    """Hold the directory's lock of that name, so that no second process writes to the same files.

    Args:
        directory: A run directory.
        name: Name of the lock.
        patience: Seconds to wait for a process that is about to end, as the workers of a killed search are.

    Raises:
        RunError: Where another process still holds it.
    """
    (directory / "checkpoints").mkdir(exist_ok=True)
    with (directory / "checkpoints" / name).open("w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise RunError(f"another process is working in {directory}; wait for it, or stop it") from error
                time.sleep(0.2)
        yield
