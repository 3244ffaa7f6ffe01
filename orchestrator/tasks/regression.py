"""Regression: one or several numbers for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.tasks.base import Array, Floats, Metric, Task


def _halves(evidence: Floats) -> tuple[Floats, Floats]:
    """Return predictions and targets."""
    middle = evidence.shape[1] // 2
    return evidence[:, :middle], evidence[:, middle:]


def _rmse(evidence: Floats) -> float:
    predicted, targets = _halves(evidence)
    return float(np.sqrt(((predicted - targets) ** 2).mean()))


def _mae(evidence: Floats) -> float:
    predicted, targets = _halves(evidence)
    return float(np.abs(predicted - targets).mean())


def _unexplained(evidence: Floats) -> float:
    predicted, targets = _halves(evidence)
    left, whole = ((predicted - targets) ** 2).mean(axis=0), targets.var(axis=0)
    return float((left / np.maximum(whole, 1e-12)).mean())


def _r2(evidence: Floats) -> float:
    return 1 - _unexplained(evidence)


def _as_numbers(values: Array) -> Array:
    """Return numbers that came as objects, such as decimals, as floating-point ones; what is no number stays as it is."""
    if any(isinstance(value, (str, bytes, bool)) for value in values.ravel()):
        return values
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return values


class Regression(Task):
    """One or several numbers for each example.

    Networks predict targets that are brought to mean 0 and deviation 1 by those of the train part; `predict` turns them back.
    A single target is judged in its own unit, several in deviations of each.

    Args:
        metric: `rmse`, the root of the mean squared error; `mae`, the mean absolute error; or `r2`, the share of the variance
            that is explained, the mean over the targets.
        loss: `mse`, `mae`, or `huber` with a threshold of one deviation, for targets with outliers.
        unit: Unit of a single target, for reports.

    Example:
        >>> task = Regression().fitted(np.array([[1.0], [3.0]], np.float32), ["y"])
        >>> task.guessing, task.predict(torch.tensor([[1.0]])).tolist()
        (1.0, [[3.0]])
    """

    meaning: ClassVar[str] = "values of mean 0 and deviation 1, in the order of TARGETS; `predict` turns them into their unit"

    def __init__(
        self,
        metric: Literal["rmse", "mae", "r2"] = "rmse",
        loss: Literal["mse", "mae", "huber"] = "mse",
        unit: str = "",
    ) -> None:
        super().__init__(metric)
        if not unit.isprintable() or set(unit) & set("(),"):
            raise ValueError(f"unit = {unit!r}: write a unit without commas and parentheses, as mg/dl")
        self.kind, self.unit = loss, unit
        if unit and metric != "r2":
            known = self.metric
            self.metric = Metric(known.name, known.cost, known.column, known.of, unit)
        self.mean: list[float] = []
        self.std: list[float] = []
        self._guessing = 1.0

    @classmethod
    def metrics(cls) -> Sequence[Metric]:
        return (
            Metric("rmse", "RMSE", "rmse", _rmse),
            Metric("mae", "MAE", "mae", _mae),
            Metric("r2", "1 - R2", "one_minus_r2", _r2, best=1.0, lacking=_unexplained),
        )

    @property
    def settings(self) -> dict[str, Any]:
        return {"metric": self.metric.name, "loss": self.kind, "unit": self.unit}

    def read(self, targets: Mapping[str, Array], names: Sequence[str] | None) -> tuple[dict[str, Array], tuple[str, ...], str]:
        found: dict[str, Array] = {}
        for part, values in targets.items():
            if values.dtype == object:
                values = _as_numbers(values)
            if values.dtype.kind not in "iuf" or values.ndim not in (1, 2) or not values.size:
                raise ValueError(
                    f"targets of shape {values.shape} and type {values.dtype} as {part}; wanted are numbers, (n,) or "
                    "(n, targets)"
                )
            rows = values.reshape(len(values), -1)
            if not np.isfinite(rows).all():
                wrong = ~np.isfinite(rows).all(axis=1)
                raise ValueError(
                    f"{wrong.sum()} targets that are NaN or infinite, number {int(wrong.argmax())} first; leave "
                    "those examples out"
                )
            found[part] = rows.astype(np.float32)
            if rows.shape[1] != found["train"].shape[1]:
                raise ValueError(f"{found['train'].shape[1]} targets to train on, and {rows.shape[1]} as {part}")
        spread = found["train"].astype(np.float64).std(axis=0)
        if not (spread > 0).all():
            raise ValueError(f"the same target, number {int(spread.argmin())}, for all examples; there is nothing to predict")
        count = found["train"].shape[1]
        named = tuple(names) if names is not None and len(names) == count else tuple(f"target {i}" for i in range(count))
        return found, ("target",) if count == 1 and named == ("target 0",) else named, ""

    def fit(self, targets: Array) -> None:
        values = np.asarray(targets, dtype=np.float64)
        self.outputs = (values.shape[1],)
        self.mean = [float(m) for m in values.mean(axis=0)]
        self.std = [float(s) if s > 0 else 1.0 for s in values.std(axis=0)]
        if self.metric.name == "r2":
            self._guessing = 1.0
        else:
            centred = (values - self.mean) / (1.0 if self._single else np.array(self.std))
            self._guessing = self.metric.of(np.concatenate([np.zeros_like(centred), centred], axis=1))

    @property
    def _single(self) -> bool:
        return self.outputs == (1,)

    def _scaled(self, targets: Tensor) -> Tensor:
        return (targets - targets.new_tensor(self.mean)) / targets.new_tensor(self.std)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        kinds = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}
        summed: Tensor = kinds[self.kind](reduction="sum")(outputs, self._scaled(targets))
        return summed / targets.shape[1]

    def evidence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._single:
            return torch.cat([self.predict(outputs), targets], dim=1)
        return torch.cat([outputs.float(), self._scaled(targets)], dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float() * outputs.new_tensor(self.std, dtype=torch.float32) + outputs.new_tensor(
            self.mean, dtype=torch.float32
        )

    @property
    def formula(self) -> str:
        return f"outputs * constant({self.std}) + constant({self.mean})"

    @property
    def guessing(self) -> float:
        return self._guessing

    def chance(self, share: float, examples: int) -> float:
        """Variance on the scale of `to_share`, of normal errors: the relative variance of an RMSE is 1 / (2 examples)."""
        s = min(max(share / 100, 0.0), 1.0)
        return 1e4 * (s * (1 - s)) ** 2 / (2 * examples)

    @property
    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}
