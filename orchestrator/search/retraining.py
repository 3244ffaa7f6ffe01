"""One network, trained from scratch and tested, or judged at a proxy: its weights, then its result, as files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis import records
from analysis.files import replacing, write_text
from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Proxy
from orchestrator.errors import InputError, Interrupted, NetworkFailed, RunError, first_line
from orchestrator.evaluators.base import Failure, attempt
from orchestrator.machine import machine
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.progress import TrainingProgress
from orchestrator.search.teacher import load_teacher
from orchestrator.search.weights import Origin, signed
from orchestrator.spaces.base import SearchSpace
from orchestrator.training.fitting import check_fit
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import portable, quality
from orchestrator.training.trainer import Keeper, Training, fit, retrain
from searchers.base import Architecture

log = logging.getLogger(__name__)

FAILURE = "failure"
"""Key of the reason in the result of a training that failed."""
CHECKSUM = "checksum"
"""Key of the SHA-256 of all other keys of a result."""
UNFINISHED = "unfinished"
"""Folder with the checkpoints of trainings that are under way, beside their results."""
Tell = Callable[[TrainingProgress], None]
"""Function that is told how far a training is."""
TELL_EVERY = 1.0
"""Seconds between two looks at whether a training is to stop."""


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
        settings: Settings that the outcome has to be of, or else it is trained again; None for any.
        teacher: File of the weights to distil from; None trains without a teacher.
        shared: File of the shared weights of a search that training begins with; None for those that networks of the space
            begin with.
    """

    arch: str
    result: Path
    weights: Path | None = None
    at: Proxy | None = None
    epochs: int | None = None
    seed: int | None = None
    settings: Mapping[str, Any] | None = None
    teacher: Path | None = None
    shared: Path | None = None

    @property
    def name(self) -> str:
        """Identity among others, which may be the same network at other proxies or with other seeds."""
        seeded = self.result.stem.partition("-seed-")[2]
        return f"{self.result.stem} {self.arch}" if self.at is not None else self.arch + (f" (seed {seeded})" if seeded else "")

    def read(self) -> dict[str, Any]:
        """Read the result. Raises OSError or ValueError where it is missing or damaged."""
        result: dict[str, Any] = json.loads(self.result.read_text())
        # Results from before they had one are taken at their word.
        if result.pop(CHECKSUM, None) not in (None, _checksum(result)):
            raise ValueError(f"the checksum of {self.result} is wrong")
        return result

    @property
    def done(self) -> bool:
        """Tell whether the result is there, whole, of this very network and its settings."""
        try:
            result = self.read()
            return bool(result["arch"] == self.arch) and self._agrees(result)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return False

    def _agrees(self, result: Mapping[str, Any]) -> bool:
        if self.settings is None:
            return True
        if "settings" in result:
            return bool(result["settings"] == self.settings)
        # Results from before they had their settings; those of a proxy are named after theirs.
        epochs = self.settings["epochs"] if self.at is None else result.get("retrain_epochs")
        return FAILURE not in result and result.get("retrain_epochs", epochs) == epochs

    @property
    def outdated(self) -> bool:
        """Tell whether there is a result of this network with other settings."""
        try:
            return not self.done and bool(self.read()["arch"] == self.arch)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return False

    @property
    def failed(self) -> bool:
        """Tell whether the result is that the training failed."""
        return self.done and FAILURE in self.read()

    def parts(self, plan: SearchPlan) -> Parts:
        """Settings of its training: as the plan says, but for its own number of epochs, and undistilled without a teacher."""
        parts = plan.retraining.parts
        parts = replace(parts, epochs=self.epochs or parts.epochs)
        return parts if self.teacher is not None else replace(parts, distill=0.0)


def settings_of(
    plan: SearchPlan, seed: int | None = None, teacher: Path | None = None, shared: Path | None = None
) -> dict[str, Any]:
    """Plain values that decide the outcome of a training.

    Args:
        plan: The recipe and its parts, and the number of workers of each network.
        seed: Seed of the training; None for the plan's.
        teacher: File of the weights to distil from.
        shared: File of the shared weights to begin with.
    """
    parts = plan.retraining.parts
    found = parts.changed | {"epochs": parts.epochs, "seed": plan.seed if seed is None else seed}
    if plan.retraining.workers > 1:
        found["workers"] = plan.retraining.workers
    if teacher is None:
        found.pop("distill", None)
        found.pop("temperature", None)
    elif teacher.exists():
        found["teacher"] = hashlib.sha256(teacher.read_bytes()).hexdigest()[:16]
    if shared is not None and shared.exists():
        found["shared"] = hashlib.sha256(shared.read_bytes()).hexdigest()[:16]
    return found


