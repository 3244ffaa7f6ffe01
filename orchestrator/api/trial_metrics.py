"""The metrics that a Tune trial reports, and the costs that a search method is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import InputError
from orchestrator.evaluators.columns import direction
from orchestrator.registry import nearest

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class TrialMetrics:
    """Metrics of a trial, and how they become costs.

    Args:
        modes: Every objective, "min" or "max".
        limits: Metric and how high it may be, or how low if it is maximised; not all have to be objectives.
        others: Mode of every limited metric that is no objective.
    """

    modes: Mapping[str, Mode]
    limits: Mapping[str, float]
    others: Mapping[str, Mode]

    @classmethod
    def of(
        cls, objectives: Sequence[str] | Mapping[str, str], limits: Mapping[str, float] | None, modes: Mapping[str, str] | None
    ) -> TrialMetrics:
        """Check what the user wrote. Raises InputError."""
        if isinstance(objectives, str) or not all(isinstance(name, str) and name for name in objectives):
            raise InputError(f'objectives = {objectives!r}; write names of metrics, as in ["error", "latency_ms"]')
        names = list(objectives)
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"objectives = {names}; a trade-off needs at least two metrics, each named once")
        given = dict(objectives) if isinstance(objectives, Mapping) else {}
        given |= modes or {}
        limits = limits or {}
        for name, mode in given.items():
            if mode not in ("min", "max"):
                raise InputError(f'modes[{name!r}] = {mode!r}; write "min" or "max"')
            if name not in names and name not in limits:
                raise InputError(f"modes name {name!r}, which is no objective{nearest(name, names)}")
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not math.isfinite(limit):
                raise InputError(f"limits[{name!r}] = {limit!r}; write a finite number, in the metric's own unit")
        for name in (*names, *limits):
            if direction(name) == "max" and name not in given:
                raise InputError(f'{name} would be minimised; write modes={{{name!r}: "max"}}')
        return cls(
            {name: given.get(name, "min") for name in names},  # type: ignore[misc]
            {name: float(limit) for name, limit in limits.items()},
            {name: given.get(name, "min") for name in limits if name not in names},  # type: ignore[misc]
        )

    @property
    def metrics(self) -> list[str]:
        """Every metric that a trial has to report, objectives first."""
        return [*self.modes, *self.others]

    def cost(self, name: str, value: float) -> float:
        """Turn a metric into what is minimised; an accuracy as the first objective becomes an error in percent."""
        if (self.modes | self.others)[name] == "min":  # type: ignore[operator]
            return value
        return 100.0 - value if name == next(iter(self.modes)) else -value

    def costs(self, values: Sequence[float]) -> tuple[float, ...]:
        """Turn the objectives' metrics into costs."""
        return tuple(self.cost(name, value) for name, value in zip(self.modes, values, strict=False))

    def violation(self, values: Sequence[float]) -> float:
        """Sum by how much limits are exceeded, each relative to its size."""
        measured = dict(zip(self.metrics, values, strict=True))
        over = ((self.cost(n, measured[n]) - self.cost(n, limit)) / (abs(limit) or 1.0) for n, limit in self.limits.items())
        return sum(max(0.0, excess) for excess in over)

    def caps(self) -> tuple[float | None, ...]:
        """Return the limit of each cost after the first, as the methods that use limits want them."""
        return tuple(self.cost(n, self.limits[n]) if n in self.limits else None for n in [*self.modes][1:])
