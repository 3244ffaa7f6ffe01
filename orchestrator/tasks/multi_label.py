"""Classification of examples that may have several labels, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor, nn

from orchestrator.tasks.base import Array, Floats, Metric, Task


def _halves(evidence: Floats) -> tuple[Floats, Floats]:
    """Return logits and targets."""
    middle = evidence.shape[1] // 2
    return evidence[:, :middle], evidence[:, middle:]


def _f1(evidence: Floats) -> float:
    scores, targets = _halves(evidence)
    return 100.0 * float(f1_score(targets, scores > 0, average="macro", zero_division=0))


def _map(evidence: Floats) -> float:
    scores, targets = _halves(evidence)
    known = targets.any(axis=0)
    if not known.any():
        return 0.0
    return 100.0 * float(average_precision_score(targets[:, known], scores[:, known], average="macro"))


def _hamming(evidence: Floats) -> float:
    scores, targets = _halves(evidence)
    return 100.0 * float(((scores > 0) == (targets > 0.5)).mean())


def _listed(targets: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """Turn lists of the labels that each example has into 0 and 1. Raises ValueError for what is no such list."""
    for part, lists in targets.items():
        wrong = next((i for i, labels in enumerate(lists) if not isinstance(labels, (list, tuple))), None)
        if wrong is not None:
            raise ValueError(
                f"{lists[wrong]!r} as the labels of example {wrong} as {part}; wanted is a list for each, or 0 and 1"
            )
    known = sorted({label for labels in targets["train"] for label in labels}, key=lambda label: (str(type(label)), label))
    places = {label: i for i, label in enumerate(known)}
    found = {part: np.zeros((len(lists), len(known)), dtype=np.int64) for part, lists in targets.items()}
    for part, lists in targets.items():
        for row, labels in enumerate(lists):
            for label in labels:
                if label not in places:
                    raise ValueError(f"the label {label!r} as {part}, which no example to train on has")
                found[part][row, places[label]] = 1
    return found, [str(label) for label in known]


class MultiLabel(Task):
    """Any number of labels for each example, by binary cross-entropy over a score for each label.

    A label is predicted where its score is above 0, a probability of one half.

    Args:
        metric: `f1`, the mean of the labels' F1; `map`, the mean of their average precisions; or `label_accuracy`, the share of
            all labels of all examples that are right.
        class_weights: `balanced` weighs the examples that have a label by how many have it not; None for equal weights.
    """

    named: ClassVar[str] = "labels"
    meaning: ClassVar[str] = "scores before the sigmoid, in the order of LABELS"

    def __init__(
        self,
        metric: Literal["f1", "map", "label_accuracy"] = "f1",
        class_weights: Literal["balanced"] | None = None,
    ) -> None:
        super().__init__(metric)
        self.class_weights = class_weights
        self._positive: Tensor | None = None
        self._guessing = 100.0

    @classmethod
    def metrics(cls) -> Sequence[Metric]:
        return (
            Metric("f1", "1 - F1", "one_minus_f1_percent", _f1, "%", 100.0),
            Metric("map", "1 - mAP", "one_minus_map_percent", _map, "%", 100.0),
            Metric("label_accuracy", "label error", "label_error_percent", _hamming, "%", 100.0),
        )

    def read(self, targets: Mapping[str, Array], names: Sequence[str] | None) -> tuple[dict[str, Array], tuple[str, ...], str]:
        if all(values.dtype == object and values.ndim == 1 for values in targets.values()):
            targets, names = _listed(targets)
        found: dict[str, Array] = {}
        for part, values in targets.items():
            if values.ndim != 2 or values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
                raise ValueError(
                    f"targets of shape {values.shape} and type {values.dtype} as {part}; wanted are 0 and 1, (n, labels)"
                )
            found[part] = values.astype(np.float32)
            if values.shape[1] != found["train"].shape[1]:
                raise ValueError(f"{found['train'].shape[1]} labels to train on, and {values.shape[1]} as {part}")
        constant = np.flatnonzero(found["train"].std(axis=0) == 0)
        if len(constant):
            raise ValueError(f"label number {constant[0]} the same for all examples to train on; leave it out")
        count = found["train"].shape[1]
        return found, tuple(names) if names is not None and len(names) == count else tuple(map(str, range(count))), ""

    def occurrences(self, targets: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        examples, labels = np.nonzero(np.asarray(targets) > 0.5)
        return examples, labels

    def fit(self, targets: Array) -> None:
        values = np.asarray(targets, dtype=np.float64)
        self.outputs = (values.shape[1],)
        have = np.clip(values.sum(axis=0), 1, None)
        self._positive = torch.from_numpy((len(values) - have) / have) if self.class_weights else None
        rates = values.mean(axis=0)
        always = np.concatenate([np.ones_like(values), values], axis=1)
        often = np.concatenate([np.tile(np.where(rates > 0.5, 1.0, -1.0), (len(values), 1)), values], axis=1)
        self._guessing = 100.0 - self.metric.of(often if self.metric.name == "label_accuracy" else always)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        weight = None if self._positive is None else self._positive.to(outputs)
        summed = nn.functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weight, reduction="sum")
        return summed / targets.shape[1]

    def doubt(self, outputs: Tensor) -> str:
        if bool(((outputs >= 0) & (outputs <= 1)).all()) and len(outputs) > 1:
            return "returns numbers from 0 to 1; leave out its sigmoid, as the loss takes scores and has one of its own"
        return ""

    def evidence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.cat([outputs.float(), targets], dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        return (outputs > 0).to(torch.float32)

    @property
    def formula(self) -> str:
        return "(outputs > 0) * 1.0"

    @property
    def guessing(self) -> float:
        return self._guessing
