"""Training of one network from scratch, which can be saved after any step and goes on from there to the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from analysis import records
from orchestrator.data.dataset import Batches, Dataset, Part
from orchestrator.data.feed import Feed
from orchestrator.errors import NetworkFailed
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import laid_out
from orchestrator.training.augmentation import Augmentation
from orchestrator.training.optimisation import make_optimizer, make_schedule, restore
from orchestrator.training.parts import Parts
from orchestrator.training.regularisation import Regularised
from orchestrator.training.scoring import examined

Wrap = Callable[[nn.Module], nn.Module]


class Keeper(Protocol):
    """Saves a training, and restores it."""

    def restore(self, training: Training) -> None:
        """Load what was saved of this very training, if anything was."""

    def after_step(self, training: Training) -> None:
        """Save the training where it is time to; may raise Interrupted once it has done so."""


class Training:
    """Training of one network in place.

    The weights are a function of the seed, the architecture, the images and the parts: batches, augmentation and drop path
    of a step are drawn from generators that are seeded by the number of the step.

    Args:
        network: Module to train.
        architecture: Architecture of the network, which seeds its training together with `seed`.
        data: Normalisation and augmentation of the images.
        part: Images to train on, on `device`.
        parts: How to train.
        space: Space of the network, which knows where drop path and an auxiliary classifier go; needed for these alone.
        teacher: Trained network on `device` whose scores are to be met; needed for distillation.
        seed: Seed, as above.
        device: torch's name of the device.
        rank: Number of this process among those that train the network together, each on a share of every batch.
        world: Number of these processes.
        key: Setting of the learning rate in an experiment, for messages.
        fresh: Whether the weights are drawn anew; otherwise training goes on from those that the network has.

    Attributes:
        step: Weight steps so far.
        total: Weight steps in all.
    """

    def __init__(
        self,
        network: nn.Module,
        architecture: Sequence[int],
        data: Dataset,
        part: Part,
        parts: Parts,
        *,
        space: SearchSpace | None = None,
        teacher: nn.Module | None = None,
        seed: int = 0,
        device: str = "cpu",
        rank: int = 0,
        world: int = 1,
        key: str = "retrain.lr",
        fresh: bool = True,
    ) -> None:
        self.network, self.data, self.parts, self.teacher = network, data, parts, teacher
        self.device, self.rank, self.world, self.key, self.fresh = device, rank, world, key, fresh
        self.chance = [seed, *architecture]
        self.layout = torch.channels_last if parts.channels_last else torch.contiguous_format
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence(self.chance).generate_state(1)[0]))
            # The head's own weights must not be drawn before those of the network, whose seed they share.
            self.model = self._regularised(network, space)
            torch.manual_seed(int(np.random.SeedSequence(self.chance).generate_state(1)[0]))
            for module in self.model.modules() if fresh else ():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
        self.model.to(device=device, memory_format=self.layout)  # type: ignore[call-overload]
        self.batches = Batches(len(part), parts.batch, (*self.chance, 0))
        crop = parts.resized_crop or data.resized_crop
        self.feed = Feed(part, self.batches, (rank, world), crop=crop, seed=(*self.chance, 3))
        self.total = parts.epochs * self.batches.per_epoch
        self.augmentation = Augmentation(parts, data, cropped=part.streamed)
        self.optimizer = make_optimizer(parts, self.model)
        self.schedule = make_schedule(parts, self.optimizer, self.batches.per_epoch)
        average = get_ema_multi_avg_fn(parts.ema)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True) if parts.ema else None
        self.step, self.loss_sum = 0, torch.zeros((), device=device)

    def _regularised(self, network: nn.Module, space: SearchSpace | None) -> Regularised:
        parts = self.parts
        assert space is not None or not (parts.drop_path or parts.auxiliary)
        paths = space.droppable_paths(network) if space is not None and parts.drop_path else ()
        point = space.auxiliary_point(network) if space is not None and parts.auxiliary else None
        return Regularised(network, self.data.image, self.data.task.outputs[0], paths=paths, point=point, dropout=parts.dropout)

    def run(
        self, progress: Callable[[int], None] = lambda epoch: None, keeper: Keeper | None = None, wrap: Wrap = lambda m: m
    ) -> float:
        """Train to the end.

        Args:
            progress: Called with the number of epochs done.
            keeper: Saves the training as it goes, and restores what was saved.
            wrap: Makes of the module the one that is called, as one that adds up gradients of several processes.

        Returns:
            The last epoch's mean loss.

        Raises:
            NetworkFailed: Where the loss is not finite.
        """
        with closing(self.feed):
            return self._run(progress, keeper, wrap)

    def _run(self, progress: Callable[[int], None], keeper: Keeper | None, wrap: Wrap) -> float:
        if keeper is not None:
            keeper.restore(self)
        module = wrap(self.model)
        called: Callable[[Any], tuple[Tensor, Tensor | None]] = self._compiled(module) if self.parts.compile else module
        while self.step < self.total:
            epoch, position = divmod(self.step, self.batches.per_epoch)
            if position == 0:
                self.loss_sum = torch.zeros((), device=self.device)
            self.model.drop_path.fill_(self.parts.drop_path * epoch / self.parts.epochs)
            self.model.train()
            with self._seeded():
                self._advance(called)
            self.step += 1
            if position == self.batches.per_epoch - 1:
                self._check(epoch)
                progress(epoch + 1)
            if keeper is not None:
                keeper.after_step(self)
        self.finish()
        return float(self.loss_sum) / self.batches.per_epoch

    def _compiled(self, module: nn.Module) -> Callable[[Any], tuple[Tensor, Tensor | None]]:
        """Compile the forward pass, once, as all batches have one shape."""
        # torch keeps compiled code on disk, and does not tell ATEN_CPU_CAPABILITY's settings apart.
        torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
        return torch.compile(module, dynamic=False)

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Seed torch's global generators for the step, and leave them as they were."""
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if self.device == "cuda" else []):
            seed = [*self.chance, 2, self.step, *self._own]
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            yield

    @property
    def _own(self) -> list[int]:
        """What tells this process's chance from that of the first one."""
        return [self.rank] if self.rank else []

    def _advance(self, called: Callable[[Any], tuple[Tensor, Tensor | None]]) -> None:
        """Take one weight step, on this process's share of the batch."""
        rng = np.random.default_rng([*self.chance, 1, self.step, *self._own])
        x, labels = self.augmentation(*self.feed[self.step], rng)
        x = laid_out(x, self.layout)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.parts.amp):
            scores, auxiliary = called(x)
        loss = self._distilled(self._loss(scores, labels), scores.float(), x)
        if auxiliary is not None:
            loss = loss + self.parts.auxiliary * self._loss(auxiliary, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.parts.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.parts.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.loss_sum += loss.detach()

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of the examples of a batch, in single precision."""
        return self.data.task.loss(scores.float(), labels, self.parts.label_smoothing) / len(labels)

    def _distilled(self, loss: Tensor, scores: Tensor, x: Any) -> Tensor:
        """Mix in the divergence from the teacher's softened scores (Hinton, Vinyals and Dean, arXiv 1503.02531, section 2)."""
        share, temperature = self.parts.distill, self.parts.temperature
        if not share:
            return loss
        assert self.teacher is not None
        with torch.no_grad(), torch.autocast(self.device, torch.bfloat16, enabled=self.parts.amp):
            wanted = (self.teacher(x).float() / temperature).log_softmax(dim=1)
        log_shares = (scores / temperature).log_softmax(dim=1)
        divergence = nn.functional.kl_div(log_shares, wanted, reduction="batchmean", log_target=True)
        return (1 - share) * loss + share * temperature**2 * divergence

    def _check(self, epoch: int) -> None:
        """Raise NetworkFailed where the loss of an epoch is not finite, in all processes together."""
        if self.world > 1:
            torch.distributed.all_reduce(self.loss_sum)
            self.loss_sum /= self.world
        if not math.isfinite(float(self.loss_sum)):
            what = "training from scratch" if self.fresh else "fine-tuning"
            raise NetworkFailed(f"{what} diverged in epoch {epoch}; lower {self.key} (now {self.parts.lr})")

    def finish(self) -> None:
        """Leave the network as a plain one, with the averaged weights where they are averaged."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        self.model.close()

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, as plain data."""
        return {
            "step": self.step,
            "loss_sum": self.loss_sum,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.step, self.loss_sum = state["step"], state["loss_sum"].to(self.device)
        self.model.load_state_dict(state["model"])
        restore(self.optimizer, state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def fit(
    network: nn.Module,
    architecture: Sequence[int],
    data: Dataset,
    part: Part,
    parts: Parts,
    *,
    progress: Callable[[int], None] = lambda epoch: None,
    keeper: Keeper | None = None,
    wrap: Wrap = lambda m: m,
    **settings: Any,
) -> float:
    """Train `network` in place, and return the last epoch's mean loss.

    Args:
        network: As all others, see `Training` and `Training.run`.
        settings: Keywords of `Training`.

    Raises:
        NetworkFailed: Where the loss is not finite.
    """
    return Training(network, architecture, data, part, parts, **settings).run(progress, keeper, wrap)


def retrain(
    network: nn.Module, architecture: Sequence[int], data: Dataset, parts: Parts, *, device: str = "cpu", **settings: Any
) -> dict[str, float]:
    """Train `network` in place on the train and validation sets, and test it once, at the end, on the test set.

    Args:
        network: As all others, see `fit`.

    Returns:
        The cost on the test set, `test_error_percent` or what the task's metric names it, with the ends of its interval where
        these do not follow from the number of test images; and the last epoch's mean `train_loss`.
    """
    part = data.train.joined(data.valid)
    loss = fit(network, architecture, data, part.to(device), parts, device=device, **settings)
    evidence, metric = examined(network, data, data.test.to(device)), data.task.metric
    names = records.tested(metric.column)
    interval = data.task.interval(evidence, records.CONFIDENCE)
    ends = {} if interval is None else {names.low: interval[0], names.high: interval[1]}
    return {names.value: metric.cost_of(evidence), **ends, "train_loss": loss}
