"""Credit, pruning, schedule and the networks that DDPNAS generates."""

import itertools
import math
from typing import Any

import pytest
import torch

from orchestrator.config.spaces import make_space
from searchers import Architecture, Evaluation
from searchers.ddpnas import Ddpnas, graphs

pytestmark = pytest.mark.numeric

DARTS = make_space("darts", {}, (3, 32, 32), 10)


def made(sizes: tuple[int, ...], rounds: int, **settings: Any) -> Ddpnas:
    return Ddpnas(sizes, rounds=rounds, **settings)


def darts(**settings: Any) -> Ddpnas:
    given = {
        "parameter_free": DARTS.parameter_free,
        "node_inputs": DARTS.node_inputs,
        "none_option": DARTS.none_option,
        "additive": [DARTS.additive("parameters")],
    }
    return made(DARTS.sizes, 119, targets=1, **given | settings)


def epoch(searcher: Ddpnas, accuracy: Any) -> Architecture:
    """Run the rounds of an epoch: what was trained is asked, and told its accuracy as a fraction."""
    while True:
        (mixture,) = searcher.train_on(1)
        if found := searcher.ask(1):
            break
    (asked,) = found
    assert [row.index(1.0) for row in mixture.weights] == list(asked)
    searcher.tell([Evaluation(asked, (100 * (1 - accuracy(asked)), 1.0))])
    return asked


def alike(architecture: Architecture) -> float:
    return 0.5


def test_99_epochs_prune_eight_options_to_two_and_a_family_follows() -> None:
    searcher = darts()
    assert (searcher.epochs, searcher.family, searcher.cycles) == (99, 20, 3)
    left = []
    for _ in range(99):
        left.append(max(len(o) for o in searcher.policy.options()))
        epoch(searcher, lambda a: 0.3 + 0.01 * a[0])
    assert left == [n for n in range(8, 2, -1) for _ in range(3 * n)]
    assert all(len(o) == 2 for o in searcher.policy.options())
    family = searcher.derive()
    assert 8 <= len(family) <= 20
    assert [epoch(searcher, alike) for _ in range(20)] == [family[i % len(family)] for i in range(20)]
    assert searcher.train_on(1) and not searcher.ask(1)


def test_a_cycle_uses_every_surviving_option_once() -> None:
    searcher = darts()
    done = 0
    for options in (8, 8, 8, 7, 7, 7, 6):
        survivors = searcher.policy.options()
        trained = [epoch(searcher, lambda a: 0.4 + 0.02 * a[3]) for _ in range(options)]
        done += options
        for choice, left in enumerate(survivors):
            assert sorted(a[choice] for a in trained) == sorted(left)


def test_the_distribution_is_one_over_the_survivors_after_every_pruning() -> None:
    searcher = darts()
    for _ in range(99):
        epoch(searcher, lambda a: 0.3 + 0.005 * sum(a[:6]))
        assert torch.allclose(searcher.theta.sum(dim=1), torch.ones(28, dtype=torch.float64))
        assert ((searcher.theta > 0) == searcher.policy.alive).all()


def test_one_pruning_by_hand() -> None:
    searcher = made((3, 3), 12, cycles=2, survivors=2, family=1)
    accuracy = {0: (0.50, 0.52), 1: (0.51, 0.49), 2: (0.53, 0.55)}  # of an option of the first choice, in either cycle
    for cycle in range(2):
        for _ in range(3):
            epoch(searcher, lambda a, cycle=cycle: accuracy[a[0]][cycle])
    evidence = []
    for cycle in range(2):
        powers = [math.exp(100 * accuracy[o][cycle]) for o in range(3)]
        evidence.append([p / sum(powers) for p in powers])
    theta = [(evidence[0][o] + evidence[1][o]) / 2 + 0.5 / 3 for o in range(3)]
    theta[theta.index(min(theta))] = 0.0
    assert searcher.theta[0].tolist() == pytest.approx([t / sum(theta) for t in theta])
    # The next one starts from these, with the momentum of all that was before.
    assert searcher.policy.options()[0] == tuple(o for o in range(3) if theta[o])


def test_choices_of_unequal_size_credit_the_mean_and_refill_their_pools() -> None:
    searcher = made((4, 2), 10, cycles=1, family=1)
    trained = [epoch(searcher, lambda a: 0.5 + 0.1 * a[1]) for _ in range(4)]
    assert sorted(a[1] for a in trained) == [0, 0, 1, 1]
    powers = [math.exp(50), math.exp(60)]
    theta = [p / sum(powers) + 0.5 / 2 for p in powers]
    assert searcher.theta[1, :2].tolist() == pytest.approx([t / sum(theta) for t in theta])
    assert searcher.policy.options()[1] == (0, 1)
    searcher = made((4, 3), 20, cycles=2, family=1)
    for _ in range(2):  # each cycle begins with full pools
        assert sorted([epoch(searcher, alike)[1] for _ in range(4)][:3]) == [0, 1, 2]


