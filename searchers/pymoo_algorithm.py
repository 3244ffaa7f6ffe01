"""Any of pymoo's genetic algorithms for several objectives (Blank and Deb, IEEE Access 2020), asked and told."""

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
from pymoo.core.duplicate import ElementwiseDuplicateElimination
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
    """Options are categories, without an order: uniform crossover takes each choice from either parent, mutation draws another
    option of each choice with probability 1 / choices. Constraints are pymoo's own. A child that is known already, in
    whatever notation, is told to pymoo from memory.

    rounds, costs, canonical, seed: given by the budget, the experiment and the space. algorithm: the class in pymoo; those
    that take operators for categories and constraints. population: survivors of each generation, and children. With CTAEA, and
    for the others by direction (NSGA3, UNSGA3), there are at most as many reference directions, evenly spaced (Das and Dennis,
    1998). samples: networks per round; a generation may take several. crossover: share of parents that are crossed. warmup:
    share of the rounds that only trains shared weights, if there are any.

    Raises ValueError for settings outside these bounds.
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

    def _propose(self, n: int) -> list[Architecture]:
        for _ in range(TRIES):
            unknown = self._missing()
            if unknown:
                return unknown[:n]
            if not self._members():  # pymoo finds no child that it does not have
                break
            self._advance()
        return self._new(n, self._random)  # it goes in circles: the space is nearly used up

    def _missing(self) -> list[Architecture]:
        """Members of the generation that is out and that nothing is known of, each network once."""
        if self._offspring is None:
            self._offspring = self._start().ask()
        unknown = {self._canonical(a): a for a in self._members() if self._canonical(a) not in self._known}
        return list(unknown.values())

    def _members(self) -> list[Architecture]:
        assert self._offspring is not None
        return [tuple(int(v) for v in member.X) for member in self._offspring]

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
        own: dict[str, Any] = {}
        if self.algorithm != "CTAEA":
            own["pop_size"] = self.population
        if self.algorithm == "SPEA2":  # pymoo's default is one object for all searches of a process, and remembers costs
            own["survival"] = SPEA2Survival(normalize=True)
        if self.algorithm in BY_DIRECTION:
            own["ref_dirs"] = self._directions()
        self._algorithm = (BY_RANK | BY_DIRECTION)[self.algorithm](
            sampling=IntegerRandomSampling(),
            crossover=UX(prob=self.crossover),
            mutation=_AnotherOption(),
            eliminate_duplicates=_SameNetwork(self._canonical),
            **own,
        )
        return self._algorithm.setup(problem, termination=NoTermination(), seed=self.seed)

    def _directions(self) -> np.ndarray:
        """At most `population`, of the finest lattice that has no more."""
        parts = 1
        while self.costs and math.comb(parts + 1 + self.costs, self.costs) <= self.population:
            parts += 1
        return np.asarray(get_reference_directions("das-dennis", 1 + self.costs, n_partitions=parts))

    def _advance(self) -> None:
        """Tells pymoo of the generation that is out, all of which is known now, and asks for the next."""
        assert self._algorithm is not None and self._offspring is not None
        found: dict[Hashable, Evaluation] = {self._canonical(e.architecture): e for e in self.told}
        answers = [found[self._canonical(a)] for a in self._members()]
        costs = np.array([e.costs for e in answers])
        broken = np.array([[e.violation] for e in answers])
        Evaluator().eval(StaticProblem(self._algorithm.problem, F=costs, G=broken), self._offspring)
        self._algorithm.tell(infills=self._offspring)
        asked = self._algorithm.ask()
        self._offspring = Population() if asked is None else asked

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """pymoo's state is no plain data; it is what the same evaluations lead to, generation by generation."""
        super().load_state_dict(state)
        self.seed = state["seed"]
        self._algorithm = self._offspring = None
        told = {self._canonical(e.architecture) for e in self.told}
        for _ in range(state["generations"]):
            self._missing()
            assert {self._canonical(a) for a in self._members()} <= told
            self._advance()

    def state_dict(self) -> dict[str, Any]:
        generations = 0 if self._algorithm is None else (self._algorithm.n_iter or 1) - 1
        return super().state_dict() | {"seed": self.seed, "generations": generations}


class _AnotherOption(Mutation):  # type: ignore[misc]
    """Each choice takes another of its options, all as likely, with probability 1 / choices."""

    def _do(self, problem: Problem, x: Any, *args: Any, random_state: np.random.Generator, **kwargs: Any) -> Any:
        sizes = problem.xu.astype(int) + 1
        other = (x + random_state.integers(1, np.maximum(sizes, 2), size=x.shape)) % sizes
        return np.where(random_state.random(x.shape) < 1 / x.shape[1], other, x)


class _SameNetwork(ElementwiseDuplicateElimination):  # type: ignore[misc]
    def __init__(self, canonical: Callable[[Architecture], Hashable]) -> None:
        super().__init__(cmp_func=lambda a, b: canonical(_plain(a.X)) == canonical(_plain(b.X)))


def _plain(x: Any) -> Architecture:
    return tuple(int(v) for v in x)
