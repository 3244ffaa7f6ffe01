"""ProxylessNAS's chain for ImageNet (Cai, Zhu and Han, ICLR 2019, arXiv 1812.00332, section 4.2 and the authors' code)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, Published, SearchSpace
from orchestrator.spaces.parts.chains import chain, chain_graph, check_halvings, in_proportion, make_divisible
from orchestrator.spaces.parts.choice import Choice, Zero
from orchestrator.spaces.parts.layers import MBConv, Shortcut, residual_branches
from orchestrator.spaces.parts.notation import read_words
from searchers.base import Architecture

BLOCKS = (4, 4, 4, 4, 4, 1)
"""Searchable blocks of each stage."""
OPTIONS = tuple(f"k{kernel}e{expansion}" for expansion in (3, 6) for kernel in (3, 5, 7))

_MOBILE = "k5e3-k3e3-id-id:k7e3-k3e3-k5e3-k5e3:k7e6-k5e3-k5e3-k5e3:k5e6-k5e3-k5e3-k5e3:k7e6-k7e6-k7e3-k7e3:k7e6"
_SOURCE = "ProxylessNAS, the authors' released configurations"


@dataclass(kw_only=True, eq=False)
class Proxyless(SearchSpace):
    """21 blocks, each an MBConv of kernel 3, 5 or 7 and expansion 3 or 6; the 15 that keep their shape have a shortcut and
    may be left out (`id`), so that depth is learned: 7 ** 15 * 6 ** 6 networks.

    Args:
        widths: Channels of the stem, of the fixed first block, of the six stages, and of the last 1x1 convolution.
        width: Factor of all of them, which are then rounded to multiples of 8.
        strides: Strides of the stem and of the first block of each stage; for small images, write some 1s.
        dropout: Dropout rate before the classifier.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    affine = True
    published: ClassVar[Mapping[str, Published]] = {
        "PROXYLESS_MOBILE": Published(
            _MOBILE, {"widths": [32, 16, 32, 40, 80, 96, 192, 320, 1280], "image": (3, 224, 224), "classes": 1000}, _SOURCE
        ),
        "PROXYLESS_MOBILE_14": Published(
            _MOBILE, {"widths": [48, 24, 40, 56, 112, 136, 256, 448, 1792], "image": (3, 224, 224), "classes": 1000}, _SOURCE
        ),
        "PROXYLESS_GPU": Published(
            "k5e3-id-id-id:k7e3-id-id-k3e3:k7e6-id-id-k5e3:k5e6-id-k3e3-k5e3:k7e6-k7e6-k7e6-k5e6:k7e6",
            {"widths": [40, 24, 32, 56, 112, 128, 256, 432, 1728], "image": (3, 224, 224), "classes": 1000},
            _SOURCE,
        ),
        "PROXYLESS_CPU": Published(
            "k3e6-k3e3-k3e3-k3e3:k3e6-k3e3-k3e3-k5e3:k3e6-id-id-k3e3:k5e6-k3e3-k3e3-k3e3:k5e6-k5e3-k5e3-k3e3:k5e6",
            {"widths": [40, 24, 32, 48, 88, 104, 216, 360, 1432], "image": (3, 224, 224), "classes": 1000},
            _SOURCE,
        ),
    }

    widths: tuple[int, ...] = (32, 16, 24, 40, 80, 96, 192, 320, 1280)
    width: float = 1.0
    strides: tuple[int, ...] = (2, 2, 2, 2, 1, 2, 1)
    dropout: float = 0.0
    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000

    def __post_init__(self) -> None:
        if len(self.widths) != 9 or min(self.widths) < 1 or self.width <= 0:
            raise ValueError(f"widths = {self.widths}, width = {self.width}; write nine widths (stem, first, six stages, last)")
        if len(self.strides) != 7 or not set(self.strides) <= {1, 2}:
            raise ValueError(f"strides = {self.strides}; write seven (stem, six stages), each 1 or 2")
        if not 0 <= self.dropout < 1 or self.classes < 1:
            raise ValueError(f"dropout = {self.dropout}, classes = {self.classes}; a rate below 1, and at least 1 class")
        self.choices = tuple(
            Decision(name, (*OPTIONS, "id") if stride == 1 and c_in == c_out else OPTIONS)
            for name, c_in, c_out, stride in self._blocks()
        )

    def _channels(self) -> list[int]:
        return [make_divisible(w * self.width) if self.width != 1 else w for w in self.widths]

    def _blocks(self) -> list[tuple[str, int, int, int]]:
        """List name, input channels, output channels and stride of each searchable block."""
        _, channels, *stages, _ = self._channels()
        blocks = []
        for stage, (width, count, stride) in enumerate(zip(stages, BLOCKS, self.strides[1:], strict=True), 1):
            for block in range(count):
                blocks.append((f"stage{stage}/block{block + 1}", channels, width, 1 if block else stride))
                channels = width
        return blocks

    def build(self) -> nn.Module:
        stem, first, *_, last, mix = self._channels()
        blocks: list[nn.Module] = [MBConv(stem, first, 3, 1, 1)]
        for (name, c_in, c_out, stride), choice in zip(self._blocks(), self.choices, strict=True):
            options = {
                option: Zero if option == "id" else partial(MBConv, c_in, c_out, int(option[1]), int(option[3]), stride)
                for option in choice.options
            }
            block = Choice(name, options)
            blocks.append(Shortcut(block) if "id" in options else block)
        return chain(self.image[0], stem, self.strides[0], blocks, last, mix, self.classes, dropout=self.dropout, epsilon=1e-3)

    @property
    def extent(self) -> dict[str, int]:
        """The channels of the stem."""
        return {"channels": self._channels()[0]}

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        check_halvings(self.image, image, sum(stride == 2 for stride in self.strides))
        widths = self._channels()
        scaled = in_proportion(widths, widths[0], fewer.get("channels", widths[0]))
        return super().smaller(image, classes, widths=tuple(scaled), width=1.0)

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        return residual_branches(network)

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        names = iter([choice.options[o] for choice, o in zip(self.choices, architecture, strict=True)])
        return ":".join("-".join(next(names) for _ in range(count)) for count in BLOCKS)

    def parse(self, text: str) -> Architecture:
        between = ":".join("-" * (count - 1) for count in BLOCKS)
        return read_words(text, "a ProxylessNAS network", _MOBILE, [choice.options for choice in self.choices], between)

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        stem, first, *_, mix = self._channels()
        blocks = [(f"conv 3x3  {stem}", ""), (f"MB1 3x3  {first}", "k3e1")]
        for (_, _, c_out, _), choice, option in zip(self._blocks(), self.choices, architecture, strict=True):
            name = choice.options[option]
            if name != "id":
                blocks.append((f"MB{name[3]} {name[1]}x{name[1]}  {c_out}", name))
        return {"chain": chain_graph([*blocks, (f"conv 1x1  {mix}", ""), ("pool, linear", "")])}
