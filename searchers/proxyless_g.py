"""ProxylessNAS-G: gradients through binary gates (Cai, Zhu and Han, ICLR 2019, arXiv 1812.00332, sections 3.2 and 3.3.1).

Estimators, update and latency terms are those of the authors' code (search/modules/mix_op.py, nas_manager.py). Where a residual
block takes its `id` path, the code gives the gates no gradient; here the output of that path counts as 0, so its block learns
like any other.

The published loss has one trade-off; several targets, each with its own path probabilities over the same weights, are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from searchers.base import Architecture, Cotangents, Evaluation, GradientSearcher, Mixture, Stage, learning_rate
from searchers.parts.additive import Additive, network_within
from searchers.parts.categorical import Categorical
from searchers.parts.proposals import Proposals
from searchers.parts.targets import Targets, check_targets, cost_range, read_targets, spread_targets


class ProxylessG(GradientSearcher):
    """Train weights on one sampled path; move path probabilities by d loss / d gate times the derivative of the softmax.

    As published (`targets = 1`), there is one set of probabilities, and `term` says how costs enter its loss. With several
    targets, which is ours, each has a set, and they take turns, in weight steps as in architecture steps. The loss of a target
    T is `CE + penalty * sum(max(0, log E - log T))`: a term that pulls towards T from both sides, as the published ones do,
    would make networks dearer for nothing. What is derived is the most probable network whose first cost is within T.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        steps: Weight steps of the whole search, from the budget.
        costs: Number of objectives after the error.
        additive: Each cost after the error as a sum over the options; its expectation and gradient are exact. Other costs are
            refused.
        limits: Upper limit of each cost in its own unit, or None; penalty * max(0, E / limit - 1) is added to the loss for
            each.
        gates: "two" samples two paths of each choice and compares these (section 3.2.1), with the memory of two paths; "all"
            computes the derivative of every gate one at a time, with the memory of one path and the time of all (default of the
            code).
        term: How expected costs E with one target T for each enter the loss: "mul-log", weight * CE * prod((log E / log T) **
            power), or "add-linear", CE + sum(strength * (E - T) / T). None for "mul-log".
        weight: Of "mul-log"; 0.2 on the authors' command line, and for None.
        power: Of "mul-log", for all costs; 0.3 on the authors' command line, and for None.
        strength: Of "add-linear", for all costs; None for 0.1.
        penalty: Weight of exceeded limits, and of exceeded targets where there are several.
        targets: Number of costs to aim at, spread evenly over the logarithm of what networks cost; or these costs: a list of
            them for the only cost, a list of lists for several. 1, or one cost T for each objective in its own unit (above 1
            for "mul-log"), is the method as published; T is by default the expected cost at the start. None for 9, or for 1
            where `term`, `weight`, `power` or `strength` says which trade-off is meant.
        warmup: Share of the weight steps before the first architecture step, 40 of 160 epochs in the code.
        every: Weight steps for each architecture step; 5 in the code.
        samples: Paths that are proposed in a round, for the archive. With several targets these take turns, each with what it
            would derive once that has changed, and otherwise with a sample. The method itself needs none. None for 2, or for 5
            with several targets, as in `nasp`.
        lr: Learning rate of Adam on the logits. None for 1e-3 over 120 epochs of about 1,000 architecture steps: a target with
            fewer gets a proportionally larger one, up to 0.1.
        betas: Of Adam; the first is 0, so that paths that were not sampled stand still.
        scale: Deviation of the initial logits.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds, and for costs that are no sums over the options.

    Example:
        >>> parameters = (5.0, [[0.0, 2.0], [1.0, 3.0]])
        >>> searcher = ProxylessG((2, 2), rounds=5, steps=5, additive=[parameters], targets=[8.0], warmup=0.0, every=1)
        >>> len(searcher.relax().active())
        2
    """

    needs = ("rounds", "steps", "costs", "additive", "limits", "seed")
    target_setting = "targets"
    warmup_setting = "warmup"

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        steps: int,
        costs: int = 1,
        additive: Sequence[Additive | None] = (),
        limits: Sequence[float | None] = (),
        gates: Literal["two", "all"] = "two",
        term: Literal["mul-log", "add-linear"] | None = None,
        weight: float | None = None,
        power: float | None = None,
        strength: float | None = None,
        penalty: float = 1.0,
        targets: Targets | None = None,
        warmup: float = 0.25,
        every: int = 5,
        samples: int | None = None,
        lr: float | None = None,
        betas: tuple[float, float] = (0.0, 0.999),
        scale: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if (
            not 0 <= warmup < 1
            or every < 1
            or (samples is not None and samples < 1)
            or not (lr is None or lr > 0)
            or min(scale, penalty) < 0
            or (weight is not None and weight <= 0)
        ):
            raise ValueError(
                f"warmup = {warmup}, every = {every}, samples = {samples}, lr = {lr}, scale = {scale}, weight = {weight}, "
                f"penalty = {penalty}: a share below 1, at least 1, at least 1, positive, not negative, positive, not negative"
            )
        if gates not in ("two", "all") or term not in (None, "mul-log", "add-linear"):
            raise ValueError(f'gates = {gates!r}, term = {term!r}; there are "two" and "all", "mul-log" and "add-linear"')
        if limits and (len(limits) != costs or any(limit is not None and limit <= 0 for limit in limits)):
            raise ValueError(f"limits = {limits}; the {costs} costs need one each, positive or none")
        if len(additive) != costs or any(cost is None for cost in additive):
            raise ValueError(
                "every objective after the error must be a sum over operations, as parameters and macs are, for its "
                "expectation to have a gradient; take proxyless-r for others"
            )
        self.sizes = tuple(sizes)
        given = {"term": term, "weight": weight, "power": power, "strength": strength}
        named = [name for name, value in given.items() if value is not None]
        aims = read_targets(targets, costs, single=bool(named))
        several = aims > 1 if isinstance(aims, int) else len(aims) > 1
        if several and named:
            raise ValueError(f"{named[0]} belongs to a single target; leave it out, or write targets = 1")
        self.gates, self.term = gates, term or "mul-log"
        self.weight, self.power = 0.2 if weight is None else weight, 0.3 if power is None else power
        self.strength = 0.1 if strength is None else strength
        self.every, self.penalty = every, penalty
        self.samples = (5 if several else 2) if samples is None else samples
        self._limits = list(limits) or [None] * costs
        self._warm = int(warmup * steps)
        self._step = self._turn = 0
        self._additive = [cost for cost in additive if cost is not None]
        self.bounds = self._spread(aims) if several else None
        copies = 1 if self.bounds is None else len(self.bounds)
        self.lr = learning_rate(1e-3, 120_000, (steps - self._warm) / every / copies) if lr is None else lr
        self._generator = torch.Generator().manual_seed(seed)
        self.policies = [Categorical(sizes) for _ in range(copies)]
        for policy in self.policies:
            policy.initialise(scale, self._generator)
        self._adams = [torch.optim.Adam([policy.logits], lr=self.lr, betas=betas) for policy in self.policies]
        self._costs = [(fixed, _padded(rows, self.policy.logits.shape)) for fixed, rows in self._additive]
        expected = [float(e) for e in self._expected(self.policy.probabilities().detach())]
        self.targets = aims[0] if isinstance(aims, list) and not several else expected
        if not several and min(self.targets, default=2.0) <= (least := 1 if self.term == "mul-log" else 0):
            raise ValueError(f"targets = {self.targets}; the {costs} costs need one each, above {least}")
        self._proposals = Proposals(copies)
        self._stage = Stage(0, self.policy.options(), rounds, min(int(warmup * rounds), rounds - 1))
        self._pairs: Tensor | None = None

    def _spread(self, aims: int | list[list[float]]) -> list[list[float]]:
        """Return the costs of each of several targets."""
        ranges = [cost_range(cost) for cost in self._additive]
        if isinstance(aims, int):
            return spread_targets(ranges, aims)
        check_targets(aims, ranges)
        return aims

    @property
    def policy(self) -> Categorical:
        """The path probabilities of the target whose turn it is."""
        return self.policies[self._turn]

    @property
    def stage(self) -> Stage:
        return self._stage

    def train_on(self, steps: int) -> list[Mixture]:
        mixtures = []
        for policy, count in Counter((self._step + i) % len(self.policies) for i in range(steps)).items():
            mixtures += [Mixture.one_hot(a, self.sizes) for a in self.policies[policy].sample(count, self._generator)]
        self._step += steps
        return mixtures

    def relax(self) -> Mixture | None:
        if self._step < self._warm or self._step % self.every:
            return None
        p = self.policy.probabilities().detach()
        if self.gates == "all":
            (active,) = self.policy.sample(1, self._generator)
            wanted = self.policy.alive.clone()
        else:
            # Two without replacement; a choice of one option has only that.
            first = torch.multinomial(p, 1, generator=self._generator)
            rest = p.scatter(1, first, 0.0)
            rest = torch.where(rest.sum(dim=1, keepdim=True) > 0, rest, p)
            second = torch.multinomial(rest, 1, generator=self._generator)
            self._pairs = torch.cat([first, second], dim=1)
            q = self.policy.logits.detach().gather(1, self._pairs).softmax(dim=1)
            which = torch.multinomial(q, 1, generator=self._generator)
            active = tuple(self._pairs.gather(1, which).flatten().tolist())
            wanted = torch.zeros_like(self.policy.alive).scatter(1, self._pairs, True)
        marked = tuple(tuple(row[:n]) for row, n in zip(wanted.tolist(), self.sizes, strict=True))
        return Mixture(Mixture.one_hot(active, self.sizes).weights, marked)

    def descend(self, loss: float, cotangents: Cotangents) -> None:
        before = self.policy.logits.detach().clone()
        total = self._loss(loss, _padded(cotangents, before.shape))
        adam = self._adams[self._turn]
        adam.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        adam.step()
        if self._pairs is not None:
            # Rescaled, so that the two share the probability that they had and the others keep theirs.
            with torch.no_grad():
                old, new = (logits.gather(1, self._pairs) for logits in (before, self.policy.logits))
                shift = new.logsumexp(dim=1, keepdim=True) - old.logsumexp(dim=1, keepdim=True)
                single = self._pairs[:, :1] == self._pairs[:, 1:]
                self.policy.logits.scatter_(1, self._pairs, torch.where(single, old, new - shift))
        self._pairs = None
        self._turn = (self._turn + 1) % len(self.policies)

    def _loss(self, ce: float, cotangents: Tensor) -> Tensor:
        """Return a scalar whose gradient in the logits is that of the loss: sum_j (d CE / d gate_j) p_j stands for CE."""
        p = self.policy.probabilities()
        if self._pairs is not None:
            q = self.policy.logits.gather(1, self._pairs).softmax(dim=1)
            p = torch.zeros_like(p).scatter_add(
                1, self._pairs, q * torch.where(self._pairs[:, :1] == self._pairs[:, 1:], 0.5, 1.0)
            )
        surrogate = (p * cotangents).sum()
        expected = self._expected(p)
        # Over all options, not the pair: whether a limit is kept is not known from two of them.
        whole = self._expected(self.policy.probabilities())
        limited = [(e, limit) for e, limit in zip(whole, self._limits, strict=True) if limit is not None]
        broken = self.penalty * sum(((e / limit - 1).clamp(min=0) for e, limit in limited), torch.zeros(()))
        if self.bounds is not None:
            aims = zip(whole, self.bounds[self._turn], strict=True)
            above = sum(((e.clamp(min=1e-12) / max(t, 1e-12)).log().clamp(min=0) for e, t in aims), torch.zeros(()))
            return surrogate + broken + self.penalty * above
        if self.term == "add-linear":
            return surrogate + broken + sum(self.strength * (e - t) / t for e, t in zip(expected, self.targets, strict=True))
        factor = torch.ones((), dtype=torch.float64)
        for e, t in zip(expected, self.targets, strict=True):
            factor = factor * (e.clamp(min=1 + 1e-9).log() / torch.tensor(t, dtype=torch.float64).log()) ** self.power
        return self.weight * (factor.detach() * surrogate + ce * factor) + broken

    def _expected(self, p: Tensor) -> list[Tensor]:
        """Return the expectation of each cost under independent choices (section 3.3.1, equation 2)."""
        return [fixed + (p * rows).sum() for fixed, rows in self._costs]

    def ask(self, n: int) -> list[Architecture]:
        if self._step <= self._warm:
            return []
        n = min(n, self.samples)
        if self.bounds is None:
            return self.policy.sample(n, self._generator)
        return self._proposals(n, self._within_targets(), lambda i: self.policies[i].sample(1, self._generator)[0])

    def _within_targets(self) -> list[Architecture]:
        """Return the most probable network of each target whose first cost is within it."""
        assert self.bounds is not None
        every = zip(self.policies, self.bounds, strict=True)
        return [network_within(p.scores(), self._additive[0], bound[0], p.options()) for p, bound in every]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        pass

    def expected_gradients(self, steps: int) -> float:
        return super().expected_gradients(steps) / self.every

    def probabilities(self) -> list[list[float]]:
        """Return the path probabilities, or their mean over the targets."""
        mean = torch.stack([policy.probabilities().detach() for policy in self.policies]).mean(dim=0)
        return [row[:n] for row, n in zip(mean.tolist(), self.sizes, strict=True)]

    def derive(self) -> list[Architecture]:
        """Return the most probable option of each choice, or the most probable network within each target."""
        return [self.policy.mode()] if self.bounds is None else list(dict.fromkeys(self._within_targets()))

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "turn": self._turn,
            "targets": list(self.targets),
            "policies": [policy.state_dict() for policy in self.policies],
            "adams": [adam.state_dict() for adam in self._adams],
            "generator": self._generator.get_state(),
            **self._proposals.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._turn, self.targets = state["step"], state["turn"], list(state["targets"])
        for policy, adam, saved, moments in zip(self.policies, self._adams, state["policies"], state["adams"], strict=True):
            policy.load_state_dict(saved)
            adam.load_state_dict(moments)
        self._generator.set_state(state["generator"])
        self._proposals.load_state_dict(state)


def _padded(rows: Sequence[Sequence[float]], shape: torch.Size) -> Tensor:
    padded = torch.zeros(shape, dtype=torch.float64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return padded
