"""Training of one network from scratch, and its test on images that no search has seen."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from orchestrator.data.dataset import Batches, Dataset, Part
from orchestrator.errors import NetworkFailed
from searchers.base import Architecture

NOT_FINITE = "its scores of validation or test images are not finite numbers"
"""Reason of a network that computes nothing that could be compared."""


def retrain(
    network: nn.Module,
    architecture: Architecture,
    data: Dataset,
    *,
    epochs: int,
    batch: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    clip: float,
    channels_last: bool = True,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda epoch: None,
) -> dict[str, float]:
    """Train `network` in place on the train and validation sets, and test it once, at the end, on the test set.

    Args:
        network: Module to train.
        architecture: Architecture of the network, which seeds its training together with `seed`.
        data: Images.
        epochs: As all that follow, see `fit`.

    Returns:
        `test_error_percent` and the last epoch's mean `train_loss`.
    """
    part = Part(torch.cat([data.train.images, data.valid.images]), torch.cat([data.train.labels, data.valid.labels]))
    loss = fit(
        network,
        architecture,
        data,
        part.to(device),
        epochs=epochs,
        batch=batch,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        clip=clip,
        channels_last=channels_last,
        seed=seed,
        device=device,
        progress=progress,
    )
    return {"test_error_percent": 100.0 * wrong(network, data, data.test.to(device)) / len(data.test), "train_loss": loss}


def fit(
    network: nn.Module,
    architecture: Architecture,
    data: Dataset,
    part: Part,
    *,
    epochs: int,
    batch: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    clip: float,
    channels_last: bool,
    seed: int,
    device: str,
    progress: Callable[[int], None],
    key: str = "retrain.lr",
) -> float:
    """Train `network` in place with SGD whose learning rate falls to 0 along a cosine.

    Args:
        network: Module to train; its weights are drawn anew.
        architecture: Architecture of the network; seeds the initial weights and the order of the images, together with `seed`.
        data: Normalisation and augmentation of the images.
        part: Images to train on, on `device`.
        epochs: Passes over the images.
        batch: Images per weight step.
        lr: Learning rate at the start.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
        clip: L2 norm that gradients are clipped to.
        channels_last: Whether the channels of a pixel lie side by side in memory.
        seed: Seed, as above.
        device: torch's name of the device.
        progress: Called with the number of epochs done.
        key: Setting of the learning rate in an experiment, for messages.

    Returns:
        The last epoch's mean loss.

    Raises:
        NetworkFailed: Where the loss is not finite.
    """
    chance = [seed, *architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence(chance).generate_state(1)[0]))
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    batches = Batches(len(part), batch, (*chance, 0))
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches.per_epoch)
    loss_sum = torch.zeros((), device=device)
    for epoch in range(epochs):
        network.train()
        loss_sum = torch.zeros((), device=device)
        for step in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
            indices = torch.from_numpy(batches[step]).to(device)
            rng = np.random.default_rng([*chance, 1, step])
            x = data.normalise(data.augment(part.images[indices], rng))
            loss = nn.functional.cross_entropy(network(x.contiguous(memory_format=layout)), part.labels[indices])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            schedule.step()
            loss_sum += loss.detach()
        if not math.isfinite(float(loss_sum)):
            raise NetworkFailed(f"training from scratch diverged in epoch {epoch}; lower {key} (now {lr})")
        progress(epoch + 1)
    return float(loss_sum) / batches.per_epoch


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
