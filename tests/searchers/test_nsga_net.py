"""NSGA-Net's operators, its two phases, and what it never proposes."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare

from searchers import Architecture, Evaluation
from searchers.nsga_net import NsgaNet
from searchers.parts.categorical import Categorical
from searchers.parts.ranking import best
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
    assert len(searcher._alive) == 12 and all(e.costs[1] <= 25 for e in searcher._alive)


def test_phases_must_have_every_choice_once() -> None:
    with pytest.raises(ValueError, match="every choice once"):
        made(phases=[(0, 1), (1, 2, 3, 4, 5)])


def test_on_one_front_the_less_crowded_becomes_a_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = made(mutation=0.0)
    monkeypatch.setattr(searcher, "cross", lambda mother, father: mother)
    # The ends of a front have all the room; what lies between wins against itself alone, 1 in 9.
    searcher._alive = [Evaluation((i,) * 6, c) for i, c in enumerate([(1.0, 1.0), (0.0, 2.0), (2.0, 0.0)])]
    child = searcher._breeder()
    assert binomtest(sum(child() == (0,) * 6 for _ in range(3000)), 3000, 1 / 9).pvalue > 1e-3


def test_a_front_that_is_too_large_is_thinned_where_it_is_crowded() -> None:
    searcher = made(population=4)
    front = [(4.9, 5.1), (5.0, 5.0), (5.1, 4.9), (0.0, 10.0), (10.0, 0.0), (2.0, 8.0)]
    searcher._learn([Evaluation((i,) * 6, c) for i, c in enumerate(front)])
    # Of the three in the middle the outer ones have more room: by hand 0.62 and 1.0 against 0.04.
    assert {e.costs for e in searcher._alive} == {(0.0, 10.0), (10.0, 0.0), (2.0, 8.0), (5.1, 4.9)}


def test_a_mutation_takes_any_other_option_as_likely() -> None:
    searcher = made((2, 5, 2))
    counts = Counter(searcher._mutated((0, 2, 1), 1) for _ in range(2000))
    assert set(counts) == {(0, o, 1) for o in (0, 1, 3, 4)} and chisquare(list(counts.values())).pvalue > 1e-3


def test_late_children_join_phases_of_the_better_half_and_early_ones_do_not() -> None:
    phases = [(0, 1), (2, 3), (4, 5)]
    searcher = made(rounds=9, population=24, phases=phases, mutation=1.0)
    joined: list[int] = []
    for _ in range(9):
        searcher.train_on(1)
        uniform = _counted(searcher)
        half = [_cut(e.architecture, phases) for e in best(searcher.told, len(searcher.told) // 2)]
        asked = searcher.ask(24)
        children = [_cut(a, phases) for a in asked]
        joined.append(sum(all(any(c[i : i + 2] == h[i : i + 2] for h in half) for i in range(2)) for c in children))
        if searcher.exploiting:  # who does not join is a random one, in the place of a child that was known in all its tries
            assert len(children) - joined[-1] <= len(uniform)
        searcher.tell(evaluated(asked))
    assert max(joined[:6]) <= 12 and min(joined[6:]) >= 22


def _counted(searcher: NsgaNet) -> list[int]:
    """Grows by one with each network that is drawn uniformly."""
    drawn: list[int] = []
    sample = Categorical(SIZES).sample

    def counted(n: int, generator: torch.Generator) -> list[Architecture]:
        drawn.append(n)
        return sample(n, generator)

    searcher._uniform.sample = counted  # type: ignore[method-assign]
    return drawn


def _cut(architecture: Architecture, phases: Sequence[tuple[int, ...]]) -> list[Architecture]:
    return [tuple(architecture[c] for c in phase) for phase in phases]


def test_nothing_is_exploited_before_there_is_a_population() -> None:
    searcher = made(samples=4, explore=0.0)
    flags = [searcher.exploiting for _ in generations(searcher, 6)]
    assert flags == [False, False, True, True, True, True]  # looked at once the round is told


def test_survivors_are_saved_in_the_middle_of_a_generation() -> None:
    straight, restored = (made(rounds=12, population=6, explore=1.0, seed=s) for s in (0, 7))
    restored.load_state_dict(straight.state_dict())
    for _ in range(20):
        assert restored.train_on(1) == straight.train_on(1)
        asked = straight.ask(4)
        assert restored.ask(4) == asked
        for searcher in (straight, restored):
            searcher.tell(evaluated(asked))
        state, restored = restored.state_dict(), made(rounds=12, population=6, explore=1.0, seed=7)
        restored.load_state_dict(state)


def test_a_generation_of_random_networks_and_children_has_none_twice() -> None:
    for seed in range(20):
        searcher = made((2,) * 4, population=8, samples=5, seed=seed)  # the second generation begins with three random ones
        asked = [a for generation in generations(searcher, 2) for a in generation]
        assert len(asked) == len(set(asked)) == 10


def test_random_networks_follow_where_crossing_finds_nothing_new() -> None:
    searcher = made((3, 3, 3), rounds=20, population=2, samples=2, mutation=0.0, explore=1.0)
    assert len({a for asked in generations(searcher, 20) for a in asked}) > 20


def test_while_nobody_keeps_the_limit_those_who_break_it_least_survive() -> None:
    searcher = made(rounds=4)
    for _ in generations(searcher, 4, limit=5.0):
        pass
    assert all(e.violation > 0 for e in searcher.told)
    assert sorted(e.violation for e in searcher._alive) == sorted(e.violation for e in searcher.told)[:12]
