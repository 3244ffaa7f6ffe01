"""A policy conditioned on the preference between objectives: the whole front from one search.

Not published elsewhere. A scalarised policy gradient ends at one trade-off, and a sweep over trade-offs pays for a search at
each. Here the logits are a smooth function of a preference, a point of the simplex over objectives, and REINFORCE moves the
whole function at once. MODNAS (arXiv 2402.18213) has a hypernetwork from preferences to architectures, too, but needs a loss
that is differentiable in every objective; here costs are measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from pymoo.util.ref_dirs import get_reference_directions
from torch import Tensor

from searchers.base import Architecture, Evaluation, Mixture, Searcher, Stage
from searchers.parts.categorical import Categorical
from searchers.parts.ties import extent, level


class PreferencePolicy(Searcher):
    """Sample each architecture under a preference of its own, and learn from each sample for all preferences.

    Every measured architecture has a utility under every preference. So each sample of a round teaches all preferences of the
    round, weighted by how much more likely it is under theirs than under the mixture of the round (the balance heuristic; Veach
    and Guibas, 1995): an unbiased gradient without further evaluations.

    The utility is minus the augmented Chebyshev distance from the ideal point, with objectives scaled to the front so far
    (Steuer and Choo, 1983): its optima over all preferences are the whole front, concave parts included. The baseline of a
    preference is the mean utility of earlier samples with similar preferences.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        costs: Number of objectives after the error.
        samples: Architectures per round, at least 2.
        warmup: Share of the rounds that trains weights alone.
        anchors: Preferences with logits of their own; in between, logits are blended. For more than two objectives, the nearest
            number that makes a regular lattice.
        width: Of the blending kernel, in distances between neighbouring anchors.
        lr: Learning rate of Adam on the logits. None for 12 / (rounds that ask), within 0.02..0.3.
        betas: Of Adam; as in ProxylessNAS, paths that were not sampled stand still.
        entropy: Weight of the policy's entropy per choice, in nats, beside a utility whose scale is 1 between the best and the
            worst of the front.
        scale: Deviation of the initial logits.
        augmentation: Weight of the sum beside the maximum in the utility.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = PreferencePolicy((3, 4), rounds=5, warmup=0.0, samples=6)
        >>> searcher.train_on(0)
        []
        >>> len(searcher.ask(10))
        6
    """

    needs = ("rounds", "costs", "seed")
    warmup_setting = "warmup"

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        costs: int = 1,
        samples: int = 10,
        warmup: float = 0.4,
        anchors: int = 9,
        width: float = 0.7,
        lr: float | None = None,
        betas: tuple[float, float] = (0.0, 0.999),
        entropy: float = 0.0,
        scale: float = 1e-3,
        augmentation: float = 0.05,
        seed: int = 0,
    ) -> None:
        if samples < 2 or not 0 <= warmup < 1 or anchors < 2 or width <= 0 or not (lr is None or lr > 0):
            raise ValueError(
                f"samples = {samples}, warmup = {warmup}, anchors = {anchors}, width = {width}, lr = {lr}: at least 2, a share "
                "below 1, at least 2, positive, positive"
            )
        if min(entropy, scale, augmentation) < 0:
            raise ValueError(f"entropy = {entropy}, scale = {scale}, augmentation = {augmentation}: none may be negative")
        self.sizes, self.samples = tuple(sizes), samples
        self.entropy, self.augmentation = entropy, augmentation
        objectives = 1 + costs
        self.anchors = torch.from_numpy(_lattice(objectives, anchors))
        near = torch.cdist(self.anchors, self.anchors).fill_diagonal_(math.inf).min()
        self._reach = width * float(near)
        warm = min(int(warmup * rounds), rounds - 1)
        self.lr = min(0.3, max(0.02, 12 / (rounds - warm))) if lr is None else lr
        self._generator = torch.Generator().manual_seed(seed)
        self.policy = Categorical(sizes)
        start = scale * torch.randn(
            (len(self.anchors), *self.policy.logits.shape), dtype=torch.float64, generator=self._generator
        )
        self.logits = start.requires_grad_()
        self._adam = torch.optim.Adam([self.logits], lr=self.lr, betas=betas)
        self._stage = Stage(0, self.policy.options(), rounds, warm)
        self._round = 0
        self._asked: list[Architecture] = []
        self._preferences = torch.zeros((0, objectives), dtype=torch.float64)
        self._told: list[Evaluation] = []
        self.history: list[Evaluation] = []
        self._history_preferences = self._preferences

    @property
    def stage(self) -> Stage:
        return self._stage

    def blend(self, preferences: Tensor) -> Tensor:
        """Return the weight of each anchor for each preference, (preferences, anchors); rows sum to 1."""
        return (-0.5 * (torch.cdist(preferences, self.anchors) / self._reach) ** 2).softmax(dim=1)

    def log_probabilities(self, preferences: Tensor) -> Tensor:
        """Return the log probabilities, (preferences, choices, most options), differentiable in the logits.

        They are -inf where a choice has no such option.
        """
        logits = torch.einsum("pa,acn->pcn", self.blend(preferences), self.logits)
        return logits.masked_fill(~self.policy.alive, -torch.inf).log_softmax(dim=-1)

    def _draw(self, n: int) -> tuple[Tensor, list[Architecture]]:
        """Sample preferences that cover the simplex evenly, in random order, and an architecture for each."""
        if self.anchors.shape[1] == 2:
            first = (torch.arange(n) + torch.rand(n, dtype=torch.float64, generator=self._generator)) / n
            preferences = torch.stack([first, 1 - first], dim=1)
        else:
            uniform = torch.rand((n, self.anchors.shape[1]), dtype=torch.float64, generator=self._generator)
            weights = -uniform.clamp(min=1e-12).log()
            preferences = weights / weights.sum(dim=1, keepdim=True)  # uniform on the simplex
        preferences = preferences[torch.randperm(n, generator=self._generator)]
        with torch.no_grad():
            p = self.log_probabilities(preferences).exp()
        picked = torch.multinomial(p.flatten(0, 1), 1, generator=self._generator).view(n, -1)
        return preferences, [tuple(row) for row in picked.tolist()]

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        return [Mixture.one_hot(a, self.sizes) for a in self._draw(steps)[1]] if steps else []

    def ask(self, n: int) -> list[Architecture]:
        if self._round <= self._stage.warmup or n < 1:
            return []
        self._preferences, self._asked = self._draw(min(n, self.samples))
        return list(self._asked)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._told += evaluations
        if len(self._told) < len(self._asked):
            return
        # Back in the order of the proposals, whatever the order of arrival; costs decide among repeats of one architecture.
        waiting = sorted(self._told, key=lambda e: (e.architecture, e.costs), reverse=True)
        batch = []
        for a in self._asked:
            at = max(i for i, e in enumerate(waiting) if e.architecture == a)
            batch.append(waiting.pop(at))
        self._asked, self._told = [], []
        if len(batch) > 1:
            self._learn(batch)
        self.history += batch
        self._history_preferences = torch.cat([self._history_preferences, self._preferences])

    def worth(self, evaluations: Sequence[Evaluation], preferences: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
        """Return the utilities, (evaluations, preferences): minus the augmented Chebyshev distance and the violation.

        Args:
            evaluations: Measured architectures.
            preferences: Points of the simplex, (preferences, objectives).
            scale: Per objective, the ideal cost and the extent of the front, (objectives,) each.
        """
        ideal, extent = scale
        costs = (torch.tensor([e.costs for e in evaluations], dtype=torch.float64) - ideal) / extent
        weighted = costs[:, None, :] * preferences[None, :, :]
        distance = weighted.amax(dim=-1) + self.augmentation * weighted.sum(dim=-1)
        return -distance - torch.tensor([[e.violation] for e in evaluations], dtype=torch.float64)

    def _scale(self, evaluations: Sequence[Evaluation]) -> tuple[Tensor, Tensor]:
        """Return the ideal point of the front of everything known, and the extent of the front, (objectives,) each."""
        known = [*self.history, *evaluations]
        costs = np.array([e.costs for e in known if e.violation <= 0] or [e.costs for e in known])
        front = costs[NonDominatedSorting().do(costs, only_non_dominated_front=True)]
        ideal = torch.from_numpy(front.min(axis=0))
        return ideal, torch.from_numpy(extent(front if len(front) > 1 else costs))

    def _learn(self, evaluations: list[Evaluation]) -> None:
        scale = self._scale(evaluations)
        worth = self.worth(evaluations, self._preferences, scale)
        gain = worth - self._baseline(worth, scale)
        self._adam.zero_grad()
        self.loss([e.architecture for e in evaluations], self._preferences, gain).backward()  # type: ignore[no-untyped-call]
        self._adam.step()

    def loss(self, architectures: Sequence[Architecture], preferences: Tensor, gain: Tensor) -> Tensor:
        """Return a scalar whose gradient estimates, without bias, that of minus the expected gain over the preferences.

        Args:
            architectures: Samples, each drawn under the preference of the same index.
            preferences: Points of the simplex, (preferences, objectives).
            gain: Utility less the baseline, (architectures, preferences).
        """
        log_p = self.log_probabilities(preferences)
        picked = torch.tensor(architectures)
        # joint[s, p]: the log probability of sample s under preference p.
        joint = log_p.gather(2, picked.T[None].expand(len(preferences), -1, -1)).sum(dim=1).T
        with torch.no_grad():
            mixture = joint.logsumexp(dim=1, keepdim=True) - math.log(len(preferences))
            weight = (joint - mixture).exp()
        loss = -(weight * gain * joint).mean()
        if self.entropy:
            terms = log_p.exp() * log_p.masked_fill(~self.policy.alive, 0.0)
            loss = loss + self.entropy * terms.sum(dim=-1).mean()
        return loss

    def _baseline(self, worth: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean utility of earlier samples of similar preferences, (preferences,), or that of the first round."""
        recent = self.history[-20 * self.samples :]
        if not recent:
            return worth.mean(dim=0)
        distance = torch.cdist(self._preferences, self._history_preferences[-len(recent) :])
        similar = (-0.5 * (distance / self._reach) ** 2).softmax(dim=1)
        return (similar * self.worth(recent, self._preferences, scale).T).sum(dim=1)

    def probabilities(self) -> list[list[float]]:
        """Return the mean over the anchors."""
        with torch.no_grad():
            rows = self.log_probabilities(self.anchors).exp().mean(dim=0)
        return [row[:n] for row, n in zip(rows.tolist(), self.sizes, strict=True)]

    def derive(self) -> list[Architecture]:
        """Return the most probable architecture of each of about 21 preferences, without repeats."""
        objectives = self.anchors.shape[1]
        with torch.no_grad():
            modes = level(self.log_probabilities(torch.from_numpy(_lattice(objectives, 21))).exp()).argmax(dim=-1)
        return list(dict.fromkeys(tuple(row) for row in modes.tolist()))

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "asked": [list(a) for a in self._asked],
            "preferences": self._preferences.clone(),
            "told": [e.to_data() for e in self._told],
            "history": [e.to_data() for e in self.history],
            "history_preferences": self._history_preferences.clone(),
            "logits": self.logits.detach().clone(),
            "adam": self._adam.state_dict(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._round = state["round"]
        self._asked = [tuple(a) for a in state["asked"]]
        self._preferences, self._history_preferences = state["preferences"].clone(), state["history_preferences"].clone()
        self._told, self.history = ([Evaluation.from_data(e) for e in state[k]] for k in ("told", "history"))
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self._adam.load_state_dict(state["adam"])
        self._generator.set_state(state["generator"])


def _lattice(objectives: int, count: int) -> np.ndarray:
    """Return about `count` evenly spaced points of the simplex, (points, objectives) (Das and Dennis, 1998)."""
    parts = 1
    while math.comb(parts + objectives, objectives - 1) <= count:
        parts += 1
    return np.asarray(get_reference_directions("das-dennis", objectives, n_partitions=parts), dtype=np.float64)
