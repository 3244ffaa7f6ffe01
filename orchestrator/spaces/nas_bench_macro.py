"""NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922): eight layers of a MobileNet for CIFAR-10, three choices each."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, SearchSpace
from orchestrator.spaces.parts.chains import chain, chain_graph, check_halvings, in_proportion
from orchestrator.spaces.parts.choice import Choice, Made
from orchestrator.spaces.parts.layers import MBConv, Shortcut, residual_branches
from orchestrator.spaces.parts.notation import Reader
from searchers.base import Architecture

OPTIONS = ("identity", "k3e3", "k5e6")
LAYERS = (2, 3, 3)
"""Layers of each stage; the first of a stage halves the size and widens."""


@dataclass(kw_only=True, eq=False)
class NasBenchMacro(SearchSpace):
    """Eight layers in three stages, each an identity or one of two MBConvs: 6,561 strings of eight digits, as in the benchmark,
    for 3,964 different networks. The stages have 2, 3 and 3 layers; the MBConvs have kernel 3 and expansion 3, or 5 and 6.

    Args:
        channels: Width of the first stage; it doubles from stage to stage, and the stem has half of it.
        mix: Width of the last 1x1 convolution.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    channels: int = 64
    mix: int = 1280
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10

    def __post_init__(self) -> None:
        if self.channels < 2 or self.mix < 1 or self.classes < 1:
            raise ValueError(f"channels = {self.channels}, mix = {self.mix}, classes = {self.classes}: at least 2, 1 and 1")
        self.choices = tuple(Decision(f"layer{i + 1}", OPTIONS) for i in range(sum(LAYERS)))

    def build(self) -> nn.Module:
        blocks: list[nn.Module] = []
        stem = c_in = self.channels // 2
        for stage, count in enumerate(LAYERS):
            c_out = self.channels * 2**stage
            for layer in range(count):
                name = f"layer{len(blocks) + 1}"
                options: dict[str, Made] = {}
                if layer:
                    options["identity"] = nn.Identity
                    options |= {o: partial(_residual, c_out, o) for o in OPTIONS[1:]}
                else:
                    options["identity"] = partial(_shrink, c_in, c_out)
                    options |= {o: partial(MBConv, c_in, c_out, int(o[1]), int(o[3]), 2, nn.ReLU) for o in OPTIONS[1:]}
                blocks.append(Choice(name, options))
            c_in = c_out
        return chain(self.image[0], stem, 1, blocks, c_in, self.mix, self.classes, activation=nn.ReLU)

    def smaller(self, image: tuple[int, int, int], classes: int, **fewer: Any) -> SearchSpace:
        check_halvings(self.image, image, len(LAYERS))
        (mix,) = in_proportion([self.mix], self.channels, fewer.get("channels", self.channels))
        return super().smaller(image, classes, mix=mix, **fewer)

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        return residual_branches(network)

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        return "".join(str(option) for option in architecture)

    def parse(self, text: str) -> Architecture:
        reader = Reader(text, "a NAS-Bench-Macro network", "22212220")
        found = []
        for _ in self.choices:
            digit = next((option for option in range(len(OPTIONS)) if reader.at(str(option))), None)
            if digit is None:
                reader.fail("one of 0, 1, 2")
            found.append(digit)
        reader.end()
        return tuple(found)

    def canonical(self, architecture: Architecture) -> Hashable:
        """Leave out identities within a stage, which do nothing; the first layer of a stage is never one."""
        self.check(architecture)
        layers = iter(architecture)
        return tuple((next(layers), *(o for o in [next(layers) for _ in range(count - 1)] if o)) for count in LAYERS)

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        blocks = [(f"conv 3x3  {self.channels // 2}", "")]
        layers = iter(architecture)
        for stage, count in enumerate(LAYERS):
            for layer in range(count):
                name = OPTIONS[next(layers)]
                if name != "identity":
                    blocks.append((f"MB{name[3]} {name[1]}x{name[1]}  {self.channels * 2**stage}", name))
                elif not layer:
                    blocks.append((f"conv 1x1  {self.channels * 2**stage}", name))
        return {"chain": chain_graph([*blocks, (f"conv 1x1  {self.mix}", ""), ("pool, linear", "")])}


def _residual(channels: int, option: str) -> nn.Module:
    return Shortcut(MBConv(channels, channels, int(option[1]), int(option[3]), 1, nn.ReLU))


def _shrink(c_in: int, c_out: int) -> nn.Module:
    """Return the 1x1 convolution that stands for an identity where the shape changes."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, 2, bias=False), nn.BatchNorm2d(c_out))
