"""A space small enough to train every network in it, for tests and first steps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from analysis.graphs import Graph
from orchestrator.spaces.base import Decision, SearchSpace
from orchestrator.spaces.parts.chains import chain_graph
from orchestrator.spaces.parts.choice import Choice
from orchestrator.spaces.parts.layers import Shortcut, classifier, relu_conv_norm, relu_separable_norm, residual_branches
from orchestrator.spaces.parts.notation import read_words
from searchers.base import Architecture

OPTIONS = ("skip", "conv1", "conv3", "sep3", "res3")


@dataclass(kw_only=True, eq=False)
class DigitsTiny(SearchSpace):
    """Four blocks for small images, each skipped or one of four operations: 625 networks. The size is halved after two.

    Args:
        channels: Width of the first pair; the second has twice as many.
        image: Shape of an image, (channels, height, width).
        classes: Number of classes.
    """

    channels: int = 8
    image: tuple[int, int, int] = (1, 8, 8)
    classes: int = 10

    def __post_init__(self) -> None:
        if self.channels < 1 or self.classes < 1 or min(self.image[1:]) < 2:
            raise ValueError(
                f"channels = {self.channels}, classes = {self.classes}, image = {self.image}: at least 1, 1 and 2x2"
            )
        self.choices = tuple(Decision(f"block{block + 1}", OPTIONS) for block in range(4))

    def build(self) -> nn.Module:
        c = self.channels

        def block(number: int, channels: int) -> Choice:
            return Choice(
                f"block{number}",
                {
                    "skip": nn.Identity,
                    "conv1": lambda: relu_conv_norm(channels, channels, 1),
                    "conv3": lambda: relu_conv_norm(channels, channels, 3),
                    "sep3": lambda: relu_separable_norm(channels, 3, 1),
                    "res3": lambda: Shortcut(relu_conv_norm(channels, channels, 3)),
                },
            )

        return nn.Sequential(
            nn.Conv2d(self.image[0], c, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c),
            block(1, c),
            block(2, c),
            relu_conv_norm(c, 2 * c, 3, 2),
            block(3, 2 * c),
            block(4, 2 * c),
            nn.ReLU(),
            classifier(2 * c, self.classes),
        )

    def droppable_paths(self, network: nn.Module) -> list[nn.Module]:
        return residual_branches(network)

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        return "-".join(OPTIONS[option] for option in architecture)

    def parse(self, text: str) -> Architecture:
        return read_words(text, "a network of digits-tiny", "conv3-skip-sep3-res3", [OPTIONS] * len(self.choices), "---")

    def graph(self, architecture: Architecture) -> dict[str, Graph]:
        self.check(architecture)
        blocks = [(OPTIONS[option], OPTIONS[option]) for option in architecture if OPTIONS[option] != "skip"]
        return {"chain": chain_graph([("conv 3x3", ""), *blocks, ("pool, linear", "")])}
