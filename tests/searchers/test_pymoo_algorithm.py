"""pymoo's algorithms by name; what they share with NSGA-II is tested there."""

import itertools
from typing import Any

import numpy as np
import pytest
from pymoo.core.population import Population

from analysis.pareto import hypervolume, non_dominated
from searchers import Architecture, Evaluation
from searchers.nsga2 import Nsga2
from searchers.pymoo_algorithm import BY_DIRECTION, BY_RANK, PymooAlgorithm, _SameNetwork
from searchers.random_search import RandomSearch
from tests.searchers.evolution import SIZES, costs, generations

ALGORITHMS = list(BY_RANK | BY_DIRECTION)
REFERENCE = (43.0, 67.0)


def made(rounds: int = 15, **settings: Any) -> PymooAlgorithm:
    return PymooAlgorithm(SIZES, **{"rounds": rounds, "warmup": 0.0, "population": 10, "samples": 10} | settings)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_finds_more_than_random_search_does(algorithm: str) -> None:
    every = [costs(a) for a in itertools.product(range(3), repeat=6)]
    whole = hypervolume([every[i] for i in non_dominated(every)], REFERENCE)
    found: dict[str, list[float]] = {"own": [], "random": []}
    for seed in range(3):
        told = [costs(a) for asked in generations(made(seed=seed, algorithm=algorithm), 15) for a in asked]
        random = RandomSearch(SIZES, rounds=15, warmup=0.0, samples=10, seed=seed)
        as_many = [costs(a) for asked in generations(random, 15) for a in asked][: len(told)]
        found["own"].append(hypervolume(told, REFERENCE) / whole)
        found["random"].append(hypervolume(as_many, REFERENCE) / whole)
    assert sum(found["own"]) > sum(found["random"]), found


def test_the_algorithm_is_the_one_that_was_named() -> None:
    assert {name: type(made(algorithm=name)._start()).__name__ for name in ALGORITHMS} == {name: name for name in ALGORITHMS}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_constraints_and_a_third_objective_are_taken(algorithm: str) -> None:
    searcher = made(algorithm=algorithm, costs=2)
    asked: list[list[Architecture]] = []
    for _ in range(8):
        searcher.train_on(1)
        asked.append(searcher.ask(10))
        told = [Evaluation(a, (*costs(a), float(a[0])), max(0.0, costs(a)[1] / 20 - 1)) for a in asked[-1]]
        searcher.tell(told)

    def kept(generations: list[list[Architecture]]) -> float:
        every = [a for generation in generations for a in generation]
        return sum(costs(a)[1] <= 20 for a in every) / len(every)

    assert kept(asked[-3:]) > kept(asked[:2])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_saved_one_goes_on_identically(algorithm: str) -> None:
    straight, restored = (made(algorithm=algorithm, seed=s) for s in (0, 7))
    for _ in generations(straight, 6):
        pass
    restored.load_state_dict(straight.state_dict())
    assert list(generations(restored, 4)) == list(generations(straight, 4))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_searches_of_one_process_have_nothing_in_common(algorithm: str) -> None:
    alone = list(generations(made(algorithm=algorithm), 4))
    together = [generations(made(algorithm=algorithm, seed=seed), 4) for seed in (0, 5)]
    assert [pair[0] for pair in zip(*together, strict=True)] == alone


def test_nsga2_is_one_of_them() -> None:
    short = Nsga2(SIZES, rounds=15, warmup=0.0, population=10, samples=10)
    assert list(generations(short, 6)) == list(generations(made(algorithm="NSGA2"), 6))


@pytest.mark.parametrize(
    "settings", [{"algorithm": "SMSEMO"}, {"algorithm": "RVEA"}, {"population": 1}, {"crossover": 1.5}, {"samples": 0}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        made(**settings)


def test_networks_that_are_known_are_left_out_in_any_notation() -> None:
    bred = Population.new(X=np.array([[0, 1], [1, 0], [2, 3], [1, 1]]))
    parents = Population.new(X=np.array([[3, 2], [0, 0]]))
    same = _SameNetwork(lambda a: tuple(sorted(a)))
    assert same.do(bred, parents).get("X").tolist() == [[1, 0], [1, 1]]
    assert same.do(bred).get("X").tolist() == [[1, 0], [2, 3], [1, 1]]
