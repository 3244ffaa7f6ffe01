"""Interface of tasks, which settle what a network is trained for and by which number it is judged.

Everywhere else that number is a cost, and lower is better.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.registry import name_of, nearest, user_parameters

Array = NDArray[Any]
Floats = NDArray[np.float64]
RESAMPLES = 300
"""Bootstrap samples of an interval; its ends, at 5 % and 95 %, then rest on 15 samples each."""


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Args:
        name: Name of it, as `task.metric` and the metrics of an evaluator write it.
        cost: Name of what is minimised: the metric itself, or what it lacks to `best`.
        column: Column of that in the tables of a run, with its unit.
        of: Computes the metric of evidence, (examples, values), as `Task.evidence` returns it.
        unit: Unit of metric and cost, as "%"; "" for none, or for one that only the user knows.
        best: The best value, where higher is better; None where lower is better.
        lacking: Computes the cost of evidence; None for `best` minus the metric. It avoids that difference's rounding.

    Example:
        >>> hits = Metric("hits", "misses", "misses_percent", lambda rows: 100 * float(rows.mean()), "%", best=100.0)
        >>> hits.to_cost(80.0), hits.to_value(20.0)
        (20.0, 80.0)
    """

    name: str
    cost: str
    column: str
    of: Callable[[Floats], float]
    unit: str = ""
    best: float | None = None
    lacking: Callable[[Floats], float] | None = None

    def cost_of(self, evidence: Floats) -> float:
        """Return the cost of evidence."""
        return self.to_cost(self.of(evidence)) if self.lacking is None else self.lacking(evidence)

    def to_cost(self, value: float) -> float:
        """Turn a value of the metric into what is minimised."""
        return value if self.best is None else self.best - value

    def to_value(self, cost: float) -> float:
        """Turn what is minimised into a value of the metric."""
        return cost if self.best is None else self.best - cost

    @property
    def title(self) -> str:
        """Name and unit of the cost on the validation set, for reports."""
        return f"{self.cost} ({', '.join(filter(None, [self.unit, 'validation set']))})"


def merit(metric: Metric, cost: float) -> float:
    """Return a number of which more is better: the metric, or minus the metric where less of it is."""
    return -cost if metric.best is None else metric.to_value(cost)


def merit_title(metric: Metric) -> str:
    """Title of what `merit` returns."""
    name = f"minus {metric.cost}" if metric.best is None else metric.name.replace("_", " ")
    return name + (f" ({metric.unit})" if metric.unit else "")


def merit_column(metric: Metric) -> str:
    """Name of a column of what `merit` returns, with its unit."""
    return ("minus_" if metric.best is None else "") + metric.name + ("_percent" if metric.unit == "%" else "")


