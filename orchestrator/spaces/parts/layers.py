"""Operations by their names in the literature, on maps of shape (batch, channels, height, width)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from orchestrator.spaces.parts.choice import SkipDropout, Zero
from orchestrator.spaces.parts.depthwise import DepthwiseConv2d

Activation = Callable[[], nn.Module]


def relu_conv_norm(
    c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int | None = None, groups: int = 1
) -> nn.Sequential:
    """ReLU, convolution without bias, batch normalisation."""
    padding = kernel // 2 if padding is None else padding
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(c_out))


def relu_separable_norm(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """ReLU, depthwise convolution, 1x1 convolution, batch normalisation."""
    depthwise = DepthwiseConv2d(channels, kernel, stride, dilation)
    return nn.Sequential(nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))


class FactorizedReduce(nn.Module):
    """ReLU, then two concatenated 1x1 convolutions of stride 2, one of them shifted by a pixel; batch normalisation."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(c_in, c_out - c_out // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        height, width = x.shape[2:]
        # An odd size gets a row and a column of zeros, so that both halves have the same size.
        shifted = nn.functional.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))  # type: ignore[no-any-return]


def conv_pair(channels: int, kernel: int, stride: int) -> nn.Sequential:
    """ReLU, a 1 x kernel and a kernel x 1 convolution, batch normalisation; conv_7x1_1x7 of NASNet, conv_3x1_1x3 of NASP."""
    half = kernel // 2
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, kernel), (1, stride), (0, half), bias=False),
        nn.Conv2d(channels, channels, (kernel, 1), (stride, 1), (half, 0), bias=False),
        nn.BatchNorm2d(channels),
    )


WEIGHTLESS = frozenset({"none", "identity", "skip_connect", "avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7"})
"""Edges of cells without learned weights; DDPNAS calls them non-parametric."""


def cell_operation(name: str, channels: int, stride: int, searching: bool) -> nn.Module:
    """Build the operation on an edge of a cell.

    Args:
        name: Its name in DARTS, NASP or TND-NAS.
        channels: Channels of input and output.
        stride: 2 to halve the size.
        searching: Whether it is part of a supernet, in which pools are followed by a normalisation, so that all options have
            the same scale (DARTS code), and identities can be dropped out (P-DARTS).
    """
    family, _, size = name.rpartition("_")
    kernel = int(size[0]) if size[:1].isdigit() else 0
    match family:
        case "max_pool" | "avg_pool":
            pool: nn.Module = nn.MaxPool2d(kernel, stride, kernel // 2)
            if family == "avg_pool":
                pool = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
            return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False)) if searching else pool
        case "sep_conv":
            again = relu_separable_norm(channels, kernel, 1)
            again[0] = nn.ReLU(inplace=True)  # on the output of the first normalisation, which nothing else reads
            return nn.Sequential(*relu_separable_norm(channels, kernel, stride), *again)
        case "dil_conv":
            return relu_separable_norm(channels, kernel, stride, dilation=2)
        case "conv":
            return relu_conv_norm(channels, channels, kernel, stride)
        case "conv_3x1" | "conv_7x1":
            return conv_pair(channels, int(family[5]), stride)
        case "skip":
            if stride > 1:
                return FactorizedReduce(channels, channels)
            return SkipDropout() if searching else nn.Identity()
    if name == "none":
        return Zero()
    raise ValueError(f"there is no operation {name!r}")


class MBConv(nn.Sequential):
    """MobileNetV2's block without its shortcut: 1x1 expansion, depthwise kernel x kernel, 1x1 projection, all normalised;
    an expansion of 1 has no first convolution. (Sandler et al., arXiv 1801.04381.)"""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, expansion: int, stride: int, activation: Activation = nn.ReLU6
    ) -> None:
        wide = c_in * expansion
        expand = [nn.Conv2d(c_in, wide, 1, bias=False), nn.BatchNorm2d(wide), activation()] if expansion > 1 else []
        super().__init__(
            *expand,
            DepthwiseConv2d(wide, kernel, stride),
            nn.BatchNorm2d(wide),
            activation(),
            nn.Conv2d(wide, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )


class Shortcut(nn.Module):
    """Identity shortcut around a module whose input and output have one shape."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        y = self.inside(x)
        return x + y if y.dim() else x


def residual_branches(network: nn.Module) -> list[nn.Module]:
    """List the modules that an identity shortcut goes around; one that is skipped altogether is none."""
    inside = (module.inside for module in network.modules() if isinstance(module, Shortcut))
    return [branch for branch in inside if not isinstance(branch, Zero)]


def classifier(channels: int, classes: int, dropout: float = 0.0) -> nn.Sequential:
    """Global average pooling and a linear layer."""
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *drop, nn.Linear(channels, classes))
