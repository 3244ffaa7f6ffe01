"""Drop path, auxiliary classifier and dropout, put onto a network by hooks, so that it stays the network that it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.spaces.parts.inputs import zeros

Point = tuple[nn.Module, Callable[[Any], Tensor]]
"""A module of a network, and what makes of its output a map, (batch, channels, height, width)."""


class AuxiliaryHead(nn.Sequential):
    """Second classifier in the middle of a network, as DARTS has it (cnn/model.py of the authors' code).

    It pools maps of 8 x 8 (CIFAR) and of 7 x 7 pixels (ImageNet) to 2 x 2 as published, with a window of 5. For maps of another
    size, which the authors have no head for, the pooling adapts to it. The second normalisation is always there; the authors
    leave it out for ImageNet.

    Args:
        channels: Channels of the map.
        size: Pixels of its sides.
        classes: Number of classes.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        stride = size[0] - 5
        published = size[0] == size[1] and stride in (1, 2, 3)
        pool = nn.AvgPool2d(5, stride, count_include_pad=False) if published else nn.AdaptiveAvgPool2d(2)
        super().__init__(
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        )


class Regularised(nn.Module):
    """A network with what its training adds to it; `close` takes that away again.

    Args:
        network: The network.
        image: Shape of an image, (channels, height, width), or of another example.
        classes: Number of classes.
        paths: Modules whose output is left out for some images.
        point: Where the auxiliary classifier reads; None for none.
        dropout: Share of the inputs of the last linear layer that are left out.

    Attributes:
        drop_path: Share of the images for which each of `paths` is left out, now; a tensor, which a compiled pass reads anew.
    """

    def __init__(
        self,
        network: nn.Module,
        image: tuple[int, ...],
        classes: int,
        *,
        paths: Sequence[nn.Module] = (),
        point: Point | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.dropout = network, dropout
        self.drop_path: Tensor
        self.register_buffer("drop_path", torch.zeros(()), persistent=False)
        self.head: AuxiliaryHead | None = None
        self._map: Tensor | None = None
        self._hooks = [path.register_forward_hook(self._drop_path) for path in paths]
        if dropout:
            self._hooks.append(last_linear(network).register_forward_pre_hook(self._drop))
        if point is not None:
            module, self._features = point
            self._hooks.append(module.register_forward_hook(self._keep_map))
            with torch.no_grad():
                training, device = network.training, next(network.parameters()).device
                network.eval()
                network(zeros(1, image, str(device)))
                network.train(training)
            assert self._map is not None
            self.head = AuxiliaryHead(self._map.shape[1], tuple(self._map.shape[2:]), classes)

    def forward(self, x: Any) -> tuple[Tensor, Tensor | None]:
        """Return the scores, (batch, classes), and those of the auxiliary classifier."""
        scores = self.network(x)
        if self.head is None:
            return scores, None
        auxiliary, self._map = self.head(self._map), None
        return scores, auxiliary

    def close(self) -> None:
        """Leave the network as it was, with the weights that it has now."""
        for hook in self._hooks:
            hook.remove()
        self._map = None

    def _drop_path(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if not module.training or not output.dim():
            return None
        keep = 1 - self.drop_path
        kept = torch.rand([len(output), *[1] * (output.dim() - 1)], device=output.device) < keep
        return output * (kept / keep).to(output.dtype)

    def _drop(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (nn.functional.dropout(inputs[0], self.dropout), *inputs[1:]) if module.training else None

    def _keep_map(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._map = self._features(output)


def last_linear(network: nn.Module) -> nn.Linear:
    """Return the last linear layer. Raises ValueError where there is none."""
    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ValueError("the network has no linear layer")
    return found[-1]
