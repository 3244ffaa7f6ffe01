"""Aging evolution: the oldest dies (Real, Aggarwal, Huang and Le, AAAI 2019, arXiv 1802.01548, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from searchers.base import Architecture
from searchers.parts.ranking import ranked
from searchers.parts.uniform import UniformPaths


class AgingEvolution(UniformPaths):
    """Mutates one choice of the best of a few random members of the population; the child replaces the oldest.

    The paper has one objective; here "best" is NSGA-II's order within the population, by front, then by crowding.

    rounds, canonical, seed: given by the budget, the space and the experiment. population: the last so many, 100 in the paper.
    tournament: members that compete to be the parent, 25 in the paper. samples: children per round, of the same population;
    the paper makes one at a time. warmup: share of the rounds that only trains shared weights, if there are any.

    Raises ValueError for settings outside these bounds.
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
        open_ = [choice for choice, size in enumerate(self.sizes) if size > 1] or [0]

        def child() -> Architecture:
            competing = [self._draw(len(alive)) for _ in range(self.tournament)]
            parent = alive[min(competing, key=lambda i: (keys[i], i))].architecture
            return self._mutated(parent, open_[self._draw(len(open_))])

        self._known.update(map(self._canonical, first))
        return first + self._new(n - len(first), child)
