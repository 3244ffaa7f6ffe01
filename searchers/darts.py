"""DARTS: gradient descent on a softmax mixture of all operations (Liu, Simonyan and Yang, ICLR 2019, arXiv 1806.09055).

The baseline that the other gradient methods improve on. A long search is known to end with skip connections, which the policy
in the report shows. Its loss has no cost; several targets, which are ours, are bounds within which networks are derived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from searchers.base import Architecture, Cotangents, Evaluation, GradientSearcher, Mixture, Stage, learning_rate
from searchers.parts.additive import Additive, network_within
from searchers.parts.categorical import Categorical
from searchers.parts.proposals import Proposals, neighbour
from searchers.parts.targets import additive_bounds
from searchers.parts.ties import level


class Darts(GradientSearcher):
    """Alternate Adam steps on the logits of the mixture, on the validation loss, and weight steps on the mixture.

    That is the method as published, for any number of targets. With one (`targets = 1`) it derives the published architecture.
    With several, which is ours, it derives the most probable network within each, by an exact knapsack: a mixture runs every
    option whatever the target, so one set of logits, which all steps move, says more than a copy for each that few do.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        steps: Weight steps of the whole search, from the budget.
        derive: From probabilities to the architecture that the space derives from them; in cells, two edges into each node.
            None: the most probable option of each choice.
        additive: Each cost after the error as a sum over the options, or None where it is no such sum.
        node_inputs: The choices that feed each node, for spaces whose cells keep two of them.
        none_option: Per choice the option that stands for no edge, or None.
        targets: Number of bounds on the first additive cost, spread evenly over the logarithm of what networks cost, or a list
            of bounds. 1 for the published derivation alone; None for 9, or for 1 where no cost is additive.
        order: 2 differentiates through one step of the weights, by finite differences (section 2.3, equation 8); 1 takes the
            weights as they are, at about half of the time.
        lr: Learning rate of Adam on the logits. None for the 3e-4 of the code over its 50 epochs of 390 steps: a search with
            fewer steps gets a proportionally larger one, up to 0.1.
        betas: Of Adam; (0.5, 0.999) in the code.
        weight_decay: Of Adam; 1e-3 in the code.
        scale: Deviation of the initial logits; 1e-3 in the code, 0 in the paper.
        samples: Architectures that are proposed in a round, for the archive: the one that would be derived now, and samples of
            the softmax. With several targets these take turns, each with the network that would be derived once it has changed,
            and otherwise with a neighbour of it in one choice. The method itself needs none. None for 2, or for 5 with several
            targets, as in `nasp`.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = Darts((3, 4), rounds=10, steps=100)
        >>> before = searcher.probabilities()
        >>> searcher.descend(1.0, searcher.relax().weights)
        >>> searcher.probabilities() == before
        False
    """

    needs = ("rounds", "steps", "derive", "additive", "node_inputs", "none_option", "seed")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        steps: int,
        derive: Callable[[Sequence[Sequence[float]]], Architecture] | None = None,
        additive: Sequence[Additive | None] = (),
        node_inputs: Sequence[Sequence[int]] = (),
        none_option: Sequence[int | None] | None = None,
        targets: int | list[float] | None = None,
        order: Literal[1, 2] = 2,
        lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        scale: float = 1e-3,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        if not (lr is None or lr > 0) or weight_decay < 0 or scale < 0 or (samples is not None and samples < 1):
            raise ValueError(
                f"lr = {lr}, weight_decay = {weight_decay}, scale = {scale}, samples = {samples}: positive, not negative, not "
                "negative, at least 1"
            )
        self.sizes, self.unrolled = tuple(sizes), order == 2
        self.node_inputs, self.none_option = node_inputs, none_option
        self.bounds = additive_bounds(targets, additive, node_inputs, none_option)
        self._additive = next((cost for cost in additive if cost is not None), None)
        self._proposals = Proposals(1 if self.bounds is None else len(self.bounds))
        self.samples = (2 if self.bounds is None else 5) if samples is None else samples
        self.lr = learning_rate(3e-4, 19_500, steps) if lr is None else lr
        self._derive = derive
        self._generator = torch.Generator().manual_seed(seed)
        self.policy = Categorical(sizes)
        self.policy.initialise(scale, self._generator)
        self._adam = torch.optim.Adam([self.policy.logits], lr=self.lr, betas=betas, weight_decay=weight_decay)
        self._stage = Stage(0, self.policy.options(), rounds)

    @property
    def stage(self) -> Stage:
        return self._stage

    def train_on(self, steps: int) -> list[Mixture]:
        return [Mixture(tuple(tuple(row) for row in self.policy.rows()))] * steps

    def relax(self) -> Mixture | None:
        return self.train_on(1)[0]

    def descend(self, loss: float, cotangents: Cotangents) -> None:
        p = self.policy.probabilities()
        rows = [
            torch.nn.functional.pad(torch.tensor(row, dtype=torch.float64), (0, p.shape[1] - len(row))) for row in cotangents
        ]
        self._adam.zero_grad()
        (p * torch.stack(rows)).sum().backward()  # type: ignore[no-untyped-call]
        self._adam.step()

    def ask(self, n: int) -> list[Architecture]:
        n = min(n, self.samples)
        if self.bounds is None:
            return (self.derive() + self.policy.sample(max(0, n - 1), self._generator))[:n]
        best, options = self._within_bounds(), self.policy.options()
        return self._proposals(n, best, lambda i: neighbour(best[i], options, self._generator, self.none_option))

    def _within_bounds(self) -> list[Architecture]:
        """Return the most probable network within each target."""
        assert self.bounds is not None and self._additive is not None
        scores, options, nodes = self.policy.scores(), self.policy.options(), self.node_inputs
        return [network_within(scores, self._additive, b, options, nodes, self.none_option) for b in self.bounds]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        pass

    def probabilities(self) -> list[list[float]]:
        return self.policy.rows()

    def derive(self) -> list[Architecture]:
        """Return what the space derives from the probabilities, or the most probable network within each target."""
        if self.bounds is not None:
            return list(dict.fromkeys(self._within_bounds()))
        if self._derive is None:
            return [self.policy.mode()]
        return [self._derive([level(torch.tensor(row, dtype=torch.float64)).tolist() for row in self.policy.rows()])]

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "adam": self._adam.state_dict(),
            "generator": self._generator.get_state(),
            **self._proposals.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self._adam.load_state_dict(state["adam"])
        self._generator.set_state(state["generator"])
        self._proposals.load_state_dict(state)
