"""Networks with weights that are not those of the start, as `pr.load` returns them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from orchestrator.data.preprocessing import Preprocessing
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.search.weights import Origin
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.own import OwnSpace
from searchers import Architecture


def trained(space: SearchSpace, architecture: Architecture) -> TrainedNetwork:
    """Build a network, move its statistics and weights away from their start, and describe it."""
    torch.manual_seed(0)
    network = space.network(architecture)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 1.5)
    colours = space.image[0]
    preprocessing = Preprocessing(space.image, (0.3,) * colours, (0.4,) * colours)
    classes = tuple(f"class {i}" for i in range(space.classes))
    origin = Origin(space.format(architecture), space.name, {}, preprocessing, classes)
    row = {"arch": origin.arch, "member": 1, "test_error_percent": 12.5}
    return TrainedNetwork(network, 1, row, origin, space, Path("network-1.pt"))


def own(factory: Any, *, image: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> TrainedNetwork:
    """Build the first network of a user's own function."""
    space = OwnSpace(factory, {}, image, classes)
    return trained(space, (0,) * len(space.choices))
