"""Evaluations as tensors, which a checkpoint holds in a tenth of the room, and of the time, of nested lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from searchers.base import Evaluation


def pack(evaluations: Sequence[Evaluation]) -> dict[str, Tensor]:
    """Return evaluations of one space as tensors: options, (evaluations, choices), costs, violations, and which have failed."""
    options = torch.tensor([e.architecture for e in evaluations])
    return {
        "architectures": options.to(torch.uint8) if not options.numel() or options.max() < 256 else options,
        "costs": torch.tensor([e.costs for e in evaluations], dtype=torch.float64),
        "violations": torch.tensor([e.violation for e in evaluations], dtype=torch.float64),
        "failed": torch.tensor([e.failed for e in evaluations], dtype=torch.bool),
    }


def unpack(packed: Mapping[str, Tensor] | Sequence[Any]) -> list[Evaluation]:
    """Invert `pack`; checkpoints of earlier versions have a list of what `Evaluation.to_data` returns."""
    if not isinstance(packed, Mapping):
        return [Evaluation.from_data(data) for data in packed]
    columns = (packed[key].tolist() for key in ("architectures", "costs", "violations", "failed"))
    return [Evaluation(tuple(a), tuple(c), v, f) for a, c, v, f in zip(*columns, strict=True)]