class Task(ABC):
    """Base of tasks: loss, metrics, and what targets and predictions are.

    A task is made from a user's settings. `fitted` then gives it what it has to know of the training targets; the attributes
    below exist from there on.

    Args:
        metric: Name of the metric that networks are judged by, one of `metrics`.

    Attributes:
        metric: The metric.
        names: Names of the classes, labels or targets.
        outputs: Shape of a network's output for one example.
        maps: Whether a target is a map of the pixels of its image.
        soft: Whether targets may be shares of classes, so that label smoothing, mixup, CutMix and distillation mean something.
        padding: Target of the pixels beyond an image that is shifted, where targets are maps.
        named: Kind of thing that `names` are: classes, labels or targets.
        meaning: What an output is, for who takes a network elsewhere.

    Raises:
        ValueError: For an unknown metric, or a setting out of its range.
    """

    soft: ClassVar[bool] = False
    maps: ClassVar[bool] = False
    padding: float = 0
    named: ClassVar[str] = "targets"
    meaning: ClassVar[str] = "outputs"
    metric: Metric
    names: tuple[str, ...]
    outputs: tuple[int, ...]

    def __init__(self, metric: str) -> None:
        known = {m.name: m for m in self.metrics()}
        if metric not in known:
            raise ValueError(f"metric = {metric!r}: {self.name} has no such metric{nearest(metric, known)}")
        self.metric = known[metric]

    @property
    def name(self) -> str:
        """Name of the task, as an experiment writes it."""
        return name_of("task", type(self))

    @classmethod
    @abstractmethod
    def metrics(cls) -> Sequence[Metric]:
        """List the metrics that networks may be judged by."""

    @abstractmethod
    def read(self, targets: Mapping[str, Array], names: Sequence[str] | None) -> tuple[dict[str, Array], tuple[str, ...], str]:
        """Check the targets that a user's function returned, and convert them.

        Args:
            targets: An array for each part, one of them `train`; as many rows as the part has examples.
            names: Names of the classes, labels or targets, where the data has them.

        Returns:
            The targets of each part, as `loss` takes them; the names; and what is to be said of them, "" for nothing.

        Raises:
            ValueError: For targets of another kind, with what to return instead; it continues "the function returned".
        """

    def strata(self, targets: Array) -> NDArray[np.int64]:
        """Number the groups that every part of the data has its share of, (examples,). Here all examples are one group."""
        return np.zeros(len(targets), dtype=np.int64)

    def occurrences(self, targets: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Return the examples and, beside them, the number of a class or label that each of them has; None without any."""
        return None

    def fitted(self, targets: Array, names: Sequence[str]) -> Self:
        """Return the task with what it has to know of the training targets.

        Args:
            targets: Targets of the train part, as `read` returns them.
            names: Names, likewise.

        Raises:
            ValueError: For targets that the settings do not fit.
        """
        task = copy.copy(self)
        task.names = tuple(names)
        task.fit(targets)
        return task

    @abstractmethod
    def fit(self, targets: Array) -> None:
        """Set `outputs`, and whatever else follows from the training targets. Raises ValueError where settings do not fit."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the sum of the losses of the examples, so that workers can add up their shares of a batch.

        Args:
            outputs: Output of a network, `(examples, *outputs)`.
            targets: Targets, as `read` returns them; shares of classes after mixup, where the task is `soft`.
            label_smoothing: Share of a label that is spread over all classes; 0 where the task is not `soft`.
        """

    def doubt(self, outputs: Tensor) -> str:
        """Say what is odd with outputs of an untrained network, `(examples, *outputs)`; "" for nothing."""
        return ""

    @abstractmethod
    def evidence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what the metric needs of each example, (examples, values), to be stacked over batches.

        Args:
            outputs: As for `loss`.
            targets: As `read` returns them.
        """

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """Turn a network's outputs into predictions in the terms of the targets."""

    @property
    def formula(self) -> str | None:
        """Python that computes of `outputs`, a tensor or a NumPy array, what `predict` does, for exported files.

        It may use methods that both have, and `constant(...)` for an array of numbers. None, as here, for no such line.
        """
        return None

    @property
    @abstractmethod
    def guessing(self) -> float:
        """Cost of predictions that look at no input, from which the hypervolume counts; positive."""

    @property
    def worst(self) -> float:
        """Cost that a failed network counts with: of everything being wrong in percent; of guessing where there is no bound."""
        return 100.0 if self.metric.best == 100 else self.guessing

    def to_share(self, cost: float) -> float:
        """Bring the cost onto a scale of 0 to 100 that searchers take as an error in percent.

        A cost in percent is there. Any other one is 50 at that of guessing, and nears 100 without end.
        """
        return cost if self.metric.unit == "%" else 100.0 * cost / (cost + self.guessing)

    def from_share(self, share: float) -> float:
        """Turn back what `to_share` returns."""
        if self.metric.unit == "%":
            return share
        share = min(max(share, 0.0), 99.99)
        return self.guessing * share / (100.0 - share)

    def chance(self, share: float, examples: int) -> float:
        """Variance of a measured cost by the choice of examples, on the scale of `to_share`.

        Here it is 0: nothing is known of it beforehand, and the judge learns it from measurements as a part of their noise.
        """
        return 0.0

    def interval(self, evidence: Floats, confidence: float) -> tuple[float, float] | None:
        """Return the ends of the cost's interval by the choice of examples: the percentile bootstrap's.

        Args:
            evidence: Of all test examples, as `evidence` returns it.
            confidence: Probability of the interval.

        Returns:
            The ends; None for a share of the examples, whose interval follows from their number.
        """
        rng = np.random.default_rng(0)
        costs = [self.metric.cost_of(evidence[rng.integers(len(evidence), size=len(evidence))]) for _ in range(RESAMPLES)]
        low, high = np.percentile(costs, [50 * (1 - confidence), 50 * (1 + confidence)])
        return float(low), float(high)

    @property
    def settings(self) -> dict[str, Any]:
        """The user's settings, which the task keeps as attributes of their names."""
        kept = [key for key in user_parameters(type(self), ()) if hasattr(self, key)]
        return {key: self.metric.name if key == "metric" else getattr(self, key) for key in kept}

    @property
    def learned(self) -> dict[str, Any]:
        """Plain values that `predict` needs of what `fit` has found out, by attribute. Here there are none."""
        return {}

    def restored(self, names: Sequence[str], learned: Mapping[str, Any]) -> Self:
        """Return the task with what `learned` says, so that predictions can be made without the data."""
        task = copy.copy(self)
        task.names = tuple(names)
        task.__dict__.update(learned)
        return task
