"""REINFORCE on a policy of independent choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from searchers.base import Architecture
from searchers.parts.categorical import Categorical


class Reinforce:
    """REINFORCE with a moving baseline and Adam: descend on `-(reward - baseline) * log p`, averaged over the samples.

    Args:
        policy: The distribution that is moved.
        lr: Learning rate of Adam.
        betas: Of Adam.
        baseline_step: b <- b + baseline_step * (mean reward - b), before the baseline is used; it starts at the mean reward of
            the first step. As it includes the samples' own mean, the expected step is (1 - baseline_step / samples) of the true
            gradient, in the same direction.
        weight_decay: Of Adam.
        clip: Largest L2 norm of the gradient; None for no limit.
        entropy: Weight of the policy's entropy, in nats.
    """

    def __init__(
        self,
        policy: Categorical,
        *,
        lr: float,
        betas: tuple[float, float],
        baseline_step: float,
        weight_decay: float = 0.0,
        clip: float | None = None,
        entropy: float = 0.0,
    ) -> None:
        self.policy, self.baseline_step, self.clip, self.entropy = policy, baseline_step, clip, entropy
        self.baseline: float | None = None
        self._adam = torch.optim.Adam([policy.logits], lr=lr, betas=betas, weight_decay=weight_decay)

    def step(self, architectures: Sequence[Architecture], rewards: Sequence[float], weights: Tensor | None = None) -> None:
        """Move the policy.

        Args:
            architectures: Samples.
            rewards: What each of them earned.
            weights: Ratio of its probability under this policy to that under which it was drawn, (architectures,). None for
                samples of this policy.
        """
        earned = torch.tensor(rewards, dtype=torch.float64)
        mean = float(earned.mean() if weights is None else (weights * earned).sum() / weights.sum().clamp(min=1e-12))
        self.baseline = mean if self.baseline is None else self.baseline + self.baseline_step * (mean - self.baseline)
        terms = (earned - self.baseline) * self.policy.log_prob(architectures)
        loss = -(terms if weights is None else weights * terms).mean()
        if self.entropy:
            loss = loss - self.entropy * self.policy.entropy()
        self._adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_([self.policy.logits], self.clip)
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"baseline": self.baseline, "policy": self.policy.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.baseline = state["baseline"]
        self.policy.load_state_dict(state["policy"])
        self._adam.load_state_dict(state["adam"])
