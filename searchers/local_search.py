"""Pareto local search: neighbours of what is not dominated (Paquete, Chiarandini and Stuetzle, 2004).

On tables of architectures local search is a strong baseline (White, Nolen and Savani, UAI 2021, arXiv 2005.02960).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal

from searchers.base import Architecture, Evaluation
from searchers.parts.ranking import ranked
from searchers.parts.uniform import UniformPaths


class LocalSearch(UniformPaths):
    """Expands members of the front whose neighbours, one choice changed, are not all known.

    rounds, canonical, seed: given by the budget, the space and the experiment. start: random networks before the first
    expansion.
    expand: "one" proposes a single random neighbour of a random member of the front at a time; "all" proposes every neighbour
    of a member before it turns to another, the oldest member first. Once the front has no unknown neighbour, random networks
    follow. samples: networks per round. warmup: share of the rounds that only trains shared weights, if there are any.

    Raises ValueError for settings outside these bounds.
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
        found = {self._canonical(a): a for a in first}
        open_ = [e.architecture for e in _front(self.told)]
        while open_ and len(found) < n:
            at = self._draw(len(open_)) if self.expand == "one" else 0
            unknown = self._neighbours(open_[at], found)
            if not unknown:
                open_.pop(at)
                continue
            for _ in range(1 if self.expand == "one" else n - len(found)):
                if unknown:
                    neighbour = unknown.pop(self._draw(len(unknown)))
                    found.setdefault(self._canonical(neighbour), neighbour)
        self._known.update(found)
        return [*found.values(), *self._new(n - len(found), self._random)]

    def _neighbours(self, architecture: Architecture, besides: dict[Hashable, Architecture]) -> list[Architecture]:
        """Those that are neither known nor in `besides`."""
        found = []
        for choice, size in enumerate(self.sizes):
            for option in set(range(size)) - {architecture[choice]}:
                neighbour = (*architecture[:choice], option, *architecture[choice + 1 :])
                key = self._canonical(neighbour)
                if key not in self._known and key not in besides:
                    found.append(neighbour)
        return found


def _front(told: Sequence[Evaluation]) -> list[Evaluation]:
    """The non-dominated ones that keep the constraints; where none does, the one that breaks them least."""
    keys = ranked(told)
    best = min(keys)
    return [e for e, key in zip(told, keys, strict=True) if key[0] == best[0] and (key[0] == 0 or key == best)]
