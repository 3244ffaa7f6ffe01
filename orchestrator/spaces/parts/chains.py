"""Networks that are a chain of blocks: stem, blocks, a last 1x1 convolution, classifier."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from torch import nn

from analysis.graphs import Graph
from orchestrator.spaces.parts.layers import Activation, classifier


def chain(
    colours: int,
    stem: int,
    stem_stride: int,
    blocks: Iterable[nn.Module],
    last: int,
    mix: int,
    classes: int,
    *,
    activation: Activation = nn.ReLU6,
    dropout: float = 0.0,
    epsilon: float = 1e-5,
) -> nn.Sequential:
    """Build a chain of blocks with stem, last 1x1 convolution and classifier.

    Args:
        colours: Channels of an image.
        stem: Output channels of the stem.
        stem_stride: Stride of the stem.
        blocks: The blocks.
        last: Output channels of the last block.
        mix: Output channels of the 1x1 convolution after it.
        classes: Number of classes.
        activation: Activation function of the stem and of the last convolution.
        dropout: Dropout rate before the classifier.
        epsilon: Epsilon of all normalisations.
    """
    network = nn.Sequential()
    network.add_module("stem", _conv_norm(colours, stem, 3, stem_stride, activation))
    network.add_module("blocks", nn.Sequential(*blocks))
    network.add_module("mix", _conv_norm(last, mix, 1, 1, activation))
    network.add_module("classifier", classifier(mix, classes, dropout))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = epsilon
    return network


def _conv_norm(c_in: int, c_out: int, kernel: int, stride: int, activation: Activation) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), activation())


def in_proportion(widths: Iterable[int], own: int, fewer: int) -> list[int]:
    """Scale numbers of channels by `fewer / own`, to at least one each."""
    return [max(1, round(width * fewer / own)) for width in widths]


def check_halvings(own: tuple[int, int, int], image: tuple[int, int, int], times: int) -> None:
    """Raise ValueError for images, smaller than a space's `own`, that its strides halve more often than they have pixels."""
    if image != own and min(image[1:]) < 2**times:
        raise ValueError(f"images of {image[1]}x{image[2]} are too small: the space halves them {times} times")


def make_divisible(channels: float, by: int = 8) -> int:
    """Round to the nearest multiple of `by` that is at least 0.9 of `channels`, as MobileNets round their widths."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded if rounded >= 0.9 * channels else rounded + by


def chain_graph(blocks: Sequence[tuple[str, str]]) -> Graph:
    """Draw boxes in a row, from their texts and kinds; a kind of "" is a fixed part."""
    names = [str(i) for i in range(len(blocks))]
    return Graph(
        {name: text for name, (text, _) in zip(names, blocks, strict=True)},
        list(itertools.pairwise(names)),
        {name: kind for name, (_, kind) in zip(names, blocks, strict=True)},
    )
