"""Classification of examples into one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from torch import Tensor, nn

from orchestrator.tasks.base import Array, Floats, Metric, Task
from orchestrator.tasks.weights import ClassWeights, class_weights_of

_LABEL, _PREDICTION, _SCORES = 0, 1, 2  # columns of the evidence


def _accuracy(evidence: Floats) -> float:
    return 100.0 * int((evidence[:, _LABEL] == evidence[:, _PREDICTION]).sum()) / len(evidence)


def _error(evidence: Floats) -> float:
    return 100.0 * int((evidence[:, _LABEL] != evidence[:, _PREDICTION]).sum()) / len(evidence)


def _balanced_accuracy(evidence: Floats) -> float:
    labels = evidence[:, _LABEL]
    found = recall_score(labels, evidence[:, _PREDICTION], labels=np.unique(labels), average="macro", zero_division=0)
    return 100.0 * float(found)


def _f1(evidence: Floats) -> float:
    return 100.0 * float(f1_score(evidence[:, _LABEL], evidence[:, _PREDICTION], average="macro", zero_division=0))


def _auc(evidence: Floats) -> float:
    labels, scores = evidence[:, _LABEL], evidence[:, _SCORES:]
    classes = np.unique(labels).astype(int)
    if len(classes) < 2:
        return 50.0  # nothing to tell apart
    asked = classes if scores.shape[1] > 2 else [1]  # of two classes either tells both
    return 100.0 * float(np.mean([roc_auc_score(labels == c, scores[:, c]) for c in asked]))


class Classification(Task):
    """One of several classes for each example, by cross-entropy over a score for each class.

    Args:
        metric: `accuracy`; `balanced_accuracy`, the mean over the classes of the share that is recognised; `f1`, the mean of
            the classes' F1; or `auc`, the mean of the areas under each class's ROC curve against all others.
        class_weights: Weights of the classes in the loss: `balanced`, inversely proportional to their numbers of examples, or
            a number for each class, in the order of their names; only their ratios count. None for equal ones.

    Raises:
        ValueError: For an unknown metric, and for weights that are not positive.

    Example:
        >>> task = Classification("f1", "balanced").fitted(np.array([0, 0, 0, 1]), ["cat", "dog"])
        >>> task.metric.column, [round(float(w), 3) for w in task.weights]
        ('one_minus_f1_percent', [0.667, 2.0])
    """

    soft: ClassVar[bool] = True
    named: ClassVar[str] = "classes"
    meaning: ClassVar[str] = "scores before softmax, in the order of CLASSES"

    def __init__(
        self,
        metric: Literal["accuracy", "balanced_accuracy", "f1", "auc"] = "accuracy",
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(metric)
        self.class_weights = class_weights
        self.weights: Tensor | None = None
        self.counts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        class_weights_of(class_weights)

    @classmethod
    def metrics(cls) -> Sequence[Metric]:
        return (
            Metric("accuracy", "error", "error_percent", _accuracy, "%", 100.0, _error),
            Metric("balanced_accuracy", "balanced error", "balanced_error_percent", _balanced_accuracy, "%", 100.0),
            Metric("f1", "1 - F1", "one_minus_f1_percent", _f1, "%", 100.0),
            Metric("auc", "1 - AUC", "one_minus_auc_percent", _auc, "%", 100.0),
        )

    def read(self, targets: Mapping[str, Array], names: Sequence[str] | None) -> tuple[dict[str, Array], tuple[str, ...], str]:
        flat = {part: _flat(labels) for part, labels in targets.items()}
        values = np.unique(flat["train"])
        if len(values) < 2:
            raise ValueError(f"one class only ({values[0]}); a classifier needs two or more")
        whole = np.issubdtype(values.dtype, np.integer)
        if whole and values[0] < 0 and values.tolist() != [-1, 1]:
            raise ValueError(f"the label {values[0]}; leave out images without a label, and number classes from 0")
        labels: dict[str, Array] = {}
        for part, given in flat.items():
            unknown = np.setdiff1d(given, values)
            if len(unknown):
                raise ValueError(f"the label {unknown[0]} as {part}, of which there is no image to train on")
            labels[part] = np.searchsorted(values, given).astype(np.int64)
        if whole and values[0] >= 0 and names is not None and values[-1] < len(names):
            return labels, tuple(names[value] for value in values), ""
        said = ""
        if whole and values.tolist() != list(range(len(values))):
            shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
            said = f"{shown} are numbered 0 to {len(values) - 1}"
        return labels, tuple(str(value) for value in values), said

    def strata(self, targets: Array) -> NDArray[np.int64]:
        return np.asarray(targets, dtype=np.int64)

    def occurrences(self, targets: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.arange(len(targets)), np.asarray(targets, dtype=np.int64)

    def fit(self, targets: Array) -> None:
        self.outputs = (len(self.names),)
        self.counts = np.bincount(np.asarray(targets, dtype=np.int64), minlength=len(self.names))
        self.weights = class_weights_of(self.class_weights, self.counts, self.names)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        weights = None if self.weights is None else self.weights.to(outputs)
        return nn.functional.cross_entropy(outputs, targets, weight=weights, reduction="sum", label_smoothing=label_smoothing)

    def doubt(self, outputs: Tensor) -> str:
        if bool((outputs >= 0).all()) and bool(((outputs.sum(dim=1) - 1).abs() < 1e-4).all()):
            return "returns probabilities; leave out its softmax, as the loss takes scores and has one of its own"
        return ""

    def evidence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        found = torch.stack([targets, outputs.argmax(dim=1)], dim=1)
        return torch.cat([found, outputs.double().softmax(dim=1)], dim=1) if self.metric.name == "auc" else found

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(dim=1)

    @property
    def formula(self) -> str:
        return "outputs.argmax(1)"

    @property
    def guessing(self) -> float:
        return 50.0 if self.metric.name == "auc" else 100.0 * (1 - 1 / len(self.names))

    def chance(self, share: float, examples: int) -> float:
        """Variance of the metric by the choice of examples, in percent squared.

        Of accuracy that of a binomial share, by Agresti and Coull. The mean of classes has it as if there were fewer examples,
        since that of the smallest one is the least sure. It is not known of the area under a curve.
        """
        if self.metric.name == "auc":
            return 0.0
        effective = float(examples)
        if self.metric.name != "accuracy":
            counts = np.maximum(self.counts, 1)
            effective *= len(counts) ** 2 / (counts.sum() * float((1 / counts).sum()))
        return binomial(share, max(1.0, effective))

    def interval(self, evidence: Floats, confidence: float) -> tuple[float, float] | None:
        return None if self.metric.name == "accuracy" else super().interval(evidence, confidence)


def binomial(share: float, examples: float) -> float:
    """Variance of a share that was measured, in percent squared, by Agresti and Coull.

    Args:
        share: In percent.
        examples: Number of examples that it was measured on.
    """
    about = (share / 100 * examples + 2) / (examples + 4)
    return 1e4 * about * (1 - about) / examples


def _flat(labels: Array) -> Array:
    """Return a label for each example: whole numbers or texts, not one-hot."""
    if labels.dtype == object and labels.ndim == 1:
        texts = all(isinstance(label, str) for label in labels)
        odd = next((i for i, label in enumerate(labels) if not isinstance(label, (str, int, np.integer))), None)
        if odd is not None:
            raise ValueError(
                f"the label {labels[odd]!r} as number {odd}; wanted is one class for each image, as a number or a text, so "
                "leave out images without one"
            )
        labels = labels if texts else labels.astype(str if any(isinstance(label, str) for label in labels) else np.int64)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        labels = labels.argmax(axis=1)
    if labels.ndim != 1:
        several = "; several labels of one example are task=multi_label, a label of each pixel is task=segmentation"
        raise ValueError(
            f"labels of shape {labels.shape}; wanted is one class for each image, as a number, a text or one-hot{several}"
        )
    if labels.dtype == np.bool_ or np.issubdtype(labels.dtype, np.integer):
        return labels.astype(np.int64) if labels.dtype != np.bool_ else labels.astype(str)
    if labels.dtype.kind in "US" or (labels.dtype == object and all(isinstance(label, str) for label in labels)):
        found = labels.astype(str)
        if (empty := np.char.strip(found) == "").any():
            raise ValueError(
                f"{empty.sum()} empty labels, number {int(empty.argmax())} first; leave those images out, or name them"
            )
        return found
    if np.issubdtype(labels.dtype, np.floating):
        if np.isfinite(labels).all() and (labels == np.rint(labels)).all():
            return labels.astype(np.int64)
        odd = labels[~np.isfinite(labels) | (labels != np.rint(labels))][0]
        raise ValueError(f"the label {odd:g}; wanted are classes, so cut measurements into ranges, or write task=regression")
    raise ValueError(f"labels of type {labels.dtype}; wanted is one class for each image, as a number or a text")
