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
from searchers.parts.additive import Additive
from searchers.parts.categorical import Categorical
from searchers.parts.ties import level


class Nasp(GradientSearcher):
    """Move continuous parameters `a <- clip(a - step * d loss / d projection(a), 0, 1)`.

    The projection keeps the largest entry of each choice.

    Args:
        sizes: Number of options of each choice.
        rounds: Rounds of the search, from the budget.
        steps: Weight steps of the whole search, from the budget.
        additive: Each cost after the error as a sum over the options, or None where it is no such sum.
        node_inputs: The choices that feed each node, for spaces whose cells keep two of them.
        none_option: Per choice the option that stands for no edge, or None; it has no weight and is not trained.
        edges: Edges into a node that are run, those with the largest entries; 2 in the authors' code, 0 for all.
        size: Weight of the regulariser `size * sum(a_k ** 2 * P_k / sum(P))` at the projection, with P the first additive cost;
            0, as published, for none. The code has it on the normal cell only; here it is on all choices.
        lr: Learning rate of Adam on `a`. None for the published 3e-4 over 50 epochs of 390 steps: a search with fewer steps
            gets a proportionally larger one, up to 0.1.
        betas: Betas of Adam on `a`; (0.5, 0.999) in the code.
        weight_decay: Weight decay of Adam on `a`; 1e-3 in the code.
        noise: Standard deviation of the initial `a` around 0.5. The code starts at 0.5 everywhere, where the first operation
            wins every tie and is for a while the only one that is trained.
        samples: Networks that are proposed in a round, for the archive: the projected one, and neighbours of it in one choice.
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
        size: float = 0.0,
        lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        noise: float = 1e-3,
        samples: int = 2,
        seed: int = 0,
    ) -> None:
        if edges < 0 or size < 0 or not (lr is None or lr > 0) or weight_decay < 0 or noise < 0 or samples < 1:
            raise ValueError(
                f"edges = {edges}, size = {size}, lr = {lr}, weight_decay = {weight_decay}, noise = {noise}, samples = "
                f"{samples}: none may be negative, lr must be positive, samples at least 1"
            )
        self.sizes = tuple(sizes)
        self.node_inputs = [list(node) for node in node_inputs]
        self.none_option = list(none_option) if none_option is not None else [None] * len(self.sizes)
        self.edges, self.size, self.samples = edges, size, samples
        self.lr = learning_rate(3e-4, 19_500, steps) if lr is None else lr
        self._generator = torch.Generator().manual_seed(seed)
        self._alive = Categorical(sizes).alive
        for choice, option in enumerate(self.none_option):
            if option is not None:
                self._alive[choice, option] = False
        start = torch.randn(self._alive.shape, dtype=torch.float64, generator=self._generator)
        self.a = (0.5 + noise * start).clamp(0, 1).requires_grad_()
        self._adam = torch.optim.Adam([self.a], lr=self.lr, betas=betas, weight_decay=weight_decay)
        share = torch.zeros_like(self.a.detach())
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

    def _projected(self) -> list[int | None]:
        """Return the option that runs at each choice; None for an edge that is left out."""
        values = level(self.a.detach()).masked_fill(~self._alive, -torch.inf)
        best: list[int | None] = list(values.argmax(dim=1).tolist())
        strength = values.max(dim=1).values.tolist()
        if self.edges:
            for node in self.node_inputs:
                kept = sorted(node, key=lambda choice: (-strength[choice], choice))[: self.edges]
                for choice in set(node) - set(kept):
                    best[choice] = None
        return best

    def _mixture(self, wanted: bool) -> Mixture:
        rows = tuple(tuple(float(o == k) for o in range(n)) for k, n in zip(self._projected(), self.sizes, strict=True))
        marked = tuple(tuple(row[:n]) for row, n in zip(self._alive.tolist(), self.sizes, strict=True))
        return Mixture(rows, marked if wanted else None)

    def train_on(self, steps: int) -> list[Mixture]:
        return [self._mixture(wanted=False)] * steps

    def relax(self) -> Mixture | None:
        return self._mixture(wanted=True)

    def descend(self, loss: float, cotangents: Cotangents) -> None:
        gradient = torch.zeros_like(self.a)
        for row, values in enumerate(cotangents):
            gradient[row, : len(values)] = torch.tensor(values, dtype=torch.float64)
        if self.size:
            for row, option in enumerate(self._projected()):
                if option is not None:
                    gradient[row, option] += 2 * self.size * self._share[row, option]
        self.a.grad = gradient.masked_fill(~self._alive, 0.0)
        self._adam.step()
        with torch.no_grad():
            self.a.clamp_(0, 1)

    def ask(self, n: int) -> list[Architecture]:
        """Return the projected network and neighbours of it that the shared weights can judge.

        Without the neighbours the archive would hold as many networks as there were projections.
        """
        here = self._architecture(self._projected())
        asked = [here]
        while len(asked) < min(n, self.samples):
            choice = int(torch.randint(len(self.sizes), (), generator=self._generator))
            options = [o for o in range(self.sizes[choice]) if self._alive[choice, o] and o != here[choice]]
            if here[choice] == self.none_option[choice] or not options:
                asked.append(here)
                continue
            option = options[int(torch.randint(len(options), (), generator=self._generator))]
            asked.append((*here[:choice], option, *here[choice + 1 :]))
        return asked[:n]

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
        """Return the softmax of `a`, from which the authors derive their cells."""
        shown = self._softmax()
        return [row[:n] for row, n in zip(shown.tolist(), self.sizes, strict=True)]

    def _softmax(self) -> Tensor:
        return self.a.detach().masked_fill(~self._alive, -torch.inf).softmax(dim=1)

    def derive(self) -> list[Architecture]:
        """Return, per node, the two edges whose best operation has the largest softmax (DARTS's rule), with that operation."""
        p = level(self._softmax())
        best: list[int | None] = list(p.argmax(dim=1).tolist())
        strength = p.max(dim=1).values.tolist()
        for node in self.node_inputs if self.edges else ():
            kept = sorted(node, key=lambda choice: (-strength[choice], choice))[: self.edges]
            for choice in set(node) - set(kept):
                best[choice] = None
        return [self._architecture(best)]

    def state_dict(self) -> dict[str, Any]:
        return {"a": self.a.detach().clone(), "adam": self._adam.state_dict(), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.a.copy_(state["a"])
        self._adam.load_state_dict(state["adam"])
        self._generator.set_state(state["generator"])
