"""Neighbours of the front, all of them, once."""

import itertools
from typing import Any

import pytest

from analysis.pareto import non_dominated
from searchers import Architecture, Evaluation
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
    assert [distance(a, (2,) * 6) for a in searcher._propose(12)] == [1] * 12


def test_random_networks_follow_when_the_front_has_no_unknown_neighbour() -> None:
    searcher = LocalSearch((3, 3, 3), rounds=50, warmup=0.0, start=1, samples=3)
    told = [a for asked in generations(searcher, 12) for a in asked]
    assert len(set(told)) == len(told) == 27


def test_while_nothing_keeps_the_limit_the_nearest_to_it_is_expanded() -> None:
    searcher = made(start=2, samples=12, expand="all")
    searcher.told = evaluated([(0,) * 6, (1,) * 6], limit=1.0)
    assert searcher.told[0].violation < searcher.told[1].violation
    searcher._known = {e.architecture for e in searcher.told}
    assert [distance(a, (0,) * 6) for a in searcher._propose(12)] == [1] * 12


@pytest.mark.parametrize("seed", range(4))
def test_a_member_is_used_up_over_several_rounds_before_the_next_oldest(seed: int) -> None:
    """All costs are equal, so that everybody is on the front and stays there."""
    searcher = LocalSearch((3, 4, 2), rounds=20, warmup=0.0, start=2, samples=4, expand="all", seed=seed)
    every = list(itertools.product(range(3), range(4), range(2)))
    told: list[Architecture] = []
    for _ in range(8):
        searcher.train_on(1)
        asked = searcher.ask(4)
        known = set(told)
        for a in asked if told else []:
            oldest = next(m for m in told if any(distance(n, m) == 1 and n not in known for n in every))
            assert distance(a, oldest) == 1
            known.add(a)
        told += asked
        searcher.tell([Evaluation(a, (1.0, 1.0)) for a in asked])
    assert len(set(told)) == len(told) == 24


def test_one_at_a_time_turns_from_member_to_member() -> None:
    searcher = made(samples=12, start=2)
    searcher.told = evaluated([(0,) * 6, (2,) * 6])
    searcher._known = {(0,) * 6, (2,) * 6}
    near = [distance(a, (0,) * 6) == 1 for a in searcher._propose(12)]
    assert 0 < sum(near) < 12


def test_neighbours_have_any_other_option_in_random_order() -> None:
    firsts = set()
    for seed in range(60):
        searcher = LocalSearch((4, 3), rounds=9, warmup=0.0, start=1, samples=2, seed=seed)
        searcher.told = [Evaluation((1, 1), (1.0, 1.0))]
        searcher._known = {(1, 1)}
        firsts.add(searcher._propose(2)[0])
    assert firsts == {(0, 1), (2, 1), (3, 1), (1, 0), (1, 2)}


@pytest.mark.parametrize("expand", ["one", "all"])
def test_the_same_network_is_never_proposed_twice_in_any_notation(expand: Any) -> None:
    searcher = made(expand=expand, canonical=lambda a: tuple(sorted(a)))  # 28 networks in 729 notations
    proposed = [tuple(sorted(a)) for asked in generations(searcher, 20) for a in asked]
    assert len(proposed) == len(set(proposed)) > 25


def test_there_are_as_many_random_networks_as_wanted_at_the_start() -> None:
    first, second, *_ = generations(made(start=8, samples=8, expand="all"), 3)
    assert any(min(distance(a, b) for b in first if b != a) > 1 for a in first)
    assert second and all(min(distance(a, member) for member in front(first)) == 1 for a in second)


def test_random_networks_are_none_of_the_neighbours_before_them() -> None:
    searcher = LocalSearch((2,) * 4, rounds=9, warmup=0.0, start=1, samples=10)
    searcher.told = [Evaluation((0,) * 4, (1.0, 1.0))]
    searcher._known = {(0,) * 4}
    asked = searcher._propose(10)
    assert [distance(a, (0,) * 4) == 1 for a in asked] == [True] * 4 + [False] * 6 and len(set(asked)) == 10


def test_the_nearest_to_the_limit_is_expanded_though_others_are_older() -> None:
    searcher = made(start=2, samples=12, expand="all")
    searcher.told = evaluated([(1,) * 6, (0,) * 6], limit=1.0)
    searcher._known = {e.architecture for e in searcher.told}
    assert [distance(a, (0,) * 6) for a in searcher._propose(12)] == [1] * 12
