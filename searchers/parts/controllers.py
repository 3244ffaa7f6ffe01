"""Policies over one supernet that learn by REINFORCE, one for each target of a search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from searchers.base import Architecture, Evaluation
from searchers.parts.categorical import Categorical
from searchers.parts.reinforce import Reinforce
from searchers.parts.targets import TradeOffs
from searchers.parts.ties import level

CLIP = 10.0
"""Largest weight of a sample for a policy that did not draw it."""


class Controllers:
    """Policies that share their samples: each measured architecture moves all of them.

    A sample that was drawn from the mixture of the policies has the weight p_k / mean_j p_j for policy k (the balance
    heuristic; Veach and Guibas, 1995), clipped at `CLIP`. A single policy has the weight 1, which is plain REINFORCE.

    Args:
        sizes: Number of options of each choice.
        count: Number of policies.
        scale: Deviation of the initial logits.
        make: From a policy to what moves it.
        generator: Source of the initial logits and of all samples; part of the state.

    Example:
        >>> make = lambda policy: Reinforce(policy, lr=0.1, betas=(0.0, 0.999), baseline_step=0.9)
        >>> controllers = Controllers((3, 4), 2, scale=0.0, make=make, generator=torch.Generator().manual_seed(0))
        >>> controllers.step([(0, 0), (1, 1)], torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> controllers.modes()
        [(0, 0), (1, 1)]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        count: int,
        *,
        scale: float,
        make: Callable[[Categorical], Reinforce],
        generator: torch.Generator,
    ) -> None:
        self.policies = [Categorical(sizes) for _ in range(count)]
        self._scale, self._make, self._generator = scale, make, generator
        self._drawn = [0, 0]
        self.restart()

    def __len__(self) -> int:
        return len(self.policies)

    def restart(self) -> None:
        """Draw new logits, and forget baselines and Adam's moments."""
        for policy in self.policies:
            policy.initialise(self._scale, self._generator)
        self.renew()

    def renew(self) -> None:
        """Forget baselines and Adam's moments."""
        self.gradients = [self._make(policy) for policy in self.policies]

    def _turns(self, purpose: int, n: int) -> list[int]:
        """Return whose turn each of the next `n` samples is. Training and measuring count by themselves: with a common counter
        their sum might be a multiple of the number of policies, and the same one left out in every round."""
        start = self._drawn[purpose]
        self._drawn[purpose] = (start + n) % len(self)
        return [(start + i) % len(self) for i in range(n)]

    def sample(self, n: int, *, training: bool = False) -> list[Architecture]:
        """Draw `n` architectures, from each policy in turn."""
        turns = self._turns(int(training), n)
        per_policy = [policy.sample(turns.count(k), self._generator) for k, policy in enumerate(self.policies)]
        return [per_policy[k].pop(0) for k in turns]

    def mixtures(self, n: int) -> list[list[list[float]]]:
        """Return the probabilities (see `rows`) of each policy in turn, `n` times."""
        rows = [policy.rows() for policy in self.policies]
        return [rows[k] for k in self._turns(1, n)]

    def weights(self, architectures: Sequence[Architecture]) -> Tensor:
        """Return the weight of each sample for each policy, (architectures, policies)."""
        log_p = torch.stack([policy.log_prob(architectures).detach() for policy in self.policies], dim=1)
        mixture = log_p.logsumexp(dim=1, keepdim=True) - math.log(len(self))
        return (log_p - mixture).exp().clamp(max=CLIP)

    def step(self, architectures: Sequence[Architecture], rewards: Tensor) -> None:
        """Move every policy.

        Args:
            architectures: Samples of the policies as they are now.
            rewards: (architectures, policies).
        """
        weights = self.weights(architectures)
        for k, gradient in enumerate(self.gradients):
            gradient.step(architectures, rewards[:, k].tolist(), None if len(self) == 1 else weights[:, k])

    def learn(self, evaluations: list[Evaluation], trade_offs: TradeOffs, *, exploring: bool) -> None:
        """Move every policy towards what is worth most under its target.

        The policies stay as they are while the search explores; then they start at what was measured so far.

        Args:
            evaluations: The samples of a round; they are added to the history of `trade_offs`.
            trade_offs: Targets, one per policy.
            exploring: Whether later rounds explore, too.
        """
        trade_offs.history += evaluations
        if trade_offs.begun:
            self.step([e.architecture for e in evaluations], trade_offs.worth()[-len(evaluations) :])
        elif not exploring:
            trade_offs.begin()
            self.start_at([e.architecture for e in trade_offs.history], trade_offs.worth())

    def start_at(self, architectures: Sequence[Architecture], worth: Tensor) -> None:
        """Set logits to the log of the mean of exp(worth) over the architectures with an option.

        The mean over all of them counts as one architecture more, for options that few have.

        Args:
            architectures: Uniform samples, so that an option's mean is over what the other choices happened to be.
            worth: (architectures, policies).
        """
        picked = torch.tensor(architectures)
        earned = level((worth - worth.amax(dim=0)).exp())
        for k, policy in enumerate(self.policies):
            one = earned[:, k : k + 1].expand(-1, picked.shape[1])
            total = torch.zeros_like(policy.logits.T).scatter_add(0, picked, one)
            uses = torch.zeros_like(policy.logits.T).scatter_add(0, picked, torch.ones_like(one))
            with torch.no_grad():
                policy.logits.copy_(((total + earned[:, k].mean()) / (uses + 1)).log().T)
        self.renew()

    def keep(self, counts: Sequence[int]) -> None:
        """Drop the options that are not among the `counts` most probable of a choice under any policy.

        Raises:
            ValueError: for a count of 0, or of more options than survive.
        """
        for policy in self.policies:
            policy.keep(counts)
        alive = torch.stack([policy.alive for policy in self.policies]).any(dim=0)
        for policy in self.policies:
            policy.alive = alive.clone()

    def options(self) -> tuple[tuple[int, ...], ...]:
        """List the surviving options per choice."""
        return self.policies[0].options()

    def rows(self) -> list[list[float]]:
        """Return the mean of the policies' probabilities, as lists of the choices' own lengths."""
        if len(self) == 1:
            return self.policies[0].rows()
        mean = torch.stack([policy.probabilities().detach() for policy in self.policies]).mean(dim=0)
        return [row[:n] for row, n in zip(mean.tolist(), self.policies[0].sizes, strict=True)]

    def modes(self) -> list[Architecture]:
        """Return the most probable option of each choice of each policy, without repeats."""
        return list(dict.fromkeys(policy.mode() for policy in self.policies))

    def state_dict(self) -> dict[str, Any]:
        return {
            "gradients": [gradient.state_dict() for gradient in self.gradients],
            "drawn": list(self._drawn),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for gradient, saved in zip(self.gradients, state["gradients"], strict=True):
            gradient.load_state_dict(saved)
        self._drawn = list(state["drawn"])
        self._generator.set_state(state["generator"])
