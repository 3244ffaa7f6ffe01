"""DARTS's cells (Liu, Simonyan and Yang, ICLR 2019, arXiv 1806.09055), and the notation that its successors share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, Published, SearchSpace
from orchestrator.spaces.parts.cells import EDGES, NODES, CellNetwork, DartsCell
from orchestrator.spaces.parts.layers import WEIGHTLESS
from orchestrator.spaces.parts.notation import Reader
from searchers.base import Architecture

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

_SOURCE = "DARTS, cnn/genotypes.py of the authors' code"
_REDUCE_V1 = (
    "('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)"
)
_REDUCE_V2 = (
    "('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)"
)


@dataclass(kw_only=True, eq=False)
class Darts(SearchSpace):
    """An operation on each of the 14 edges of a normal and of a reduction cell, `none` for no edge: 8 ** 28 pairs of cells.

    An architecture keeps every edge that is not `none`; the cells that DARTS derives keep two into each node (`derive`). The
    defaults are the authors'.

    Args:
        channels: Width of the networks to be evaluated.
        cells: Their depth.
        supernet_channels: Width of the supernet; None for the authors', or `channels` where these are fewer.
        supernet_cells: Depth of the supernet for each stage of a search that deepens it; a search of one stage has the last
            number. None for the authors', or `cells` where these are fewer.
        imagenet: Whether to begin with three convolutions of stride 2, for images of about 224 pixels.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    normal: ClassVar[tuple[str, ...]] = OPERATIONS
    reduce: ClassVar[tuple[str, ...]] = OPERATIONS
    weightless: ClassVar[frozenset[str]] = WEIGHTLESS
    stages: ClassVar[tuple[int, ...]] = (8,)
    published: ClassVar[Mapping[str, Published]] = {
        "DARTS_V1": Published(
            "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
            "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=range(2, 6), "
            f"reduce=[{_REDUCE_V1}], reduce_concat=range(2, 6))",
            {"channels": 36, "cells": 20},
            _SOURCE,
        ),
        "DARTS_V2": Published(
            "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
            "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
            f"reduce=[{_REDUCE_V2}], reduce_concat=range(2, 6))",
            {"channels": 36, "cells": 20},
            _SOURCE,
        ),
    }

    channels: int = 36
    cells: int = 20
    supernet_channels: int | None = None
    supernet_cells: list[int] | None = None
    imagenet: bool = False
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __post_init__(self) -> None:
        narrow, depths = self._supernet
        if min(self.channels, narrow) < 2 or self.classes < 1:
            raise ValueError(
                f"channels = {self.channels}, supernet_channels = {narrow}, classes = {self.classes}: at least 2, 2 and 1"
            )
        if not depths or min(self.cells, *depths) < 3:
            raise ValueError(f"cells = {self.cells}, supernet_cells = {depths}; at least 3, as two of them are reductions")
        height, width = self.image[1:]
        if min(height, width) < (32 if self.imagenet else 4):
            raise ValueError(f"images of {height}x{width} are too small for a network that halves them so often")
        self.choices = tuple(
            Decision(f"{kind}/{source}->{target}", operations)
            for kind, operations in (("normal", self.normal), ("reduce", self.reduce))
            for source, target in EDGES
        )
        self.none_option = tuple(choice.options.index("none") for choice in self.choices)
        self.node_inputs = tuple(
            tuple(start + i for i, (_, target) in enumerate(EDGES) if target == node)
            for start in (0, len(EDGES))
            for node in range(2, 2 + NODES)
        )

    @property
    def _supernet(self) -> tuple[int, list[int]]:
        """Channels of the supernet, and its cells in each stage."""
        channels = min(16, self.channels) if self.supernet_channels is None else self.supernet_channels
        return channels, [min(self.cells, c) for c in self.stages] if self.supernet_cells is None else self.supernet_cells

    def build(self) -> nn.Module:
        return self._network(self.channels, self.cells, searching=False)

    def build_supernet(self, stages_left: int) -> nn.Module:
        channels, depths = self._supernet
        return self._network(channels, depths[max(0, len(depths) - 1 - stages_left)], searching=True)

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        """Return a proxy, whose supernet is at most as wide and deep as its networks."""
        channels, cells = (fewer.get(key, own) for key, own in self.extent.items())
        narrow = None if self.supernet_channels is None else min(channels, self.supernet_channels)
        depths = None if self.supernet_cells is None else [min(cells, c) for c in self.supernet_cells]
        return super().smaller(image, classes, supernet_channels=narrow, supernet_cells=depths, **fewer)

    def _network(self, channels: int, cells: int, searching: bool) -> nn.Module:
        operations = {"normal": self.normal, "reduce": self.reduce}

        def cell(kind: str, channels: int, stride: int) -> nn.Module:
            return DartsCell(kind, operations[kind], channels, stride, searching)

        return CellNetwork(cell, self.image, self.classes, channels, cells, imagenet=self.imagenet)

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        assert isinstance(network, CellNetwork)
        return network.droppable_paths()

    def auxiliary_point(self, network: nn.Module) -> tuple[nn.Module, Callable[[Any], Tensor]] | None:
        assert isinstance(network, CellNetwork)
        return network.auxiliary_point()

    def _cells(self, architecture: Architecture) -> dict[str, list[list[tuple[str, int]]]]:
        """List, per cell and node, the operations on its edges and the states that these come from."""
        self.check(architecture)
        cells = {}
        for kind, operations, options in (
            ("normal", self.normal, architecture[: len(EDGES)]),
            ("reduce", self.reduce, architecture[len(EDGES) :]),
        ):
            nodes: list[list[tuple[str, int]]] = [[] for _ in range(NODES)]
            for (source, target), option in zip(EDGES, options, strict=True):
                if operations[option] != "none":
                    nodes[target - 2].append((operations[option], source))
            cells[kind] = nodes
        return cells

    def format(self, architecture: Architecture) -> str:
        """Write DARTS's `Genotype`, two edges per node in one list; where a node has another number, a list for each node."""
        parts = []
        for kind, nodes in self._cells(architecture).items():
            flat = all(len(node) == 2 for node in nodes)
            listed = [edge for node in nodes for edge in node] if flat else nodes
            parts.append(f"{kind}={listed!r}, {kind}_concat=range(2, 6)")
        return f"Genotype({', '.join(parts)})"

    def parse(self, text: str) -> Architecture:
        example = self.format(self.derive([[1.0] * size for size in self.sizes]))
        reader = Reader(text, f"a genotype of {type(self).__name__}", example, spaces=True)
        reader.expect("Genotype", "(")
        found: list[int] = []
        for kind, operations in (("normal", self.normal), ("reduce", self.reduce)):
            if found:
                reader.expect(",")
            reader.expect(kind, "=", "[")
            none = operations.index("none")
            option = dict.fromkeys(EDGES, none)
            per_node = reader.at("[")
            for node in range(NODES):
                if node:
                    reader.expect(*(",[" if per_node else ","))
                count = 0
                while not reader.at("]") if per_node else count < 2:
                    if count:
                        reader.expect(",")
                    name, source, here = _edge(reader, operations, node + 2)
                    if option[source, node + 2] != none:
                        reader.position = here
                        reader.fail(f"a state other than {source}, which has an edge to this node already")
                    option[source, node + 2] = operations.index(name)
                    count += 1
            reader.expect("]", ",", f"{kind}_concat", "=")
            if reader.at("range"):
                reader.expect("(", "2", ",", "6", ")")
            else:
                reader.expect("[", "2", ",", "3", ",", "4", ",", "5", "]")
            found += [option[edge] for edge in EDGES]
        reader.expect(")")
        reader.end()
        return tuple(found)

    def derive(self, probabilities: Sequence[Sequence[float]]) -> Architecture:
        """Keep, per node, the two edges whose best operation is most probable, with that operation.

        `none` counts in the probabilities and is never taken (DARTS, section 2.4, and `genotype` in the authors' code).
        """
        chosen: list[int] = []
        for start, operations in ((0, self.normal), (len(EDGES), self.reduce)):
            none = operations.index("none")
            rows = dict(zip(EDGES, probabilities[start : start + len(EDGES)], strict=True))
            best = {edge: max((o for o in range(len(row)) if o != none), key=row.__getitem__) for edge, row in rows.items()}
            strength = {edge: row[best[edge]] for edge, row in rows.items()}
            for target in range(2, 2 + NODES):
                incoming = [(source, target) for source in range(target)]
                kept = sorted(incoming, key=strength.__getitem__, reverse=True)[:2]
                chosen += [best[edge] if edge in kept else none for edge in incoming]
        return tuple(chosen)

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        graphs = {}
        for kind, nodes in self._cells(architecture).items():
            names = ["c_{k-2}", "c_{k-1}", *(str(node) for node in range(NODES))]
            boxes = {name: name for name in [*names, "c_{k}"]}
            arrows: list[tuple[str, str]] = []
            kinds: dict[str, str] = {}
            for node, edges in enumerate(nodes):
                for operation, source in edges:
                    box = f"{names[source]}->{node}"
                    boxes[box] = kinds[box] = operation
                    arrows += [(names[source], box), (box, str(node))]
            arrows += [(str(node), "c_{k}") for node in range(NODES)]
            graphs["normal cell" if kind == "normal" else "reduction cell"] = Graph(boxes, arrows, kinds)
        return graphs


def _edge(reader: Reader, operations: Sequence[str], node: int) -> tuple[str, int, int]:
    """Read ('operation', source), and return both and the position of the source in the text."""
    reader.expect("(")
    quote = '"' if reader.at('"') else "'"
    if quote == "'":
        reader.expect(quote)
    names = [o for o in operations if o != "none"]
    name = names[reader.one_of(names)]
    reader.expect(quote, ",")
    reader.at("")
    here = reader.position
    source = reader.number(node)
    reader.expect(")")
    return name, source, here
