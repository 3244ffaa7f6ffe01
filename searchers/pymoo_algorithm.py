"""Multi-objective genetic algorithms of pymoo (Blank and Deb, IEEE Access 2020) behind ask and tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import numpy as np
from pymoo.algorithms.moo.ctaea import CTAEA
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.moo.spea2 import SPEA2, SPEA2Survival
from pymoo.algorithms.moo.unsga3 import UNSGA3
from pymoo.core.algorithm import Algorithm
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UX
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.problems.static import StaticProblem
from pymoo.util.ref_dirs import get_reference_directions

from searchers.base import Architecture, Evaluation
from searchers.parts.uniform import TRIES, UniformPaths

BY_RANK = {"NSGA2": NSGA2, "SMSEMOA": SMSEMOA, "SPEA2": SPEA2}
BY_DIRECTION = {"NSGA3": NSGA3, "UNSGA3": UNSGA3, "CTAEA": CTAEA}


class PymooAlgorithm(UniformPaths):
    """Run one of pymoo's genetic algorithms, with operators for categorical choices.

    Uniform crossover takes each choice from either parent; mutation replaces each option with probability 1 / choices.
    Constraints are handled by pymoo. A child that is the same network as a known one is told to pymoo from memory.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        costs: Number of objectives after the error.
        canonical: From an architecture to a key that is equal for the same networks, from the space. None: all differ.
        algorithm: Class in pymoo, one of those that take operators for categories and constraints.
        population: Survivors of each generation, and its children. For the methods with reference directions (NSGA3, UNSGA3,
            CTAEA) also the upper limit of their number; they are evenly spaced (Das and Dennis, 1998).
        samples: Architectures per round; a generation may take several rounds.
        crossover: Probability that parents are crossed.
        warmup: Share of the rounds that only trains shared weights.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = PymooAlgorithm((5,) * 6, rounds=5, algorithm="SPEA2", population=4, samples=4, warmup=0.0)
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
        algorithm: Literal["NSGA2", "NSGA3", "UNSGA3", "SMSEMOA", "SPEA2", "CTAEA"] = "SMSEMOA",
        population: int = 20,
        samples: int = 20,
        crossover: float = 0.9,
        warmup: float = 0.6,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, rounds=rounds, canonical=canonical, samples=samples, warmup=warmup, seed=seed)
        if population < 2 or not 0 <= crossover <= 1:
            raise ValueError(f"population = {population}, crossover = {crossover}; at least 2, and a probability")
        if algorithm not in BY_RANK | BY_DIRECTION:
            raise ValueError(f"algorithm = {algorithm!r}; there are {', '.join(BY_RANK | BY_DIRECTION)}")
        self.algorithm, self.costs = algorithm, costs
        self.population, self.crossover, self.seed = population, crossover, seed
        self._algorithm: Algorithm | None = None
        self._offspring: Population | None = None
        self._answers: dict[Hashable, Evaluation] = {}

    def _propose(self, n: int) -> list[Architecture]:
        for _ in range(TRIES):
            unknown = self._missing()
            if unknown:
                return unknown[:n]
            if not self._members():  # pymoo finds no child that it does not have
                break
            self._advance()
        return self._new(n, self._random)  # it goes in circles: the space is nearly used up

    def _learn(self, evaluations: list[Evaluation]) -> None:
        self._answers |= {self._canonical(e.architecture): e for e in evaluations}

    def _missing(self) -> list[Architecture]:
        """List the members of the current generation of which nothing is known, each network once."""
        if self._offspring is None:
            self._offspring = self._start().ask()
        unknown = {self._canonical(a): a for a in self._members() if self._canonical(a) not in self._known}
        return list(unknown.values())

    def _members(self) -> list[Architecture]:
        assert self._offspring is not None
        return [_architecture(member.X) for member in self._offspring]

    def _start(self) -> Algorithm:
        problem = Problem(
            n_var=len(self.sizes),
            n_obj=1 + self.costs,
            n_ieq_constr=1,
            xl=0,
            xu=np.array(self.sizes) - 1,
            vtype=int,
            elementwise=False,
        )
        arguments: dict[str, Any] = {}
        if self.algorithm != "CTAEA":
            arguments["pop_size"] = self.population
        if self.algorithm == "SPEA2":  # pymoo's default is one object for all searches of a process, and remembers costs
            arguments["survival"] = SPEA2Survival(normalize=True)
        if self.algorithm in BY_DIRECTION:
            arguments["ref_dirs"] = self._directions()
        self._algorithm = (BY_RANK | BY_DIRECTION)[self.algorithm](
            sampling=_FirstThenRandom(self._first),
            crossover=UX(prob=self.crossover),
            mutation=_AnotherOption(),
            eliminate_duplicates=_SameNetwork(self._canonical),
            **arguments,
        )
        return self._algorithm.setup(problem, termination=NoTermination(), seed=self.seed)

    def _directions(self) -> np.ndarray:
        """Build the finest lattice of at most `population` reference directions, (directions, objectives)."""
        parts = 1
        while self.costs and math.comb(parts + 1 + self.costs, self.costs) <= self.population:
            parts += 1
        return np.asarray(get_reference_directions("das-dennis", 1 + self.costs, n_partitions=parts))

    def _advance(self) -> None:
        """Tell pymoo the costs of the current generation, all of which are known by now, and ask for the next."""
        assert self._algorithm is not None and self._offspring is not None
        answers = [self._answers[self._canonical(a)] for a in self._members()]
        costs = np.array([e.costs for e in answers])
        broken = np.array([[e.violation] for e in answers])
        Evaluator().eval(StaticProblem(self._algorithm.problem, F=costs, G=broken), self._offspring)
        self._algorithm.tell(infills=self._offspring)
        asked = self._algorithm.ask()
        self._offspring = Population() if asked is None else asked

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore pymoo's state, which is no plain data, by replaying the same evaluations generation by generation."""
        super().load_state_dict(state)
        self.seed = state["seed"]
        self._algorithm = self._offspring = None
        self._answers = {}
        self._learn(self.told)
        for _ in range(state["generations"]):
            self._missing()
            assert {self._canonical(a) for a in self._members()} <= self._answers.keys()
            self._advance()

    def state_dict(self) -> dict[str, Any]:
        generations = 0 if self._algorithm is None else (self._algorithm.n_iter or 1) - 1
        return super().state_dict() | {"seed": self.seed, "generations": generations}


