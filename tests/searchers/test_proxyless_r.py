"""REINFORCE against enumeration, its baseline, and what it finds."""

import itertools
from typing import Any

import pytest
import torch

from searchers import Evaluation
from searchers.proxyless_r import ProxylessR


def made(**settings: Any) -> ProxylessR:
    return ProxylessR((3, 3), **{"rounds": 40, "warmup": 0.0, "scale": 0.5, "seed": 3, **settings})


def error(architecture: tuple[int, ...]) -> float:
    return 10.0 + 7.0 * architecture[0] + 3.0 * architecture[1] * (1 + architecture[0])


def asked(searcher: ProxylessR, architectures: list[tuple[int, ...]], costs: Any) -> None:
    """Tell costs as if the searcher had asked for exactly these."""
    searcher.train_on(1)
    searcher._asked = len(architectures)
    searcher.tell([Evaluation(a, (error(a), costs(a))) for a in architectures])


def test_the_gradient_is_that_of_the_expected_reward() -> None:
    """Every choice told once, weighted by its probability through repetition of the expectation's terms."""
    searcher = made(targets=[4.0])
    everything = list(itertools.product(range(3), repeat=2))
    p = searcher.controllers.policies[0].log_prob(everything).exp()
    rewards = torch.tensor([searcher.reward(Evaluation(a, (error(a), 1.0 + sum(a)))) for a in everything], dtype=torch.float64)
    (expected,) = torch.autograd.grad((p * rewards).sum(), searcher.controllers.policies[0].logits)
    for constant in (0.0, 0.37):
        score = ((rewards - constant) * p.detach() * searcher.controllers.policies[0].log_prob(everything)).sum()
        (estimated,) = torch.autograd.grad(score, searcher.controllers.policies[0].logits)
        assert torch.allclose(estimated, expected, atol=1e-12)


def test_the_step_is_the_formula() -> None:
    searcher = made(targets=[4.0], samples=4)
    before = searcher.controllers.policies[0].probabilities().detach()
    told = [(0, 1), (2, 0), (1, 1), (0, 0)]
    asked(searcher, told, lambda a: 2.0)
    rewards = [(1 - error(a) / 100) * 2.0**0.1 for a in told]
    baseline = sum(rewards) / 4  # the first mean
    by_hand = torch.zeros(2, 3, dtype=torch.float64)
    for a, reward in zip(told, rewards, strict=True):
        for choice, option in enumerate(a):
            by_hand[choice] += (reward - baseline) * (before[choice] - torch.eye(3, dtype=torch.float64)[option]) / 4
    assert searcher.controllers.policies[0].logits.grad is not None
    assert torch.allclose(searcher.controllers.policies[0].logits.grad, by_hand, atol=1e-12)


def test_the_baseline_takes_a_step_of_099_before_it_is_used() -> None:
    searcher = made(targets=[1.0])
    asked(searcher, [(0, 0)], lambda a: 1.0)
    assert searcher.controllers.gradients[0].baseline == pytest.approx(0.9)
    asked(searcher, [(2, 0)], lambda a: 1.0)
    assert searcher.controllers.gradients[0].baseline == pytest.approx(0.9 + 0.99 * (0.76 - 0.9))


def test_the_reward_is_the_accuracy_at_the_target_and_falls_with_cost() -> None:
    searcher = made(targets=[5.0])
    rewards = [searcher.reward(Evaluation((0, 0), (20.0, cost))) for cost in (2.5, 5.0, 10.0)]
    assert rewards == [pytest.approx(0.8 * r) for r in (2**0.1, 1.0, 0.5**0.1)]


def test_it_prefers_what_is_better_and_cheaper() -> None:
    searcher = made(rounds=60, samples=8, targets=1)
    for _ in range(60):
        searcher.train_on(1)
        searcher.tell([Evaluation(a, (error(a), 1.0 + sum(a))) for a in searcher.ask(100)])
    assert searcher.derive() == [(0, 0)] and min(row[0] for row in searcher.probabilities()) > 0.8


def test_warm_up_moves_nothing() -> None:
    searcher = made(warmup=0.5)
    before = searcher.controllers.policies[0].logits.detach().clone()
    for _ in range(20):
        assert len(searcher.train_on(2)) == 2 and searcher.ask(10) == []
    assert torch.equal(searcher.controllers.policies[0].logits, before) and searcher.stage.warmup == 20
    searcher.train_on(1)
    assert len(searcher.ask(10)) == 10


@pytest.mark.parametrize(
    "bad",
    [
        {"samples": 0},
        {"warmup": 1.0},
        {"targets": [[1.0, 2.0]]},
        {"targets": [1.0, 2.0], "power": 0.1},
        {"targets": [0.0]},
        {"lr": 0.0},
        {"power": [1.0, 2.0]},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        made(**bad)


def test_several_targets_find_the_best_network_below_each() -> None:
    prices = [[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]]
    searcher = made(additive=[(1.0, prices)], targets=[1.0, 3.0, 7.0], seed=1)
    for _ in range(40):
        searcher.train_on(1)
        told = [(a, 1.0 + sum(row[o] for row, o in zip(prices, a, strict=True))) for a in searcher.ask(10)]
        searcher.tell([Evaluation(a, (50.0 - 5 * sum(a), cost)) for a, cost in told])
    assert searcher.derive() == [(0, 0), (1, 1), (2, 2)]


def test_targets_of_a_measured_cost_span_what_was_measured_while_exploring() -> None:
    searcher = made(rounds=20, samples=4, targets=3)
    seen = []
    while searcher.trade_offs and not searcher.trade_offs.begun:
        before = [policy.logits.detach().clone() for policy in searcher.controllers.policies]
        searcher.train_on(1)
        told = [Evaluation(a, (error(a), 2.0 + sum(a))) for a in searcher.ask(10)]
        seen += [e.costs[1] for e in told]
        searcher.tell(told)
    assert searcher.trade_offs and len(seen) == 4 * 6  # three tenths of the rounds
    assert searcher.trade_offs.targets == [[pytest.approx(t)] for t in (min(seen), (min(seen) * max(seen)) ** 0.5, max(seen))]
    assert all(not torch.equal(b, p.logits) for b, p in zip(before, searcher.controllers.policies, strict=True))
