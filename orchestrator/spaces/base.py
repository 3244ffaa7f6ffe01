"""What a search space offers, and the mixed operation that all supernets are made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from searchers.base import Architecture, check_architecture


@dataclass(frozen=True)
class Choice:
    """One decision: a name, and the names of its options in the order of their indices."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """A piece of network at the shape where it occurs: what a device profile prices.

    Shapes are (channels, height, width). `macs` counts multiplications of convolutions and linear layers for one image;
    normalisation, activations, pooling and additions count as 0, as the field does.
    """

    name: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Edge:
    """An arrow of a drawing: from node to node, and what happens on the way."""

    source: str
    target: str
    label: str


class Weights:
    """A mixture as one supernet forward uses it: plain numbers, or tensors whose gradients are wanted.

    rows: weight per option per choice. inactive: options of weight 0 whose cotangent is wanted all the same, with the leaf
    tensors, per choice, that receive it.
    """

    def __init__(
        self, rows: Sequence[Sequence[float | Tensor]], inactive: Sequence[tuple[tuple[int, ...], Tensor] | None] | None = None
    ) -> None:
        self.rows = rows
        self.inactive = inactive or [None] * len(rows)


class MixedOperation(nn.Module):
    """The weighted sum of the surviving options of one choice, at one place of a network.

    An option of weight 0 does not run, so it gets no gradient at all: neither momentum nor weight decay moves it. A weight
    that is the number 1 costs no multiplication, so one path keeps no more for the backward pass than a network of its own.
    """

    def __init__(self, choice: int, options: dict[int, nn.Module]) -> None:
        super().__init__()
        self.choice = choice
        self.options = nn.ModuleDict({str(index): module for index, module in options.items()})

    def forward(self, x: Tensor, weights: Weights) -> Tensor | None:
        """None where nothing is active, which adds nothing to a node."""
        total: Tensor | None = None
        for index, option in self.options.items():
            weight = weights.rows[self.choice][int(index)]
            if isinstance(option, Zero) or (not isinstance(weight, Tensor) and weight == 0):
                continue
            y = option(x)
            if isinstance(weight, Tensor) or weight != 1:
                y = weight * y
            total = y if total is None else total + y
        inactive = weights.inactive[self.choice]
        if inactive is not None:
            alone = [self.options[str(index)] for index in inactive[0]]
            total = torch.zeros_like(x) if total is None else total
            total = _Cotangents.apply(total, x.detach(), inactive[1], alone)
        return total


class _Cotangents(torch.autograd.Function):
    """Passes y on; in the backward pass runs inactive options one at a time, without a graph, for their cotangents.

    ProxylessNAS, section 3.2.1, needs d loss / d gate of every candidate at the memory of one path. It is the inner product
    of the upstream gradient with the candidate's output, so no candidate has to be kept.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, leaf: Tensor, options: list[nn.Module]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.options = options
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, Tensor, None]:
        (x,) = ctx.saved_tensors
        (gradient,) = upstream
        with torch.no_grad():
            inner = [(gradient * option(x)).sum() for option in ctx.options]
        return gradient, None, torch.stack(inner), None


class Zero(nn.Module):
    """`none`: adds nothing to a node. Cells leave it out of their sums, so it is never computed; its cotangent is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand_as(x)


class SkipDropout(nn.Module):
    """An identity whose elements are dropped while weights train, so that early training does not lean on skips alone
    (P-DARTS, arXiv 1904.12760, section 3.3; TND-NAS keeps it)."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0
        self.chance: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.chance)
        return x * kept / (1 - self.rate)


class SearchSpace(ABC):
    """Its choices, its notation, its supernet, its networks, and what they are made of.

    image: (channels, height, width) of the input. classes: outputs of the classifier.
    """

    choices: tuple[Choice, ...]
    image: tuple[int, int, int]
    classes: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of options of each choice."""
        return tuple(len(choice.options) for choice in self.choices)

    @property
    def architectures(self) -> int:
        """How many architectures the space holds."""
        return math.prod(self.sizes)

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """The architecture in the field's own notation."""

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """The inverse of `format`. Raises ValueError that says where `text` goes wrong."""

    @abstractmethod
    def supernet(self, before_last: int, options: Sequence[Sequence[int]]) -> nn.Module:
        """A network over the surviving `options` of each choice: `supernet(x, weights)`.

        before_last: how many stages of the search are still to come; in the last one, 0, it has its full depth.
        """

    @abstractmethod
    def network(self, architecture: Architecture) -> nn.Module:
        """The architecture as a plain module: `network(x)`."""

    @abstractmethod
    def operations(self, architecture: Architecture) -> list[Operation]:
        """All operations of `network(architecture)` that hold parameters or cost multiplications."""

    @abstractmethod
    def drawing(self, architecture: Architecture) -> dict[str, list[Edge]]:
        """What to draw: the edges of each cell, under its title."""

    def check(self, architecture: Architecture) -> None:
        """Raises ValueError unless the architecture lies in the space."""
        check_architecture(architecture, self.sizes)

    def largest(self) -> Architecture:
        """The architecture of most MACs, found choice by choice as they add up."""
        best = [0] * len(self.sizes)

        def macs(choice: int, option: int) -> int:
            return sum(o.macs for o in self.operations((*best[:choice], option, *best[choice + 1 :])))

        for choice, size in enumerate(self.sizes):
            best[choice] = max(range(size), key=lambda option, c=choice: macs(c, option))  # type: ignore[misc]
        return tuple(best)
