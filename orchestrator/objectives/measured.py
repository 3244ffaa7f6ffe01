"""Base of objectives that a user's function or program measures: direction, retries, and measurements that are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from analysis.files import write_text
from orchestrator.errors import Interrupted, NetworkFailed, RunError, in_a_line
from orchestrator.objectives.base import Metrics, Objective, Probe
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture

log = logging.getLogger(__name__)


class NoMeasurement(Exception):
    """A measurement that failed, in words for who runs the search; it is tried again where retries are left."""


class Direction:
    """Name, unit and direction of a number, and the cost that it is: the number itself, or `best` minus it.

    Args:
        section: Section of the experiment, for messages.
        name: What is measured.
        unit: Its unit; empty for a plain number.
        maximize: Whether more is better. Costs are positive and lower is better, so it needs `best`.
        best: More than any network reaches.

    Raises:
        ValueError: For a name that is no column, and for `maximize` without `best`.
    """

    def __init__(self, section: str, name: str, unit: str, maximize: bool, best: float | None) -> None:
        if not re.fullmatch(r"[^\W\d][\w@.-]*", name):
            raise ValueError(f"column = {name!r}: write a word, which the column is named after")
        if not unit.isprintable():
            raise ValueError(f"unit = {unit!r}: write it in one line, as in mW")
        if maximize != (best is not None):
            raise ValueError(
                "maximize = true needs best = NUMBER, more than any network reaches: the cost is best minus what is measured"
                if maximize
                else "best belongs to maximize = true; leave it out, or write that as well"
            )
        self.section, self.best = section, best
        shown = name if best is None else f"{best:g} minus {name}"
        ending = f" {re.sub(r'[^0-9A-Za-z%]+', '_', unit).replace('%', 'percent').strip('_').lower()}" if unit else ""
        self.column = (shown + ending).replace(" ", "_")
        self.title = f"{shown} ({unit})" if unit else shown

    def cost(self, value: float) -> float:
        """Turn a number into a cost. Raises RunError for one above `best`."""
        if self.best is None:
            return value
        if value >= self.best:
            raise RunError(f"{self.section}: {value:.6g} was measured; write best = NUMBER, more than any network reaches")
        return self.best - value


def identity(space: SearchSpace) -> list[Any]:
    """Say what a notation is of: the space with its settings, the size of images, the number of classes."""
    return [space.name, space.settings, space.image, space.classes]


class Store:
    """Measurements of networks, kept in folders as a file each, so that processes do not disturb one another.

    Args:
        of: Objective, for people who read the files.
        what: Plain data on which a measurement depends, besides the notation of a network.
        shared: Folder that several runs share; None for none.
        run: Folder of the run directory; None before there is one.
    """

    def __init__(self, of: str, what: Any, shared: Path | None = None, run: Path | None = None) -> None:
        self.of, self.shared, self.run = of, shared, run
        self._what = json.dumps(what, sort_keys=True, default=str)

    def _files(self, arch: str) -> list[Path]:
        name = hashlib.sha256(f"{self._what}\n{arch}".encode()).hexdigest()[:32] + ".json"
        return [folder / name for folder in (self.run, self.shared) if folder is not None]

    def read(self, arch: str) -> Metrics | None:
        """Return what is kept of a network; None where nothing is, or a file is damaged."""
        for path in self._files(arch):
            try:
                content = json.loads(path.read_text())
                if content["arch"] == arch:
                    return {str(key): number(value) for key, value in content["metrics"].items()}
            except (OSError, ValueError, LookupError, TypeError, AttributeError, NoMeasurement):
                continue
        return None

    def write(self, arch: str, metrics: Metrics, seconds: float) -> None:
        """Keep the metrics of a network. Raises RunError where the disk is full."""
        content = {"of": self.of, "arch": arch, "metrics": metrics, "seconds": round(seconds, 3)}
        for path in self._files(arch):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, json.dumps(content) + "\n")
            except FileNotFoundError:
                continue  # another process has measured the same at the same time, and was first
            except OSError as error:
                raise RunError(
                    f"cannot keep a measurement in {path.parent}: {error.strerror}; make room, then resume"
                ) from error


class MeasuredObjective(Objective, Probe):
    """Base of objectives that a user's function or program measures, network by network.

    A measurement that fails is tried again, and then is a network that failed. One that worked is kept, in the run directory
    once there is one, and in the folder `cache` besides, so that no network is measured twice.

    Args:
        space: Search space of the architectures.
        direction: Name, unit and direction.
        what: Whatever decides the result besides the network, for the key of a kept measurement.
        retries: How often a measurement that failed is tried again.
        cache: Folder that keeps measurements, and that several runs may share; None for the run directory alone.

    Raises:
        ValueError: For a negative number of retries.
    """

    def __init__(self, space: SearchSpace, direction: Direction, what: Any, *, retries: int, cache: str | None) -> None:
        super().__init__(space)
        if not 0 <= retries <= 100:
            raise ValueError(f"retries = {retries}; write how often a failed measurement is tried again, 0 to 100 times")
        self.direction, self.retries = direction, retries
        self.column, self.title = direction.column, direction.title
        self._store = Store(direction.section, [what, *identity(space)], Path(cache).expanduser().resolve() if cache else None)

    def keep_in(self, folder: Path) -> None:
        """Keep measurements in this folder of a run directory from now on, too."""
        self._store.run = folder

    def measure_on_device(self, network: nn.Module, image: Tensor) -> Metrics:
        raise NotImplementedError(f"{self.column} is measured of an architecture: call measure_architecture")

    def measure_architecture(self, architecture: Architecture, network: Callable[[], nn.Module], image: Tensor) -> Metrics:
        """Measure an architecture, or find what is kept (see `Probe`). Raises NetworkFailed after the last retry."""
        arch = self.space.format(architecture)
        if (kept := self._store.read(arch)) is not None:
            return {self.column: kept[self.column]}
        began, reason = time.monotonic(), ""
        for attempt in range(1 + self.retries):
            try:
                value = number(self.measure(architecture, network, image))
            except (Interrupted, RunError):
                raise
            except NoMeasurement as error:
                reason = str(error)
            except Exception as error:  # whatever a user's code raises
                reason = in_a_line(error)
            else:
                self._store.write(arch, {self.column: value}, time.monotonic() - began)
                return {self.column: value}
            log.warning("%s: attempt %d for %s failed: %s", self.direction.section, attempt + 1, arch, reason)
        tries = f" (the last of {1 + self.retries} attempts)" if self.retries else ""
        raise NetworkFailed(f"{self.direction.section}: {reason}{tries}")

    @abstractmethod
    def measure(self, architecture: Architecture, network: Callable[[], nn.Module], image: Tensor) -> object:
        """Return a number for an architecture (see `Probe.measure_architecture`), or raise whatever went wrong."""

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return self.direction.cost(metrics[self.column])


def number(value: Any) -> float:
    """Return a finite number as such, a tensor or array of one element included. Raises NoMeasurement for anything else."""
    if (isinstance(value, Tensor) and value.numel() == 1) or (isinstance(value, np.ndarray) and value.size == 1):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise NoMeasurement(f"it gave {str(value)[:80]!r}, which is no finite number")
    return float(value)
