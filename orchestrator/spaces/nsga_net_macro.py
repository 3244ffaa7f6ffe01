"""NSGA-Net's macro space (Lu et al., GECCO 2019, arXiv 1810.03522, section 3.1): which nodes of a phase feed which."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, Published, SearchSpace
from orchestrator.spaces.parts.chains import in_proportion
from orchestrator.spaces.parts.choice import Decided, total
from orchestrator.spaces.parts.costs import CountedCosts, Operation, OperationCosts
from orchestrator.spaces.parts.layers import classifier
from orchestrator.spaces.parts.notation import Reader
from searchers.base import Architecture

Phase = dict[int, list[int]]
"""Inputs of each node: 0 is the phase's input, 1 to n are nodes, n + 1 is the phase's output. Empty: no phase at all."""

GROWTH, BOTTLENECK = 64, 4
"""Settings of dense nodes, in the authors' networks for validation."""


@dataclass(kw_only=True, eq=False)
class NsgaNetMacro(SearchSpace):
    """Phases of a few equal nodes, with a bit for each pair of nodes and one for a shortcut around the phase: 48 bits for three
    phases of six nodes. Between phases the size is halved.

    A string is repaired as it is decoded: a node with outputs alone gets the phase's input, one with inputs alone feeds its
    output, one with neither is dropped, and so is a phase without any connection. Several inputs are concatenated and reduced
    by a 1x1 convolution. Because of the repair a network is no sum over its bits: the supernet runs single networks (`relaxed`
    is False), and refuses mixtures.

    Args:
        nodes: Nodes of each phase.
        channels: Width of each phase.
        kind: "conv" for nodes of a 3x3 convolution, normalisation and ReLU, as the authors search; "dense" for bottlenecks of
            DenseNet with growth 64, as they train the result with 128 channels.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    relaxed = False
    published: ClassVar[Mapping[str, Published]] = {
        "NSGA_NET_MACRO": Published(
            "[1][00][010][0111][10011][0]-[0][00][010][0101][11111][0]-[0][01][101][1011][10011][0]",
            {"nodes": 6, "channels": [128, 128, 128], "kind": "dense"},
            "NSGA-Net, the authors' code; published as 3.3 M parameters and 1290 M multiplications",
        )
    }

    nodes: int = 6
    channels: tuple[int, ...] = (32, 64, 128)
    kind: Literal["conv", "dense"] = "conv"
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __post_init__(self) -> None:
        if self.nodes < 2 or not self.channels or min(self.channels) < 1 or self.classes < 1:
            raise ValueError(f"nodes = {self.nodes}, channels = {self.channels}, classes = {self.classes}: at least 2, 1 and 1")
        if (min(self.image[1:]) - 2) // 2 ** (len(self.channels) - 1) < 1:
            raise ValueError(f"images of {self.image[1]}x{self.image[2]} are too small for {len(self.channels)} phases")
        pairs = [f"{a}->{b}" for b in range(2, self.nodes + 1) for a in range(1, b)]
        self.choices = tuple(
            Decision(f"phase{phase + 1}/{bit}", ("0", "1")) for phase in range(len(self.channels)) for bit in (*pairs, "skip")
        )

    @property
    def _bits(self) -> int:
        return self.nodes * (self.nodes - 1) // 2 + 1

    def graphs(self, architecture: Sequence[int]) -> list[Phase]:
        """Decode the phases of an architecture, repaired."""
        bits = self._bits
        return [decode(architecture[i * bits : (i + 1) * bits], self.nodes) for i in range(len(self.channels))]

    def canonical(self, architecture: Architecture) -> Hashable:
        """Return the decoded phases, with the remaining nodes numbered anew."""
        self.check(architecture)
        phases = []
        for graph in self.graphs(architecture):
            number = {0: 0} | {node: i for i, node in enumerate(sorted(graph), 1)}
            phases.append(tuple(tuple(number[source] for source in graph[node]) for node in sorted(graph)))
        return tuple(phases)

    def build(self) -> nn.Module:
        return _Shared(self)

    @property
    def extent(self) -> dict[str, int]:
        """The channels of the first phase."""
        return {"channels": self.channels[0]}

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        first = self.channels[0]
        widths = in_proportion(self.channels, first, fewer.get("channels", first))
        return super().smaller(image, classes, channels=tuple(widths))

    @cached_property
    def operation_costs(self) -> OperationCosts:
        """Operations that are counted from the decoded graphs, for each network by itself."""
        return CountedCosts(self.count, self.sizes)

    def count(self, architecture: Architecture) -> list[Operation]:
        """List the operations of a network, from its graphs."""
        height, width = self.image[1:]
        before = self.image[0]
        dense = self.kind == "dense"
        listed: list[Operation] = []

        def conv(name: str, c_in: int, c_out: int, kernel: int, norm: int, size: tuple[int, int]) -> None:
            weights = c_in * c_out * kernel**2
            shapes = (c_in, *size), (c_out, height, width)
            listed.append(Operation(name, *shapes, weights + 2 * norm, weights * height * width))

        for phase, (graph, channels) in enumerate(zip(self.graphs(architecture), self.channels, strict=True)):
            if graph:
                if before != channels:
                    kernel, size = (3, (height, width)) if phase == 0 else (1, (height, width))
                    height, width = height - kernel + 1, width - kernel + 1
                    conv("enter", before, channels, kernel, 0, size)
                wide = GROWTH if dense else channels
                for node, sources in sorted(graph.items()):
                    c_in = sum(channels if source == 0 else wide for source in sources)
                    if node == self.nodes + 1:
                        if dense or len(sources) > 1:
                            conv("gather", c_in, channels, 1, 0, (height, width))
                        listed.append(Operation("leave", (channels, height, width), (channels, height, width), 2 * channels, 0))
                    elif not dense:
                        if len(sources) > 1:
                            conv("gather", c_in, channels, 1, 0, (height, width))
                        conv("node", channels, channels, 3, channels, (height, width))
                    else:
                        conv("squeeze", c_in, BOTTLENECK * GROWTH, 1, c_in, (height, width))
                        conv("grow", BOTTLENECK * GROWTH, GROWTH, 3, BOTTLENECK * GROWTH, (height, width))
                before = channels
            if phase + 1 < len(self.channels):
                height, width = height // 2, width // 2
        head = before * self.classes
        listed.append(Operation("classifier", (before, height, width), (self.classes,), head + self.classes, head))
        return listed

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        phases = []
        for phase in range(len(self.channels)):
            bits = "".join(map(str, architecture[phase * self._bits : (phase + 1) * self._bits]))
            ends = [node * (node + 1) // 2 for node in range(self.nodes)]
            rows = [bits[a:b] for a, b in itertools.pairwise(ends)] + [bits[-1]]
            phases.append("".join(f"[{row}]" for row in rows))
        return "-".join(phases)

    def parse(self, text: str) -> Architecture:
        example = self.format((0,) * len(self.choices))
        reader = Reader(text, f"an NSGA-Net network of {len(self.channels)} phases with {self.nodes} nodes", example)
        found: list[int] = []
        for phase in range(len(self.channels)):
            if phase:
                reader.expect("-")
            for count in (*range(1, self.nodes), 1):
                reader.expect("[")
                for _ in range(count):
                    one = reader.at("1")
                    if not one and not reader.at("0"):
                        reader.fail("0 or 1")
                    found.append(int(one))
                reader.expect("]")
        reader.end()
        return tuple(found)

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        phases = {}
        for phase, graph in enumerate(self.graphs(architecture), 1):
            names = {0: "in", self.nodes + 1: "out"} | {node: str(node) for node in range(1, self.nodes + 1)}
            present = [0, *sorted(graph)] if graph else [0, self.nodes + 1]
            arrows = [(names[s], names[node]) for node in sorted(graph) for s in graph[node]] or [("in", "out")]
            phases[f"phase {phase}"] = Graph({names[node]: names[node] for node in present}, arrows)
        return phases


def decode(bits: Sequence[int], nodes: int) -> Phase:
    """Decode and repair one phase.

    Args:
        bits: Bits of the connections (1->2), (1->3), (2->3), (1->4), ...; the last one is the shortcut.
        nodes: Number of nodes.
    """
    pairs = iter(bits[:-1])
    inputs = {node: [source for source in range(1, node) if next(pairs)] for node in range(1, nodes + 1)}
    if not any(inputs.values()):
        return {}
    feeding = {source for sources in inputs.values() for source in sources}
    graph = {node: sources or [0] for node, sources in inputs.items() if sources or node in feeding}
    graph[nodes + 1] = [0] * bits[-1] + [node for node in graph if node not in feeding]
    return graph


def _layers(
    space: NsgaNetMacro, graphs: Sequence[Phase], entries: Sequence[Sequence[int]]
) -> dict[str, Callable[[], nn.Module]]:
    """Return factories of the layers that phases of these graphs need, by their place.

    A 1x1 convolution of several concatenated maps is held as one of each map, to be added up: so a supernet shares them among
    networks, and a standalone network has the authors' weights one for one.

    Args:
        space: The space.
        graphs: Decoded phases.
        entries: Numbers of channels that may come into each phase and into the classifier.
    """
    factories: dict[str, Callable[[], nn.Module]] = {}
    dense = space.kind == "dense"
    for phase, (graph, channels) in enumerate(zip(graphs, space.channels, strict=True)):
        if not graph:
            continue
        for before in set(entries[phase]) - {channels}:
            # Three by three in the first phase, and without padding, as the authors' counts show.
            factories[f"{phase}/enter{before}"] = partial(nn.Conv2d, before, channels, 1 if phase else 3, bias=False)
        for node, sources in graph.items():
            inner = node <= space.nodes
            wide = BOTTLENECK * GROWTH if dense and inner else channels
            if dense or len(sources) > 1:
                for source in sources:
                    reduce = partial(_reduce, GROWTH if dense and source else channels, wide, before=dense and inner)
                    factories[f"{phase}/{source}->{node}"] = reduce
            if inner:
                factories[f"{phase}/node{node}"] = partial(_grow, wide) if dense else partial(_node, channels)
        factories[f"{phase}/leave"] = partial(_norm_relu, channels)
    for before in set(entries[-1]):
        factories[f"head{before}"] = partial(classifier, before, space.classes)
    return factories


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def _reduce(c_in: int, c_out: int, *, before: bool) -> nn.Sequential:
    """Return a 1x1 convolution; with `before`, DenseNet's order, normalisation and ReLU come before it."""
    return nn.Sequential(*(_norm_relu(c_in) if before else ()), nn.Conv2d(c_in, c_out, 1, bias=False))


