"""Who may be a parent, and how far children fall."""

from typing import Any

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
