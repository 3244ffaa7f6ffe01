"""One network, trained from scratch and tested, or judged at a proxy: its weights, then its result, as files."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.files import replacing, write_text
from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Proxy
from orchestrator.evaluators.base import Failure, attempt
from orchestrator.evaluators.training import fit, portable, retrain, wrong
from orchestrator.machine import machine
from orchestrator.search.weights import Origin, signed

log = logging.getLogger(__name__)

FAILURE = "failure"
"""Key of the reason in the result of a training that failed."""


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
        settings: Settings under which a failure counts as the outcome, and is not tried again; None for any.
    """

    arch: str
    result: Path
    weights: Path | None = None
    at: Proxy | None = None
    epochs: int | None = None
    seed: int | None = None
    settings: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What it goes by among others, which may be the same network at other proxies."""
        return self.arch if self.at is None else f"{self.result.stem} {self.arch}"

    @property
    def done(self) -> bool:
        """Tell whether the result is there, of this very network."""
        try:
            result = json.loads(self.result.read_text())
            same = bool(result["arch"] == self.arch)
            return same and (FAILURE not in result or self.settings in (None, result["settings"]))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def failed(self) -> bool:
        """Tell whether the result is that the training failed."""
        return self.done and FAILURE in json.loads(self.result.read_text())


def settings_of(plan: SearchPlan) -> dict[str, Any]:
    """Settings of the plan that decide whether a training fails."""
    return {key: value for key, value in asdict(plan.retraining).items() if key != "members"} | {"seed": plan.seed}


def retrain_member(plan: SearchPlan, member: Member, progress: Callable[[float], None]) -> None:
    """Train one network from scratch, and write its files.

    Args:
        plan: Settings of the training, data, and the space of the network.
        member: The network.
        progress: Called after every epoch with the share of the training that is over.

    Raises:
        NetworkFailed: Where its loss or its scores are not finite.
    """
    _keep(plan, member, *_trained(plan, member, progress))


def try_member(plan: SearchPlan, member: Member, progress: Callable[[float], None]) -> None:
    """Train one network as `retrain_member` does; where the network fails, the reason is written as its result."""
    outcome = attempt(lambda: _trained(plan, member, progress))
    if not isinstance(outcome, Failure):
        _keep(plan, member, *outcome)
        return
    log.warning("training %s from scratch failed: %s", member.arch, outcome.reason)
    _write(member, {"arch": member.arch, FAILURE: outcome.reason, "settings": settings_of(plan)})


def _trained(plan: SearchPlan, member: Member, progress: Callable[[float], None]) -> tuple[nn.Module, dict[str, Any], str]:
    """Train and test a network, and return it, its result, and that in words."""
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
    line: dict[str, Any] = {"arch": member.arch, **result, "retrain_seconds": round(time.monotonic() - began, 1)}
    line |= {"retrain_epochs": settings.epochs, "retrain_seed": plan.seed, "test_images": len(plan.problem.data.test)}
    line["machine"] = machine(plan.workers.device)
    return network, line, said.format(**result)


def _keep(plan: SearchPlan, member: Member, network: nn.Module, result: dict[str, Any], said: str) -> None:
    if member.weights is not None:
        with replacing(member.weights) as temporary:
            torch.save(signed(portable(network), Origin.of(plan.problem, member.arch)), temporary)
    _write(member, result)
    log.info("trained %s from scratch: %s", member.arch, said)


def _write(member: Member, result: dict[str, Any]) -> None:
    write_text(member.result, json.dumps(result) + "\n")
