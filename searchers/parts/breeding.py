"""Candidates bred from good architectures, where a space is too large to list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bred(parents: np.ndarray, n: int, sizes: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Breed `n` children, (n, choices): half of them crossed, all with about one and a half choices changed.

    Args:
        parents: Architectures, (parents, choices).
        n: Number of children.
        sizes: Number of options of each choice.
        rng: Source of chance.
    """
    first, second = (parents[rng.integers(len(parents), size=n)] for _ in range(2))
    crossed = (rng.random(n) < 0.5)[:, None] & (rng.random(first.shape) < 0.5)
    options = np.array(sizes)
    other = (first + rng.integers(1, np.maximum(options, 2), size=first.shape)) % options
    child = np.where(crossed, second, first)
    return np.where(rng.random(first.shape) < 1.5 / len(sizes), other, child)
