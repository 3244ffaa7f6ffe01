"""Every space at a size at which tests take no time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from orchestrator import registry as names
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture

_CELLS: dict[str, Any] = {"channels": 4, "cells": 3, "supernet_channels": 4}
SMALL: dict[str, dict[str, Any]] = {
    "darts": _CELLS,
    "ddpnas-mobile": {"width": 0.1, "strides": [1, 1, 2, 1, 2, 1, 1, 1]},
    "digits-tiny": {"channels": 4},
    "nas-bench-201": {"channels": 4, "cells": 1},
    "nas-bench-macro": {"channels": 4, "mix": 8},
    "nasp": _CELLS,
    "nsga-net-macro": {"nodes": 4, "channels": [4, 6, 4], "image": (1, 12, 12)},
    "nsga-net-micro": _CELLS,
    "proxyless": {"widths": [4, 4, 4, 6, 6, 8, 8, 10, 12], "strides": [1, 2, 2, 1, 1, 1, 1]},
    "proxyless-cifar": {"blocks": 1, "widths": [2, 4], "stem": 2},
    "tnd-nas": _CELLS,
}
SPACES = sorted(SMALL)
RELAXED = [name for name in SPACES if name != "nsga-net-macro"]


def small(name: str, **settings: Any) -> SearchSpace:
    return names.find("space", name)(**{"image": (1, 8, 8), "classes": 10, **SMALL[name], **settings})  # type: ignore[no-any-return]


def drawn(space: SearchSpace, count: int, seed: int = 0) -> Iterator[Architecture]:
    """Random architectures, always the same ones."""
    rng = np.random.default_rng(seed)
    return (tuple(int(rng.integers(size)) for size in space.sizes) for _ in range(count))


def everything(space: SearchSpace) -> list[range]:
    return [range(size) for size in space.sizes]
