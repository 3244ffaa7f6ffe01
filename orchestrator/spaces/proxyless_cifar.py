"""ProxylessNAS's tree-structured space for CIFAR-10 (Cai, Zhu and Han, ICLR 2019, arXiv 1812.00332, section 4.1).

The structure is that of the released CIFAR network: a PyramidNet of bottlenecks whose 3x3 convolution is a tree of edges. What
the sources leave open: the two halves that the tree has made are put side by side again (they were split, not copied).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, cat, nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, SearchSpace
from orchestrator.spaces.parts.chains import in_proportion
from orchestrator.spaces.parts.choice import Choice
from orchestrator.spaces.parts.depthwise import DepthwiseConv2d
from orchestrator.spaces.parts.layers import WEIGHTLESS, classifier
from orchestrator.spaces.parts.notation import Reader
from searchers.base import Architecture

OPERATIONS = (
    "identity",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
)
EDGES = tuple(f"half{half}/{edge}" for half in (1, 2) for edge in ("a", "b", "aa", "ab", "ba", "bb"))
"""Edges of each block: two into each half's root, and two behind each of these."""


@dataclass(kw_only=True, eq=False)
class ProxylessCifar(SearchSpace):
    """Twelve edges of seven operations in each of 54 residual blocks: 7 ** 648 networks.

    Args:
        blocks: Blocks of each of the three stages.
        widths: Width of the bottleneck in the first and in the last block, growing linearly in between and rounded to even
            numbers; a block's output has four times as many channels.
        stem: Channels of the first convolution.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    affine = True
    weightless: ClassVar[frozenset[str]] = WEIGHTLESS

    blocks: int = 18
    widths: tuple[int, ...] = (18, 100)
    stem: int = 16
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __post_init__(self) -> None:
        if len(self.widths) != 2 or not 2 <= self.widths[0] <= self.widths[1]:
            raise ValueError(f"widths = {self.widths}; write the first and the last, as in [18, 100]")
        if self.blocks < 1 or not 1 <= self.stem <= 4 * self.widths[0] or self.classes < 1:
            raise ValueError(
                f"blocks = {self.blocks}, stem = {self.stem}, classes = {self.classes}: at least 1, 1 (and at most four times "
                "the first width, as shortcuts only add channels), and 1"
            )
        if min(self.image[1:]) < 4:
            raise ValueError(f"images of {self.image[1]}x{self.image[2]} are too small: the space halves them twice")
        self.choices = tuple(
            Decision(f"block{block + 1}/{edge}", OPERATIONS) for block in range(3 * self.blocks) for edge in EDGES
        )

    @property
    def extent(self) -> dict[str, int]:
        """The channels of the stem."""
        return {"channels": self.stem}

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        stem = fewer.get("channels", self.stem)
        first, last = (max(2, width) for width in in_proportion(self.widths, self.stem, stem))
        return super().smaller(image, classes, stem=stem, widths=(first, last))

    def _widths(self) -> list[int]:
        first, last = self.widths
        count = 3 * self.blocks
        return [2 * round((first + (last - first) * block / (count - 1)) / 2) for block in range(count)]

    def build(self) -> nn.Module:
        blocks: list[nn.Module] = []
        before = self.stem
        for block, width in enumerate(self._widths()):
            stride = 2 if block in (self.blocks, 2 * self.blocks) else 1
            blocks.append(_Block(f"block{block + 1}", before, width, stride))
            before = 4 * width
        stem = nn.Sequential(nn.Conv2d(self.image[0], self.stem, 3, 1, 1, bias=False), nn.BatchNorm2d(self.stem))
        head = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        parts = {"stem": stem, "blocks": nn.Sequential(*blocks), "head": head, "classifier": classifier(before, self.classes)}
        return nn.Sequential(OrderedDict(parts))

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        """List the operations on edges of trees other than identities; the authors' code for these networks is not released."""
        trees = (tree for tree in network.modules() if isinstance(tree, _Tree))
        return [edge for tree in trees for edge in (*tree.roots, *tree.leaves) if not isinstance(edge, nn.Identity)]

    def format(self, architecture: Architecture) -> str:
        """Write a digit for each edge (its operation, in the order of `OPERATIONS`), twelve for each block."""
        self.check(architecture)
        count = len(EDGES)
        blocks = (architecture[i : i + count] for i in range(0, len(architecture), count))
        return "-".join("".join(map(str, block)) for block in blocks)

    def parse(self, text: str) -> Architecture:
        example = "-".join(["123456012345", "..."])
        reader = Reader(text, f"a tree-structured network of {3 * self.blocks} blocks", example)
        found: list[int] = []
        for block in range(3 * self.blocks):
            if block:
                reader.expect("-")
            for _ in EDGES:
                digit = next((option for option in range(len(OPERATIONS)) if reader.at(str(option))), None)
                if digit is None:
                    reader.fail(f"a digit from 0 to {len(OPERATIONS) - 1}")
                found.append(digit)
        reader.end()
        return tuple(found)

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        graphs = {}
        for block in range(3 * self.blocks):
            options = dict(zip(EDGES, architecture[len(EDGES) * block :], strict=False))
            boxes = {"in": "conv 3x3", "out": "out"}
            arrows: list[tuple[str, str]] = []
            kinds = {"in": "conv 3x3"}
            for edge, option in options.items():
                half, path = edge.split("/")
                boxes[edge] = kinds[edge] = OPERATIONS[option]
                arrows.append((f"{half}/{path[0]}" if len(path) > 1 else half, edge))
                if len(path) > 1:
                    arrows.append((edge, f"{half}+"))
            for half in ("half1", "half2"):
                boxes |= {half: "half", f"{half}+": "+"}
                arrows += [("in", half), (f"{half}+", "out")]
            graphs[f"block {block + 1}"] = Graph(boxes, arrows, kinds)
        return graphs


