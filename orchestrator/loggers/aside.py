"""Calls of a logger in a thread of its own, so that a slow server holds up nothing and a broken one ends nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from orchestrator.loggers.base import Logger

log = logging.getLogger(__name__)


class Aside:
    """Runs calls of one logger in their order; the first that raises is the last.

    Args:
        name: Of the tracker, for messages.
        logger: The logger; it is used in the thread alone from now on.

    Attributes:
        failure: What a call has raised; None as long as all went well.
    """

    def __init__(self, name: str, logger: Logger) -> None:
        self.name, self.identifier = name, logger.identifier
        self.failure: Exception | None = None
        self._logger = logger
        self._calls: SimpleQueue[Callable[[Logger], None] | None] = SimpleQueue()
        # A daemon, so that a server that never answers does not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f"paretoray-{name}", daemon=True)
        self._thread.start()

    def __call__(self, call: Callable[[Logger], None]) -> None:
        """Have a call made, after those before it."""
        self._calls.put(call)

    def close(self, state: str, patience: float) -> bool:
        """End the logger's run.

        Args:
            state: As for `Logger.close`.
            patience: Seconds to wait for all calls.

        Returns:
            Whether they are all made.
        """
        self(lambda logger: logger.close(state))
        self._calls.put(None)
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self.failure is None:
                try:
                    call(self._logger)
                except Exception as error:
                    log.debug("%s failed", self.name, exc_info=True)
                    self.failure = error
