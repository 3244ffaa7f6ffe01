"""Choice of parents, and their distance from children."""

from typing import Any

import pytest
from scipy.stats import binomtest

from searchers import Architecture, Evaluation
from searchers.aging_evolution import AgingEvolution
from tests.searchers.evolution import SIZES, costs, evaluated, generations


def made(rounds: int = 30, **settings: Any) -> AgingEvolution:
    return AgingEvolution(
        SIZES, **{"rounds": rounds, "warmup": 0.0, "population": 10, "tournament": 3, "samples": 5} | settings
    )


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_children_are_one_step_from_a_member_that_is_alive() -> None:
    searcher = made()
    told: list[tuple[int, ...]] = []
    for asked in generations(searcher, 20):
        if len(told) >= 10:
            alive = told[-10:]
            assert all(min(distance(child, parent) for parent in alive) == 1 for child in asked)
        told += asked
    assert len(set(told)) == len(told) == 100


def test_the_oldest_die_however_good_they_are() -> None:
    searcher = made(population=4, tournament=4, samples=1)
    best = (0,) * 6  # the best first cost; nothing dominates it
    middle = [(1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 0), (1, 1, 1, 1, 0, 1), (1, 1, 1, 0, 1, 1)]
    assert all(costs(best)[0] < costs(m)[0] for m in middle)
    for told in ([best, *middle[:3]], [best, *middle]):
        searcher.told = evaluated(told)
        near = [distance(searcher._propose(1)[0], best) == 1 for _ in range(20)]
        assert any(near) is (len(told) == 4)


def test_a_tournament_of_everybody_is_won_by_the_best() -> None:
    searcher = made(population=4, tournament=4)
    searcher.told = evaluated([(1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 0), (0, 1, 1, 1, 1, 1), (0,) * 6])
    assert [costs(a) for a in ((1,) * 6, (0,) * 6)] == [(21.0, 45.0), (0.0, 42.0)]
    children = [a for _ in range(30) for a in searcher._propose(1)]
    # Four draws with replacement miss the best with probability (3/4) ** 4.
    assert sum(distance(a, (0,) * 6) == 1 for a in children) > 15


@pytest.mark.parametrize("tournament", [1, 3, 4])
def test_parents_win_tournaments_of_so_many_with_replacement(tournament: int, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = made(population=4, tournament=tournament)
    searcher.told = evaluated([(1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 0), (0, 1, 1, 1, 1, 1), (0,) * 6])
    parents = _parents(searcher, monkeypatch, 1000)
    assert binomtest(parents.count((0,) * 6), len(parents), 1 - (3 / 4) ** tournament).pvalue > 1e-3


def test_on_one_front_the_less_crowded_becomes_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = made(population=3, tournament=2)
    searcher.told = [Evaluation((i,) * 6, c) for i, c in enumerate([(1.0, 1.0), (0.0, 2.0), (2.0, 0.0)])]
    parents = _parents(searcher, monkeypatch, 1000)
    # The ends have all the room; what lies between wins against itself alone.
    assert binomtest(parents.count((0,) * 6), len(parents), 1 / 9).pvalue > 1e-3


def _parents(searcher: AgingEvolution, monkeypatch: pytest.MonkeyPatch, count: int) -> list[Architecture]:
    """Whom `count` proposals began from."""
    found: list[Architecture] = []
    mutate = searcher._mutated

    def mutated(architecture: Architecture, choice: int) -> Architecture:
        found.append(architecture)
        return mutate(architecture, choice)

    monkeypatch.setattr(searcher, "_mutated", mutated)
    for _ in range(count):
        searcher._propose(1)
    return found


def test_a_generation_of_random_networks_and_children_has_none_twice() -> None:
    for seed in range(20):
        # The second generation begins with three random networks.
        searcher = AgingEvolution((2,) * 4, rounds=9, warmup=0.0, population=8, tournament=2, samples=5, seed=seed)
        asked = [a for generation in generations(searcher, 2) for a in generation]
        assert len(asked) == len(set(asked)) == 10


def test_who_breaks_the_limit_is_a_parent_only_among_its_like(monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = made(population=4, tournament=2)
    searcher.told = [Evaluation((0,) * 6, (0.0, 0.0), 0.1), *evaluated([(1,) * 6, (2,) * 6, (1, 2, 2, 2, 2, 2)])]
    parents = _parents(searcher, monkeypatch, 1000)
    assert binomtest(parents.count((0,) * 6), len(parents), 1 / 16).pvalue > 1e-3


def test_the_same_network_is_never_proposed_twice_in_any_notation() -> None:
    searcher = made(canonical=lambda a: tuple(sorted(a)))  # 28 networks in 729 notations
    proposed = [tuple(sorted(a)) for asked in generations(searcher, 20) for a in asked]
    assert len(proposed) == len(set(proposed)) > 25