def check(plan: SearchPlan, proxies: Sequence[Proxy] = (), *, teaching: bool = True) -> None:
    """Check that networks can be trained as the plan says, before anything starts.

    Args:
        plan: The recipe, the images, and the space.
        proxies: Proxies at which networks are trained, too.
        teaching: Whether the largest network that is trained can be the teacher, where none is given.

    Raises:
        InputError: For a part of the recipe that does not fit, a missing teacher or compiler, and workers without Ray.
    """
    retraining, parts = plan.retraining, plan.retraining.parts
    for problem in [plan.problem, *map(plan.problem.at, proxies)]:
        check_fit(parts, problem.space, problem.data, retraining.named)
    images = len(plan.problem.data.train) + len(plan.problem.data.valid)
    if min(parts.batch, images) % retraining.workers:
        raise InputError(f"{retraining.named('batch')}: {retraining.workers} workers cannot share {images} images equally")
    if retraining.workers > 1 and not plan.workers.ray:
        raise InputError(f"retrain.workers = {retraining.workers} needs Ray; leave out workers.ray=false, or write 1")
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # the one that torch takes
    if parts.compile and plan.workers.device == "cpu" and shutil.which(compiler) is None:
        raise InputError(
            f"{retraining.named('compile')}: torch compiles for a CPU with a C++ compiler, and there is no {compiler}; install "
            "it, name another one by CXX, or write retrain.compile=false"
        )
    if parts.distill and retraining.teacher is None and not teaching:
        raise InputError(
            f"{retraining.named('distill')}: there is no larger network here to distil from; write retrain.teacher=FILE, the "
            "network.pt of another training, or retrain.distill=0"
        )
    if retraining.teacher is not None:
        load_teacher(Path(retraining.teacher), plan.problem)


