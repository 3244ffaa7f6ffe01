"""DDPNAS's chain for ImageNet (Zheng et al., arXiv 1905.13543; skeleton and network from the authors' test code)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, Published, SearchSpace
from orchestrator.spaces.parts.chains import chain, chain_graph, check_halvings, make_divisible
from orchestrator.spaces.parts.choice import Choice
from orchestrator.spaces.parts.layers import MBConv, Shortcut, residual_branches
from orchestrator.spaces.parts.notation import read_words
from searchers.base import Architecture

STAGES = ((24, 1, 1), (32, 1, 2), (56, 2, 2), (112, 2, 2), (128, 3, 1), (256, 4, 2), (432, 1, 1))
"""Width, blocks and stride of the first: those of ProxylessNAS's network for the GPU that are not identities."""
STEM, MIX = 40, 1728
OPTIONS = tuple(f"k{kernel}e{expansion}" for expansion in (1, 3, 6) for kernel in (3, 5, 7))

_GPU = "k7e6-k7e3-k5e6-k7e1-k3e6-k7e6-k5e1-k5e3-k5e6-k7e6-k7e6-k5e3-k7e6-k5e6"


@dataclass(kw_only=True, eq=False)
class DdpnasMobile(SearchSpace):
    """14 blocks, each an MBConv of kernel 3, 5 or 7 and expansion 1, 3 or 6: 9 ** 14 networks. Blocks that keep their shape
    have a shortcut.

    Args:
        width: Factor of all widths, which are then rounded to multiples of 8.
        strides: Strides of the stem and of the first block of each of the seven stages; None for the authors'. For small
            images, write some 1s.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    published: ClassVar[Mapping[str, Published]] = {
        "DDPNAS_GPU": Published(_GPU, {"image": (3, 224, 224), "classes": 1000}, "DDPNAS, the authors' test repository")
    }

    width: float = 1.0
    strides: list[int] | None = None
    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000

    def __post_init__(self) -> None:
        if self.strides is None:
            self.strides = [2, *(stride for _, _, stride in STAGES)]
        if len(self.strides) != 1 + len(STAGES) or not set(self.strides) <= {1, 2}:
            raise ValueError(f"strides = {self.strides}; write eight (stem, seven stages), each 1 or 2")
        if self.width <= 0 or self.classes < 1:
            raise ValueError(f"width = {self.width}, classes = {self.classes}: at least something, and 1")
        self.choices = tuple(Decision(name, OPTIONS) for name, *_ in self._blocks())

    @property
    def extent(self) -> dict[str, int]:
        """The channels of the stem; a proxy's, too, are rounded to multiples of 8."""
        return {"channels": self._scaled(STEM)}

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        assert self.strides is not None
        check_halvings(self.image, image, sum(stride == 2 for stride in self.strides))
        share = fewer["channels"] / self._scaled(STEM) if fewer else 1.0
        return super().smaller(image, classes, width=self.width * share)

    def _scaled(self, channels: int) -> int:
        return make_divisible(channels * self.width) if self.width != 1 else channels

    def _blocks(self) -> list[tuple[str, int, int, int]]:
        """List name, input channels, output channels and stride of each block."""
        assert self.strides is not None
        blocks: list[tuple[str, int, int, int]] = []
        channels = self._scaled(STEM)
        for (width, count, _), stride in zip(STAGES, self.strides[1:], strict=True):
            for block in range(count):
                blocks.append((f"block{len(blocks) + 1}", channels, self._scaled(width), 1 if block else stride))
                channels = self._scaled(width)
        return blocks

    def build(self) -> nn.Module:
        assert self.strides is not None
        blocks: list[nn.Module] = []
        for name, c_in, c_out, stride in self._blocks():
            block = Choice(name, {o: partial(MBConv, c_in, c_out, int(o[1]), int(o[3]), stride) for o in OPTIONS})
            blocks.append(Shortcut(block) if stride == 1 and c_in == c_out else block)
        last, mix = self._scaled(STAGES[-1][0]), self._scaled(MIX)
        return chain(self.image[0], self._scaled(STEM), self.strides[0], blocks, last, mix, self.classes, epsilon=1e-3)

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        return residual_branches(network)

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        return "-".join(OPTIONS[option] for option in architecture)

    def parse(self, text: str) -> Architecture:
        blocks = len(self.choices)
        return read_words(text, "a DDPNAS chain", _GPU, [OPTIONS] * blocks, "-" * (blocks - 1))

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        blocks = [(f"conv 3x3  {self._scaled(STEM)}", "")]
        for (_, _, c_out, _), option in zip(self._blocks(), architecture, strict=True):
            name = OPTIONS[option]
            blocks.append((f"MB{name[3]} {name[1]}x{name[1]}  {c_out}", name))
        return {"chain": chain_graph([*blocks, (f"conv 1x1  {self._scaled(MIX)}", ""), ("pool, linear", "")])}
