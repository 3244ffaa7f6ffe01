"""TND-NAS: policy gradient on architecture parameters over a progressively shrinking space.

The method, as in arXiv 2111.03892, ICAART 2022 and Information Sciences 661 (2024) 120186: a supernet that is differentiable in
its weights, architecture parameters optimised by policy gradient without a controller network, objectives that need not be
differentiable, and a space that is shrunk according to the architecture parameters. No official code is public; update rules
and settings are those of the author's earlier repository (blyucs/pdarts, 2021), which reproduces the published parameter
counts. They may differ from the article in detail.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from searchers.base import Architecture, Evaluation, Mixture, Searcher, Stage, learning_rate
from searchers.parts.additive import Additive
from searchers.parts.categorical import Categorical
from searchers.parts.controllers import Controllers
from searchers.parts.reinforce import Reinforce
from searchers.parts.targets import EXPLORATION, Targets, TradeOffs, read_targets


class TndNas(Searcher):
    """Ascend expected rewards by policy gradient, in stages that drop options.

    As published (`targets = 1`), one policy ascends `accuracy * prod((cost / base) ** exponent)`. With several targets, which
    is ours, each has a policy. Its reward is the accuracy's normal score less what costs exceed the target by (see
    `searchers.parts.targets`). Every sample moves all policies, and an option is dropped where all of them would drop it.

    The first objective must be the error in percent.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the whole search, from the budget, shared out evenly over the stages.
        costs: Number of objectives after the error.
        additive: Each cost after the error as a sum over the options, or None where it is no such sum.
        targets: Number of costs to aim at, spread evenly over the logarithm of what networks cost; or these costs: a list of
            them for the only cost, a list of lists for several. 1, or one cost for each objective, is the method as published,
            with that cost as its base. None for 9, or for 1 where `exponents` or `bases` say which trade-off is meant.
        samples: Architectures per policy step, measured on one validation batch.
        keep: Share of a choice's options that survives each stage but the last; there is one stage more. The default gives the
            schedules of the source, 10 -> 6 -> 3 and 6 -> 4 -> 2, and 5 -> 3 -> 2 for NAS-Bench-201.
        warmup: Share of each stage that only trains weights; 15 of 25 epochs in the source, where 5 collapsed to one operation.
        mixtures: Whether the space has mixtures.
        train: "mixture" trains weights on the softmax mixture of the surviving options, as published; "paths" on architectures
            sampled from the policy, with the memory of one network, which a space without mixtures always has.
        exponents: Power of each cost after the error: one number for all, a list with one per cost, or a list of such lists
            with one per stage; for a single target. Below zero, so that cheaper is better. The source has -0.45, -0.20 and
            -0.25 for the parameters, where the best and the worst network are a factor of three apart; at that, spaces whose
            costs span a factor of thirty collapse to the cheapest network. None for MnasNet's -0.07 (arXiv 1807.11626, section
            3).
        bases: Cost at which the reward equals the accuracy, in the objective's own unit and in the same forms as `exponents`;
            for a single target. None for the mean of the first samples of each stage; the source gave numbers by hand, which
            nobody has for a new space. A base scales all rewards of a stage alike.
        lr: Learning rate of Adam on the logits. None for the source's 6e-3 over its 980 policy steps a stage (10 epochs of 98
            batches): a stage of fewer steps gets a proportionally larger one, up to 0.1, since Adam moves a logit by at most
            about lr a step and 6e-3 would leave a short search uniform.
        betas: Of Adam; from the source.
        weight_decay: Of Adam; from the source.
        clip: Largest L2 norm of the gradient; from the source.
        baseline_step: Of the moving baseline, b <- b + baseline_step * (mean reward - b), before it is used. As the baseline
            includes the batch's own mean, the expected gradient shrinks by 1 - baseline_step / samples; its direction is
            unbiased.
        scale: Deviation of the initial logits of each stage.
        entropy: Weight of the policy's entropy in nats beside the reward, which is in percentage points for a single target and
            in deviations for several; 0 in the source. It keeps a policy from settling early.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = TndNas((5, 5), rounds=9, keep=(0.6, 0.3))
        >>> searcher.stage.stages, searcher.plan()
        (3, (1.0, 0.6, 0.3))
    """

    needs = ("rounds", "costs", "additive", "mixtures", "seed")
    target_setting = "bases"
    warmup_setting = "warmup"

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        costs: int = 1,
        additive: Sequence[Additive | None] = (),
        mixtures: bool = True,
        targets: Targets | None = None,
        samples: int = 10,
        keep: tuple[float, ...] = (0.6, 0.3),
        warmup: float = 0.6,
        train: Literal["mixture", "paths"] = "mixture",
        exponents: float | list[float] | list[list[float]] | None = None,
        bases: float | list[float] | list[list[float]] | None = None,
        lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        clip: float = 5.0,
        baseline_step: float = 0.95,
        scale: float = 1e-3,
        entropy: float = 0.0,
        seed: int = 0,
    ) -> None:
        stages = len(keep) + 1
        if rounds < stages:
            raise ValueError(f"{rounds} rounds cannot be shared out over {stages} stages; raise the budget or shorten `keep`")
        if samples < 1:
            raise ValueError(f"samples = {samples}; at least 1 is needed")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup = {warmup}; it is a share of each stage, at least 0 and below 1")
        if any(not 0 < k <= 1 for k in keep) or list(keep) != sorted(keep, reverse=True):
            raise ValueError(f"keep = {keep}; it must be falling shares of the options, above 0 and at most 1")
        if not (lr is None or lr > 0) or clip <= 0 or min(weight_decay, scale, entropy) < 0 or not 0 <= baseline_step <= 1:
            raise ValueError(
                f"lr = {lr}, clip = {clip}, weight_decay = {weight_decay}, baseline_step = {baseline_step}, scale = {scale}, "
                f"entropy = {entropy}: lr and clip must be positive, the step in 0..1, the others not negative"
            )
        if train not in ("mixture", "paths"):
            raise ValueError(f"train = {train!r}; it must be 'mixture' or 'paths'")
        self.sizes = tuple(sizes)
        self.samples = samples
        self.keep = keep
        self.train = train if mixtures else "paths"
        self.mixes = self.train == "mixture"
        weighed = exponents is not None or bases is not None
        aims = read_targets(targets, costs, single=weighed)
        several = aims > 1 if isinstance(aims, int) else len(aims) > 1
        if weighed and (several or (bases is not None and isinstance(aims, list))):
            raise ValueError(
                f"targets = {targets}, exponents = {exponents}, bases = {bases}: exponents and bases belong to one target, "
                "whose cost may be given as bases; leave them out, or write targets = 1"
            )
        if isinstance(aims, list) and not several:
            bases = aims[0]
        self.trade_offs = TradeOffs(aims, list(additive) or [None] * costs) if several else None
        self.exponents = _per_stage(-0.07 if exponents is None else exponents, stages, costs, "exponents")
        self.bases = None if bases is None else _per_stage(bases, stages, costs, "bases")
        if self.bases is not None and any(b <= 0 for row in self.bases for b in row):
            raise ValueError(f"bases = {bases}; costs are divided by them, so they must be positive")
        bounds = [round(rounds * i / stages) for i in range(stages + 1)]
        self._lengths = [b - a for a, b in itertools.pairwise(bounds)]
        self._warmups = [min(int(warmup * n), n - 1) for n in self._lengths]
        policy_steps = min(n - w for n, w in zip(self._lengths, self._warmups, strict=True))
        self.lr = learning_rate(6e-3, 980, policy_steps) if lr is None else lr
        self._exploration = max(1, int(EXPLORATION * (self._lengths[0] - self._warmups[0])))

        def ascent(policy: Categorical) -> Reinforce:
            return Reinforce(
                policy,
                lr=self.lr,
                betas=betas,
                baseline_step=baseline_step,
                weight_decay=weight_decay,
                clip=clip,
                entropy=entropy,
            )

        self.controllers = Controllers(
            sizes,
            1 if self.trade_offs is None else self.trade_offs.count,
            scale=scale,
            make=ascent,
            generator=torch.Generator().manual_seed(seed),
        )
        self._told: list[Evaluation] = []
        self._index = self._round = self._asked = 0
        self._base: list[float] | None = None

    def _next_stage(self) -> None:
        share = self.keep[self._index]
        counts = [len(options) for options in self.controllers.options()]
        self.controllers.keep([min(n, max(1, math.floor(share * s + 0.5))) for s, n in zip(self.sizes, counts, strict=True)])
        self._index, self._round = self._index + 1, 0
        if self.trade_offs is None:
            # New logits, Adam moments and baseline, as in the source: the reward changes its scale with the net.
            self.controllers.restart()
            self._base = None
        else:
            # Normal scores keep their scale, so policies go on; accuracies of another net are not comparable.
            self.controllers.renew()
            self.trade_offs.history = []

    @property
    def stage(self) -> Stage:
        index = self._index
        length, warmup = self._lengths[index], self._warmups[index]
        return Stage(
            index,
            self.controllers.options(),
            length,
            warmup,
            len(self._lengths),
            skips=True,
            inherits=self.trade_offs is not None,  # as published, every stage begins anew
        )

    def train_on(self, steps: int) -> list[Mixture]:
        self._round += 1
        if self.train == "paths":
            return [Mixture.one_hot(a, self.sizes) for a in self.controllers.sample(steps, training=True)]
        return [Mixture(tuple(tuple(row) for row in rows)) for rows in self.controllers.mixtures(steps)]

    def ask(self, n: int) -> list[Architecture]:
        if self._round <= self._warmups[self._index]:
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
        self._learn(batch)
        if self._round == self._lengths[self._index] and self._index < len(self.keep):
            self._next_stage()

    def reward(self, evaluation: Evaluation) -> float:
        """Return the published reward: the accuracy in percent, times (cost / base) ** exponent for each cost.

        Divided by 1 + the violation where a constraint is broken (MnasNet's hard constraint, arXiv 1807.11626, section 3.1).
        """
        error, *costs = evaluation.costs
        exponents = self.exponents[self._index]
        assert self._base is not None
        ratios = (max(c, 1e-12) / b for c, b in zip(costs, self._base, strict=True))
        traded = math.prod(math.pow(r, e) for r, e in zip(ratios, exponents, strict=True))
        return (100.0 - error) * traded / (1.0 + evaluation.violation)

    def _learn(self, evaluations: list[Evaluation]) -> None:
        if self.trade_offs is not None:
            exploring = self._index == 0 and self._round - self._warmups[0] < self._exploration
            self.controllers.learn(evaluations, self.trade_offs, exploring=exploring)
            return
        if self._base is None:
            costs = [e.costs[1:] for e in evaluations]
            if self.bases is None:
                self._base = [max(sum(column) / len(column), 1e-12) for column in zip(*costs, strict=True)]
            else:
                self._base = self.bases[self._index]
        rewards = torch.tensor([[self.reward(e)] for e in evaluations], dtype=torch.float64)
        self.controllers.step([e.architecture for e in evaluations], rewards)

    def plan(self) -> tuple[float, ...]:
        return (1.0, *self.keep)

    def probabilities(self) -> list[list[float]]:
        """Return the policy's probabilities, or the mean of the policies'."""
        return self.controllers.rows()

    def derive(self) -> list[Architecture]:
        """Return the most probable option of each choice, under each target.

        A `none` that wins stands: the source deletes such edges and selects no others.
        """
        return self.controllers.modes()

    def state_dict(self) -> dict[str, Any]:
        return {
            "index": self._index,
            "round": self._round,
            "asked": self._asked,
            "told": [e.to_data() for e in self._told],
            "base": self._base,
            "controllers": self.controllers.state_dict(),
            "trade_offs": None if self.trade_offs is None else self.trade_offs.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._index, self._round, self._asked = state["index"], state["round"], state["asked"]
        self._told = [Evaluation.from_data(e) for e in state["told"]]
        self._base = state["base"]
        self.controllers.load_state_dict(state["controllers"])
        if self.trade_offs is not None:
            self.trade_offs.load_state_dict(state["trade_offs"])


def _per_stage(value: float | list[float] | list[list[float]], stages: int, costs: int, name: str) -> list[list[float]]:
    """Expand to a number per cost, per stage; one number stands for every cost, one list for every stage."""
    if isinstance(value, (int, float)):
        return [[float(value)] * costs] * stages
    rows: list[list[float]] = [list(v) if isinstance(v, (list, tuple)) else [] for v in value]
    if all(isinstance(v, (int, float)) for v in value):
        rows = [list(value)] * stages  # type: ignore[arg-type]
    if len(rows) != stages:
        raise ValueError(f"{name} has {len(rows)} lists; one for each of the {stages} stages is needed")
    rows = [row * costs if len(row) == 1 else row for row in rows]
    for row in rows:
        if len(row) != costs:
            raise ValueError(f"{name} has {len(row)} numbers; the {costs} objectives after the error need one each")
    return rows