def _grow(channels: int) -> nn.Sequential:
    return nn.Sequential(*_norm_relu(channels), nn.Conv2d(channels, GROWTH, 3, 1, 1, bias=False))


def _node(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), *_norm_relu(channels))


def _entries(space: NsgaNetMacro, graphs: Sequence[Phase]) -> list[list[int]]:
    """List the numbers of channels that come into each phase and into the classifier; dropped phases do not change them."""
    entries = [[space.image[0]]]
    for graph, channels in zip(graphs, space.channels, strict=True):
        entries.append([channels] if graph else entries[-1])
    return entries


def _run(space: NsgaNetMacro, layers: nn.ModuleDict, graphs: Sequence[Phase], x: Tensor) -> Tensor:
    for phase, graph in enumerate(graphs):
        if phase:
            x = nn.functional.max_pool2d(x, 2)
        if not graph:
            continue
        enter = f"{phase}/enter{x.shape[1]}"
        outputs = {0: layers[enter](x) if enter in layers else x}
        for node, sources in sorted(graph.items()):
            if space.kind == "dense" or len(sources) > 1:
                y = total([layers[f"{phase}/{source}->{node}"](outputs[source]) for source in sources])
            else:
                y = outputs[sources[0]]
            outputs[node] = layers[f"{phase}/node{node}"](y) if node <= space.nodes else layers[f"{phase}/leave"](y)
        x = outputs[space.nodes + 1]
    return layers[f"head{x.shape[1]}"](x)  # type: ignore[no-any-return]


