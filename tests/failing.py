"""A space of a user with options that cannot be trained: not a number, an exception, no memory."""

from typing import Any

from torch import Tensor, nn

from orchestrator.spaces import Choice

OPTIONS = ("conv1", "conv3", "nan", "serving", "hungry")
WORKING = OPTIONS[:2]


class NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float("nan")


FEW = 8
"""Images with which every option runs, as in the try before a search."""


class Serving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > FEW:
            raise ValueError("only for serving\nand more lines")
        return x


class Hungry(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > FEW:
            raise MemoryError
        return x


def build(image: tuple[int, int, int], classes: int, width: int = 4) -> nn.Module:
    def convolution(kernel: int) -> nn.Module:
        layer = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())

    def place(number: int) -> Choice:
        modules: dict[str, Any] = {"nan": NotANumber, "serving": Serving, "hungry": Hungry}
        modules |= {"conv1": lambda: convolution(1), "conv3": lambda: convolution(3)}
        return Choice(f"place{number}", {option: modules[option] for option in OPTIONS})

    stem = nn.Sequential(nn.Conv2d(image[0], width, 3, padding=1), nn.BatchNorm2d(width))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    return nn.Sequential(stem, place(0), place(1), head)
