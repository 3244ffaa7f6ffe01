"""The policy gradient step against enumeration."""

import itertools

import pytest
import torch

from searchers.parts.categorical import Categorical
from searchers.parts.reinforce import Reinforce

pytestmark = pytest.mark.numeric

SIZES = (3, 2)
EVERY = list(itertools.product(*(range(n) for n in SIZES)))


def policy(seed: int = 0) -> Categorical:
    made = Categorical(SIZES)
    with torch.no_grad():
        made.logits.copy_(torch.randn(made.logits.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return made


def reward(architecture: tuple[int, ...]) -> float:
    return 1.0 + 2 * architecture[0] - 3 * architecture[1] * architecture[0]


def chances(of: Categorical) -> torch.Tensor:
    return torch.stack([of.log_prob([a])[0] for a in EVERY]).exp()


def stepped(architectures: list[tuple[int, ...]], **settings: float) -> torch.Tensor:
    """The gradient that one step hands to Adam."""
    on = policy()
    part = Reinforce(on, lr=0.1, betas=(0.0, 0.999), baseline_step=0.5, **settings)  # type: ignore[arg-type]
    part.baseline = 0.7
    part.step(architectures, [reward(a) for a in architectures])
    assert on.logits.grad is not None
    return on.logits.grad.clone()


def test_the_expected_step_is_the_gradient_of_the_expected_reward_as_far_as_the_baseline_lets_it() -> None:
    samples = 2
    p = chances(policy()).detach()
    mean = sum(p[i] * p[j] * stepped([EVERY[i], EVERY[j]]) for i, j in itertools.product(range(len(EVERY)), repeat=samples))
    on = policy()
    (chances(on) * torch.tensor([reward(a) for a in EVERY], dtype=torch.float64)).sum().backward()
    assert on.logits.grad is not None
    assert isinstance(mean, torch.Tensor)
    torch.testing.assert_close(mean, -(1 - 0.5 / samples) * on.logits.grad)


def test_the_baseline_follows_the_mean_and_starts_there() -> None:
    part = Reinforce(policy(), lr=0.1, betas=(0.0, 0.999), baseline_step=0.25)
    part.step([(0, 0), (1, 0)], [2.0, 4.0])
    assert part.baseline == 3.0
    part.step([(0, 0), (1, 0)], [7.0, 7.0])
    assert part.baseline == 3.0 + 0.25 * 4


def test_entropy_adds_its_gradient_and_is_maximised() -> None:
    added = stepped([(0, 0), (2, 1)], entropy=0.3) - stepped([(0, 0), (2, 1)])
    for place in ((0, 0), (0, 2), (1, 1)):
        around = []
        for sign in (1, -1):
            on = policy()
            with torch.no_grad():
                on.logits[place] += sign * 1e-5
            around.append(float(on.entropy().detach()))
        assert float(added[place]) == pytest.approx(-0.3 * (around[0] - around[1]) / 2e-5, abs=1e-7)


def test_long_gradients_are_clipped() -> None:
    assert float(stepped([(0, 0), (2, 1)], clip=0.01).norm()) == pytest.approx(0.01, rel=1e-3)