class _Shared(Decided):
    """Layers of all networks, of which those run that are decoded from the mixture, which must be one-hot."""

    def __init__(self, space: NsgaNetMacro) -> None:
        super().__init__({choice.name: choice.options for choice in space.choices})
        self.space = space
        everything = {node: list(range(node)) for node in range(1, space.nodes + 2)}
        # Dropped phases let the channels of any earlier one through.
        entries = [[space.image[0], *space.channels[:phase]] for phase in range(len(space.channels) + 1)]
        factories = _layers(space, [everything] * len(space.channels), entries)
        self.layers = nn.ModuleDict({name: make() for name, make in factories.items()})

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.row(name) for name in self.decisions]
        if any(isinstance(w, Tensor) or w not in (0, 1) for row in rows for w in row) or any(sum(row) != 1 for row in rows):
            raise ValueError(
                "nsga-net-macro repairs its strings, so a mixture of networks is none: it runs one network at a time. Take a "
                "searcher that samples networks, such as random-search"
            )
        return _run(self.space, self.layers, self.space.graphs([int(row[1]) for row in rows]), x)

    def select(self, architecture: Architecture) -> nn.Module:
        graphs = self.space.graphs([architecture[self.index[name]] for name in self.decisions])
        return _Alone(self.space, graphs, self.layers)


class _Alone(nn.Module):
    """Standalone network, with its own layers only."""

    def __init__(self, space: NsgaNetMacro, graphs: Sequence[Phase], layers: nn.ModuleDict) -> None:
        super().__init__()
        self.space, self.graphs = space, graphs
        self.layers = nn.ModuleDict({name: layers[name] for name in _layers(space, graphs, _entries(space, graphs))})

    def forward(self, x: Tensor) -> Tensor:
        return _run(self.space, self.layers, self.graphs, x)
