"""NASP: proximal iterations (Yao, Xu, Tu and Zhu, AAAI 2020, arXiv 1905.13577; details from the authors' code).

Architecture parameters stay continuous in [0, 1]; weights train, and the gradient is taken, at their projection to one
operation per edge (codes/architect.py). As in the code, the projected weight is 1, not the value of the parameter, and there is
no softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from searchers.base import Architecture, Cotangents, Evaluation, GradientSearcher, Mixture, Stage, learning_rate
from searchers.parts.additive import Additive, network_within
from searchers.parts.categorical import Categorical
from searchers.parts.proposals import Proposals, neighbour
from searchers.parts.targets import additive_bounds
from searchers.parts.ties import level


class Nasp(GradientSearcher):
    """Move continuous parameters `a <- clip(a - step * d loss / d projection(a), 0, 1)`.

    The projection keeps the largest entry of each choice. That is the method as published (`targets = 1`). With several
    targets, which is ours, there is a copy of the parameters for each, whose projection is the nearest network within that
    cost: the one whose entries have the largest sum, by an exact knapsack. The copies take turns, over one set of weights.
    Weights train at the projection of the parameters plus uniform noise in 0..1, which falls to 0 over the search: with nine
    projections alone, the cheapest networks are trained most, and shared weights rank them first. Derivatives are taken at
    the projection itself.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        steps: Weight steps of the whole search, from the budget.
        additive: Each cost after the error as a sum over the options, or None where it is no such sum.
        node_inputs: The choices that feed each node, for spaces whose cells keep two of them.
        none_option: Per choice the option that stands for no edge, or None; it has no weight and is not trained.
        edges: Edges into a node that are run, those with the largest entries; 2 in the authors' code, 0 for all.
        targets: Number of bounds on the first additive cost, spread evenly over the logarithm of what networks cost, or a list
            of bounds. 1 for no bound, as published; None for 9, or for 1 where no cost is additive.
        size: Weight of the regulariser `size * sum(a_k ** 2 * P_k / sum(P))` at the projection, with P the first additive cost;
            0, as published, for none. The code has it on the normal cell only; here it is on all choices.
        lr: Learning rate of Adam on `a`. None for the published 3e-4 over 50 epochs of 390 steps: a search with fewer steps
            gets a proportionally larger one, up to 0.1.
        betas: Betas of Adam on `a`; (0.5, 0.999) in the code.
        weight_decay: Weight decay of Adam on `a`; 1e-3 in the code.
        noise: Standard deviation of the initial `a` around 0.5. The code starts at 0.5 everywhere, where the first operation
            wins every tie and is for a while the only one that is trained.
        samples: Networks that are proposed in a round, for the archive: the projected one, and neighbours of it in one choice.
            With several targets these take turns, and a projection is proposed once it differs from the last one of its target.
            None for 2, or for 5 with several targets.
        seed: Seed of all sampling.

    Raises:
        ValueError: for settings outside these bounds.

    Example:
        >>> searcher = Nasp((3, 4), rounds=10, steps=100)
        >>> mixture = searcher.relax()
        >>> searcher.descend(1.0, mixture.weights)
        >>> len(searcher.ask(10))
        2
    """

    needs = ("rounds", "steps", "additive", "node_inputs", "none_option", "seed")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rounds: int,
        steps: int,
        additive: Sequence[Additive | None] = (),
        node_inputs: Sequence[Sequence[int]] = (),
        none_option: Sequence[int | None] | None = None,
        edges: int = 2,
        targets: int | list[float] | None = None,
        size: float = 0.0,
        lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        noise: float = 1e-3,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        if (
            edges < 0
            or size < 0
            or not (lr is None or lr > 0)
            or weight_decay < 0
            or noise < 0
            or (samples is not None and samples < 1)
        ):
            raise ValueError(
                f"edges = {edges}, size = {size}, lr = {lr}, weight_decay = {weight_decay}, noise = {noise}, samples = "
                f"{samples}: none may be negative, lr must be positive, samples at least 1"
            )
        self.sizes = tuple(sizes)
        self.node_inputs = [list(node) for node in node_inputs]
        self.none_option = list(none_option) if none_option is not None else [None] * len(self.sizes)
        self.edges, self.size = edges, size
        self.bounds = additive_bounds(targets, additive, self.node_inputs if edges else (), none_option)
        self._additive = next((cost for cost in additive if cost is not None), None)
        copies = 1 if self.bounds is None else len(self.bounds)
        self.samples = (2 if copies == 1 else 5) if samples is None else samples
        self.lr = learning_rate(3e-4, 19_500, steps / copies) if lr is None else lr
        self._generator = torch.Generator().manual_seed(seed)
        self._alive = Categorical(sizes).alive
        for choice, option in enumerate(self.none_option):
            if option is not None:
                self._alive[choice, option] = False
        self.copies = []
        for _ in range(copies):
            start = torch.randn(self._alive.shape, dtype=torch.float64, generator=self._generator)
            self.copies.append((0.5 + noise * start).clamp(0, 1).requires_grad_())
        self._adams = [torch.optim.Adam([a], lr=self.lr, betas=betas, weight_decay=weight_decay) for a in self.copies]
        self._options = [row.nonzero().flatten().tolist() for row in self._alive]
        self._turn = self._trained = 0
        self._steps = steps
        self._proposals = Proposals(copies)
        share = torch.zeros_like(self.copies[0].detach())
        if size:
            if not additive or additive[0] is None:
                raise ValueError("size needs a first cost that is a sum over operations, as parameters are")
            for row, prices in enumerate(additive[0][1]):
                share[row, : len(prices)] = torch.tensor(prices, dtype=torch.float64)
        self._share = share / max(1e-12, float(share.sum()))
        self._stage = Stage(0, tuple(tuple(range(n)) for n in self.sizes), rounds)

    @property
    def stage(self) -> Stage:
        return self._stage

    def _projected(self, copy: int, heat: float = 0.0) -> list[int | None]:
        """Return the option that runs at each choice; None for an edge that is left out.

        Args:
            copy: Which set of parameters.
            heat: Largest uniform noise that is added to the parameters first.
        """
        values = self.copies[copy].detach()
        if heat:
            values = values + heat * torch.rand(values.shape, dtype=values.dtype, generator=self._generator)
        values = level(values).masked_fill(~self._alive, -torch.inf)
        if self.bounds is not None:
            return self._within(values, self.bounds[copy])
        best: list[int | None] = list(values.argmax(dim=1).tolist())
        strength = values.max(dim=1).values.tolist()
        if self.edges:
            for node in self.node_inputs:
                kept = sorted(node, key=lambda choice: (-strength[choice], choice))[: self.edges]
                for choice in set(node) - set(kept):
                    best[choice] = None
        return best

    def _within(self, values: Tensor, bound: float) -> list[int | None]:
        """Return the nearest network within a cost: of all one-hot rows, those whose entries have the largest sum."""
        assert self._additive is not None
        nodes = self.node_inputs if self.edges else ()
        found = network_within(values.tolist(), self._additive, bound, self._options, nodes, self.none_option)
        return [None if option == absent else option for option, absent in zip(found, self.none_option, strict=True)]

    def _mixture(self, wanted: bool, heat: float = 0.0) -> Mixture:
        best = self._projected(self._turn, heat)
        rows = tuple(tuple(float(o == k) for o in range(n)) for k, n in zip(best, self.sizes, strict=True))
        marked = tuple(tuple(row[:n]) for row, n in zip(self._alive.tolist(), self.sizes, strict=True))
        return Mixture(rows, marked if wanted else None)

    def train_on(self, steps: int) -> list[Mixture]:
        mixtures = []
        for _ in range(steps):
            left = max(0.0, 1.0 - self._trained / self._steps)
            mixtures.append(self._mixture(wanted=False, heat=0.0 if self.bounds is None else left))
            self._trained += 1
            self._turn = (self._turn + 1) % len(self.copies)
        return mixtures

    def relax(self) -> Mixture | None:
        return self._mixture(wanted=True)

    def descend(self, loss: float, cotangents: Cotangents) -> None:
        a = self.copies[self._turn]
        gradient = torch.zeros_like(a)
        for row, values in enumerate(cotangents):
            gradient[row, : len(values)] = torch.tensor(values, dtype=torch.float64)
        if self.size:
            for row, option in enumerate(self._projected(self._turn)):
                if option is not None:
                    gradient[row, option] += 2 * self.size * self._share[row, option]
        a.grad = gradient.masked_fill(~self._alive, 0.0)
        self._adams[self._turn].step()
        with torch.no_grad():
            a.clamp_(0, 1)

    def ask(self, n: int) -> list[Architecture]:
        """Return projected networks and neighbours of them that the shared weights can judge.

        Without the neighbours the archive would hold as many networks as there were projections.
        """
        here = [self._architecture(self._projected(copy)) for copy in range(len(self.copies))]
        if self.bounds is None:
            return [here[0], *(self._neighbour(here[0]) for _ in range(min(n, self.samples) - 1))][:n]
        return self._proposals(min(n, self.samples), here, lambda copy: self._neighbour(here[copy]))

    def _neighbour(self, here: Architecture) -> Architecture:
        return neighbour(here, self._options, self._generator, self.none_option)

    def _architecture(self, options: Sequence[int | None]) -> Architecture:
        found = []
        for option, none_option in zip(options, self.none_option, strict=True):
            if option is None and none_option is None:
                raise ValueError("an edge is left out of a space that has no option for that")
            found.append(option if option is not None else none_option)
        return tuple(int(o) for o in found if o is not None)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        pass

    def probabilities(self) -> list[list[float]]:
        """Return the softmax of the parameters, from which the authors derive their cells, or its mean over the targets."""
        shown = (
            torch.stack([self._softmax(a) for a in self.copies]).mean(dim=0) if self.bounds else self._softmax(self.copies[0])
        )
        return [row[:n] for row, n in zip(shown.tolist(), self.sizes, strict=True)]

    def _softmax(self, a: Tensor) -> Tensor:
        return a.detach().masked_fill(~self._alive, -torch.inf).softmax(dim=1)

    def derive(self) -> list[Architecture]:
        """Return the nearest network within each target.

        As published, these are per node the two edges whose best operation has the largest softmax (DARTS's rule), with that
        operation.
        """
        if self.bounds is not None:
            return list(dict.fromkeys(self._architecture(self._projected(copy)) for copy in range(len(self.copies))))
        p = level(self._softmax(self.copies[0]))
        best: list[int | None] = list(p.argmax(dim=1).tolist())
        strength = p.max(dim=1).values.tolist()
        for node in self.node_inputs if self.edges else ():
            kept = sorted(node, key=lambda choice: (-strength[choice], choice))[: self.edges]
            for choice in set(node) - set(kept):
                best[choice] = None
        return [self._architecture(best)]

    def state_dict(self) -> dict[str, Any]:
        return {
            "copies": [a.detach().clone() for a in self.copies],
            "adams": [adam.state_dict() for adam in self._adams],
            "turn": self._turn,
            "trained": self._trained,
            **self._proposals.state_dict(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for a, adam, saved, moments in zip(self.copies, self._adams, state["copies"], state["adams"], strict=True):
            with torch.no_grad():
                a.copy_(saved)
            adam.load_state_dict(moments)
        self._turn, self._trained = state["turn"], state["trained"]
        self._proposals.load_state_dict(state)
        self._generator.set_state(state["generator"])
