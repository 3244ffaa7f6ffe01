"""NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv 2001.00326): one cell of four nodes, repeated over three stages of width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, Published, SearchSpace
from orchestrator.spaces.parts.choice import Choice, SkipDropout, Zero, total
from orchestrator.spaces.parts.layers import WEIGHTLESS, classifier, relu_conv_norm
from orchestrator.spaces.parts.notation import Reader
from searchers.base import Architecture

NODES = 4
EDGES = [(source, target) for target in range(1, NODES) for source in range(target)]
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_EXAMPLE = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


@dataclass(kw_only=True, eq=False)
class NasBench201(SearchSpace):
    """Any of five operations on each of the six edges between the four nodes of a cell: 15,625 cells.

    Args:
        channels: Width of the first of three groups of cells; it doubles from group to group.
        cells: Cells per group (N).
        supernet_cells: Cells per group of the supernet in the last stages of a search that deepens it; None scales the 5, 11
            and 17 cells of P-DARTS and TND-NAS to this depth. A search of one stage has the last number, and one of more stages
            than numbers begins with the first. Objectives are always those of the network with all `cells`.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    weightless: ClassVar[frozenset[str]] = WEIGHTLESS
    published: ClassVar[Mapping[str, Published]] = {
        "RESNET_CELL": Published(
            "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|",
            {"channels": 16, "cells": 5},
            "NAS-Bench-201, section 4; 93.97 % on CIFAR-10 after 200 epochs",
        )
    }

    channels: int = 16
    cells: int = 5
    supernet_cells: list[int] | None = None
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __post_init__(self) -> None:
        if self.channels < 1 or self.cells < 1 or self.classes < 1:
            raise ValueError(
                f"channels = {self.channels}, cells = {self.cells}, classes = {self.classes}: at least 1 of each is needed"
            )
        if min(self.image[1:]) < 4:
            raise ValueError(f"images of {self.image[1]}x{self.image[2]} are too small: the space halves them twice")
        if self.supernet_cells is None:
            self.supernet_cells = [max(1, round(self.cells * part / 17)) for part in (5, 11, 17)]
        if not self.supernet_cells or min(self.supernet_cells) < 1:
            raise ValueError(f"supernet_cells = {self.supernet_cells}; every stage needs at least one cell")
        self.choices = tuple(Decision(f"{source}->{target}", OPERATIONS) for source, target in EDGES)

    @property
    def phases(self) -> tuple[tuple[int, ...], ...]:
        """Edges into each node, as indices of choices."""
        return tuple(tuple(i for i, (_, target) in enumerate(EDGES) if target == node) for node in range(1, NODES))

    def build(self) -> nn.Module:
        return self._network(self.cells, searching=False)

    def build_supernet(self, stages_left: int) -> nn.Module:
        depths = self.supernet_cells
        assert depths is not None
        return self._network(depths[max(0, len(depths) - 1 - stages_left)], searching=True)

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        """Return a proxy, whose supernet deepens in the same proportions."""
        assert self.supernet_cells is not None
        share = fewer.get("cells", self.cells) / self.cells
        return super().smaller(image, classes, supernet_cells=[max(1, round(c * share)) for c in self.supernet_cells], **fewer)

    def _network(self, cells: int, searching: bool) -> nn.Module:
        """Build the network with so many cells in each of its three groups."""
        channels = self.channels
        layers: list[nn.Module] = []
        for group in range(3):
            if group:
                layers.append(_Residual(channels))
                channels *= 2
            layers += [_Cell(channels, searching=searching) for _ in range(cells)]
        stem = nn.Sequential(nn.Conv2d(self.image[0], self.channels, 3, 1, 1, bias=False), nn.BatchNorm2d(self.channels))
        head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        parts = {"stem": stem, "layers": nn.Sequential(*layers), "head": head, "classifier": classifier(channels, self.classes)}
        return nn.Sequential(OrderedDict(parts))

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        edges = (edge for cell in network.modules() if isinstance(cell, _Cell) for edge in cell.edges)
        return [edge for edge in edges if not isinstance(edge, (nn.Identity, Zero))]

    def auxiliary_point(self, network: nn.Module) -> tuple[nn.Module, Callable[[Any], Tensor]] | None:
        """Return the second residual block, as the second reduction of DARTS; the benchmark has no such classifier."""
        return [m for m in network.modules() if isinstance(m, _Residual)][-1], lambda output: output

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        option = dict(zip(EDGES, architecture, strict=True))
        nodes = ("".join(f"{OPERATIONS[option[s, t]]}~{s}|" for s in range(t)) for t in range(1, NODES))
        return "+".join("|" + node for node in nodes)

    def parse(self, text: str) -> Architecture:
        reader = Reader(text, "a NAS-Bench-201 cell", _EXAMPLE)
        found: list[int] = []
        for source, target in EDGES:
            if source == 0:
                reader.expect("|" if target == 1 else "+|")
            found.append(reader.one_of(OPERATIONS))
            reader.expect(f"~{source}|")
        reader.end()
        return tuple(found)

    def pruned(self, architecture: Architecture, constants: bool) -> Architecture | None:
        """Remove edges into nodes without a way to the output, and with `constants` edges out of nodes that the image does not
        reach (see `SearchSpace.pruned`)."""
        used = {NODES - 1}  # nodes that reach the output
        fed = {0}  # nodes that the image reaches
        present = [edge for edge, option in zip(EDGES, architecture, strict=True) if OPERATIONS[option] != "none"]
        for source, target in present:
            if source in fed:
                fed.add(target)
        for source, target in reversed(present):
            if target in used and (source in fed or not constants):
                used.add(source)
        if NODES - 1 not in fed:
            return None
        none = OPERATIONS.index("none")
        return tuple(
            option if target in used and (source in fed or not constants) else none
            for option, (source, target) in zip(architecture, EDGES, strict=True)
        )

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        boxes = {str(node): str(node) for node in range(NODES)}
        kinds: dict[str, str] = {}
        arrows: list[tuple[str, str]] = []
        for (source, target), option in zip(EDGES, architecture, strict=True):
            if OPERATIONS[option] != "none":
                box = f"{source}->{target}"
                boxes[box] = kinds[box] = OPERATIONS[option]
                arrows += [(str(source), box), (box, str(target))]
        return {"cell": Graph(boxes, arrows, kinds)}


def _operation(name: str, channels: int, searching: bool) -> nn.Module:
    match name:
        case "none":
            return Zero()
        case "skip_connect":
            return SkipDropout() if searching else nn.Identity()
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return relu_conv_norm(channels, channels, int(name[-1]))


class _Cell(nn.Module):
    """Cell of four nodes, each the sum of an operation on every node before it."""

    def __init__(self, channels: int, searching: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            Choice(f"{source}->{target}", {name: partial(_operation, name, channels, searching) for name in OPERATIONS})
            for source, target in EDGES
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in range(1, NODES):
            start = target * (target - 1) // 2
            y = total([edge(node) for edge, node in zip(self.edges[start : start + target], nodes, strict=True)])
            nodes.append(y if y.dim() else x.new_zeros(x.shape))
        return nodes[-1]


class _Residual(nn.Module):
    """Residual block that halves the size and doubles the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(relu_conv_norm(channels, 2 * channels, 3, 2), relu_conv_norm(2 * channels, 2 * channels, 3))
        # The benchmark's shortcut pools without padding; ceil_mode keeps odd sizes in step with the other branch.
        pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(channels, 2 * channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)  # type: ignore[no-any-return]
