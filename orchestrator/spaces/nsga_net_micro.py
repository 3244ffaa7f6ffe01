"""NSGA-Net's micro space (Lu et al., GECCO 2019, arXiv 1810.03522): NASNet's cell, five blocks of two operations each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, Published, SearchSpace
from orchestrator.spaces.parts.cells import CellNetwork
from orchestrator.spaces.parts.choice import Choice, Conditions, Decided, total
from orchestrator.spaces.parts.layers import WEIGHTLESS, FactorizedReduce, cell_operation, relu_conv_norm
from orchestrator.spaces.parts.notation import Reader
from searchers.base import Architecture

BLOCKS = 5
OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_7x7",
    "conv_7x1_1x7",
)

Slots = list[tuple[str, int]]
"""An operation and the state it is applied to, two for each block."""


@dataclass(kw_only=True, eq=False)
class NsgaNetMicro(SearchSpace):
    """A normal and a reduction cell of five blocks, which add up two operations, each on any earlier state: 40 genes.

    The outputs of blocks that no other block uses are concatenated.

    Args:
        channels: Width of the networks to be evaluated.
        cells: Their depth.
        supernet_channels: Width of the supernet; None for 16, or `channels` where these are fewer.
        supernet_cells: Depth of the supernet; None for 8, or `cells` where these are fewer.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    weightless: ClassVar[frozenset[str]] = WEIGHTLESS
    published: ClassVar[Mapping[str, Published]] = {
        "NSGA_NET_MICRO": Published(
            "Genotype(normal=[('skip_connect', 0), ('max_pool_3x3', 0), ('dil_conv_5x5', 0), ('max_pool_3x3', 0), "
            "('dil_conv_5x5', 1), ('sep_conv_3x3', 3), ('max_pool_3x3', 1), ('sep_conv_5x5', 3), ('sep_conv_3x3', 1), "
            "('sep_conv_3x3', 0)], normal_concat=[2, 4, 5, 6], reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), "
            "('dil_conv_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('dil_conv_5x5', 1), ('skip_connect', 2), "
            "('avg_pool_3x3', 0), ('dil_conv_5x5', 1), ('dil_conv_3x3', 1)], reduce_concat=[3, 4, 5, 6])",
            {"channels": 34, "cells": 20},
            "NSGA-Net, the authors' code; they trained it with linearly growing channels, here they double as in DARTS",
        )
    }

    channels: int = 34
    cells: int = 20
    supernet_channels: int | None = None
    supernet_cells: int | None = None
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __post_init__(self) -> None:
        if min(self.channels, self._supernet[0]) < 2 or self.classes < 1:
            raise ValueError(f"channels = {self.channels}, classes = {self.classes}: at least 2 and 1")
        if min(self.cells, self._supernet[1]) < 3:
            raise ValueError(f"cells = {self.cells}, supernet_cells = {self._supernet[1]}; at least 3, as two are reductions")
        if min(self.image[1:]) < 4:
            raise ValueError(f"images of {self.image[1]}x{self.image[2]} are too small: the space halves them twice")
        self.choices = tuple(
            Decision(name, options)
            for kind in ("normal", "reduce")
            for block in range(BLOCKS)
            for name, options in _genes(kind, block)
        )

    @property
    def _supernet(self) -> tuple[int, int]:
        """Channels and cells of the supernet."""
        channels = min(16, self.channels) if self.supernet_channels is None else self.supernet_channels
        return channels, min(8, self.cells) if self.supernet_cells is None else self.supernet_cells

    def build(self) -> nn.Module:
        return self._network(self.channels, self.cells, searching=False)

    def build_supernet(self, stages_left: int) -> nn.Module:
        return self._network(*self._supernet, searching=True)

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        """Return a proxy, whose supernet is at most as wide and deep as its networks."""
        channels, cells = (fewer.get(key, own) for key, own in self.extent.items())
        narrow = None if self.supernet_channels is None else min(channels, self.supernet_channels)
        depth = None if self.supernet_cells is None else min(cells, self.supernet_cells)
        return super().smaller(image, classes, supernet_channels=narrow, supernet_cells=depth, **fewer)

    def _network(self, channels: int, cells: int, searching: bool) -> nn.Module:
        return _Network(partial(_Cell, searching=searching), self.image, self.classes, channels, cells)

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        assert isinstance(network, CellNetwork)
        return network.droppable_paths()

    def auxiliary_point(self, network: nn.Module) -> tuple[nn.Module, Callable[[Any], Tensor]] | None:
        assert isinstance(network, CellNetwork)
        return network.auxiliary_point()

    def _cells(self, architecture: Architecture) -> dict[str, tuple[Slots, list[int]]]:
        """Return the slots of each cell, and its blocks that no other one uses."""
        self.check(architecture)
        half = len(architecture) // 2
        cells = {}
        for kind, genes in (("normal", architecture[:half]), ("reduce", architecture[half:])):
            slots = [(OPERATIONS[genes[i]], genes[i + 1]) for i in range(0, half, 2)]
            used = {source for _, source in slots}
            cells[kind] = (slots, [block for block in range(2, 2 + BLOCKS) if block not in used])
        return cells

    def format(self, architecture: Architecture) -> str:
        cells = self._cells(architecture).items()
        return f"Genotype({', '.join(f'{kind}={slots!r}, {kind}_concat={free!r}' for kind, (slots, free) in cells)})"

    def parse(self, text: str) -> Architecture:
        reader = Reader(text, "an NSGA-Net micro genotype", self.published["NSGA_NET_MICRO"].notation, spaces=True)
        reader.expect("Genotype", "(")
        found: list[int] = []
        for kind in ("normal", "reduce"):
            if found:
                reader.expect(",")
            reader.expect(kind, "=", "[")
            for slot in range(2 * BLOCKS):
                if slot:
                    reader.expect(",")
                reader.expect("(", "'")
                found.append(reader.one_of(OPERATIONS))
                reader.expect("'", ",")
                found.append(reader.number(slot // 2 + 2))
                reader.expect(")")
            reader.expect("]", ",", f"{kind}_concat", "=")
            used = found[-4 * BLOCKS + 1 :: 2]
            free = ["[", *", ".join(str(b) for b in range(2, 2 + BLOCKS) if b not in used), "]"]
            reader.expect(*(token for token in free if token != " "))
        reader.expect(")")
        reader.end()
        return tuple(found)

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        graphs = {}
        for kind, (slots, free) in self._cells(architecture).items():
            names = ["c_{k-2}", "c_{k-1}", *(str(block) for block in range(BLOCKS)), "c_{k}"]
            boxes = {name: name for name in names}
            arrows: list[tuple[str, str]] = []
            kinds: dict[str, str] = {}
            for slot, (operation, source) in enumerate(slots):
                box, target = f"{slot}:{names[source]}", str(slot // 2)
                boxes[box] = kinds[box] = operation
                arrows += [(names[source], box), (box, target)]
            arrows += [(names[block], "c_{k}") for block in free]
            graphs["normal cell" if kind == "normal" else "reduction cell"] = Graph(boxes, arrows, kinds)
        return graphs


def _genes(kind: str, block: int) -> list[tuple[str, tuple[str, ...]]]:
    """List the four choices of a block, in the order of the authors' genome: operation, input, operation, input."""
    inputs = tuple(str(source) for source in range(block + 2))
    name = f"{kind}/block{block}"
    return [
        (f"{name}/op{s}", OPERATIONS) if gene == "op" else (f"{name}/in{s}", inputs) for s in (1, 2) for gene in ("op", "in")
    ]


class _From(nn.Module):
    """Operation on one of several states."""

    def __init__(self, source: int, operation: nn.Module) -> None:
        super().__init__()
        self.source, self.operation = source, operation

    def forward(self, states: tuple[Tensor, ...]) -> Tensor:
        return self.operation(states[self.source])  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"source={self.source}"


class _Cell(nn.Module):
    """Cell that returns the outputs of all blocks; its consumers leave out those that another block has used."""

    def __init__(self, kind: str, channels: int, stride: int, *, searching: bool) -> None:
        super().__init__()
        self.slots = nn.ModuleList()
        for block in range(BLOCKS):
            for (op, operations), (source, sources) in zip(*[iter(_genes(kind, block))] * 2, strict=True):
                options = {
                    name: partial(self._option, op, operations, int(name), channels, stride if int(name) < 2 else 1, searching)
                    for name in sources
                }
                self.slots.append(Choice(source, options))

    @staticmethod
    def _option(name: str, operations: tuple[str, ...], source: int, channels: int, stride: int, searching: bool) -> nn.Module:
        return _From(source, Choice(name, {o: partial(cell_operation, o, channels, stride, searching) for o in operations}))

    def forward(self, s0: Tensor, s1: Tensor) -> tuple[Tensor, ...]:
        states: tuple[Tensor, ...] = (s0, s1)
        for block in range(BLOCKS):
            states += (self.slots[2 * block](states) + self.slots[2 * block + 1](states),)
        return states[2:]


class _Network(CellNetwork):
    def enter(self, source: str, width: int, channels: int, reduce: bool) -> nn.Module:
        if source == "stem":
            return super().enter(source, width, channels, reduce)
        # The last module of either is the normalisation, which comes after the sum.
        if reduce:
            parts: list[nn.Module] = [_WithoutNorm(width, channels) for _ in range(BLOCKS)]
        else:
            parts = [nn.Sequential(*relu_conv_norm(width, channels, 1)[:-1]) for _ in range(BLOCKS)]
        return nn.Sequential(_Unused(source, parts), nn.BatchNorm2d(channels))

    def classify(self, source: str, width: int, classes: int) -> nn.Module:
        pools = [
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes, bias=False)) for _ in range(BLOCKS)
        ]
        return nn.Sequential(_Unused(source, pools), _Bias(classes))

    def droppable_paths(self) -> list[nn.Module]:
        slots = (slot for cell in self.cells for slot in cell.slots)  # type: ignore[union-attr]
        return [slot for slot in slots if not isinstance(slot.operation, nn.Identity)]

    def auxiliary_point(self) -> tuple[nn.Module, Callable[[Any], Tensor]]:
        """Return the cell at two thirds, and what concatenates its blocks that no other one uses."""
        place = 2 * len(self.cells) // 3
        last = place + 1 == len(self.cells)
        consumer = self.leave[0] if last else self.entries[place + 1][1][0]  # type: ignore[index]
        assert isinstance(consumer, _Sum)
        return self.cells[place], lambda blocks: torch.cat([blocks[block] for block in consumer.inputs], dim=1)


class _WithoutNorm(FactorizedReduce):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out)
        self.norm = nn.Identity()  # type: ignore[assignment]


