"""Uniform random search, the baseline that every method must beat."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from searchers.base import Architecture
from searchers.parts.uniform import UniformPaths


class RandomSearch(UniformPaths):
    """Measure uniformly drawn networks, each of them once, after shared weights were trained on uniform single paths.

    Random search with weight sharing (Li and Talwalkar, "Random search and reproducibility for neural architecture search", UAI
    2019, section 3).

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        samples: Architectures per round.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: for fewer than 1 sample, or a warm-up outside 0..1.

    Example:
        >>> searcher = RandomSearch((3, 4), rounds=5, samples=4, warmup=0.0)
        >>> searcher.train_on(0)
        []
        >>> len(set(searcher.ask(10)))
        4
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