def test_a_constant_on_all_accuracies_of_a_cycle_changes_nothing() -> None:
    searchers = [made((4, 4, 3), 30, cycles=2, family=2, seed=3) for _ in range(2)]
    for searcher, more in zip(searchers, (0.0, 0.25), strict=True):
        for _ in range(searcher.epochs):
            epoch(searcher, lambda a, more=more: 0.3 + more + 0.03 * a[0] + 0.02 * (a[1] == 2))
    assert torch.allclose(searchers[0].theta, searchers[1].theta)
    assert searchers[0].derive() == searchers[1].derive()


def test_the_last_option_of_its_kind_stays_whatever_its_place() -> None:
    for lonely in range(4):
        parameter_free = [[o == lonely for o in range(4)]] * 2
        searcher = made((4, 4), 40, parameter_free=parameter_free, cycles=1, family=1)
        for _ in range(searcher.epochs):
            epoch(searcher, lambda a, lonely=lonely: 0.9 - 0.2 * sum(o == lonely for o in a))  # the worst of all
        assert all(lonely in left and len(left) == 2 for left in searcher.policy.options())


def test_options_of_one_kind_are_pruned_all_the_same() -> None:
    searcher = made((4, 4), 40, parameter_free=[[True] * 4, [False] * 4], cycles=1, family=1)
    for _ in range(searcher.epochs):
        epoch(searcher, lambda a: 0.5 + 0.1 * a[0])
    assert searcher.policy.options()[0] == (2, 3) and len(searcher.policy.options()[1]) == 2


def test_a_short_search_has_fewer_cycles_and_a_tiny_one_is_refused() -> None:
    assert [made((8,) * 4, rounds).cycles for rounds in (119, 118, 86, 53, 40)] == [3, 2, 2, 1, 1]
    assert made((8,) * 4, 40).family == 7
    with pytest.raises(ValueError, match=r"at least 33 epochs, .* the budget has 33 rounds; raise budget\.epochs"):
        made((8,) * 4, 33)


def test_an_epoch_is_several_rounds_where_there_are_more() -> None:
    searcher = made((3, 3), 50, cycles=2, family=4)  # 6 + 4 epochs
    asked = []
    for round_ in range(50):
        trained = searcher.train_on(2)
        found = searcher.ask(5)
        asked.append(len(found))
        if found:
            assert trained[0].weights == tuple(tuple(float(o == k) for o in range(3)) for k in found[0])
            searcher.tell([Evaluation(found[0], (50.0 - round_, 1.0))])
    assert asked == [0, 0, 0, 0, 1] * 10


def test_the_graphs_of_a_cell() -> None:
    cell = [[0, 1], [2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12, 13]]
    counts = [sum(1 for _ in graphs(cell, height)) for height in (1, 2, 3, 4)]
    by_height = dict.fromkeys((1, 2, 3, 4), 0)
    for kept in itertools.product(*(itertools.combinations(range(n), 2) for n in (2, 3, 4, 5))):
        heights = [0, 0]
        for pair in kept:
            heights.append(1 + max(heights[p] for p in pair))
        by_height[max(heights)] += 1
    assert counts == list(itertools.accumulate(by_height.values()))
    assert counts[0] == 1 and counts[-1] == 180
    assert next(graphs(cell, 1)) == [0, 1, 2, 3, 5, 6, 9, 10]  # every node from the cell's inputs


