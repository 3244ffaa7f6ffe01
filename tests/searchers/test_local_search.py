"""Neighbours of the front, all of them, once."""

from typing import Any

import pytest

from analysis.pareto import non_dominated
from searchers import Architecture
from searchers.local_search import LocalSearch
from tests.searchers.evolution import SIZES, costs, evaluated, generations


def made(rounds: int = 30, **settings: Any) -> LocalSearch:
    return LocalSearch(SIZES, **{"rounds": rounds, "warmup": 0.0, "start": 5, "samples": 4} | settings)


def distance(a: Architecture, b: Architecture) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def front(told: list[Architecture]) -> list[Architecture]:
    return [told[i] for i in non_dominated([costs(a) for a in told])]


@pytest.mark.parametrize("expand", ["one", "all"])
def test_after_the_start_neighbours_of_the_front_are_proposed_and_nothing_twice(expand: Any) -> None:
    told: list[Architecture] = []
    for asked in generations(made(expand=expand), 25):
        if len(told) > 5:
            assert all(min(distance(a, member) for member in front(told)) == 1 for a in asked)
        told += asked
    assert len(told) == len(set(told)) > 90


def test_all_neighbours_of_the_oldest_member_come_before_those_of_another() -> None:
    searcher = made(expand="all", samples=12, start=2)
    searcher.told = evaluated([(0,) * 6, (2,) * 6])
    searcher._known = {(0,) * 6, (2,) * 6}
    asked = searcher._propose(12)
    assert len(set(asked)) == 12 and all(distance(a, (0,) * 6) == 1 for a in asked)
    searcher._known.update(asked)
    assert all(distance(a, (2,) * 6) == 1 for a in searcher._propose(12))


def test_random_networks_follow_when_the_front_has_no_unknown_neighbour() -> None:
    searcher = LocalSearch((3, 3, 3), rounds=50, warmup=0.0, start=1, samples=3)
    told = [a for asked in generations(searcher, 12) for a in asked]
    assert len(set(told)) == len(told) == 27


def test_while_nothing_keeps_the_limit_the_nearest_to_it_is_expanded() -> None:
    searcher = made(start=2, samples=12, expand="all")
    searcher.told = evaluated([(0,) * 6, (1,) * 6], limit=1.0)
    assert searcher.told[0].violation < searcher.told[1].violation
    searcher._known = {e.architecture for e in searcher.told}
    assert all(distance(a, (0,) * 6) == 1 for a in searcher._propose(12))