class _Bias(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class _Unused(Decided):
    """Sum of a linear map of each block that no other block uses, which equals the authors' one map of their concatenation.

    In a mixture a block counts as far as it is unused: by the product, over all slots, of what they do not take of it.
    """

    def __init__(self, kind: str, parts: Sequence[nn.Module]) -> None:
        genes = [gene for block in range(BLOCKS) for gene in _genes(kind, block)]
        super().__init__({name: options for name, options in genes if "/in" in name})
        self.maps = nn.ModuleList(parts)

    def forward(self, blocks: tuple[Tensor, ...]) -> Tensor:
        assert self.weights is not None
        rows = [self.smooth_row(name) for name in self.decisions]
        terms = []
        for block, (y, part) in enumerate(zip(blocks, self.maps, strict=True)):
            share: float | Tensor = 1.0
            for row in rows:
                if block + 2 < len(row):
                    share = share * (1 - row[block + 2])
            if self.weights.everything or (not isinstance(share, Tensor) and share == 1):
                terms.append(part(y))
            elif isinstance(share, Tensor) or share:
                terms.append(share * part(y))
        return total(terms)

    def _takers(self, block: int) -> list[int]:
        """List the choices that could take a block as their input."""
        return [self.index[name] for name, options in self.decisions.items() if block + 2 < len(options)]

    def select(self, architecture: Architecture) -> nn.Module:
        free = [b for b in range(BLOCKS) if all(architecture[choice] != b + 2 for choice in self._takers(b))]
        return _Sum(free, [self.maps[block] for block in free])

    def parts(self) -> Iterator[tuple[str, nn.Module, Conditions]]:
        for block, part in enumerate(self.maps):
            yield "gather", part, tuple((choice, block + 2, False) for choice in self._takers(block))


class _Sum(nn.Module):
    """Sum of maps of some of the inputs."""

    def __init__(self, inputs: list[int], maps: list[nn.Module]) -> None:
        super().__init__()
        self.inputs, self.maps = inputs, nn.ModuleList(maps)

    def forward(self, blocks: tuple[Tensor, ...]) -> Tensor:
        return total([part(blocks[block]) for block, part in zip(self.inputs, self.maps, strict=True)])
