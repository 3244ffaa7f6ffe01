"""Uniform random search over a space, with shared weights trained on uniform paths: the baseline every method must beat."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from searchers.base import Architecture
from searchers.parts.uniform import UniformPaths


class RandomSearch(UniformPaths):
    """Li and Talwalkar, "Random search and reproducibility for NAS" (UAI 2019), section 3: single paths drawn uniformly
    train the shared weights; then uniform samples are measured with them, each network once.

    rounds, canonical, seed: given by the budget, the space and the experiment. samples: architectures per round. warmup: share
    of the rounds that only trains weights. Raises ValueError for settings outside these bounds.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        canonical: Callable[[Architecture], Hashable] | None = None,
        samples: int = 10,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=samples, warmup=warmup, seed=seed)

    def _propose(self, n: int) -> list[Architecture]:
        return self._new(n, self._random)
