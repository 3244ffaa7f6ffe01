"""One network, trained from scratch and tested, or judged at a proxy: its weights, then its result, as files."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Proxy
from orchestrator.evaluators.training import fit, portable, retrain, wrong
from orchestrator.machine import machine
from orchestrator.search.weights import Origin, signed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A network to be trained.

    Args:
        arch: Its notation.
        result: The file for the outcome, written last.
        weights: The file for the weights; None keeps none.
        at: Proxy at which it is trained on the train part alone, and judged on the validation part, which no final test may
            be; None for the target, all images but those of the test part, and a test on these.
        epochs: Passes over the images; None for those of the plan.
        seed: Of the training; None for the plan's.
    """

    arch: str
    result: Path
    weights: Path | None = None
    at: Proxy | None = None
    epochs: int | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """What it goes by among others, which may be the same network at other proxies."""
        return self.arch if self.at is None else f"{self.result.stem} {self.arch}"

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
    problem = plan.problem if member.at is None else plan.problem.at(member.at)
    architecture = problem.space.parse(member.arch)
    network = problem.space.network(architecture)
    settings = replace(plan.retraining, epochs=member.epochs or plan.retraining.epochs)
    how: dict[str, Any] = {
        "epochs": settings.epochs,
        "batch": settings.batch,
        "lr": settings.lr,
        "momentum": settings.momentum,
        "weight_decay": settings.weight_decay,
        "clip": settings.clip,
        "channels_last": settings.channels_last,
        "seed": plan.seed if member.seed is None else member.seed,
        "device": plan.workers.device,
        "progress": lambda epoch: progress(epoch / settings.epochs),
    }
    began, used = time.monotonic(), time.process_time()
    if member.at is None:
        result = retrain(network, architecture, problem.data, **how)
        said = "test error {test_error_percent:.2f} %"
    else:
        data, device = problem.data, plan.workers.device
        loss = fit(network, architecture, data, data.train.to(device), **how)
        share = wrong(network, data, data.valid.to(device)) / len(data.valid)
        # Of a CPU its own time, which is the same on a busy machine.
        seconds = time.process_time() - used if device == "cpu" else time.monotonic() - began
        result = {"accuracy": 100.0 * (1 - share), "train_loss": loss, "seconds": seconds}
        said = "accuracy {accuracy:.2f} % at " + str(member.at)
    if member.weights is not None:
        torch.save(signed(portable(network), Origin.of(problem, member.arch)), member.weights)
    line: dict[str, Any] = {"arch": member.arch, **result, "retrain_seconds": round(time.monotonic() - began, 1)}
    line |= {"retrain_epochs": settings.epochs, "retrain_seed": plan.seed, "test_images": len(plan.problem.data.test)}
    line["machine"] = machine(plan.workers.device)
    temporary = member.result.with_name(member.result.name + ".new")
    temporary.write_text(json.dumps(line) + "\n")
    os.replace(temporary, member.result)
    log.info("trained %s from scratch: %s", member.arch, said.format(**result))
