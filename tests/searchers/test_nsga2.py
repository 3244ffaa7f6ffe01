"""pymoo's NSGA-II through ask and tell, in portions, with constraints."""

import itertools
from typing import Any

from analysis.pareto import hypervolume, non_dominated
from searchers.nsga2 import Nsga2
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
    assert searcher.ask(4) == []
