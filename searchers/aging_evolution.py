"""Aging evolution: the oldest member dies (Real, Aggarwal, Huang and Le, AAAI 2019, arXiv 1802.01548, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from searchers.base import Architecture
from searchers.parts.ranking import ranked
from searchers.parts.uniform import UniformPaths


class AgingEvolution(UniformPaths):
    """Mutate one choice of the winner of a tournament; the child replaces the oldest member of the population.

    The paper has one objective; here the winner is the first in NSGA-II's order within the population, by front, then by
    crowding.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        population: Number of members, the most recent networks; 100 in the paper.
        tournament: Random members that compete to be the parent; 25 in the paper.
        samples: Children per round, of the same population; the paper makes one at a time.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = AgingEvolution((3, 4), rounds=5, samples=4, warmup=0.0)
        >>> searcher.train_on(0)
        []
        >>> len(searcher.ask(10))
        4
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        canonical: Callable[[Architecture], Hashable] | None = None,
        population: int = 50,
        tournament: int = 10,
        samples: int = 10,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=samples, warmup=warmup, seed=seed)
        if population < 2 or not 1 <= tournament <= population:
            raise ValueError(f"population = {population}, tournament = {tournament}; at least 2, and 1 to as many")
        self.population, self.tournament = population, tournament

    def _propose(self, n: int) -> list[Architecture]:
        first = self._new(min(n, max(0, self.population - len(self.told))), self._random)
        if len(first) == n or len(self.told) < 2:
            return first
        alive = self.told[-self.population :]
        keys = ranked(alive)
        mutable = [choice for choice, size in enumerate(self.sizes) if size > 1] or [0]

        def child() -> Architecture:
            competing = [self._draw(len(alive)) for _ in range(self.tournament)]
            parent = alive[min(competing, key=lambda i: (keys[i], i))].architecture
            return self._mutated(parent, mutable[self._draw(len(mutable))])

        self._known.update(map(self._canonical, first))
        return first + self._new(n - len(first), child)
