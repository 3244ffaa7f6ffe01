"""What a search space offers."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from analysis.graphs import Graph
from orchestrator.spaces.parts.choice import Decided, MixedNetwork, decided, extract, keeping
from orchestrator.spaces.parts.costs import Operation, OperationCosts, cost_operations
from orchestrator.spaces.parts.path_encoding import encode_paths
from searchers.base import Architecture, check_architecture

SKIPS = frozenset({"skip", "skip_connect", "identity", "id"})
"""What the field calls an option that passes its input on."""
LISTED = 20_000
"""Spaces of up to so many architectures are looked at whole."""


@dataclass(frozen=True)
class Decision:
    """One choice of a space: a name, and the names of its options in the order of their indices."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """A network that its authors released: its notation, the settings of the space that make it theirs, and the source."""

    notation: str
    settings: Mapping[str, Any]
    source: str


class SearchSpace(ABC):
    """Its choices, its notation, its supernet, its networks, and what they are made of.

    choices: what is decided. image: (channels, height, width) of the input. classes: outputs of the classifier. affine:
    whether normalisation in the supernet has learned scales, as published; with them a mixture's weights can be undone.
    relaxed: whether its supernet runs mixtures, or single networks only. node_inputs: for cells that keep two edges into each
    node, the choices that feed each node, node by node and cell by cell, in the order of the cell's states. none_option: per
    choice the option that stands for no edge, or None. weightless: names of the operations without learned parameters (a skip
    counts as one even where it has to change shapes).
    """

    choices: tuple[Decision, ...]
    image: tuple[int, int, int]
    classes: int
    affine = False
    relaxed = True
    node_inputs: tuple[tuple[int, ...], ...] = ()
    none_option: tuple[int | None, ...] | None = None
    weightless: ClassVar[frozenset[str]] = frozenset()
    published: ClassVar[Mapping[str, Published]] = {}

    @abstractmethod
    def build(self, before_last: int | None) -> nn.Module:
        """A network with `Choice`s in it: of a stage of the search (see `supernet`), or None: as it is to be evaluated."""

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """The architecture in the field's own notation."""

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """The inverse of `format`. Raises ValueError that says where `text` goes wrong."""

    @abstractmethod
    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        """Return each part of the network, a cell or chain, as a graph of states and operations, under its title."""

    def drawing(self, architecture: Architecture) -> dict[str, Graph]:
        """Return what to draw of the architecture; nothing is computed from it."""
        return self.graph(architecture)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of options of each choice."""
        return tuple(len(choice.options) for choice in self.choices)

    @property
    def name(self) -> str:
        """As an experiment names it."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    @property
    def settings(self) -> dict[str, Any]:
        """What its networks depend on, besides image and classes; settings of the supernet alone, which are named so, do not
        count."""
        assert is_dataclass(self)
        own = (f.name for f in fields(self) if f.name not in ("image", "classes") and not f.name.startswith("supernet_"))
        values = {name: getattr(self, name) for name in own}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}

    @property
    def parameter_free(self) -> tuple[tuple[bool, ...], ...]:
        """Per choice and option, whether it is an operation without learned parameters."""
        return tuple(tuple(option in self.weightless for option in choice.options) for choice in self.choices)

    @cached_property
    def skips(self) -> tuple[tuple[bool, ...], ...]:
        """Per choice, whether each option passes its input on: here, by its name."""
        return tuple(tuple(option in SKIPS for option in choice.options) for choice in self.choices)

    @property
    def phases(self) -> tuple[tuple[int, ...], ...]:
        """Choices that belong together, as those of a cell or stage do: here, by what their names begin with, up to a slash."""
        found: dict[str, list[int]] = {}
        for index, choice in enumerate(self.choices):
            found.setdefault(choice.name.partition("/")[0], []).append(index)
        return tuple(map(tuple, found.values()))

    @property
    def architectures(self) -> int:
        """How many architectures the space holds."""
        return math.prod(self.sizes)

    def supernet(self, before_last: int, options: Sequence[Sequence[int]]) -> MixedNetwork:
        """A network over the surviving `options` of each choice: `supernet(x, weights)`.

        before_last: how many stages of the search are still to come; in the last one, 0, it has its full depth.
        """
        with keeping({choice.name: kept for choice, kept in zip(self.choices, options, strict=True)}):
            return MixedNetwork(self.build(before_last), self._order)

    def network(self, architecture: Architecture) -> nn.Module:
        """The architecture as a plain module: `network(x)`."""
        self.check(architecture)
        with keeping({choice.name: (o,) for choice, o in zip(self.choices, architecture, strict=True)}):
            built = MixedNetwork(self.build(None), self._order)
        return extract(built.network, architecture)

    @cached_property
    def operation_costs(self) -> OperationCosts:
        """What every option costs at every place; made by one run without arithmetic when it is first needed."""
        return cost_operations(lambda: self.build(None), self._order, self.sizes, self.image)

    def operations(self, architecture: Architecture) -> list[Operation]:
        """All operations of `network(architecture)`, in the order in which they run."""
        self.check(architecture)
        return self.operation_costs.operations(architecture)

    def parameters(self, architecture: Architecture) -> int:
        """Parameters of `network(architecture)`, by adding up those of its operations."""
        self.check(architecture)
        return self.operation_costs.cost("parameters", architecture)

    def macs(self, architecture: Architecture) -> int:
        """Multiplications of `network(architecture)` for one image (see `Operation`)."""
        self.check(architecture)
        return self.operation_costs.cost("macs", architecture)

    def additive(self, cost: str) -> tuple[float, list[list[float]]] | None:
        """`parameters` or `macs` as a sum over the options (see `OperationCosts.additive`)."""
        return self.operation_costs.additive(cost)

    def derive(self, probabilities: Sequence[Sequence[float]]) -> Architecture:
        """The architecture that stands for a policy: here, each choice's most probable option."""
        return tuple(max(range(len(row)), key=row.__getitem__) for row in probabilities)

    @cached_property
    def path_encoding(self) -> tuple[NDArray[np.float64], list[int]] | None:
        """Features of the graphs of all architectures, in lexicographic order (see `parts/path_encoding.py`), without what does
        not reach the output; None for a space of more than 20,000."""
        if self.architectures > LISTED:
            return None
        pruned = [self.pruned(a, constants=True) for a in itertools.product(*map(range, self.sizes))]
        graphs = {a: {} if a is None else self.graph(a) for a in dict.fromkeys(pruned)}
        return encode_paths([graphs[a] for a in pruned], SKIPS)

    def canonical(self, architecture: Architecture) -> Hashable:
        """Equal for architectures that are the same network. Here every architecture is one of its own."""
        return architecture

    def pruned(self, architecture: Architecture, constants: bool) -> Architecture | None:
        """What is left of the architecture where a runtime leaves out whatever does not reach the output, and with `constants`
        what does not depend on the image, too; None where the output does not. Here nothing is ever left out."""
        return architecture

    def check(self, architecture: Architecture) -> None:
        """Raises ValueError unless the architecture lies in the space."""
        check_architecture(architecture, self.sizes)

    def largest(self) -> Architecture:
        """The architecture of most MACs, found choice by choice as they add up."""
        best = [0] * len(self.sizes)
        for choice, size in enumerate(self.sizes):
            best[choice] = max(range(size), key=lambda o, c=choice: self.macs((*best[:c], o, *best[c + 1 :])))  # type: ignore[misc]
        return tuple(best)

    @cached_property
    def _order(self) -> dict[str, int]:
        return {choice.name: index for index, choice in enumerate(self.choices)}


def read_choices(build: Callable[[], nn.Module]) -> tuple[Decision, ...]:
    """The choices of a network that is written as a module with `Choice`s, in the order of its modules.

    Raises ValueError where a choice is not part of the module, or two of the same name differ in their options.
    """
    with keeping(None) as made, torch.random.fork_rng(devices=[]):
        network = build()
    if not isinstance(network, nn.Module):
        raise ValueError(f"the factory returned {type(network).__name__}; it must return an nn.Module")
    found: dict[str, tuple[str, ...]] = {}
    places = list(decided(network))
    for place in places:
        for name, options in place.decisions.items():
            if found.setdefault(name, options) != options:
                raise ValueError(f"Choice {name!r} has the options {found[name]} at one place and {options} at another")
    lost: list[Decided] = [place for place in made if all(place is not other for other in places)]
    if lost:
        names = ", ".join(repr(name) for place in lost for name in place.decisions)
        raise ValueError(f"Choice {names} is not part of the network; keep it as an attribute, or in an nn.ModuleList")
    if not found:
        raise ValueError("the network has no Choice in it, so there is nothing to search")
    return tuple(Decision(name, options) for name, options in found.items())