class _FirstThenRandom(IntegerRandomSampling):  # type: ignore[misc]
    """Put given architectures into the initial population, and fill it up at random."""

    def __init__(self, first: Sequence[Architecture]) -> None:
        super().__init__()
        self.first = first

    def _do(self, problem: Problem, n_samples: int, *args: Any, **kwargs: Any) -> Any:
        x = super()._do(problem, n_samples, *args, **kwargs)
        for i, architecture in enumerate(self.first[:n_samples]):
            x[i] = architecture
        return x


class _AnotherOption(Mutation):  # type: ignore[misc]
    """Replace each option by another one, all equally likely, with probability 1 / choices."""

    def _do(self, problem: Problem, x: Any, *args: Any, random_state: np.random.Generator, **kwargs: Any) -> Any:
        sizes = problem.xu.astype(int) + 1
        other = (x + random_state.integers(1, np.maximum(sizes, 2), size=x.shape)) % sizes
        return np.where(random_state.random(x.shape) < 1 / x.shape[1], other, x)


class _SameNetwork(DuplicateElimination):  # type: ignore[misc]
    """Leave out members whose network comes again behind them, or in another population; in time that is linear in both."""

    def __init__(self, canonical: Callable[[Architecture], Hashable]) -> None:
        super().__init__()
        self._canonical = canonical

    def _do(self, pop: Any, other: Any, is_duplicate: Any) -> Any:
        known = set() if other is None else set(self._keys(other))
        for i, key in reversed(list(enumerate(self._keys(pop)))):
            is_duplicate[i] |= key in known
            if other is None:
                known.add(key)
        return is_duplicate

    def _keys(self, members: Any) -> list[Hashable]:
        return [self._canonical(_architecture(member.X)) for member in members]


def _architecture(x: Any) -> Architecture:
    return tuple(map(int, x))
