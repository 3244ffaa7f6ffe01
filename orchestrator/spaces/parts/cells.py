"""Networks of normal and reduction cells, as NASNet, DARTS, P-DARTS, NASP, TND-NAS and NSGA-Net's micro space have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.spaces.parts.choice import Choice, Zero, total
from orchestrator.spaces.parts.layers import FactorizedReduce, cell_operation, classifier, relu_conv_norm

NODES = 4
EDGES = [(source, target) for target in range(2, 2 + NODES) for source in range(target)]
"""Edges of DARTS's cell (arXiv 1806.09055, section 2.1): states 0 and 1 are the outputs of the two cells before it."""


def reductions(cells: int) -> set[int]:
    """Return the positions of the reduction cells, after a third and two thirds of the network."""
    return {cells // 3, 2 * cells // 3}


class DartsCell(nn.Module):
    """Cell of four nodes, each the sum of an operation on every earlier state; the output is their concatenation.

    Args:
        kind: "normal" or "reduce".
        operations: Options of every edge.
        channels: Width of a node.
        stride: Stride of the edges that leave the cell's inputs; 2 in a reduction cell.
        searching: Whether the cell is part of a supernet (see `cell_operation`).
    """

    def __init__(self, kind: str, operations: Sequence[str], channels: int, stride: int, searching: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleList()
        for source, target in EDGES:
            steps = stride if source < 2 else 1
            options = {
                name: (lambda name=name, steps=steps: cell_operation(name, channels, steps, searching)) for name in operations
            }
            self.edges.append(Choice(f"{kind}/{source}->{target}", options))
        self.channels, self.stride = channels, stride

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [s0, s1]
        for node in range(NODES):
            start = node * (node + 3) // 2
            edges = self.edges[start : start + len(states)]
            y = total([edge(state) for edge, state in zip(edges, states, strict=True)])
            states.append(y if y.dim() else self._nothing(s1))
        return torch.cat(states[2:], dim=1)

    def _nothing(self, s1: Tensor) -> Tensor:
        """Return the zeros of a node without edges."""
        height, width = (-(-size // self.stride) for size in s1.shape[2:])
        return s1.new_zeros(s1.shape[0], self.channels, height, width)


class CellNetwork(nn.Module):
    """Stem, cells, classifier. Cells at a third and at two thirds halve the size and double the channels.

    Args:
        make_cell: Returns a module of two states, from the kind, channels and stride of a cell.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
        channels: Width of the first cell.
        cells: Number of cells.
        imagenet: Whether the stem has three convolutions of stride 2 in place of one of stride 1.
    """

    def __init__(
        self,
        make_cell: Callable[[str, int, int], nn.Module],
        image: tuple[int, int, int],
        classes: int,
        channels: int,
        cells: int,
        *,
        imagenet: bool = False,
    ) -> None:
        super().__init__()
        colours = image[0]
        stem: tuple[str, int] = ("stem", channels if imagenet else 3 * channels)
        self.second = relu_conv_norm(channels, channels, 3, 2) if imagenet else None
        if imagenet:
            half = channels // 2
            conv = nn.Conv2d(colours, half, 3, 2, 1, bias=False)
            self.stem = nn.Sequential(conv, nn.BatchNorm2d(half), *relu_conv_norm(half, channels, 3, 2))
        else:
            self.stem = nn.Sequential(nn.Conv2d(colours, stem[1], 3, 1, 1, bias=False), nn.BatchNorm2d(stem[1]))
        self.cells, self.entries = nn.ModuleList(), nn.ModuleList()
        states = [stem, stem]
        smaller = imagenet  # whether the last state is half as large as the one before it
        for place in range(cells):
            kind = "reduce" if place in reductions(cells) else "normal"
            stride = 2 if kind == "reduce" else 1
            channels *= stride
            entry = [self.enter(*states[0], channels, smaller), self.enter(*states[1], channels, False)]
            self.entries.append(nn.ModuleList(entry))
            self.cells.append(make_cell(kind, channels, stride))
            states, smaller = [states[1], (kind, channels)], stride == 2
        self.leave = self.classify(*states[1], classes)

    def enter(self, source: str, width: int, channels: int, reduce: bool) -> nn.Module:
        """Return the module between a cell's output and the input of another one.

        Args:
            source: Kind of the cell that the input comes from, or "stem".
            width: Channels of that cell.
            channels: Channels of the other one.
            reduce: Whether to halve the size.
        """
        c_in = width if source == "stem" else NODES * width
        return FactorizedReduce(c_in, channels) if reduce else relu_conv_norm(c_in, channels, 1)

    def classify(self, source: str, width: int, classes: int) -> nn.Module:
        """Return the module between the last cell's output and the classes."""
        return classifier(NODES * width, classes)

    def droppable_paths(self) -> list[nn.Module]:
        """List the operations on edges other than identities, as DARTS drops them (cnn/model.py of the authors' code)."""
        return [edge for cell in self.cells for edge in cell.edges if not isinstance(edge, (nn.Identity, Zero))]  # type: ignore[union-attr]

    def auxiliary_point(self) -> tuple[nn.Module, Callable[[Any], Tensor]]:
        """Return the cell at two thirds, the second reduction, whose output DARTS's auxiliary classifier reads."""
        return self.cells[2 * len(self.cells) // 3], lambda output: output

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        if self.second is not None:
            s1 = self.second(s0)
        for cell, entry in zip(self.cells, self.entries, strict=True):
            s0, s1 = s1, cell(entry[0](s0), entry[1](s1))  # type: ignore[index]
        return self.leave(s1)  # type: ignore[no-any-return]
