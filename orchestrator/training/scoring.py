"""Test of a trained network, and its weights as they are written to a file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.data.dataset import Dataset, Part
from orchestrator.data.feed import Feed, in_order
from orchestrator.errors import NetworkFailed
from orchestrator.tasks.base import Floats, Task

NOT_FINITE = "its scores of validation or test images are not finite numbers"
"""Reason of a network that computes nothing that could be compared."""


@torch.no_grad()
def examined(network: nn.Module, data: Dataset, part: Part) -> Floats:
    """Return what the task's metric needs of each example of `part` (`Task.evidence`); both are on the same device.

    Raises:
        NetworkFailed: Where a score is not finite.
    """
    network.eval()
    with closing(Feed(part, in_order(len(part), 512))) as feed:
        return gathered(((network(data.normalise(x)), y) for x, y in feed), data.task)


def gathered(batches: Iterable[tuple[Tensor, Tensor]], task: Task) -> Floats:
    """Return the evidence of all batches of outputs and targets together. Raises NetworkFailed for one that is not finite."""
    rows: list[Tensor] = []
    finite: Tensor | bool = True
    for outputs, targets in batches:
        rows.append(task.evidence(outputs, targets))
        finite = outputs.isfinite().all() & finite
    if not bool(finite):
        raise NetworkFailed(NOT_FINITE)
    return np.asarray(torch.cat(rows).double().cpu().numpy())


def quality(network: nn.Module, data: Dataset, part: Part) -> float:
    """Return the task's metric of a network on `part`. Raises NetworkFailed where a score is not finite."""
    return data.task.metric.of(examined(network, data, part))


def portable(network: nn.Module) -> OrderedDict[str, Any]:
    """Copy the weights to the CPU, in torch's usual memory layout, for `torch.save`; torch's metadata are kept."""
    state = network.state_dict()
    copied = OrderedDict((k, v.detach().cpu().contiguous()) for k, v in state.items())
    copied._metadata = state._metadata  # type: ignore[attr-defined]
    return copied
