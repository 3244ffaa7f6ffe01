"""Pareto local search: expand the neighbours of non-dominated networks (Paquete, Chiarandini and Stuetzle, 2004).

On tabular benchmarks local search is a strong baseline (White, Nolen and Savani, UAI 2021, arXiv 2005.02960).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal

from searchers.base import Architecture, Evaluation
from searchers.parts.ranking import ranked
from searchers.parts.uniform import UniformPaths


class LocalSearch(UniformPaths):
    """Expand members of the front that still have unknown neighbours, which differ from them in one choice.

    Once the front has no unknown neighbour, random networks follow.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        start: Random networks before the first expansion.
        expand: "one" proposes a single random neighbour of a random member of the front at a time; "all" proposes every
            neighbour of a member before it turns to another, the oldest member first.
        samples: Architectures per round.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = LocalSearch((3, 4), rounds=5, start=2, samples=2, warmup=0.0)
        >>> searcher.train_on(0)
        []
        >>> len(searcher.ask(10))
        2
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        canonical: Callable[[Architecture], Hashable] | None = None,
        start: int = 10,
        expand: Literal["one", "all"] = "one",
        samples: int = 10,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=samples, warmup=warmup, seed=seed)
        if expand not in ("one", "all"):
            raise ValueError(f'expand = {expand!r}; there are "one" and "all"')
        if start < 1:
            raise ValueError(f"start = {start}; at least 1 is needed")
        self.start, self.expand = start, expand

    def _propose(self, n: int) -> list[Architecture]:
        first = self._new(min(n, max(0, self.start - len(self.told))), self._random)
        if len(first) == n or not self.told:
            return first
        proposals = {self._canonical(a): a for a in first}
        expandable = [e.architecture for e in _front(self.told)]
        while expandable and len(proposals) < n:
            at = self._draw(len(expandable)) if self.expand == "one" else 0
            unknown = self._neighbours(expandable[at], proposals)
            if not unknown:
                expandable.pop(at)
                continue
            for _ in range(1 if self.expand == "one" else n - len(proposals)):
                if unknown:
                    neighbour = unknown.pop(self._draw(len(unknown)))
                    proposals.setdefault(self._canonical(neighbour), neighbour)
        self._known.update(proposals)
        return [*proposals.values(), *self._new(n - len(proposals), self._random)]

    def _neighbours(self, architecture: Architecture, besides: dict[Hashable, Architecture]) -> list[Architecture]:
        """List the neighbours that are neither known nor in `besides`."""
        neighbours = []
        for choice, size in enumerate(self.sizes):
            for option in set(range(size)) - {architecture[choice]}:
                neighbour = (*architecture[:choice], option, *architecture[choice + 1 :])
                key = self._canonical(neighbour)
                if key not in self._known and key not in besides:
                    neighbours.append(neighbour)
        return neighbours


def _front(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """List the non-dominated evaluations that keep the constraints; where none keeps them, those of the smallest violation."""
    keys = ranked(evaluations)
    best = min(keys)
    return [e for e, key in zip(evaluations, keys, strict=True) if key[0] == best[0] and (key[0] == 0 or key == best)]
