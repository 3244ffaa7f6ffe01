"""Policies that share their samples, against enumeration."""

import itertools

import pytest
import torch

from searchers.parts.categorical import Categorical
from searchers.parts.controllers import CLIP, Controllers
from searchers.parts.reinforce import Reinforce

pytestmark = pytest.mark.numeric

SIZES = (3, 2)
EVERY = list(itertools.product(*(range(n) for n in SIZES)))


def made(count: int, scale: float = 1.0) -> Controllers:
    def still(policy: Categorical) -> Reinforce:
        return Reinforce(policy, lr=1e-12, betas=(0.0, 0.999), baseline_step=0.0)

    return Controllers(SIZES, count, scale=scale, make=still, generator=torch.Generator().manual_seed(1))


def test_each_policy_moves_along_its_own_gradient_whoever_drew_the_samples() -> None:
    controllers = made(3)
    rewards = torch.randn((len(EVERY), 3), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    chances = torch.stack([policy.log_prob(EVERY) for policy in controllers.policies]).exp()
    drawn = chances.mean(dim=0).detach()
    for k, policy in enumerate(controllers.policies):
        (expected,) = torch.autograd.grad(-(chances[k] * rewards[:, k]).sum(), policy.logits, retain_graph=True)
        estimated = torch.zeros_like(expected)
        for a, chance, reward in zip(EVERY, drawn, rewards, strict=True):
            for gradient in controllers.gradients:
                gradient.baseline = 0.3
            controllers.step([a], reward[None])
            assert policy.logits.grad is not None
            estimated += chance * policy.logits.grad
        assert torch.allclose(estimated, expected, atol=1e-9)


def test_weights_are_ratios_to_the_mixture_and_clipped() -> None:
    controllers = made(20, scale=0.0)
    assert torch.allclose(controllers.weights(EVERY), torch.ones((), dtype=torch.float64))
    with torch.no_grad():
        controllers.policies[0].logits[0, 0] = 20.0
    weights = controllers.weights([(0, 0), (1, 0)])
    assert weights[0, 0] < CLIP and weights[1, 0] < 1e-6
    with torch.no_grad():
        for policy in controllers.policies[1:]:
            policy.logits[0, 1] = 20.0
    assert controllers.weights([(0, 0)])[0, 0] == CLIP


def test_samples_come_from_each_policy_in_turn() -> None:
    controllers = made(3, scale=0.0)
    for k, policy in enumerate(controllers.policies):
        with torch.no_grad():
            policy.logits[0, k] = 50.0
    assert [a[0] for a in controllers.sample(4) + controllers.sample(4)] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [a[0] for a in controllers.sample(2, training=True)] == [0, 1]  # counted by itself
    assert [rows[0].index(max(rows[0])) for rows in controllers.mixtures(2)] == [2, 0]
    assert controllers.rows()[0] == pytest.approx([1 / 3] * 3)


def test_they_start_at_the_mean_of_what_was_measured() -> None:
    controllers = made(1)
    worth = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    controllers.start_at([(0, 0), (0, 1), (1, 1)], worth)
    w = worth.flatten().exp()
    mean = w.mean()
    means = torch.stack([(w[0] + w[1] + mean) / 3, (w[2] + mean) / 2, mean])
    assert torch.allclose(controllers.policies[0].probabilities()[0], means / means.sum())


def test_what_one_policy_keeps_stays() -> None:
    controllers = made(2, scale=0.0)
    with torch.no_grad():
        controllers.policies[0].logits[0, 0] = 1.0
        controllers.policies[1].logits[0, 2] = 1.0
    controllers.keep([1, 1])
    assert controllers.options() == ((0, 2), (0,))
    assert all(a[0] != 1 for a in controllers.sample(50)) and controllers.modes() == [(0, 0), (2, 0)]
