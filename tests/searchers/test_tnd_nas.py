"""algorithms of TND-NAS: estimator against enumeration, rewards, warm-up, shrinking, and a table with a known answer."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from searchers import Evaluation
from searchers.tnd_nas import TndNas

SIZES = (3, 3)
EVERYTHING = list(itertools.product(range(3), range(3)))


def error_of(architecture: tuple[int, ...]) -> float:
    return 10.0 + 7.0 * architecture[0] - 4.0 * architecture[1] + 3.0 * architecture[0] * architecture[1]


def ready(samples: int, **keywords: Any) -> TndNas:
    """A searcher past warm-up, with a policy that is not uniform."""
    searcher = TndNas(SIZES, rounds=30, warmup=0.0, samples=samples, clip=1e9, exponents=[0.0], **keywords)
    with torch.no_grad():
        searcher.controllers.policies[0].logits.copy_(torch.tensor([[0.2, -0.3, 0.5], [0.0, 0.4, -0.6]], dtype=torch.float64))
    searcher.train_on(1)
    searcher.ask(samples)
    return searcher


def gradient(told: list[tuple[int, ...]], **keywords: Any) -> torch.Tensor:
    """The gradient of the step that `told` causes, from a baseline of 50."""
    searcher = ready(len(told), **keywords)
    searcher.controllers.gradients[0].baseline = 50.0
    searcher.tell([Evaluation(a, (error_of(a), 1.0)) for a in told])
    assert searcher.controllers.policies[0].logits.grad is not None
    return searcher.controllers.policies[0].logits.grad.clone()


def expected_reward_gradient() -> torch.Tensor:
    """d E[R] / d logits by finite differences."""
    searcher = ready(1)

    def expected(logits: torch.Tensor) -> float:
        p = logits.softmax(dim=-1)
        return sum(float(p[0, a] * p[1, b]) * (100 - error_of((a, b))) for a, b in EVERYTHING)

    logits, step = searcher.controllers.policies[0].logits.detach(), 1e-5
    slope = torch.zeros_like(logits)
    for i, j in itertools.product(range(2), range(3)):
        nudge = torch.zeros_like(logits)
        nudge[i, j] = step
        slope[i, j] = (expected(logits + nudge) - expected(logits - nudge)) / (2 * step)
    return slope


def probability(architecture: tuple[int, ...]) -> float:
    return float(ready(1).controllers.policies[0].log_prob([architecture]).exp().detach())


def test_estimator_is_unbiased_for_any_constant_baseline() -> None:
    mean = sum(probability(a) * gradient([a], baseline_step=0.0) for a in EVERYTHING)
    assert torch.allclose(-mean, expected_reward_gradient(), atol=1e-7)


def test_a_baseline_with_the_batch_inside_shrinks_the_gradient_by_its_share() -> None:
    pairs = itertools.product(EVERYTHING, EVERYTHING)
    mean = sum(probability(a) * probability(b) * gradient([a, b], baseline_step=0.95) for a, b in pairs)
    assert torch.allclose(-mean, (1 - 0.95 / 2) * expected_reward_gradient(), atol=1e-6)


def test_gradients_of_a_choice_sum_to_zero() -> None:
    assert gradient([(0, 1), (2, 2), (1, 0)]).sum(dim=-1).abs().max() < 1e-12


def test_reward_is_the_accuracy_at_the_base_and_falls_with_cost() -> None:
    searcher = TndNas(SIZES, rounds=30, costs=2, warmup=0.0, exponents=[-0.25, -0.1], bases=[2.0, 5.0])
    searcher.train_on(1)
    searcher.ask(10)
    searcher.tell([Evaluation((0, 0), (20.0, 2.0, 5.0))] * 10)
    assert searcher.reward(Evaluation((0, 0), (20.0, 2.0, 5.0))) == pytest.approx(80)
    # the toy of three costs: 1, 2 and 4 times the base, exponent -0.25
    ratios = [searcher.reward(Evaluation((0, 0), (20.0, 2.0 * r, 5.0))) / 80 for r in (1, 2, 4)]
    assert ratios == pytest.approx([1, 0.8409, 0.7071], abs=1e-4)
    assert searcher.reward(Evaluation((0, 0), (20.0, 2.0, 10.0))) == pytest.approx(80 * 2**-0.1)


def test_warm_up_asks_nothing_and_moves_nothing() -> None:
    searcher = TndNas(SIZES, rounds=30, warmup=0.6)
    before = searcher.controllers.policies[0].logits.detach().clone()
    for _ in range(6):
        assert len(searcher.train_on(3)) == 3
        assert searcher.ask(10) == []
    assert torch.equal(before, searcher.controllers.policies[0].logits.detach())
    searcher.train_on(3)
    assert len(searcher.ask(10)) == 10


def run(searcher: TndNas, cost: Any, rounds: int) -> list[tuple[int, ...]]:
    asked = []
    for _ in range(rounds):
        searcher.train_on(1)
        drawn = searcher.ask(100)
        asked.append(drawn)
        if drawn:
            searcher.tell([Evaluation(a, cost(a)) for a in drawn])
    return [a for drawn in asked for a in drawn]


def test_stages_drop_the_weakest_and_never_ask_for_them_again() -> None:
    searcher = TndNas((5,) * 6, rounds=60, targets=1)
    left = []
    for _ in range(3):
        stage = searcher.stage
        left.append({len(options) for options in stage.options})
        for a in run(searcher, lambda a: (float(sum(a)), 1.0), stage.rounds):
            assert all(option in options for option, options in zip(a, stage.options, strict=True))
    assert left == [{5}, {3}, {2}]
    assert all(k in o for k, o in zip(searcher.derive()[0], searcher.stage.options, strict=True))


@pytest.mark.parametrize(("size", "schedule"), [(10, [10, 6, 3]), (6, [6, 4, 2]), (5, [5, 3, 2])])
def test_the_schedules_of_the_source(size: int, schedule: list[int]) -> None:
    searcher = TndNas((size,), rounds=30, targets=1)
    found = []
    for _ in schedule:
        found.append(len(searcher.stage.options[0]))
        run(searcher, lambda a: (float(a[0]), 1.0), searcher.stage.rounds)
    assert found == schedule


def test_shrinking_keeps_the_most_probable() -> None:
    searcher = TndNas((4,), rounds=9, warmup=0.0, keep=(0.5, 0.5), targets=1)
    for _ in range(2):
        searcher.train_on(1)
        searcher.tell([Evaluation(a, (50.0, 1.0)) for a in searcher.ask(10)])
    with torch.no_grad():
        searcher.controllers.policies[0].logits.copy_(torch.tensor([[0.0, 9.0, -4.0, 5.0]], dtype=torch.float64))
    searcher.train_on(1)
    searcher.tell([Evaluation(a, (50.0, 1.0)) for a in searcher.ask(10)])
    assert searcher.stage.index == 1 and searcher.stage.options == ((1, 3),)
    assert searcher.controllers.gradients[0].baseline is None  # the reward changes its scale with the network


def test_bandit_moves_mass_to_the_best_arm() -> None:
    searcher = TndNas((3,), rounds=300, keep=(), warmup=0.0, seed=1, targets=1)
    run(searcher, lambda a: ((10.0, 50.0, 90.0)[a[0]], 1.0), 300)
    assert searcher.probabilities()[0][0] > 0.9


def test_mixture_trains_the_softmax_and_paths_train_samples() -> None:
    mixture = TndNas(SIZES, rounds=30, targets=1)
    (weights,) = mixture.train_on(1)
    assert np.allclose(weights.weights, mixture.probabilities())
    paths = TndNas(SIZES, rounds=30, train="paths").train_on(5)
    assert all(sorted(row) == [0, 0, 1] for m in paths for row in m.weights)


def test_order_and_portions_of_telling_do_not_matter() -> None:
    states = []
    for order in (1, -1):
        searcher = TndNas(SIZES, rounds=30, warmup=0.0)
        searcher.train_on(1)
        told = [Evaluation(a, (error_of(a), 1.0)) for a in searcher.ask(10)][::order]
        searcher.tell(told[:3])
        searcher.tell(told[3:])
        states.append(searcher.controllers.policies[0].logits.detach().clone())
    assert torch.equal(*states)


@pytest.mark.parametrize(
    "keywords",
    [
        {"rounds": 2},
        {"rounds": 30, "samples": 0},
        {"rounds": 30, "warmup": 1.0},
        {"rounds": 30, "keep": (0.3, 0.6)},
        {"rounds": 30, "train": "both"},
        {"rounds": 30, "exponents": [[-0.1], [-0.1]]},
        {"rounds": 30, "bases": [0.0]},
        {"rounds": 30, "exponents": []},
        {"rounds": 30, "clip": -1.0},
        {"rounds": 30, "targets": 0},
        {"rounds": 30, "targets": 3, "exponents": -0.1},
        {"rounds": 30, "targets": [2.0], "bases": 3.0},
    ],
)
def test_impossible_settings_are_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TndNas(SIZES, **keywords)


def test_exponents_must_fit_the_costs() -> None:
    with pytest.raises(ValueError, match="exponents has 3 numbers; the 2 objectives"):
        TndNas(SIZES, rounds=30, costs=2, exponents=[-0.1, -0.2, -0.3])
    staged = TndNas(SIZES, rounds=30, costs=2, exponents=[[-0.1], [-0.2, -0.3], [-0.4]])
    assert staged.exponents == [[-0.1, -0.1], [-0.2, -0.3], [-0.4, -0.4]]


def test_on_the_real_table_it_ends_near_the_best_reward_of_15625(table: Any) -> None:
    """The loop with the table's accuracy in place of the supernet's; the true arg max of R is known by enumeration."""
    from orchestrator.spaces.nas_bench_201 import NasBench201

    space = NasBench201()
    costs = {
        space.parse(arch): (100 - accuracy, params)
        for arch, accuracy, params in zip(table["arch"], table["cifar10_val_accuracy"], table["params"], strict=True)
    }
    base = 5e5
    rewards = {a: (100 - error) * math.pow(params / base, -0.07) for a, (error, params) in costs.items()}
    ranked = sorted(rewards.values(), reverse=True)
    for seed in range(3):
        searcher = TndNas(space.sizes, rounds=240, warmup=0.0, bases=base, seed=seed)
        run(searcher, costs.__getitem__, 240)
        (derived,) = searcher.derive()
        assert ranked.index(rewards[derived]) < len(ranked) // 100


def test_entropy_is_off_by_default_and_evens_out_a_policy_that_earns_nothing_by_it() -> None:
    told = [(0, 1), (2, 2)]
    assert torch.equal(gradient(told), gradient(told, entropy=0.0))
    searcher = ready(2, entropy=0.5, lr=0.05)
    before = searcher.controllers.policies[0].entropy().item()
    for _ in range(8):  # a stage has ten rounds
        searcher.train_on(1)
        searcher.tell([Evaluation(a, (30.0, 1.0)) for a in searcher.ask(2)])
    assert searcher.controllers.policies[0].entropy().item() > before + 0.05


def test_entropy_adds_its_own_gradient_beside_that_of_the_reward() -> None:
    told: list[tuple[int, ...]] = [(0, 1), (2, 2)]
    policy = ready(2).controllers.policies[0]
    (expected,) = torch.autograd.grad(-2.0 * policy.entropy(), policy.logits)
    assert expected.any() and torch.allclose(gradient(told, entropy=2.0) - gradient(told), expected, atol=1e-9)


def test_where_all_rewards_are_equal_only_entropy_moves_the_policy() -> None:
    for entropy in (0.0, 0.5):
        searcher = ready(2, entropy=entropy, lr=0.05, weight_decay=0.0)
        values = [searcher.controllers.policies[0].entropy().item()]
        for _ in range(8):
            searcher.tell([Evaluation(a, (30.0, 1.0)) for a in searcher.ask(2)])
            values.append(searcher.controllers.policies[0].entropy().item())
        assert len(set(values)) == (9 if entropy else 1) and values == sorted(values)


def test_one_given_cost_is_the_published_reward_at_that_base() -> None:
    searcher = TndNas(SIZES, rounds=30, targets=[2.0])
    assert searcher.trade_offs is None and searcher.bases == [[2.0]] * 3 and searcher.exponents == [[-0.07]] * 3


PRICES = (1.0, [[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]])


def test_several_targets_find_the_best_network_below_each() -> None:
    """The dearer, the better: no single weight is asked for, and each target ends at its own network."""
    searcher = TndNas(SIZES, rounds=90, warmup=0.0, keep=(), additive=[PRICES], targets=[1.0, 3.0, 7.0], seed=1)
    price = lambda a: 1.0 + sum(PRICES[1][i][o] for i, o in enumerate(a))  # noqa: E731
    for _ in range(90):
        searcher.train_on(1)
        searcher.tell([Evaluation(a, (50.0 - 5 * sum(a), price(a))) for a in searcher.ask(10)])
    assert searcher.derive() == [(0, 0), (1, 1), (2, 2)]


def test_an_option_stays_while_one_target_keeps_it() -> None:
    searcher = TndNas((4,), rounds=9, warmup=0.0, keep=(0.5, 0.5), additive=[(1.0, [[0.0, 1.0, 2.0, 3.0]])], targets=2)
    for _ in range(3):
        if searcher._round == 2:
            for policy, logits in zip(searcher.controllers.policies, ([9.0, 5.0, 0.0, 0.0], [0.0, 9.0, 0.0, 5.0]), strict=True):
                with torch.no_grad():
                    policy.logits.copy_(torch.tensor([logits]))
        before = [policy.logits.detach().clone() for policy in searcher.controllers.policies]
        searcher.train_on(1)
        searcher.tell([Evaluation(a, (50.0, 1.0 + a[0])) for a in searcher.ask(10)])
    assert searcher.stage.index == 1 and searcher.stage.options == ((0, 1, 3),)
    # Policies go on in the next stage: its first samples are those of the last one's policies.
    after = [policy.logits.detach() for policy in searcher.controllers.policies]
    assert all(torch.allclose(a, b, atol=2 * searcher.lr) for a, b in zip(after, before, strict=True))
