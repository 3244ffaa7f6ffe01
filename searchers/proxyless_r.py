"""ProxylessNAS-R: path probabilities by REINFORCE (Cai, Zhu and Han, ICLR 2019, arXiv 1812.00332, section 3.3.2, appendix D).

Update rule, schedule and constants are those of the authors' code (search/nas_manager.py), with two departures: a round here is
a few weight steps and one architecture step, where theirs has 300 architecture steps spread over an epoch; and the learning
rate grows when a search has fewer of them (see `lr`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from searchers.base import Architecture, Evaluation, Mixture, Searcher, Stage, learning_rate
from searchers.parts.categorical import Categorical
from searchers.parts.reinforce import Reinforce


class ProxylessR(Searcher):
    """Ascend the expected reward `accuracy * prod((target / cost) ** power)` by policy gradient.

    The first objective must be the error in percent; the accuracy counts as a fraction.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        costs: Number of objectives after the error.
        samples: Paths per architecture step, measured on one validation batch; 10 in the code.
        warmup: Share of the rounds that train weights on nearly uniform paths only, 40 of 160 epochs in the code.
        targets: T of each objective after the error, in its own unit: the cost at which the reward equals the accuracy. None
            for the mean of the first samples.
        power: Of each ratio, one number for all costs or one each; 0.1 in the code, 0.07 in MnasNet.
        lr: Learning rate of Adam on the logits. None for the published 1e-3 over its 36,000 steps: fewer steps get a
            proportionally larger one, up to 0.1, since Adam moves a logit by at most about lr a step.
        betas: Of Adam; the first is 0, lest a path move by the momentum of steps in which it was not sampled.
        baseline_step: Of the moving baseline, b <- b + baseline_step * (mean reward - b), before it is used. The code calls it
            a decay of 0.99.
        scale: Deviation of the initial logits.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> from searchers.base import Evaluation
        >>> searcher = ProxylessR((3, 4), rounds=5, warmup=0.0, samples=2, targets=[10.0])
        >>> searcher.reward(Evaluation((0, 0), (20.0, 10.0)))
        0.8
    """

    needs = ("rounds", "costs", "seed")
    target_setting = "targets"
    warmup_setting = "warmup"

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        costs: int = 1,
        samples: int = 10,
        warmup: float = 0.25,
        targets: list[float] | None = None,
        power: float | list[float] = 0.1,
        lr: float | None = None,
        betas: tuple[float, float] = (0.0, 0.999),
        baseline_step: float = 0.99,
        scale: float = 1e-3,
        seed: int = 0,
    ) -> None:
        powers = [float(power)] * costs if isinstance(power, (int, float)) else list(power)
        if samples < 1 or not 0 <= warmup < 1 or not (lr is None or lr > 0) or not 0 <= baseline_step <= 1 or scale < 0:
            raise ValueError(
                f"samples = {samples}, warmup = {warmup}, lr = {lr}, baseline_step = {baseline_step}, scale = {scale}: at "
                "least 1, a share below 1, positive, in 0..1, not negative"
            )
        if len(powers) != costs or (targets is not None and len(targets) != costs):
            raise ValueError(f"power = {power}, targets = {targets}; the {costs} objectives after the error need a number each")
        if targets is not None and min(targets, default=1.0) <= 0:
            raise ValueError(f"targets = {targets}; costs are compared with them, so they must be positive")
        self.sizes = tuple(sizes)
        self.samples, self.powers, self.targets = samples, powers, targets
        warm = min(int(warmup * rounds), rounds - 1)
        self.lr = learning_rate(1e-3, 36_000, rounds - warm) if lr is None else lr
        self._generator = torch.Generator().manual_seed(seed)
        self.policy = Categorical(sizes)
        self.policy.initialise(scale, self._generator)
        self.gradient = Reinforce(self.policy, lr=self.lr, betas=betas, baseline_step=baseline_step)
        self._stage = Stage(0, self.policy.options(), rounds, warm)
        self._round = self._asked = 0
        self._told: list[Evaluation] = []
        self._target: list[float] | None = targets

    @property
    def stage(self) -> Stage:
        return self._stage

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        return [Mixture.one_hot(a, self.sizes) for a in self.policy.sample(steps, self._generator)]

    def ask(self, n: int) -> list[Architecture]:
        if self._round <= self._stage.warmup:
            return []
        asked = self.policy.sample(min(n, self.samples), self._generator)
        self._asked = len(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._told += evaluations
        if len(self._told) < self._asked:
            return
        # Sorted, so that the sums below do not depend on the order of arrival.
        batch = sorted(self._told, key=lambda e: (e.architecture, e.costs))
        self._told, self._asked = [], 0
        if self._target is None:
            columns = zip(*(e.costs[1:] for e in batch), strict=True)
            self._target = [max(sum(column) / len(column), 1e-12) for column in columns]
        self.gradient.step([e.architecture for e in batch], [self.reward(e) for e in batch])

    def reward(self, evaluation: Evaluation) -> float:
        """Return the accuracy as a fraction, times (target / cost) ** power for each cost.

        Divided by 1 + the violation where a constraint is broken (MnasNet's hard constraint, arXiv 1807.11626, section 3.1:
        alpha = 0, beta = -1).
        """
        error, *costs = evaluation.costs
        assert self._target is not None
        ratios = (t / max(c, 1e-12) for c, t in zip(costs, self._target, strict=True))
        traded = math.prod(math.pow(r, w) for r, w in zip(ratios, self.powers, strict=True))
        return (1.0 - error / 100.0) * traded / (1.0 + evaluation.violation)

    def probabilities(self) -> list[list[float]]:
        return self.policy.rows()

    def derive(self) -> list[Architecture]:
        """Return the most probable option of each choice."""
        return [self.policy.mode()]

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "asked": self._asked,
            "told": [e.to_data() for e in self._told],
            "target": self._target,
            "gradient": self.gradient.state_dict(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._round, self._asked = state["round"], state["asked"]
        self._told = [Evaluation.from_data(e) for e in state["told"]]
        self._target = state["target"]
        self.gradient.load_state_dict(state["gradient"])
        self._generator.set_state(state["generator"])
