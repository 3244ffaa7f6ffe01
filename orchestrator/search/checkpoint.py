"""Checkpoint of a search: plain data with a checksum, replaced as a whole, with the one before it kept."""

from __future__ import annotations

import fcntl
import hashlib
import io
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from orchestrator.errors import RunError

log = logging.getLogger(__name__)

FORMAT = 2
SEAL = b"paretoray checkpoint, SHA-256 "
"""Mark between the data and their checksum at the end of a file."""


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
            with temporary.open("r+b") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
                file.write(SEAL + digest)
                file.flush()
                os.fsync(file.fileno())
            if self.latest.exists():
                os.replace(self.latest, self.previous)
            os.replace(temporary, self.latest)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a write that fails half-way
            temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write a checkpoint to {self.latest.parent}: {error}; make room, then resume") from error

    def load(self) -> dict[str, Any] | None:
        """Read the latest checkpoint that is whole; None before the first.

        Where the latest one is damaged, the one before it takes its place, and the log says so.

        Raises:
            RunError: Where none is whole, or one is of another format.
        """
        damage: Exception | None = None
        for path in (self.latest, self.previous):
            try:
                state = _read(path)
            except FileNotFoundError:
                continue  # before the first, or the process died between the two renames of `save`
            except RunError:
                raise
            except Exception as error:  # zip, pickle, EOF, key and type errors: whatever damage looks like
                damage = damage or error
                log.warning("the checkpoint %s is damaged (%s)", path, error or type(error).__name__)
                continue
            if path == self.previous:
                log.warning("the search goes on from the checkpoint before the last one, %s", path)
                os.replace(self.previous, self.latest)
            return state
        if damage is None:
            return None
        raise RunError(
            f"the checkpoint {self.latest} is damaged ({damage or type(damage).__name__}), and there is none before it that is "
            "whole; search again, with another --out"
        ) from damage


def _read(path: Path) -> dict[str, Any]:
    """Read one checkpoint. Raises ValueError, or whatever torch does, for a damaged one, and RunError for another format."""
    content = memoryview(path.read_bytes())
    data, seal, digest = content[: -len(SEAL) - 32], content[-len(SEAL) - 32 : -32], content[-32:]
    if seal != SEAL or hashlib.sha256(data).digest() != digest:
        version = _unsealed(content) if seal != SEAL else FORMAT
        if version != FORMAT:
            raise RunError(f"the checkpoint {path} has format {version}; this version of paretoray reads format {FORMAT}")
        raise ValueError("its checksum is wrong")
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        version = state.get("format") if isinstance(state, dict) else None
        raise RunError(f"the checkpoint {path} has format {version}; this version of paretoray reads format {FORMAT}")
    return state


def _unsealed(content: memoryview) -> object:
    """Return the format of a checkpoint that has no checksum; ours for one that cannot be read."""
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["format"]
    except Exception:  # as in `load`
        return FORMAT


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