@pytest.mark.parametrize("seed", range(4))
def test_generated_cells_equal_brute_force(seed: int) -> None:
    """Two nodes over two inputs, options none, pool and conv, all of them alive."""
    node_inputs, sizes = [[0, 1], [2, 3, 4]], (3,) * 5
    searcher = made(
        sizes, 30, parameter_free=[[True, True, False]] * 5, node_inputs=node_inputs, none_option=[0] * 5, family=1, seed=seed
    )
    searcher.theta = torch.rand((5, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for height, parameter_free in itertools.product((1, 2), range(5)):
        best, found = -1.0, None
        for a in itertools.product(range(3), repeat=5):
            kept = [[i for i, c in enumerate(node) if a[c]] for node in node_inputs]
            if any(len(pair) != 2 for pair in kept) or sum(o == 1 for o in a) != parameter_free:
                continue
            heights = [0, 0]
            for pair in kept:
                heights.append(1 + max(heights[p] for p in pair))
            score = sum(float(searcher.theta[c, o]) for c, o in enumerate(a) if o)
            if max(heights) <= height and score > best:
                best, found = score, a
        assert searcher.generate(height, parameter_free) == found, (height, parameter_free)
    assert searcher.generate(2, 5) is None and searcher.generate(0, 2) is None


def test_what_is_left_out_stands_for_no_edge_and_never_for_an_operation() -> None:
    """Where `none` survives as the only one of its kind another takes its place."""
    searcher = darts()
    searcher.policy.alive[:] = False
    searcher.policy.alive[:, [0, 4]] = True  # `none`, and a separable convolution
    for parameter_free in (0, 4, 8):
        found = searcher.generate(4, parameter_free)
        assert found is not None and sum(o != 0 for o in found) == 16
        kinds = [DARTS.parameter_free[c][o] for c, o in enumerate(found) if o]
        assert sum(kinds[:8]) == sum(kinds[8:]) == parameter_free


@pytest.mark.parametrize("seed", range(4))
def test_the_knapsack_equals_brute_force_on_chains_and_cells(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for node_inputs, none_option in (((), [None] * 5), (([0, 1], [2, 3, 4]), [0] * 5)):
        prices = torch.randint(0, 6, (5, 3), generator=rng).double()
        if node_inputs:
            prices[:, 0] = 0
        searcher = made(
            (3,) * 5, 30, node_inputs=node_inputs, none_option=none_option, additive=[(7.0, prices.tolist())], family=1
        )
        searcher.theta = torch.randint(0, 4, (5, 3), generator=rng).double()
        searcher.policy.alive[3, 2] = False
        every = {}
        for a in itertools.product(range(3), repeat=5):
            if a[3] != 2 and all(sum(a[c] != 0 for c in node) == 2 for node in node_inputs):
                used = [c for c in range(5) if not node_inputs or a[c]]
                score = sum(float(searcher.theta[c, a[c]]) for c in used)
                every[a] = (7.0 + sum(float(prices[c, a[c]]) for c in range(5)), score)
        beaten = {a: any(d <= c and t >= s and (d, t) != (c, s) for d, t in every.values()) for a, (c, s) in every.items()}
        expected = sorted({every[a] for a in every if not beaten[a]})
        found = searcher.knapsack()
        assert [every[a] for a in found] == expected
        for budget in (9.0, 14.0, 20.0):
            within = [pair for pair in expected if pair[0] <= budget]
            assert [every[a] for a in searcher.knapsack(budget)] == within[-1:]


def test_the_family_keeps_limits_and_is_spread_out() -> None:
    prices = [[float(2**c * o) for o in range(3)] for c in range(6)]
    given: dict[str, Any] = {"additive": [None, (1.0, prices)], "limits": [5.0, 60.0]}
    searcher = made((3,) * 6, 60, family=5, **given)
    searcher.theta = torch.arange(18, dtype=torch.float64).view(6, 3)
    costs = [1 + sum(prices[c][o] for c, o in enumerate(a)) for a in searcher.derive()]
    assert len(costs) == 5 and costs == sorted(costs) and (costs[0], costs[-1]) == (1.0, 47.0)


PRICES = (1.0, [[0.0, 1.0, 3.0]] * 4)


def played(searcher: Ddpnas, rounds: int) -> list[Architecture]:
    """Run a search in which dearer operations are more accurate, and return what it measures, in order."""
    measured = []
    for _ in range(rounds):
        searcher.train_on(1)
        for a in searcher.ask(1):
            searcher.tell([Evaluation(a, (60.0 - 5.0 * sum(a), 1.0 + sum(PRICES[1][0][o] for o in a)))])
            measured.append(a)
    return measured


def test_several_targets_end_at_the_best_network_within_each() -> None:
    searcher = made((3,) * 4, rounds=60, additive=[PRICES], targets=[1.0, 5.0, 13.0], seed=1)
    measured = played(searcher, 60)
    assert len(measured) == 60 and set(measured[48:51]) >= {(0,) * 4, (2,) * 4}  # generated, after four fifths
    cheapest, middle, dearest = searcher.derive()
    assert (cheapest, dearest) == ((0,) * 4, (2,) * 4)
    # Within 5, four networks of four units of accuracy can be had, and ones of two units and a dear one of three.
    assert sum(PRICES[1][0][o] for o in middle) <= 4 and sum(middle) >= 3
    assert all({0, 2} <= set(left) for left in searcher.stage.options)  # each is needed somewhere


def test_pruning_drops_the_least_of_what_no_target_needs() -> None:
    searcher = made((3,) * 4, rounds=60, additive=[PRICES], targets=2)
    searcher.theta = torch.tensor([[0.0, 1.0, 0.5]] * 4, dtype=torch.float64)
    searcher._prune()
    assert searcher.stage.options == ((0, 1),) * 4  # the first one adds least, and is all that the cheapest target can have
    searcher = made((3,) * 4, rounds=60, additive=[PRICES], targets=[1.0, 5.0, 13.0])
    searcher.theta = torch.tensor([[0.0, 1.0, 1.5]] * 4, dtype=torch.float64)
    searcher._prune()
    assert searcher.stage.options == ((0, 1, 2),) * 4


def test_settings_of_the_published_method_select_it() -> None:
    assert made((3,) * 4, rounds=60, additive=[PRICES], family=5).bounds is None
    assert made((3,) * 4, rounds=60).bounds is None
    with pytest.raises(ValueError, match="family belongs to the method as published"):
        made((3,) * 4, rounds=60, additive=[PRICES], targets=3, family=5)
