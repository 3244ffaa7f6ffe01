"""Optimisers and schedules of the learning rate by name; all of them are torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from orchestrator.training.parts import Parts

NORMALISATION = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_Groups = list[dict[str, object]]


def make_optimizer(parts: Parts, network: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser of a network's weights.

    RMSprop averages squared gradients over about ten steps (decay 0.9, as MnasNet's, arXiv 1807.11626, section 5); torch's own
    default is a hundred.
    """
    makers: dict[str, Callable[[_Groups], torch.optim.Optimizer]] = {
        "sgd": lambda groups: torch.optim.SGD(
            groups, lr=parts.lr, momentum=parts.momentum, nesterov=parts.nesterov, weight_decay=parts.weight_decay
        ),
        "adamw": lambda groups: torch.optim.AdamW(groups, lr=parts.lr, weight_decay=parts.weight_decay),
        "rmsprop": lambda groups: torch.optim.RMSprop(
            groups, lr=parts.lr, alpha=0.9, momentum=parts.momentum, weight_decay=parts.weight_decay
        ),
    }
    return makers[parts.optimizer](_groups(parts, network))


def _groups(parts: Parts, network: nn.Module) -> _Groups:
    """Split the parameters, where those of normalisation do not decay."""
    if parts.decay_norm:
        return [{"params": list(network.parameters())}]
    spared = [p for m in network.modules() if isinstance(m, NORMALISATION) for p in m.parameters(recurse=False)]
    known = set(map(id, spared))
    others = [p for p in network.parameters() if id(p) not in known]
    return [{"params": others}, {"params": spared, "weight_decay": 0.0}]


def make_schedule(parts: Parts, optimizer: torch.optim.Optimizer, per_epoch: int) -> lr_scheduler.LRScheduler:
    """Make the schedule of the learning rate, to be stepped after every weight step.

    Args:
        parts: Its name, the epochs, those of the warm-up, and the steps of a schedule that has some.
        optimizer: Optimiser whose learning rate it sets.
        per_epoch: Weight steps of an epoch.
    """
    warm = round(parts.warmup * per_epoch)
    left = parts.epochs * per_epoch - warm
    makers: dict[str, Callable[[], lr_scheduler.LRScheduler]] = {
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, left),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, left),
        "step": lambda: lr_scheduler.StepLR(optimizer, parts.step_epochs * per_epoch, parts.step_factor),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 1.0),
    }
    if not warm:
        return makers[parts.schedule]()
    rising = lr_scheduler.LinearLR(optimizer, 1 / (warm + 1), 1.0, warm)
    return lr_scheduler.SequentialLR(optimizer, [rising, makers[parts.schedule]()], [warm])


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer, which torch takes whatever it is.

    Args:
        optimizer: Optimizer of the same parameters.
        state: Its `state_dict`.

    Raises:
        ValueError: For a state that no step could be taken with.
    """
    made = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        values = list(kept.values()) if isinstance(kept, dict) else [kept]
        for value in values:
            if isinstance(value, torch.Tensor) and value.numel() != 1 and value.shape != parameter.shape:
                raise ValueError(
                    f"the optimizer has a state of shape {tuple(value.shape)} for weights of {tuple(parameter.shape)}"
                )
            if not isinstance(kept, dict) or not (value is None or isinstance(value, torch.Tensor | int | float)):
                raise ValueError(f"the optimizer has the state {value!r} for weights")
    for group, fresh in zip(optimizer.param_groups, made, strict=True):
        for name, value in fresh.items():
            if name not in group:
                raise ValueError(f"the optimizer has no {name}")
            wanted = (int, float) if type(value) in (int, float) else type(value)
            if not isinstance(group[name], wanted) or (isinstance(value, float) and not math.isfinite(group[name])):
                raise ValueError(f"the optimizer has {name} = {group[name]!r}")
