"""Strided 1x1 convolutions, whose gradient torch gets wrong on a CPU where they have few channels.

There, with channels last, oneDNN writes past its workspace where there are fewer input channels than a vector of the processor
has places, 8 with AVX2 and 16 with AVX-512 (https://github.com/uxlfoundation/oneDNN/issues/6035; torch 2.14 has it). Gradients
are wrong then, or the process is aborted. Channels are last in every image of one colour, whatever the layout.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


class PointwiseConv2d(nn.Conv2d):
    """nn.Conv2d with 1x1 filters and no padding that leaves out rows and columns first where gradients are taken.

    Elsewhere, and in an exported program, it is torch's own.

    Attributes:
        exported_as: Class of torch with the same arguments that stands for it in an exported network.

    Example:
        >>> PointwiseConv2d(4, 8, 1, stride=2)(torch.zeros(1, 4, 6, 6)).shape
        torch.Size([1, 8, 3, 3])
    """

    exported_as: ClassVar[type[nn.Module]] = nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return super().forward(x)
        down, right = self.stride
        return torch.conv2d(x[..., ::down, ::right], self.weight, self.bias, groups=self.groups)


def take_strides_first(network: nn.Module) -> None:
    """Turn strided 1x1 convolutions of a network into the above, in place; they keep their names, weights and settings."""
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and set(module.kernel_size) == {1}
            and max(module.stride) > 1
            and module.padding in ((0, 0), "valid")
        ):
            module.__class__ = PointwiseConv2d
