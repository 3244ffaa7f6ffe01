"""Files that are written whole or not at all, so that a run that is killed leaves none half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Damaged(ValueError):
    """File of a run that is not as it was written. The message names the file, and what is wrong with it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, which takes its place once that has succeeded.

    Args:
        path: The file; the temporary one ends likewise, as libraries choose a format by that, and torch wants a name before it.

    Example:
        >>> with replacing(Path("front.csv")) as temporary:  # doctest: +SKIP
        ...     frame.to_csv(temporary, index=False)
    """
    temporary = path.with_name(f"{path.stem}.new{path.suffix}")
    try:
        yield temporary
        # Without it a power failure may leave the new name with no content.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace the text of a file; a reader sees the old one or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, newline="")
