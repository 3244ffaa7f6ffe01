"""NSGA-Net: crossover and mutation, then a Bayesian network over phases (Lu et al., GECCO 2019, arXiv 1810.03522).

Operators are those of the authors' first code (nsga2_engine.py, evolution/), as their later one lacks the second step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

from searchers.base import Architecture, Evaluation
from searchers.parts.ranking import best, ranked
from searchers.parts.uniform import UniformPaths


class NsgaNet(UniformPaths):
    """Breed children by crossover and mutation under NSGA-II's survival; later, sample them from the better half.

    Parents win binary tournaments. A sampled child is made phase by phase, from what the better half of all evaluated networks
    has in its phases (section 3.4).

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        phases: The choices of each phase of a network, in order, from the space: a phase for each cell, or for each block of a
            chain. Empty: each choice is a phase.
        population: Survivors of a generation; 40 in the paper.
        samples: Children per round. None for as many as the population, a generation.
        explore: Share of the generations that cross and mutate, 20 of 30 in the paper; the others sample.
        crossover: "homogeneous", of the first code, keeps what the parents have in common and sets a number of ones between
            theirs among the rest (for choices of more than two options: takes a random number of the rest from one parent);
            "two-point", of the later code, swaps what lies between two places, with probability 0.9.
        mutation: Probability that a choice of a child takes another option. None for 1 / (choices with more than one option).
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds, and for phases that do not have every choice once.

    Example:
        >>> searcher = NsgaNet((2, 2, 2), rounds=5, population=4, warmup=0.0)
        >>> searcher.train_on(0)
        []
        >>> len(set(searcher.ask(10)))
        4
    """

    needs = ("rounds", "canonical", "phases", "seed")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        canonical: Callable[[Architecture], Hashable] | None = None,
        phases: Sequence[Sequence[int]] = (),
        population: int = 40,
        samples: int | None = None,
        explore: float = 2 / 3,
        crossover: Literal["homogeneous", "two-point"] = "homogeneous",
        mutation: float | None = None,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        per_round = population if samples is None else samples
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=per_round, warmup=warmup, seed=seed)
        if crossover not in ("homogeneous", "two-point"):
            raise ValueError(f'crossover = {crossover!r}; there are "homogeneous" and "two-point"')
        if population < 2 or not 0 <= explore <= 1 or not (mutation is None or 0 <= mutation <= 1):
            raise ValueError(
                f"population = {population}, explore = {explore}, mutation = {mutation}; at least 2, a share, a probability"
            )
        self.phases = [tuple(phase) for phase in phases] or [(choice,) for choice in range(len(self.sizes))]
        if sorted(choice for phase in self.phases for choice in phase) != list(range(len(self.sizes))):
            raise ValueError(f"phases = {self.phases}; together they must have every choice once")
        self.population, self.crossover = population, crossover
        self.mutation = 1 / max(1, sum(size > 1 for size in self.sizes)) if mutation is None else mutation
        self._explore = explore
        self._alive: list[Evaluation] = []

    @property
    def exploiting(self) -> bool:
        """Tell whether children of this round are sampled from the Bayesian network."""
        warmup = self._stage.warmup
        exploring = warmup + max(1, round(self._explore * (self._stage.rounds - warmup)))
        return self._round - self._began > exploring and len(self.told) >= self.population

    def _propose(self, n: int) -> list[Architecture]:
        first = self._new(min(n, max(0, self.population - len(self.told))), self._random)
        if len(first) == n or len(self._alive) < 2:
            return first
        self._known.update(map(self._canonical, first))
        return first + self._new(n - len(first), self._sampler() if self.exploiting else self._breeder())

    def _learn(self, evaluations: list[Evaluation]) -> None:
        self._alive = best([*self._alive, *evaluations], self.population)

    def _breeder(self) -> Callable[[], Architecture]:
        keys = ranked(self._alive)

        def parent() -> Architecture:
            pair = [self._draw(len(self._alive)) for _ in range(2)]
            return self._alive[min(pair, key=lambda i: (keys[i], i))].architecture

        def child() -> Architecture:
            mutant = self.cross(parent(), parent())
            for choice in range(len(mutant)):
                if self._chance() < self.mutation:
                    mutant = self._mutated(mutant, choice)
            return mutant

        return child

    def cross(self, mother: Architecture, father: Architecture) -> Architecture:
        """Return a child of two parents."""
        if self.crossover == "two-point":
            if self._chance() >= 0.9:
                return mother
            a, b = sorted(self._draw(len(mother) + 1) for _ in range(2))
            return (*mother[:a], *father[a:b], *mother[b:])
        differing = [c for c, (m, f) in enumerate(zip(mother, father, strict=True)) if m != f]
        child = list(mother)
        for i in range(len(differing) - 1, 0, -1):  # in random order
            j = self._draw(i + 1)
            differing[i], differing[j] = differing[j], differing[i]
        if all(size <= 2 for size in self.sizes):
            # Where bits differ, what one parent lacks the other one has.
            ones = sum(mother[c] for c in differing)
            low, high = sorted((ones, len(differing) - ones))
            count = low + self._draw(high - low + 1)
            for place, choice in enumerate(differing):
                child[choice] = int(place < count)
        else:
            for choice in differing[: self._draw(len(differing) + 1)]:
                child[choice] = father[choice]
        return tuple(child)

    def _sampler(self) -> Callable[[], Architecture]:
        """Estimate P(first phase), P(second | first), ... by counting among the better half of all evaluated networks."""
        half = best(self.told, max(1, len(self.told) // 2))
        seen = [[tuple(e.architecture[c] for c in phase) for phase in self.phases] for e in half]
        alone = [Counter(network[i] for network in seen) for i in range(len(self.phases))]
        after = [Counter((network[i - 1], network[i]) for network in seen) for i in range(1, len(self.phases))]

        def child() -> Architecture:
            phases = [self._weighted(alone[0])]
            for pairs in after:
                # Every phase that was sampled was seen before another one, so there is always something after it.
                phases.append(self._weighted(Counter({b: n for (a, b), n in pairs.items() if a == phases[-1]})))
            option = dict(zip((c for phase in self.phases for c in phase), (o for p in phases for o in p), strict=True))
            return tuple(option[choice] for choice in range(len(self.sizes)))

        return child

    def _weighted(self, counts: Counter[tuple[int, ...]]) -> tuple[int, ...]:
        options = sorted(counts)
        at = self._draw(sum(counts.values()))
        for option in options:
            at -= counts[option]
            if at < 0:
                return option
        raise AssertionError("unreachable")

    def state_dict(self) -> dict[str, Any]:
        place = {e.architecture: i for i, e in enumerate(self.told)}
        return super().state_dict() | {"alive": [place[e.architecture] for e in self._alive]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._alive = [self.told[i] for i in state["alive"]]
