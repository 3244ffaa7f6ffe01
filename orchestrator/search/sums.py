"""Checksums of a run's results, which tell a file that was damaged since from one that is as it was written."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from analysis.files import write_text

log = logging.getLogger(__name__)

SUMS = "sums.json"
"""File with the SHA-256 of results by their names, in the folder of the checkpoints."""


def note(directory: Path, *names: str) -> None:
    """Take note of the content of results that were just written, or of their absence."""
    path = directory / "checkpoints" / SUMS
    path.parent.mkdir(exist_ok=True)
    known: dict[str, str | None] = {**_known(directory), **{name: _sum(directory / name) for name in names}}
    write_text(path, json.dumps({name: value for name, value in known.items() if value is not None}, indent=2) + "\n")


def intact(directory: Path) -> bool:
    """Tell whether all results that were noted are as they were written; the log names one that is not.

    Runs of earlier versions have noted none. A process that died between a result and its note leaves one that is not intact,
    which is then written again as a damaged one is.
    """
    for name, known in _known(directory).items():
        if _sum(directory / name) != known:
            log.warning("%s is not as it was written; it is made again from the records", directory / name)
            return False
    return True


def _known(directory: Path) -> dict[str, str]:
    try:
        known = json.loads((directory / "checkpoints" / SUMS).read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in known.items()} if isinstance(known, dict) else {}


def _sum(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
