"""Weights of classes in a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ClassWeights = Literal["balanced"] | tuple[float, ...] | None
"""Ways to weigh classes in a loss."""


def class_weights_of(given: ClassWeights, counts: NDArray[np.int64] | None = None, names: Sequence[str] = ()) -> Tensor | None:
    """Return the weight of each class, whose mean over the training examples is 1, so that a learning rate means the same.

    Args:
        given: The user's setting.
        counts: Training examples of each class; None where they are not known yet, and only the setting is checked.
        names: Names of the classes.

    Raises:
        ValueError: For weights that are not positive, and for another number of them than there are classes.
    """
    if isinstance(given, tuple) and (not given or min(given) <= 0):
        raise ValueError(f"class_weights = {list(given)}: write a positive number for each class, or balanced")
    if given is None or counts is None:
        return None
    if given == "balanced":
        weights = 1 / np.maximum(counts, 1)
    else:
        if len(given) != len(counts):
            raise ValueError(
                f"class_weights has {len(given)} numbers for {len(counts)} classes; write one for each, in this order: "
                f"{', '.join(names)}; or balanced"
            )
        weights = np.asarray(given, dtype=float)
    return torch.from_numpy(weights * counts.sum() / float(weights @ counts))
