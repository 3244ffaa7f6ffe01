"""pymoo's NSGA-II through ask and tell, in portions, with constraints."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from analysis.pareto import hypervolume, non_dominated
from searchers.nsga2 import Nsga2
from searchers.pymoo_algorithm import _AnotherOption
from searchers.random_search import RandomSearch
from tests.searchers.evolution import SIZES, costs, evaluated, generations

REFERENCE = (43.0, 67.0)


def made(rounds: int = 15, **settings: Any) -> Nsga2:
    return Nsga2(SIZES, **{"rounds": rounds, "warmup": 0.0, "population": 10, "samples": 10} | settings)


def test_it_finds_more_of_a_known_front_than_random_search_does() -> None:
    every = [costs(a) for a in itertools.product(range(3), repeat=6)]
    front = [every[i] for i in non_dominated(every)]
    whole = hypervolume(front, REFERENCE)
    found: dict[str, list[float]] = {"nsga2": [], "random": []}
    for seed in range(5):
        told = [costs(a) for asked in generations(made(seed=seed), 15) for a in asked]
        random = RandomSearch(SIZES, rounds=15, warmup=0.0, samples=10, seed=seed)
        as_many = [costs(a) for asked in generations(random, 15) for a in asked][: len(told)]
        found["nsga2"].append(hypervolume(told, REFERENCE) / whole)
        found["random"].append(hypervolume(as_many, REFERENCE) / whole)
    assert sum(found["nsga2"]) > sum(found["random"]) and min(found["nsga2"]) > 0.95, found


def test_the_limit_is_kept_once_it_can_be() -> None:
    def late(limit: float) -> float:
        asked = [a for generation in list(generations(made(), 12, limit))[-4:] for a in generation]
        return sum(costs(a)[1] <= 12 for a in asked) / len(asked)

    assert late(12.0) > 2 * late(float("inf")) > 0


def test_a_generation_may_be_asked_in_portions_and_saved_in_between() -> None:
    whole = list(generations(made(), 6))
    searcher, seen = made(), []
    for generation in whole:
        searcher.train_on(1)
        found = []
        for portion in (3, 4, 10):
            asked = searcher.ask(portion)
            found += asked
            searcher.tell(evaluated(asked[::-1]))
            restored = made(seed=5)
            restored.load_state_dict(searcher.state_dict())
            searcher = restored
        seen.append(found)
        assert found == generation
    assert seen == whole


def test_nothing_is_proposed_twice_and_a_used_up_space_ends_in_silence() -> None:
    searcher = Nsga2((3, 3), rounds=30, warmup=0.0, population=4, samples=4)
    asked = [a for generation in generations(searcher, 30) for a in generation]
    assert len(asked) == len(set(asked)) == 9
    begun = searcher._algorithm
    assert searcher.ask(4) == [] and searcher._algorithm is begun  # it has ended, and does not begin again
    assert searcher.ask(4) == []


def test_mutation_changes_one_choice_in_so_many_to_any_other_option() -> None:
    searcher = Nsga2((4,) * 10, rounds=9, warmup=0.0)
    problem = searcher._start().problem
    rng = np.random.default_rng(0)
    x = rng.integers(4, size=(2000, 10))
    moved = _AnotherOption()._do(problem, x, random_state=rng)
    assert binomtest(int((moved != x).sum()), x.size, 0.1).pvalue > 1e-3
    steps = np.bincount(((moved - x) % 4)[moved != x], minlength=4)[1:]
    assert moved.min() == 0 and moved.max() == 3 and chisquare(steps).pvalue > 1e-3


def test_the_same_network_is_never_proposed_twice_in_any_notation() -> None:
    searcher = made(population=6, samples=6, canonical=lambda a: tuple(sorted(a)))  # 28 networks in 729 notations
    proposed = []
    for asked in generations(searcher, 5):
        proposed += [tuple(sorted(a)) for a in asked]
        members = [tuple(sorted(a)) for a in searcher._members()]
        assert len(members) == len(set(members))  # nor is any bred twice
    assert len(proposed) == len(set(proposed)) >= 15


def test_a_long_search_goes_on_identically() -> None:
    straight, restored = (made(rounds=40, population=4, samples=4, seed=s) for s in (0, 7))
    for _ in generations(straight, 25):  # more generations than a round may look through
        pass
    restored.load_state_dict(straight.state_dict())
    assert restored.state_dict()["generations"] == straight.state_dict()["generations"] > 20
    assert list(generations(restored, 5)) == list(generations(straight, 5))


def test_random_networks_follow_where_generations_bring_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = made()
    told = next(generations(searcher, 1))
    monkeypatch.setattr(searcher, "_advance", lambda: None)
    asked = next(generations(searcher, 1))
    assert len({*told, *asked}) == 20