class Saved:
    """Keeper of a training in a folder of its own, which a training with other settings begins anew.

    Args:
        folder: The folder.
        identity: What the training has to be of, as plain values.
        every: Seconds between two checkpoints.
        progress: Told how far the training is; may raise Interrupted.
        writing: Whether this process writes checkpoints, or only reads them.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], every: float, progress: Tell, writing: bool = True) -> None:
        self.checkpoints, self.identity = Checkpoints(folder), json.dumps(dict(identity), sort_keys=True)
        self.folder, self.every, self.progress, self.writing = folder, every, progress, writing
        self.saved = self.told = time.monotonic()

    def restore(self, training: Training) -> None:
        """Load the checkpoint of this very training, if there is one. Raises RunError for one with wrong content."""
        try:
            state = self.checkpoints.load()
        except RunError as error:
            log.warning("%s; this training begins anew", str(error).partition(";")[0])
            return
        if state is None:
            return
        if state.get("identity") != self.identity:
            log.warning("the checkpoint in %s is of a training with other settings; it begins anew", self.folder)
            return
        try:
            training.load_state_dict(state["training"])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise RunError(
                f"the checkpoint in {self.folder} does not fit this training ({error!r}); delete that folder, then resume, and "
                "it begins anew"
            ) from error
        log.info("training goes on from step %d of %d", training.step, training.total)

    def after_step(self, training: Training) -> None:
        """Tell of progress now and then, and save where it is time to, or where the training is to stop."""
        now = time.monotonic()
        epoch, position = divmod(training.step, training.batches.per_epoch)
        ended = position == 0
        if ended or now - self.told >= TELL_EVERY:
            self.told = now
            try:
                losses = {epoch: float(training.loss_sum) / training.batches.per_epoch} if ended else {}
                self.progress(TrainingProgress(training.step / training.total, losses))
            except Interrupted:
                self._save(training)
                raise
        if now - self.saved >= self.every:
            self._save(training)

    def _save(self, training: Training) -> None:
        if self.writing:
            self.checkpoints.save({"identity": self.identity, "training": training.state_dict()})
        self.saved = time.monotonic()

    def clear(self) -> None:
        """Remove the checkpoints of a training that is over."""
        if self.writing:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # it is not there, or others are under way
                self.folder.parent.rmdir()


@dataclass(frozen=True)
class Worker:
    """One of the processes that train a network together.

    Args:
        rank: Its number; the first one writes all files.
        world: Number of processes.
        wrap: Makes of a module one that adds up the gradients of all processes.
        keep: Makes of a keeper one that has all of them stop together.
    """

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    keep: Callable[[Keeper], Keeper] = lambda keeper: keeper


ALONE = Worker()
Trained = tuple[tuple[nn.Module, dict[str, Any], str], Saved]
"""A trained network, its result, and that in words; and where its checkpoints are."""


def retrain_member(plan: SearchPlan, member: Member, progress: Tell, worker: Worker = ALONE) -> None:
    """Train one network from scratch, and write its files; one that was interrupted goes on.

    Args:
        plan: Settings of the training, data, and the space of the network.
        member: The network.
        progress: Called after every epoch, and about once a second.
        worker: This process among those that train the network.

    Raises:
        NetworkFailed: Where its loss or its scores are not finite.
    """
    trained, saved = _trained(plan, member, progress, worker)
    if worker.rank == 0:
        _keep(plan, member, *trained)
    saved.clear()


def try_member(plan: SearchPlan, member: Member, progress: Tell, worker: Worker = ALONE) -> None:
    """Train one network as `retrain_member` does; where the network fails, the reason is written as its result."""
    work = lambda: _trained(plan, member, progress, worker)  # noqa: E731
    outcome = attempt(work) if worker.world == 1 else _attempt_together(work)
    if not isinstance(outcome, Failure):
        trained, saved = outcome
        if worker.rank == 0:
            _keep(plan, member, *trained)
        saved.clear()
    elif worker.rank == 0:
        log.warning("training %s failed: %s", member.arch, outcome.reason)
        _write(member, {"arch": member.arch, FAILURE: outcome.reason, "settings": _settings(plan, member)})


def _attempt_together(work: Callable[[], Trained]) -> Trained | Failure:
    """Do as `attempt` among several processes: what only one of them raises ends all, as the others wait for it."""
    try:
        return work()
    except NetworkFailed as error:
        return Failure(str(error))


def _settings(plan: SearchPlan, member: Member) -> dict[str, Any]:
    return settings_of(plan, member.seed, member.teacher, member.shared) if member.settings is None else dict(member.settings)


def _trained(plan: SearchPlan, member: Member, progress: Tell, worker: Worker) -> Trained:
    """Train and test a network, as far as that is not done yet."""
    problem = plan.problem if member.at is None else plan.problem.at(member.at)
    architecture, device, parts = problem.space.parse(member.arch), plan.workers.device, member.parts(plan)
    network = _network(problem.space, architecture, member.shared)
    settings = _settings(plan, member)
    identity = {"arch": member.arch, "at": str(member.at), "settings": settings, "parts": parts.changed}
    folder = member.result.parent / UNFINISHED / member.result.stem
    saved = Saved(folder, identity, plan.budget.checkpoint, progress, worker.rank == 0)
    how: dict[str, Any] = {
        "space": problem.space,
        "teacher": None if member.teacher is None else load_teacher(member.teacher, problem).to(device),
        "seed": plan.seed if member.seed is None else member.seed,
        "device": device,
        "rank": worker.rank,
        "world": worker.world,
        "keeper": worker.keep(saved),
        "wrap": worker.wrap,
        "fresh": not problem.space.pretrained,
    }
    began, used = time.monotonic(), time.process_time()
    if member.at is None:
        result = retrain(network, architecture, problem.data, parts, **how)
        metric = problem.task.metric
        said = f"test {metric.cost} {result[records.tested(metric.column).value]:.4g} {metric.unit}".rstrip()
    else:
        data = problem.data
        loss = fit(network, architecture, data, data.train.to(device), parts, **how)
        metric = problem.task.metric
        value = quality(network, data, data.valid.to(device))
        # Of a CPU its own time, which is the same on a busy machine.
        seconds = time.process_time() - used if device == "cpu" else time.monotonic() - began
        result = {metric.name: value, "train_loss": loss, "seconds": seconds}
        said = f"{metric.name} {value:.4g} {metric.unit}".rstrip() + f" at {member.at}"
    line: dict[str, Any] = {"arch": member.arch, **result, "retrain_seconds": round(time.monotonic() - began, 1)}
    line |= {"retrain_epochs": parts.epochs, "retrain_seed": how["seed"], "test_images": len(plan.problem.data.test)}
    line |= {"settings": settings, "machine": machine(device)}
    return (network, line, said), saved


def _network(space: SearchSpace, architecture: Architecture, shared: Path | None) -> nn.Module:
    """Build a network with the weights that its training begins with. Raises InputError for shared weights that do not fit."""
    if shared is None:
        return space.network(architecture)
    try:
        return space.inheriting(architecture, torch.load(shared, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{shared} is damaged, or of another model; remove it and resume: {first_line(error)}") from error


def _keep(plan: SearchPlan, member: Member, network: nn.Module, result: dict[str, Any], said: str) -> None:
    if member.weights is not None:
        with replacing(member.weights) as temporary:
            torch.save(signed(portable(network), Origin.of(plan.problem, member.arch)), temporary)
    _write(member, result)
    log.info("%s %s: %s", "fine-tuned" if plan.problem.space.pretrained else "trained", member.arch, said)


def _write(member: Member, result: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(result))
    write_text(member.result, json.dumps({**plain, CHECKSUM: _checksum(plain)}) + "\n")


def _checksum(result: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(result), sort_keys=True).encode()).hexdigest()
