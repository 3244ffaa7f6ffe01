"""Kernels of depthwise convolutions, whose smaller ones are their centres."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from orchestrator.spaces.elastic.axes import Axis, Cut


def kernel_axes(model: nn.Module, sizes: Sequence[int]) -> list[Axis]:
    """List the depthwise convolutions whose kernel can be a smaller one of `sizes`.

    A smaller kernel is the centre of the larger one, as it is. Once-for-all multiplies it by a learned matrix (arXiv
    1908.09791, section 3.3); here sizes share plain slices, so that nothing is learned that no ordinary convolution has.

    Args:
        model: The network.
        sizes: Odd sizes of kernels.
    """
    axes = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or not 1 < module.groups == module.in_channels == module.out_channels:
            continue
        size = module.kernel_size[0]
        same = tuple(dilation * (size - 1) // 2 for dilation in module.dilation)
        if size % 2 == 0 or module.kernel_size != (size, size) or module.padding != same:
            continue
        options = sorted({size, *(s for s in sizes if s < size)})
        if len(options) < 2:
            continue
        rings = torch.arange(size // 2 + 1)[:, None]  # the centre, then what surrounds it; its two rows, or columns
        positions = size // 2 + torch.cat([-rings, rings], dim=1)
        cuts = tuple(Cut(f"{path}.weight", dim, positions) for dim in (2, 3))
        counts = tuple(option // 2 + 1 for option in options)
        axes.append(Axis(path, "kernel", counts, tuple(map(str, options)), rings[:, 0], cuts))
    return axes
