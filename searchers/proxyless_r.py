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
from searchers.parts.additive import Additive
from searchers.parts.controllers import Controllers
from searchers.parts.reinforce import Reinforce
from searchers.parts.targets import EXPLORATION, Targets, TradeOffs, read_targets


class ProxylessR(Searcher):
    """Ascend expected rewards by policy gradient.

    As published (`targets = 1`), one policy ascends `accuracy * prod((target / cost) ** power)`, where the accuracy counts as a
    fraction. With several targets, which is ours, each has a policy. Its reward is the accuracy's normal score less what costs
    exceed the target by (see `searchers.parts.targets`), and every sample moves all policies.

    The first objective must be the error in percent.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        costs: Number of objectives after the error.
        additive: Each cost after the error as a sum over the options, or None where it is no such sum.
        targets: Number of costs to aim at, spread evenly over the logarithm of what networks cost; or these costs: a list of
            them for the only cost, a list of lists for several. 1, or one cost T for each objective, is the method as
            published; T is the cost at which its reward equals the accuracy, by default the mean of the first samples. None for
            9, or for 1 where `power` says which trade-off is meant.
        samples: Paths per architecture step, measured on one validation batch; 10 in the code.
        warmup: Share of the rounds that train weights on nearly uniform paths only, 40 of 160 epochs in the code.
        power: Of each ratio, one number for all costs or one each, for a single target. None for 0.1, as in the code; 0.07 in
            MnasNet.
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

    needs = ("rounds", "costs", "additive", "seed")
    target_setting = "targets"
    warmup_setting = "warmup"

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        costs: int = 1,
        additive: Sequence[Additive | None] = (),
        targets: Targets | None = None,
        samples: int = 10,
        warmup: float = 0.25,
        power: float | list[float] | None = None,
        lr: float | None = None,
        betas: tuple[float, float] = (0.0, 0.999),
        baseline_step: float = 0.99,
        scale: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if samples < 1 or not 0 <= warmup < 1 or not (lr is None or lr > 0) or not 0 <= baseline_step <= 1 or scale < 0:
            raise ValueError(
                f"samples = {samples}, warmup = {warmup}, lr = {lr}, baseline_step = {baseline_step}, scale = {scale}: at "
                "least 1, a share below 1, positive, in 0..1, not negative"
            )
        aims = read_targets(targets, costs, single=power is not None)
        several = aims > 1 if isinstance(aims, int) else len(aims) > 1
        if several and power is not None:
            raise ValueError(f"targets = {targets}, power = {power}: a power belongs to a single target; leave one of them out")
        weighed = 0.1 if power is None else power
        self.powers = [float(weighed)] * costs if isinstance(weighed, (int, float)) else list(weighed)
        if len(self.powers) != costs:
            raise ValueError(f"power = {power}; the {costs} objectives after the error need a number each")
        self.sizes = tuple(sizes)
        self.samples = samples
        warm = min(int(warmup * rounds), rounds - 1)
        self.lr = learning_rate(1e-3, 36_000, rounds - warm) if lr is None else lr
        self.trade_offs = TradeOffs(aims, list(additive) or [None] * costs) if several else None
        self.controllers = Controllers(
            sizes,
            1 if self.trade_offs is None else self.trade_offs.count,
            scale=scale,
            make=lambda policy: Reinforce(policy, lr=self.lr, betas=betas, baseline_step=baseline_step),
            generator=torch.Generator().manual_seed(seed),
        )
        self._stage = Stage(0, self.controllers.options(), rounds, warm)
        self._exploration = warm + max(1, int(EXPLORATION * (rounds - warm)))
        self._round = self._asked = 0
        self._told: list[Evaluation] = []
        self.target: list[float] | None = aims[0] if isinstance(aims, list) and not several else None

    @property
    def stage(self) -> Stage:
        return self._stage

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        return [Mixture.one_hot(a, self.sizes) for a in self.controllers.sample(steps, training=True)]

    def ask(self, n: int) -> list[Architecture]:
        if self._round <= self._stage.warmup:
            return []
        asked = self.controllers.sample(min(n, self.samples))
        self._asked = len(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._told += evaluations
        if len(self._told) < self._asked:
            return
        # Sorted, so that the sums below do not depend on the order of arrival.
        batch = sorted(self._told, key=lambda e: (e.architecture, e.costs))
        self._told, self._asked = [], 0
        if self.trade_offs is not None:
            self.controllers.learn(batch, self.trade_offs, exploring=self._round < self._exploration)
            return
        if self.target is None:
            columns = zip(*(e.costs[1:] for e in batch), strict=True)
            self.target = [max(sum(column) / len(column), 1e-12) for column in columns]
        rewards = torch.tensor([[self.reward(e)] for e in batch], dtype=torch.float64)
        self.controllers.step([e.architecture for e in batch], rewards)

    def reward(self, evaluation: Evaluation) -> float:
        """Return the published reward: the accuracy as a fraction, times (target / cost) ** power for each cost.

        Divided by 1 + the violation where a constraint is broken (MnasNet's hard constraint, arXiv 1807.11626, section 3.1:
        alpha = 0, beta = -1).
        """
        error, *costs = evaluation.costs
        assert self.target is not None
        ratios = (t / max(c, 1e-12) for c, t in zip(costs, self.target, strict=True))
        traded = math.prod(math.pow(r, w) for r, w in zip(ratios, self.powers, strict=True))
        return (1.0 - error / 100.0) * traded / (1.0 + evaluation.violation)

    def probabilities(self) -> list[list[float]]:
        """Return the policy's probabilities, or the mean of the policies'."""
        return self.controllers.rows()

    def derive(self) -> list[Architecture]:
        """Return the most probable option of each choice, under each target."""
        return self.controllers.modes()

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "asked": self._asked,
            "told": [e.to_data() for e in self._told],
            "target": self.target,
            "controllers": self.controllers.state_dict(),
            "trade_offs": None if self.trade_offs is None else self.trade_offs.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._round, self._asked = state["round"], state["asked"]
        self._told = [Evaluation.from_data(e) for e in state["told"]]
        self.target = state["target"]
        self.controllers.load_state_dict(state["controllers"])
        if self.trade_offs is not None:
            self.trade_offs.load_state_dict(state["trade_offs"])
