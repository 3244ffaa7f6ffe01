"""Data and networks for other tasks than classification of images, which workers can import."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paretoray import Choice


def numbers() -> tuple[np.ndarray, np.ndarray]:
    """Sums of three numbers."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    return x, x.sum(axis=1)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Noise, and whether each pixel is bright."""
    images = np.random.default_rng(0).integers(0, 255, (60, 3, 8, 8)).astype(np.uint8)
    return images, (images[:, 0] > 127).astype(int)


def halves() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Noise and a row of numbers, and two labels: one of each."""
    images, rows = maps()[0], numbers()[0]
    return {"photo": images, "row": rows}, np.stack([images.mean((1, 2, 3)) > 127, rows[:, 0] > 0], axis=1)


def perceptron(image: Any, classes: int) -> nn.Module:
    """A layer of two ranks, and three ways to bend its values, which have no parameters."""
    ranks = {f"rank{n}": lambda n=n: nn.Sequential(nn.Linear(image[0], n), nn.Linear(n, 8)) for n in (2, 4)}
    bends = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
    return nn.Sequential(Choice("rank", ranks), Choice("bend", bends), nn.Linear(8, classes))


def pixels(image: Any, classes: int) -> nn.Module:
    """A convolution of two sizes, and a map of scores."""
    options = {f"conv{k}": lambda k=k: nn.Conv2d(image[0], 4, k, padding=k // 2) for k in (1, 3)}
    return nn.Sequential(Choice("first", options), nn.ReLU(), nn.Conv2d(4, classes, 1))


class Branches(nn.Module):
    """A branch for each input."""

    def __init__(self, image: Any, classes: int) -> None:
        super().__init__()
        options = {f"conv{k}": lambda k=k: nn.Conv2d(image["photo"][0], 4, k, padding=k // 2) for k in (1, 3)}
        self.photo, self.row = Choice("photo", options), nn.Linear(image["row"][0], 4)
        self.head = nn.Linear(8, classes)

    def forward(self, photo: Tensor, row: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.cat([self.photo(photo).mean(dim=(2, 3)), self.row(row)], dim=1))
        return scores


def branches(image: Any, classes: int) -> nn.Module:
    """Two branches, whose outputs are joined."""
    return Branches(image, classes)
