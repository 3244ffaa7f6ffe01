"""NSGA-II (Deb, Pratap, Agarwal and Meyarivan, 2002), as pymoo implements it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from searchers.base import Architecture
from searchers.pymoo_algorithm import PymooAlgorithm


class Nsga2(PymooAlgorithm):
    """Run pymoo's NSGA-II on categorical choices: `pymoo-algorithm` with `algorithm="NSGA2"`.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        costs: Number of objectives after the error.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        population: Survivors of each generation, and its children.
        samples: Architectures per round; a generation may take several rounds.
        crossover: Probability that parents are crossed.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = Nsga2((5,) * 6, rounds=5, population=4, samples=4, warmup=0.0)
        >>> searcher.train_on(0)
        []
        >>> len(set(searcher.ask(10)))
        4
    """

    needs = ("rounds", "costs", "canonical", "seed")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        costs: int = 1,
        canonical: Callable[[Architecture], Hashable] | None = None,
        population: int = 20,
        samples: int = 20,
        crossover: float = 0.9,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(
            sizes,
            rounds=rounds,
            costs=costs,
            canonical=canonical,
            algorithm="NSGA2",
            population=population,
            samples=samples,
            crossover=crossover,
            warmup=warmup,
            seed=seed,
        )
