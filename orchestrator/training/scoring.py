"""Test of a trained network, and its weights as they are written to a file."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from orchestrator.data.dataset import Dataset, Part
from orchestrator.errors import NetworkFailed

NOT_FINITE = "its scores of validation or test images are not finite numbers"
"""Reason of a network that computes nothing that could be compared."""


@torch.no_grad()
def wrong(network: nn.Module, data: Dataset, part: Part) -> int:
    """Count the images of `part` that the network gets wrong; both are on the same device.

    Raises:
        NetworkFailed: Where a score is not finite.
    """
    network.eval()
    pieces = zip(part.images.split(512), part.labels.split(512), strict=True)  # type: ignore[no-untyped-call]
    missed, finite = 0, True
    for x, y in pieces:
        scores = network(data.normalise(x))
        missed += int((scores.argmax(dim=1) != y).sum())
        finite = finite and bool(scores.isfinite().all())
    if not finite:
        raise NetworkFailed(NOT_FINITE)
    return missed


def portable(network: nn.Module) -> OrderedDict[str, Any]:
    """Copy the weights to the CPU, in torch's usual memory layout, for `torch.save`; torch's metadata are kept."""
    state = network.state_dict()
    copied = OrderedDict((k, v.detach().cpu().contiguous()) for k, v in state.items())
    copied._metadata = state._metadata  # type: ignore[attr-defined]
    return copied
