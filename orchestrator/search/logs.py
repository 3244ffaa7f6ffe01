"""Log of a run: the messages of all loggers, in a file of its directory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOG = "run.log"
PACKAGES = ("orchestrator", "searchers", "hw_profiles", "analysis")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _File(logging.FileHandler):
    """Log that leaves out what a full disk does not take, where logging would print a traceback for each message."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def logging_to(directory: Path) -> Iterator[None]:
    """Append what the program's loggers say to the log of a run directory; a log that cannot be written is left out."""
    try:
        handler: logging.Handler = _File(directory / LOG, encoding="utf-8")
    except OSError:
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    loggers = [logging.getLogger(name) for name in PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        with suppress(OSError):  # of what it still holds
            handler.close()


def show(verbosity: int) -> None:
    """Show on standard error what the loggers say: 1 for what happens, 2 for details."""
    if not verbosity:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    for name in PACKAGES:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
