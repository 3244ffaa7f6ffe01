"""NSGA-Net's operators, its two phases, and what it never proposes."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from searchers import Evaluation
from searchers.nsga_net import NsgaNet
from tests.searchers.evolution import SIZES, costs, evaluated, generations


def made(sizes: tuple[int, ...] = SIZES, rounds: int = 10, **settings: Any) -> NsgaNet:
    return NsgaNet(sizes, **{"rounds": rounds, "warmup": 0.0, "population": 12} | settings)


def test_homogeneous_crossover_of_bits_keeps_what_is_common_and_a_number_of_ones_between_the_parents() -> None:
    searcher = made((2,) * 9)
    mother, father = (1, 1, 0, 0, 1, 1, 1, 0, 0), (1, 0, 0, 1, 0, 0, 0, 0, 0)  # 4 ones and 1 where they differ
    counts: Counter[int] = Counter()
    places: Counter[int] = Counter()
    differing = [i for i in range(9) if mother[i] != father[i]]
    for _ in range(2000):
        child = searcher.cross(mother, father)
        assert all(child[i] == mother[i] for i in range(9) if i not in differing)
        counts[sum(child[i] for i in differing)] += 1
        places.update(i for i in differing if child[i])
    assert set(counts) == {1, 2, 3, 4} and chisquare(list(counts.values())).pvalue > 1e-3
    assert chisquare([places[i] for i in differing]).pvalue > 1e-3


def test_crossover_of_several_options_takes_each_from_a_parent() -> None:
    searcher = made()
    mother, father = (0, 1, 2, 0, 1, 2), (2, 1, 0, 1, 1, 2)
    children = [searcher.cross(mother, father) for _ in range(300)]
    assert all(o in (mother[i], father[i]) for child in children for i, o in enumerate(child))
    assert set(children) == set(itertools.product((0, 2), (1,), (2, 0), (0, 1), (1,), (2,)))


def test_two_point_crossover_swaps_one_stretch_nine_times_in_ten() -> None:
    searcher = made((2,) * 8, crossover="two-point")
    children = [searcher.cross((0,) * 8, (1,) * 8) for _ in range(3000)]
    assert all(sum(a != b for a, b in itertools.pairwise((0, *child, 0))) <= 2 for child in children)
    # A stretch is empty when both places coincide, 1 in 9.
    assert binomtest(sum(any(c) for c in children), 3000, 0.9 * 8 / 9).pvalue > 1e-3


def test_children_differ_from_crossed_parents_at_the_mutation_rate() -> None:
    searcher = made((4,) * 10, mutation=0.3)
    searcher.tell([])
    searcher._alive = evaluated([(1,) * 10, (1,) * 10])
    child = searcher._breeder()
    moved = [sum(o != 1 for o in child()) for _ in range(1000)]
    assert binomtest(sum(moved), 10_000, 0.3).pvalue > 1e-3
    assert made((4,) * 10).mutation == 0.1


def test_the_better_of_two_becomes_a_parent() -> None:
    searcher = made(mutation=0.0)
    searcher._alive = evaluated([(0, 0, 0, 0, 0, 2), (1, 1, 1, 1, 1, 2), (1, 1, 1, 1, 1, 1)])  # the others are dominated
    assert [costs(e.architecture) for e in searcher._alive] == [(12.0, 30.0), (27.0, 35.0), (21.0, 45.0)]
    child = searcher._breeder()
    from_best = sum(child() == (0, 0, 0, 0, 0, 2) for _ in range(2000))
    # Both tournaments of two with replacement are won by the best with probability 1 - (2/3) ** 2, or its parts prevail.
    assert from_best / 2000 > (5 / 9) ** 2


def test_survivors_are_the_best_of_parents_and_children() -> None:
    searcher = made(population=6)
    before: list[Evaluation] = []
    for asked in generations(searcher, 6):
        pool = before + evaluated(asked)
        alive = {e.architecture for e in searcher._alive}
        best = {e.architecture for e in pool if not any(_dominates(d, e) for d in pool)}
        assert len(asked) == len(alive) == 6 and alive <= {e.architecture for e in pool}
        assert alive <= best if len(best) >= 6 else best <= alive
        before = list(searcher._alive)


def test_it_exploits_after_two_thirds_of_the_rounds_that_ask() -> None:
    searcher = made(rounds=20, warmup=0.25, population=8)
    flags = []
    for _ in generations(searcher, 20):
        flags.append(searcher.exploiting)
    assert flags == [False] * 15 + [True] * 5


def test_exploitation_samples_the_conditionals_of_the_better_half() -> None:
    phases = [(0, 2), (1,), (3,)]
    searcher = made((2, 3, 2, 2), phases=phases)
    rng = np.random.default_rng(0)
    drawn = [tuple(int(rng.integers(n)) for n in (2, 3, 2, 2)) for _ in range(200)]
    searcher.told = [Evaluation(a, (float(a[0] + a[1] * a[3] + 0.01 * i), float(a[2] + 0.01 * i))) for i, a in enumerate(drawn)]
    half = [searcher.told[i] for i in _best(searcher.told, 100)]
    seen = [tuple(tuple(e.architecture[c] for c in phase) for phase in phases) for e in half]
    chances: Counter[Any] = Counter()
    for a, b, c in itertools.product(*({s[i] for s in seen} for i in range(3))):
        first = sum(s[0] == a for s in seen) / 100
        ab, before = sum(s[:2] == (a, b) for s in seen), sum(s[0] == a for s in seen)
        bc, middle = sum(s[1:] == (b, c) for s in seen), sum(s[1] == b for s in seen)
        chances[a, b, c] = first * ab / before * bc / middle
    assert sum(chances.values()) == pytest.approx(1)
    child = searcher._sampler()
    found = Counter((((x := child())[0], x[2]), (x[1],), (x[3],)) for _ in range(5000))
    assert set(found) <= {key for key, p in chances.items() if p}
    kept = [key for key, p in chances.items() if p > 0.001]
    rest = 1 - sum(chances[key] for key in kept)
    observed = [found[key] for key in kept] + [5000 - sum(found[key] for key in kept)] * (rest > 1e-9)
    expected = [5000 * chances[key] for key in kept] + [5000 * rest] * (rest > 1e-9)
    assert chisquare(observed, expected).pvalue > 1e-3


def _best(told: list[Evaluation], n: int) -> list[int]:
    """NSGA-II's first n, by fronts peeled by hand and pymoo's crowding where a front is cut."""
    left, taken = list(range(len(told))), []
    while len(taken) < n:
        front = [i for i in left if not any(_dominates(told[j], told[i]) for j in left)]
        if len(taken) + len(front) > n:
            from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

            crowding = get_crowding_function("cd").do(np.array([told[i].costs for i in front]), n_remove=0)
            front = [i for _, i in sorted(zip(-crowding, front, strict=True))]
        taken += front
        left = [i for i in left if i not in front]
    return taken[:n]


def _dominates(a: Evaluation, b: Evaluation) -> bool:
    return a.costs != b.costs and all(x <= y for x, y in zip(a.costs, b.costs, strict=True))


def test_the_same_network_is_never_proposed_twice_in_any_notation() -> None:
    searcher = made(rounds=30, canonical=lambda a: tuple(sorted(a)))  # 28 networks in 729 notations
    proposed = [tuple(sorted(a)) for asked in generations(searcher, 30) for a in asked]
    assert len(proposed) == len(set(proposed)) > 25


def test_who_keeps_the_limit_survives_first() -> None:
    searcher = made(rounds=12)
    for _ in generations(searcher, 12, limit=25.0):
        pass
    assert all(e.costs[1] <= 25 for e in searcher._alive)


def test_phases_must_have_every_choice_once() -> None:
    with pytest.raises(ValueError, match="every choice once"):
        made(phases=[(0, 1), (1, 2, 3, 4, 5)])