def _operation(name: str, channels: int) -> nn.Module:
    kernel = int(name[-1]) if name[-1].isdigit() else 0
    match name[:3]:
        case "sep" | "dil":
            dilation = 2 if name[:3] == "dil" else 1
            depthwise = DepthwiseConv2d(channels, kernel, 1, dilation)
            return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False))
        case "avg":
            return nn.AvgPool2d(kernel, 1, kernel // 2, count_include_pad=False)
        case "max":
            return nn.MaxPool2d(kernel, 1, kernel // 2)
    return nn.Identity()


class _Tree(nn.Module):
    """Tree of two edges, and behind each of them two more; all four ends are added up."""

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()

        def edge(path: str) -> Choice:
            return Choice(f"{name}/{path}", {operation: partial(_operation, operation, channels) for operation in OPERATIONS})

        self.roots = nn.ModuleList([edge("a"), edge("b")])
        self.leaves = nn.ModuleList([edge(path) for path in ("aa", "ab", "ba", "bb")])

    def forward(self, x: Tensor) -> Tensor:
        (a, b), (aa, ab, ba, bb) = self.roots, self.leaves
        left, right = a(x), b(x)
        return aa(left) + ab(left) + ba(right) + bb(right)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Bottleneck with a shortcut, in which channels that the input lacks are zeros, and which is pooled to halve the size."""

    def __init__(self, name: str, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(c_in), nn.Conv2d(c_in, width, 1, bias=False))
        self.widen = nn.Conv2d(width, 2 * width, 3, stride, 1, groups=2, bias=False)
        self.shuffle = nn.ChannelShuffle(2)
        self.halves = nn.ModuleList(_Tree(f"{name}/half{half}", width) for half in (1, 2))
        reduce = nn.Conv2d(2 * width, 4 * width, 1, bias=False)
        self.leave = nn.Sequential(nn.BatchNorm2d(2 * width), nn.ReLU(), reduce, nn.BatchNorm2d(4 * width))
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        parts = self.shuffle(self.widen(self.enter(x))).chunk(2, dim=1)
        y = self.leave(cat([half(part) for half, part in zip(self.halves, parts, strict=True)], dim=1))
        shortcut = self.pool(x)
        missing = y.shape[1] - shortcut.shape[1]
        return y + nn.functional.pad(shortcut, (0, 0, 0, 0, 0, missing))  # type: ignore[no-any-return]
