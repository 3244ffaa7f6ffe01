"""Stopping a search from outside."""

from __future__ import annotations

from pathlib import Path


def stop_file(directory: Path) -> Path:
    """Return the file whose presence asks the search in `directory` to save and stop."""
    return directory / ".stop"
