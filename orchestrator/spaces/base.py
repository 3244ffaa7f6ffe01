"""Interface of search spaces."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.spaces.parts.choice import Decided, MixedNetwork, Weights, decided, extract, keeping
from orchestrator.spaces.parts.costs import Operation, OperationCosts, cost_operations
from orchestrator.spaces.parts.path_encoding import encode_paths
from searchers.base import Architecture, Statistics, check_architecture

SKIPS = frozenset({"skip", "skip_connect", "identity", "id"})
"""Names in the literature of an option that passes its input on."""
LISTED = 20_000
"""Number of architectures up to which a space is listed as a whole."""


@dataclass(frozen=True)
class Decision:
    """Choice of a space.

    Args:
        name: Name of the choice.
        options: Names of its options, in the order of their indices.
    """

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """Network that its authors released.

    Args:
        notation: Architecture in the notation of its space.
        settings: Settings of the space that make it the authors' network.
        source: Publication or repository.
    """

    notation: str
    settings: Mapping[str, Any]
    source: str


class SearchSpace(ABC):
    """Base of search spaces: choices, notation, supernet, networks, and the operations that these are made of.

    Attributes:
        choices: Choices of the space, in the order of an architecture's option indices.
        image: Shape of the input, (channels, height, width).
        classes: Number of classes.
        affine: Whether normalisation in the supernet has learned scales, as published; with them a mixture's weights can be
            undone.
        relaxed: Whether the supernet runs mixtures, rather than single networks only.
        pretrained: Whether networks begin with the weights of a trained one, so that those of a supernet are kept from stage to
            stage, and single networks are fine-tuned rather than trained from scratch.
        statistics: Statistics of normalisation that its networks need when they are measured with shared weights; None for
            those of the method.
        node_inputs: For cells that keep two edges into each node, the choices that feed each node, node by node and cell by
            cell, in the order of the cell's states.
        none_option: Per choice the option that stands for no edge, or None.
        weightless: Names of the operations without learned parameters (a skip counts as one even where it has to change
            shapes).
        published: Networks of the space that their authors released, by name.
    """

    choices: tuple[Decision, ...]
    image: tuple[int, int, int]
    classes: int
    affine = False
    relaxed = True
    pretrained = False
    statistics: Statistics | None = None
    node_inputs: tuple[tuple[int, ...], ...] = ()
    none_option: tuple[int | None, ...] | None = None
    weightless: ClassVar[frozenset[str]] = frozenset()
    published: ClassVar[Mapping[str, Published]] = {}

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the network with `Choice`s in it, as it is to be evaluated."""

    def build_supernet(self, stages_left: int) -> nn.Module:
        """Build the network with `Choice`s in it, as it is to be searched: here, as it is evaluated.

        Args:
            stages_left: Stages of the search that are still to come; in the last one, 0, it has its full depth.
        """
        return self.build()

    @property
    def extent(self) -> dict[str, int]:
        """What a proxy may have fewer of, with this space's own number.

        `channels` counts those of the first layer or group, which the others follow in proportion; `cells` those of a group or
        of the network, as the space's setting does. Here: whole numbers among the settings of these two names.
        """
        known = {key: self.settings.get(key) for key in ("channels", "cells")}
        return {key: value for key, value in known.items() if isinstance(value, int) and not isinstance(value, bool)}

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        """Return a proxy: a space of the same choices whose networks are smaller. Here its settings are replaced.

        Args:
            image: Shape of its images, (channels, height, width).
            classes: Its number of classes.
            fewer: Numbers of some of what `extent` has, each at most the one there.

        Raises:
            ValueError: Where no network can be so small.
        """
        if not is_dataclass(self):
            raise ValueError(f"{self.name} does not say how it shrinks; give its class a method `smaller`")
        return replace(self, image=image, classes=classes, **fewer)

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """Write an architecture in the notation of the literature."""

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """Read an architecture, the inverse of `format`. Raises ValueError that says where `text` goes wrong."""

    @abstractmethod
    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        """Return each part of the network, a cell or chain, as a graph of states and operations, under its title."""

    def drawing(self, architecture: Architecture) -> dict[str, Graph]:
        """Return the graphs to draw of the architecture, with dead parts marked; nothing is computed from them."""
        graphs, live = self.graph(architecture), self.pruned(architecture, constants=True)
        if live == architecture:
            return graphs
        left = self.graph(live) if live is not None else {}
        return {title: graph.marked(left.get(title)) for title, graph in graphs.items()}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of options of each choice."""
        return tuple(len(choice.options) for choice in self.choices)

    @property
    def name(self) -> str:
        """Name of the space in an experiment."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the networks depend on, besides image and classes.

        Settings of the supernet alone, whose names begin with `supernet_`, are not among them.
        """
        assert is_dataclass(self)
        own = (f.name for f in fields(self) if f.name not in ("image", "classes") and not f.name.startswith("supernet_"))
        values = {name: getattr(self, name) for name in own}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}

    @property
    def parameter_free(self) -> tuple[tuple[bool, ...], ...]:
        """Operations without learned parameters, as a truth value per choice and option."""
        return tuple(tuple(option in self.weightless for option in choice.options) for choice in self.choices)

    @cached_property
    def skips(self) -> tuple[tuple[bool, ...], ...]:
        """Options that pass their input on, as a truth value per choice and option: here, by their names."""
        return tuple(tuple(option in SKIPS for option in choice.options) for choice in self.choices)

    @property
    def phases(self) -> tuple[tuple[int, ...], ...]:
        """Groups of choices that belong together, as those of a cell or stage do: here, by their names up to a slash."""
        phases: dict[str, list[int]] = {}
        for index, choice in enumerate(self.choices):
            phases.setdefault(choice.name.partition("/")[0], []).append(index)
        return tuple(map(tuple, phases.values()))

    @property
    def architectures(self) -> int:
        """Number of architectures."""
        return math.prod(self.sizes)

    def supernet(self, stages_left: int, options: Sequence[Sequence[int]]) -> MixedNetwork:
        """Build a network over the surviving options, to be called as `supernet(x, weights)`.

        Args:
            stages_left: See `build_supernet`.
            options: Indices of the surviving options of each choice.
        """
        with keeping({choice.name: surviving for choice, surviving in zip(self.choices, options, strict=True)}):
            return MixedNetwork(self.build_supernet(stages_left), self._order)

    def network(self, architecture: Architecture) -> nn.Module:
        """Build an architecture as a plain module, to be called as `network(x)`."""
        self.check(architecture)
        with keeping({choice.name: (o,) for choice, o in zip(self.choices, architecture, strict=True)}):
            mixed = MixedNetwork(self.build(), self._order)
        return extract(mixed.network, architecture)

    def running(self, architecture: Architecture) -> tuple[Callable[[Any], Any], list[tuple[str, nn.Module]]]:
        """Return a network as it runs, in evaluation mode, and its operations with their names."""
        with keeping({choice.name: (o,) for choice, o in zip(self.choices, architecture, strict=True)}):
            network = MixedNetwork(self.build(), self._order).eval()
        weights = Weights([[float(o == taken) for o in range(n)] for taken, n in zip(architecture, self.sizes, strict=True)])
        parts = [(title, module) for place in decided(network) for title, module, _ in place.parts()]
        return lambda x: network(x, weights), parts

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        """List the modules of a network that run beside others, so that drop path may leave their output out of a sum.

        A space whose networks have no such paths does not override this, and is refused drop path.

        Args:
            network: What `network` returned.
        """
        return []

    def auxiliary_point(self, network: nn.Module) -> tuple[nn.Module, Callable[[Any], Tensor]] | None:
        """Return the module whose output an auxiliary classifier reads, and what makes of that a map, (n, channels, h, w).

        A space whose networks have no such place does not override this, and is refused one.

        Args:
            network: What `network` returned.
        """
        return None

    @cached_property
    def operation_costs(self) -> OperationCosts:
        """Operations of every option at every place, found by one run without arithmetic when they are first needed."""
        return cost_operations(lambda: self.build(), self._order, self.sizes, self.image)

    def operations(self, architecture: Architecture) -> list[Operation]:
        """List the operations of `network(architecture)`, in the order in which they run."""
        self.check(architecture)
        return self.operation_costs.operations(architecture)

    def parameters(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`, by adding up those of its operations."""
        self.check(architecture)
        return self.operation_costs.cost("parameters", architecture)

    def macs(self, architecture: Architecture) -> int:
        """Count the multiplications of `network(architecture)` for one image (see `Operation`)."""
        self.check(architecture)
        return self.operation_costs.cost("macs", architecture)

    def additive(self, cost: str) -> tuple[float, list[list[float]]] | None:
        """Return `parameters` or `macs` as a sum over the options (see `OperationCosts.additive`)."""
        return self.operation_costs.additive(cost)

    def derive(self, probabilities: Sequence[Sequence[float]]) -> Architecture:
        """Return the architecture that stands for a policy: here, each choice's most probable option."""
        return tuple(max(range(len(row)), key=row.__getitem__) for row in probabilities)

    @cached_property
    def path_encoding(self) -> tuple[NDArray[np.float64], list[int]] | None:
        """Features of the graphs of all architectures, in lexicographic order (see `parts/path_encoding.py`).

        Operations that do not reach the output are left out. None for a space of more than `LISTED` architectures.
        """
        if self.architectures > LISTED:
            return None
        pruned = [self.pruned(a, constants=True) for a in itertools.product(*map(range, self.sizes))]
        graphs = {a: {} if a is None else self.graph(a) for a in dict.fromkeys(pruned)}
        return encode_paths([graphs[a] for a in pruned], SKIPS)

    def canonical(self, architecture: Architecture) -> Hashable:
        """Return a key that is equal for architectures of the same network. Here every architecture is a network of its own."""
        return architecture

    def pruned(self, architecture: Architecture, constants: bool) -> Architecture | None:
        """Return what a runtime executes of an architecture. Here it is everything.

        Args:
            architecture: An option index per choice.
            constants: Whether it leaves out what does not depend on the image, besides what does not reach the output.

        Returns:
            The architecture without those operations; None where the output does not depend on the image.
        """
        return architecture

    def check(self, architecture: Architecture) -> None:
        """Raise ValueError unless the architecture lies in the space."""
        check_architecture(architecture, self.sizes)

    def largest(self) -> Architecture:
        """Return the architecture of most MACs, found choice by choice as they add up."""
        return self.extreme([range(size) for size in self.sizes], largest=True)

    def extreme(self, options: Sequence[Sequence[int]], largest: bool) -> Architecture:
        """Return the architecture of most or of fewest MACs among some options of each choice, found choice by choice."""
        best = [left[0] for left in options]
        for choice, left in enumerate(options):
            pick: Any = max if largest else min
            best[choice] = pick(left, key=lambda o, c=choice: self.macs((*best[:c], o, *best[c + 1 :])))
        return tuple(best)

    def inheriting(self, architecture: Architecture, state: Mapping[str, Tensor]) -> nn.Module:
        """Build an architecture as a plain module with its share of a supernet's weights.

        Args:
            architecture: An option index per choice.
            state: `state_dict` of a supernet of the last stage; averages of normalisation that it lacks are as in a new one.
        """
        self.check(architecture)
        supernet = self.supernet(0, [range(size) for size in self.sizes])
        supernet.load_state_dict({**supernet.state_dict(), **state})
        return extract(supernet.network, architecture)

    @cached_property
    def _order(self) -> dict[str, int]:
        return {choice.name: index for index, choice in enumerate(self.choices)}


def read_choices(build: Callable[[], nn.Module]) -> tuple[Decision, ...]:
    """List the choices of a network that is written as a module with `Choice`s, in the order of its modules.

    Raises:
        ValueError: Where a choice is not part of the module, or two of the same name differ in their options.
    """
    with keeping(None) as created, torch.random.fork_rng(devices=[]):
        network = build()
    if not isinstance(network, nn.Module):
        raise ValueError(f"the factory returned {type(network).__name__}; it must return an nn.Module")
    options_of: dict[str, tuple[str, ...]] = {}
    places = list(decided(network))
    for place in places:
        for name, options in place.decisions.items():
            if options_of.setdefault(name, options) != options:
                raise ValueError(f"Choice {name!r} has the options {options_of[name]} at one place and {options} at another")
    lost: list[Decided] = [place for place in created if all(place is not other for other in places)]
    if lost:
        names = ", ".join(repr(name) for place in lost for name in place.decisions)
        raise ValueError(f"Choice {names} is not part of the network; keep it as an attribute, or in an nn.ModuleList")
    if not options_of:
        raise ValueError("the network has no Choice in it, so there is nothing to search")
    return tuple(Decision(name, options) for name, options in options_of.items())
