"""One network of the front, trained from scratch and tested: its weights, then its result, as files."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orchestrator.config.plan import SearchPlan
from orchestrator.evaluators.training import portable, retrain
from orchestrator.machine import machine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A network to be trained.

    Args:
        arch: Its notation.
        result: The file for the outcome, written last.
        weights: The file for the weights; None keeps none.
    """

    arch: str
    result: Path
    weights: Path | None = None

    @property
    def done(self) -> bool:
        """Tell whether the result is there, of this very network."""
        try:
            return bool(json.loads(self.result.read_text())["arch"] == self.arch)
        except (OSError, ValueError, KeyError):
            return False


def retrain_member(plan: SearchPlan, member: Member, progress: Callable[[float], None]) -> None:
    """Train one network from scratch, and write its files.

    Args:
        plan: Settings of the training, data, and the space of the network.
        member: The network.
        progress: Called after every epoch with the share of the training that is over.
    """
    architecture = plan.problem.space.parse(member.arch)
    network = plan.problem.space.network(architecture)
    settings = plan.retraining
    began = time.monotonic()
    result = retrain(
        network,
        architecture,
        plan.problem.data,
        epochs=settings.epochs,
        batch=settings.batch,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        channels_last=settings.channels_last,
        seed=plan.seed,
        device=plan.workers.device,
        progress=lambda epoch: progress(epoch / settings.epochs),
    )
    if member.weights is not None:
        torch.save(portable(network), member.weights)
    line: dict[str, Any] = {"arch": member.arch, **result, "retrain_seconds": round(time.monotonic() - began, 1)}
    line |= {"retrain_epochs": settings.epochs, "retrain_seed": plan.seed, "test_images": len(plan.problem.data.test)}
    line["machine"] = machine(plan.workers.device)
    temporary = member.result.with_name(member.result.name + ".new")
    temporary.write_text(json.dumps(line) + "\n")
    os.replace(temporary, member.result)
    log.info("trained %s from scratch: test error %.2f %%", member.arch, result["test_error_percent"])
