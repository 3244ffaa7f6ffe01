"""NSGA-II (Deb, Pratap, Agarwal and Meyarivan, 2002): pymoo's own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from searchers.base import Architecture
from searchers.pymoo_algorithm import PymooAlgorithm


class Nsga2(PymooAlgorithm):
    """`pymoo-algorithm` with algorithm = "NSGA2", where settings are explained."""

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
