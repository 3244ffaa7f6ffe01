"""Segmentation: a class for each pixel of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orchestrator.tasks.base import Array, Floats, Metric, Task
from orchestrator.tasks.weights import ClassWeights, class_weights_of


def _counts(evidence: Floats) -> tuple[Floats, Floats, Floats]:
    """Return of each class the pixels that are both predicted and true, predicted, and true."""
    hits, predicted, true = np.split(evidence.sum(axis=0), 3)
    return hits, predicted, true


def _miou(evidence: Floats) -> float:
    hits, predicted, true = _counts(evidence)
    union = predicted + true - hits
    return 100.0 * float((hits[union > 0] / union[union > 0]).mean()) if union.any() else 0.0


def _dice(evidence: Floats) -> float:
    hits, predicted, true = _counts(evidence)
    both = predicted + true
    return 100.0 * float((2 * hits[both > 0] / both[both > 0]).mean()) if both.any() else 0.0


def _pixel_accuracy(evidence: Floats) -> float:
    hits, _, true = _counts(evidence)
    return 100.0 * float(hits.sum() / max(1.0, true.sum()))


def _whole(values: Array) -> Array:
    """Return maps without an axis of one channel, and whole numbers where they came as floating-point ones."""
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    return values


class Segmentation(Task):
    """A class for each pixel, by cross-entropy over a map of scores for each class.

    Where images are shifted and flipped (`data.crop`, `data.flip`), their targets move with them; pixels from beyond an image
    do not count.

    Args:
        metric: `miou`, the mean of the classes' intersections over unions; `dice`, the mean of their Dice coefficients; or
            `pixel_accuracy`. All of them count the pixels of all images together.
        class_weights: As for `classification`, by numbers of pixels.
        ignore: Value of pixels that do not count.
    """

    maps: ClassVar[bool] = True
    named: ClassVar[str] = "classes"
    meaning: ClassVar[str] = "a map of scores before softmax for each class, in the order of CLASSES"

    def __init__(
        self,
        metric: Literal["miou", "dice", "pixel_accuracy"] = "miou",
        class_weights: ClassWeights = None,
        ignore: int = 255,
    ) -> None:
        super().__init__(metric)
        self.class_weights, self.ignore, self.padding = class_weights, ignore, ignore
        self.weights: Tensor | None = None
        self._guessing = 100.0
        class_weights_of(class_weights)

    @classmethod
    def metrics(cls) -> Sequence[Metric]:
        return (
            Metric("miou", "1 - mIoU", "one_minus_miou_percent", _miou, "%", 100.0),
            Metric("dice", "1 - Dice", "one_minus_dice_percent", _dice, "%", 100.0),
            Metric("pixel_accuracy", "pixel error", "pixel_error_percent", _pixel_accuracy, "%", 100.0),
        )

    def read(self, targets: Mapping[str, Array], names: Sequence[str] | None) -> tuple[dict[str, Array], tuple[str, ...], str]:
        targets = {part: _whole(values) for part, values in targets.items()}
        for part, values in targets.items():
            if values.ndim != 3 or values.dtype.kind not in "biu":
                hint = "; of a map for each class take argmax(axis=1)" if values.ndim == 4 else ""
                raise ValueError(
                    f"targets of shape {values.shape} and type {values.dtype} as {part}; wanted is a class for each pixel, "
                    f"whole numbers (n, height, width){hint}"
                )
        if self.ignore == 255 and set(np.unique(targets["train"])) == {0, 255}:
            raise ValueError("pixels of 0 and 255 alone, and 255 does not count; divide such masks by 255")
        known = np.setdiff1d(np.unique(targets["train"]), [self.ignore])
        if len(known) < 2 or known[0] < 0:
            raise ValueError(
                f"pixels of the classes {known.tolist()}; write two or more, from 0, and {self.ignore} to leave some out"
            )
        if known[-1] > 1000:
            raise ValueError(f"a pixel of class {known[-1]}; number classes from 0, or write task.ignore={known[-1]}")
        count = int(known[-1]) + 1 if names is None else max(len(names), int(known[-1]) + 1)
        for part, values in targets.items():
            beyond = np.setdiff1d(np.unique(values), [*range(count), self.ignore])
            if len(beyond):
                raise ValueError(f"a pixel of class {beyond[0]} as {part}, of which there is none to train on")
        found = {part: values.astype(np.int64) for part, values in targets.items()}
        return found, tuple(names) if names is not None and len(names) == count else tuple(map(str, range(count))), ""

    def occurrences(self, targets: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        maps = np.asarray(targets)
        found = [np.flatnonzero((maps == c).any(axis=(1, 2))) for c in range(len(self.names))]
        return np.concatenate(found), np.repeat(np.arange(len(found)), list(map(len, found)))

    def fit(self, targets: Array) -> None:
        classes, height, width = len(self.names), *np.shape(targets)[1:]
        self.outputs = (classes, height, width)
        pixels = np.asarray(targets)
        counts = np.bincount(pixels[pixels != self.ignore].ravel(), minlength=classes)
        self.weights = class_weights_of(self.class_weights, counts, self.names)
        most = np.zeros(classes)
        most[counts.argmax()] = counts.sum()
        self._guessing = 100.0 - self.metric.of(np.concatenate([np.minimum(most, counts), most, counts])[None].astype(float))

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        weights = None if self.weights is None else self.weights.to(outputs)
        losses = nn.functional.cross_entropy(outputs, targets, weight=weights, ignore_index=self.ignore, reduction="none")
        return losses.mean(dim=(1, 2)).sum()

    def doubt(self, outputs: Tensor) -> str:
        if bool((outputs >= 0).all()) and bool(((outputs.sum(dim=1) - 1).abs() < 1e-4).all()):
            return "returns probabilities; leave out its softmax, as the loss takes scores and has one of its own"
        return ""

    def evidence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        counted, predicted = targets != self.ignore, outputs.argmax(dim=1)
        classes = torch.arange(self.outputs[0], device=outputs.device)[:, None, None]
        said, true = ((of[:, None] == classes) & counted[:, None] for of in (predicted, targets))
        return torch.cat([pixels.sum(dim=(2, 3)) for pixels in (said & true, said, true)], dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(dim=1)

    @property
    def formula(self) -> str:
        return "outputs.argmax(1)"

    @property
    def guessing(self) -> float:
        return self._guessing
