"""Shared weights: one supernet, trained on mixtures, that measures single architectures."""

from __future__ import annotations

import copy
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from orchestrator.data.dataset import Batches, Dataset
from orchestrator.data.feed import Feed
from orchestrator.errors import InputError, NetworkFailed, RunError
from orchestrator.evaluators.base import Differentiable, Failure, Measured, T, attempt, run_probes
from orchestrator.objectives.base import Metrics, Probe
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.choice import SkipDropout, Weights, extract
from orchestrator.spaces.parts.inputs import Examples, laid_out
from orchestrator.training.optimisation import restore
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import gathered, quality
from orchestrator.training.trainer import fit
from searchers.base import Architecture, Cotangents, Mixture, Stage, Statistics

log = logging.getLogger(__name__)

# Each use of randomness has a stream of its own, so that what one draws never shifts another.
_WEIGHTS, _TRAIN, _AUGMENT, _VALID, _DROPOUT, _PROBE, _FIXED, _ALONE, _CROP, _SANDWICH = range(10)
_AVERAGES = ("running_mean", "running_var", "num_batches_tracked")
_REACH = 0.01
"""Length of the finite difference in DARTS's second order (its footnote 2)."""
NO_FINITE_GRADIENT = "the loss or its derivative was not finite"
"""Reason of a mixture whose numbers say nothing, though it can be run."""
MOST_SKIPPED = 100
"""Steps that may be left out one after another, as their numbers are not finite or a network raises, before a search ends."""


class Supernet(Differentiable):
    """One network with all options, by whose shared weights every candidate is judged.

    It is trained by SGD with a cosine schedule over a stage (DARTS, section 3.1; P-DARTS).

    Replicas take disjoint shares of every batch and sum their gradients over torch.distributed; the caller sets up the process
    group. After `build` and after every `train` all of them hold what the first one holds, bit by bit. Normalisation uses each
    share's own statistics, so the number of replicas is part of the experiment.

    Args:
        space: Search space of the architectures.
        data: Images to train and measure on.
        probes: Objectives that run a standalone network on the device.
        batch: Images per weight step, over all replicas together.
        valid_batch: Images per validation batch.
        valid_images: Images of the validation part, drawn by the seed, that networks are measured on when more than a batch is
            wanted; all of them where there are fewer. 5,000 have a standard error of 0.7 points at an error of 50 %.
        lr: Learning rate at the start of a stage; it falls to 0.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
        clip: L2 norm that gradients are clipped to.
        skip_dropout: For methods that use it, the dropout rate on skip connections at the start of each stage; the last number
            serves further stages. It falls over the stage as in P-DARTS. The default is TND-NAS's.
        affine: Whether normalisation in the supernet has learned scales; None for what the space's authors have.
        statistics: Statistics of normalisation when single networks are measured: "batch", those of the images they are
            measured on (ProxylessNAS, TND-NAS); "running", the averages over training (DDPNAS, which has just trained that very
            network; other paths' averages are stale); or "recalibrated", those of `recalibration` training batches that are run
            through the network first (Guo et al., arXiv 1904.00420, section 3.4). None takes what the method's authors have:
            "running" for DDPNAS, "batch" for the others; with several targets DDPNAS has "recalibrated" (`Stage.statistics`),
            and in an elastic space every method has.
        recalibration: Training batches for "recalibrated".
        sandwich: Networks besides the largest and the smallest one that each weight step trains: the method's own sample, and
            random ones. Only the largest one learns from labels; its scores are what the others learn (Yu and Huang, arXiv
            1903.05134, who have 2). 0 trains the method's sample alone, on labels. None for 2 in an elastic space, and 0 in
            others.
        channels_last: Whether the channels of a pixel lie side by side in memory, which is 1.1 to 1.8 times as fast as torch's
            usual layout on the CPUs that were measured.
        amp: Whether to compute in bfloat16 where autocast does.
        compile: Whether torch compiles every operation, which needs a C++ compiler on the CPU.
        seed: Seed of everything that is random.
        device: torch's name of the device.
        rank: Number of this replica, in 0..world-1.
        world: Number of replicas.

    Raises:
        InputError: For a setting out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        data: Dataset,
        probes: Sequence[Probe] = (),
        *,
        batch: int = 64,
        valid_batch: int = 256,
        valid_images: int = 5000,
        lr: float = 0.025,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        clip: float = 5.0,
        skip_dropout: tuple[float, ...] = (0.3, 0.6, 0.8),
        affine: bool | None = None,
        statistics: Statistics | None = None,
        recalibration: int = 8,
        sandwich: int | None = None,
        channels_last: bool = True,
        amp: bool = False,
        compile: bool = False,
        seed: int = 0,
        device: str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        positive = batch >= world and min(valid_batch, valid_images) >= 1 and lr > 0 and clip > 0
        if not positive or not 0 <= momentum < 1 or weight_decay < 0:
            raise InputError(
                f"[training] batch = {batch}, valid_batch = {valid_batch}, valid_images = {valid_images}, lr = {lr}, "
                f"clip = {clip}, momentum = {momentum}, weight_decay = {weight_decay} for {world} workers: the first five must "
                "be positive, momentum in 0..1, and every worker needs an image of each batch"
            )
        if any(not 0 <= rate < 1 for rate in skip_dropout):
            raise InputError(f"training.skip_dropout = {skip_dropout}; rates are at least 0 and below 1")
        if recalibration < 1:
            raise InputError(f"training.recalibration = {recalibration}; it counts batches, so at least 1")
        if sandwich is not None and sandwich < 0:
            raise InputError(f"training.sandwich = {sandwich}; it counts networks, so at least 0")
        if compile and space.pretrained:
            raise InputError("training.compile: each network of an elastic space has shapes of its own; leave it out")
        self.space, self.data, self.task, self.probes = space, data, data.task, list(probes)
        self.sandwich = _sandwich(sandwich, space)
        self.affine = space.affine if affine is None else affine
        self._chosen, self.recalibration = statistics, recalibration
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.amp, self.compile = amp, compile
        self.lr, self.momentum, self.weight_decay, self.clip = lr, momentum, weight_decay, clip
        self.skip_dropout = skip_dropout
        self.valid_batch = valid_batch
        self.seed, self.device, self.rank, self.world = seed, device, rank, world
        self._train, self._valid = data.train.to(device), data.valid.to(device)
        self.batch = batch
        self._fixed = self._valid
        if valid_images < len(self._valid):
            order = np.random.default_rng(_number(seed, _FIXED)).permutation(len(self._valid))[:valid_images]
            self._fixed = self._valid.select(np.sort(order))
        self._batches = Batches(len(self._train), batch, (seed, _TRAIN))
        self._valid_batches = Batches(len(self._valid), valid_batch, (seed, _VALID))
        self._training = Feed(self._train, self._batches, (rank, world), crop=data.resized_crop, seed=(seed, _CROP))
        self._deciding = Feed(self._valid, self._valid_batches)
        self._deciding_share = self._deciding if world == 1 else Feed(self._valid, self._valid_batches, (rank, world))
        count = len(self._fixed)
        judged = np.array_split(np.arange(count), math.ceil(count / self.valid_batch))
        self._judging = Feed(self._fixed, judged, hold=True)
        self._calibrating = Feed(self._train, [self._batches[i] for i in range(recalibration)], hold=True)
        self._chance = torch.Generator(device)
        self.step = 0
        self._skipped = self._in_a_row = self._without_gradient = 0
        self.no_gradient = ""  # why the last mixture without one had none
        self._last_skipped: Mixture | None = None

    @classmethod
    def create(
        cls,
        space: SearchSpace,
        data: Dataset,
        probes: Sequence[Probe],
        settings: Mapping[str, Any],
        *,
        seed: int,
        device: str,
        rank: int = 0,
        world: int = 1,
    ) -> Self:
        return cls(space, data, probes, **settings, seed=seed, device=device, rank=rank, world=world)

    @classmethod
    def networks_per_step(cls, settings: Mapping[str, Any], space: SearchSpace) -> int:
        drawn = _sandwich(settings.get("sandwich"), space)
        return drawn + 2 if drawn else 1  # the largest and the smallest one, too

    def measured_with(self, stage: Stage) -> Statistics:
        """Return the statistics of normalisation with which single networks are measured in a stage."""
        return self._chosen or self.space.statistics or stage.statistics

    def build(self, stage: Stage, steps: int) -> None:
        self.stage, self.steps, self._begun = stage, steps, self.step
        self.statistics = self.measured_with(stage)
        old: nn.Module | None = getattr(self, "model", None)
        inherits = stage.inherits or self.space.pretrained
        before = old.state_dict() if inherits and old is not None else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_number(self.seed, _WEIGHTS, stage.index))
            self.model = self.space.supernet(stage.stages - stage.index - 1, stage.options)
        self._norms = _normalisation(self.model, self.affine, tracked=self.statistics != "batch")
        fresh = self.model.state_dict()
        if all(name in before and before[name].shape == tensor.shape for name, tensor in fresh.items()):
            self.model.load_state_dict({name: before[name] for name in fresh})
        self.model.to(device=self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self._skips = [m for m in self.model.modules() if isinstance(m, SkipDropout)]
        for skip in self._skips:
            skip.chance = self._chance
        self._optimizer = torch.optim.SGD(
            self.model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        self._copy_the_first()
        if self.compile:
            self.model.compile_parts()

    def extend(self, steps: int) -> None:
        self.steps, self._begun = steps, self.step

    def drop(self, stage: Stage) -> None:
        """Continue with the stage's options alone: the others' parameters and optimizer state are freed.

        Raises:
            ValueError: For an option that was dropped before.
        """
        for choice, (options, before) in enumerate(zip(stage.options, self.stage.options, strict=True)):
            if not options or not set(options) <= set(before):
                raise ValueError(f"choice {choice} has the options {before} left; it cannot go on with {options}")
        self.stage = stage
        self.model.keep(stage.options)
        remaining = set(self.model.parameters())
        for group in self._optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p in remaining]
        for parameter in [p for p in self._optimizer.state if p not in remaining]:
            del self._optimizer.state[parameter]
        self._norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)]
        self._skips = [m for m in self.model.modules() if isinstance(m, SkipDropout)]

    def train(self, mixtures: Sequence[Mixture]) -> float:
        self.model.train()
        total, taken = torch.zeros((), device=self.device), 0
        for mixture in mixtures:
            loss = self._train_on(mixture)
            self.step += 1
            if loss is not None:
                total += loss
                taken += 1
        self._copy_the_first()
        self._sum_over_replicas([total])
        return float(total) / taken if taken else math.nan

    def _train_on(self, mixture: Mixture) -> Tensor | None:
        """Take a weight step, and return this replica's part of the loss; None where the step had to be left out.

        It is left out, on all replicas alike, where the loss or a gradient is not finite, or the mixture cannot be run.

        Raises:
            RunError: After too many such steps in a row.
        """
        self._schedule(one_hot=_one_hot(mixture))
        x, y, images = self._training_batch()
        self._optimizer.zero_grad(set_to_none=True)

        def differentiated() -> Tensor:
            loss = self._loss(x, y, Weights(mixture.weights), images)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        try:
            loss = self._together((lambda: self._sandwiched(x, y, mixture, images)) if self.sandwich else differentiated)
        except NetworkFailed as error:
            self._skip(mixture, str(error))
            return None
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if parameters:
            # The product is 0, or NaN for a loss that is not finite, which reaches all replicas with the sum.
            parameters[0].grad = parameters[0].grad + 0.0 * loss  # type: ignore[operator]
        self._sum_over_replicas([p.grad for p in parameters if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(parameters, self.clip)
        if not math.isfinite(float(norm)):
            self._skip(mixture, "the loss or its gradient was not finite")
            return None
        self._optimizer.step()
        self._in_a_row, self._last_skipped = 0, None
        return loss

    def _sandwiched(self, x: Examples, y: Tensor, mixture: Mixture, images: int) -> Tensor:
        """Add up the gradients of the largest network on labels, and of others on its scores; return the loss of the largest.

        Scores of a task that are no shares of classes cannot be learned so: there, all networks learn from labels.
        """
        options, sizes = self.stage.options, self.space.sizes
        largest, smallest = (Mixture.one_hot(self.space.extreme(options, largest=end), sizes) for end in (True, False))
        rng = np.random.default_rng([self.seed, _SANDWICH, self.step])
        drawn = [Mixture.one_hot(tuple(int(rng.choice(left)) for left in options), sizes) for _ in range(self.sandwich - 1)]
        scores = self._scores(x, Weights(largest.weights))
        loss = self.task.loss(scores, y) / images
        loss.backward()  # type: ignore[no-untyped-call]
        wanted = scores.detach().softmax(dim=1)
        for other in (mixture, *drawn, smallest):
            scores = self._scores(x, Weights(other.weights))
            soft = nn.functional.cross_entropy(scores, wanted, reduction="sum") if self.task.soft else self.task.loss(scores, y)
            (soft / images).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _together(self, work: Callable[[], T]) -> T:
        """Return what `work` returns on this replica.

        Raises:
            NetworkFailed: On all replicas, where it raises on any of them, so that none waits for another one's gradients.
        """
        result = attempt(work)
        reason = result.reason if isinstance(result, Failure) else None
        if self.world > 1:
            failed = torch.tensor(float(reason is not None), device=self.device)
            dist.all_reduce(failed)
            if float(failed) and reason is None:
                reason = "it failed on another worker"
        if reason is not None:
            raise NetworkFailed(reason)
        assert not isinstance(result, Failure)
        return result

    def _skip(self, mixture: Mixture, reason: str) -> None:
        """Take note of a step that is left out, and forget what it left in the averages of normalisation.

        Raises:
            RunError: After too many in a row; one network that is trained for many steps, as DDPNAS has it, counts once.
        """
        if not self._skipped:
            log.warning("weight step %d was left out: %s; further ones are counted", self.step, reason)
        self._skipped += 1
        self._in_a_row += not (_one_hot(mixture) and mixture == self._last_skipped)
        self._last_skipped = mixture
        self._optimizer.zero_grad(set_to_none=True)
        for norm in self._norms:
            averages = [norm.running_mean, norm.running_var]
            if not all(bool(average.isfinite().all()) for average in averages if average is not None):
                norm.reset_running_stats()
        self._end_after(self._in_a_row, "weight steps", reason)

    def _end_after(self, in_a_row: int, what: str, reason: str) -> None:
        """Raise RunError where too many in a row were left out."""
        if in_a_row >= MOST_SKIPPED:
            raise RunError(
                f"{in_a_row} {what} in a row had to be left out by weight step {self.step} ({reason}); lower training.lr (now "
                f"{self.lr}), or remove the option that cannot be trained"
            )

    def rest(self) -> None:
        for feed in (self._training, self._deciding, self._deciding_share, self._judging, self._calibrating):
            feed.close()

    def skipped_steps(self) -> int:
        return self._skipped

    def _training_batch(self) -> tuple[Examples, Tensor, int]:
        """Return this replica's share of the next weight step's images and labels, and the number of images of all shares."""
        images, labels = self._training[self.step]
        rng = np.random.default_rng([self.seed, _AUGMENT, self.step])
        images, labels = self.data.augment_both(images, labels, rng)
        return self.data.normalise(images), labels, self._batches.batch

    def _schedule(self, one_hot: bool) -> None:
        done = (self.step - self._begun) / max(1, self.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = 0.5 * self.lr * (1 + math.cos(math.pi * self.stage.anneal * min(1.0, done)))
        warmup = self.stage.warmup / max(1, self.stage.rounds)
        # P-DARTS: linear while warming up, then exp(-0.2) an epoch; its stages have 25 epochs, ours are measured in stages.
        fall = 1 - done if done < warmup else math.exp(-0.2 * 25 * (done - warmup))
        start = self.skip_dropout[min(self.stage.index, len(self.skip_dropout) - 1)] if self.skip_dropout else 0.0
        # Dropout keeps mixtures from relying on skip connections; a single path that consists of them would only lose signal.
        for skip in self._skips:
            skip.rate = 0.0 if one_hot or not self.stage.skips else start * fall
        self._chance.manual_seed(_number(self.seed, _DROPOUT, self.step, self.rank))

    def _loss(self, x: Examples, y: Tensor, weights: Weights, images: int) -> Tensor:
        """Return this replica's part of the mean loss over `images` images."""
        return self.task.loss(self._scores(x, weights), y) / images

    def _scores(self, x: Examples, weights: Weights) -> Tensor:
        """Return the outputs, (images, classes) or as the task has it, in single precision or better."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.amp):
            scores = self.model(laid_out(x, self.layout), weights)
        return scores.float() if self.amp else scores  # type: ignore[no-any-return]

    def _sum_over_replicas(self, tensors: Sequence[Tensor]) -> None:
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])  # one message a step, however many parameters
        dist.all_reduce(flat)
        for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):  # type: ignore[no-untyped-call]
            tensor.copy_(piece.view_as(tensor))

    @torch.no_grad()
    def _copy_the_first(self) -> None:
        """Copy weights, averages and momentum from the first replica, whose checkpoint all of them continue from.

        Initial weights and steps differ in the last bits between processors, and running averages are each replica's own.
        """
        if self.world == 1:
            return
        momenta = [self._optimizer.state.get(p, {}).get("momentum_buffer") for p in self.model.parameters()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *(m for m in momenta if m is not None)]
        flat = torch.cat([t.reshape(-1).view(torch.uint8) for t in tensors])  # bytes: counts are no floating-point numbers
        dist.broadcast(flat, src=0)
        for tensor, piece in zip(tensors, flat.split([t.nbytes for t in tensors]), strict=True):  # type: ignore[no-untyped-call]
            tensor.copy_(piece.clone().view(tensor.dtype).view_as(tensor))  # a copy, since a slice may not be aligned

    def _recalibrate(self, weights: Weights) -> None:
        """Fit the statistics of normalisation to one network, on the first training batches, without augmentation."""
        tracking = [norm for norm in self._norms if norm.track_running_stats]
        momenta = [norm.momentum for norm in tracking]
        for norm in tracking:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True  # None: a plain average
        try:
            for images, _ in self._calibrating:
                self._scores(self.data.normalise(images), weights)
        finally:
            for norm, momentum in zip(tracking, momenta, strict=True):
                norm.momentum, norm.training = momentum, False

    def measure(self, architectures: Sequence[Architecture]) -> list[Measured]:
        return self._measure(architectures, self._judging)

    def measure_on_batch(self, architectures: Sequence[Architecture], batch: int) -> list[Measured]:
        return self._measure(architectures, [self._deciding[batch]])

    @torch.no_grad()
    def _measure(self, architectures: Sequence[Architecture], batches: Iterable[tuple[Any, Tensor]]) -> list[Measured]:
        """Return the task's metric of each on images and labels, batch by batch."""
        self.model.eval()
        metric, normalise = self.task.metric, self.data.normalise

        def measured(architecture: Architecture) -> Metrics:
            weights = Weights(Mixture.one_hot(architecture, self.space.sizes).weights)
            if self.statistics == "recalibrated":
                self._recalibrate(weights)
            return {metric.name: metric.of(gathered(((self._scores(normalise(x), weights), y) for x, y in batches), self.task))}

        return [attempt(lambda a=a: measured(a)) for a in architectures]  # type: ignore[misc]

    def train_alone(self, architectures: Sequence[Architecture], epochs: int) -> list[Measured]:
        def trained(architecture: Architecture) -> Metrics:
            network = self.standalone(architecture) if self.space.pretrained else self.space.network(architecture)
            fit(
                network,
                architecture,
                self.data,
                self._train,
                Parts(
                    epochs=epochs,
                    batch=min(self.batch, len(self._train)),
                    lr=self.lr,
                    momentum=self.momentum,
                    weight_decay=self.weight_decay,
                    clip=self.clip,
                    channels_last=self.layout is torch.channels_last,
                ),
                seed=_number(self.seed, _ALONE),
                device=self.device,
                key="training.lr",
                fresh=not self.space.pretrained,
            )
            return {self.task.metric.name: quality(network, self.data, self._fixed)}

        return [attempt(lambda a=a: trained(a)) for a in architectures]  # type: ignore[misc]

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Measured]:
        space, data = self.target or (self.space, self.data)
        return run_probes(space, data, self.probes, architectures, self.device, _number(self.seed, _PROBE))

    def differentiate(self, mixture: Mixture, batch: int, unrolled: bool = False) -> tuple[float, Cotangents] | None:
        self.asked += 4 if unrolled else 1
        images, labels = self._deciding_share[batch]
        valid = (self.data.normalise(images), labels, self._valid_batches.batch)
        self.model.eval()
        for norm in self._norms:  # the images' own statistics, as DARTS, NASP and ProxylessNAS have it; and no trace of them
            norm.training, norm.track_running_stats = True, False
        try:
            loss, cotangents = self._unrolled(mixture, valid) if unrolled else self._cotangents(mixture, *valid)[:2]
            if not all(map(math.isfinite, [loss, *itertools.chain(*cotangents)])):
                raise NetworkFailed(NO_FINITE_GRADIENT)
        except NetworkFailed as error:
            self.no_gradient = str(error)
            if not self._without_gradient:
                log.warning("no gradient of a mixture at weight step %d: %s", self.step, error)
            self._without_gradient += 1
            self._end_after(self._without_gradient, "gradients of mixtures", str(error))
            return None
        finally:
            for norm in self._norms:
                norm.training, norm.track_running_stats = False, norm.running_mean is not None
        self._without_gradient = 0
        return loss, cotangents

    def _unrolled(self, mixture: Mixture, valid: tuple[Tensor, Tensor, int]) -> tuple[float, Cotangents]:
        """Differentiate through a virtual weight step, the second derivative by a finite difference (DARTS, section 2.3).

        The weights end as they began, bit by bit.
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in parameters]
        self._schedule(one_hot=True)
        (group,) = self._optimizer.param_groups
        train = self._training_batch()
        step = self._gradients(lambda: self._loss(train[0], train[1], Weights(mixture.weights), train[2]), parameters)
        try:
            with torch.no_grad():
                for p, g in zip(parameters, step, strict=True):
                    velocity = self._optimizer.state[p].get("momentum_buffer")
                    moved = g + group["weight_decay"] * p
                    p.sub_(moved if velocity is None else moved + group["momentum"] * velocity, alpha=group["lr"])
            value, cotangents, slope = self._cotangents(mixture, *valid, parameters=parameters)
            reach = _REACH / max(1e-12, float(torch.cat([v.reshape(-1) for v in slope]).norm()))
            around = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    for p, w, v in zip(parameters, before, slope, strict=True):
                        p.copy_(w + sign * reach * v)
                around.append(self._cotangents(mixture, *train)[1])
        finally:
            with torch.no_grad():
                for p, w in zip(parameters, before, strict=True):
                    p.copy_(w)
        far = group["lr"] / (2 * reach)
        rows = zip(cotangents, *around, strict=True)
        return value, tuple(tuple(c - far * (up - down) for c, up, down in zip(*row, strict=True)) for row in rows)

    def _gradients(self, loss: Callable[[], Tensor], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Return the gradients of the whole batch's loss; zeros for parameters that did not run. Raises NetworkFailed."""
        partial = self._together(lambda: torch.autograd.grad(loss(), parameters, allow_unused=True))
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, partial, strict=True)]
        self._sum_over_replicas(gradients)
        return gradients

    def _cotangents(
        self, mixture: Mixture, x: Examples, y: Tensor, images: int, parameters: Sequence[nn.Parameter] = ()
    ) -> tuple[float, Cotangents, list[Tensor]]:
        """Return the loss over all replicas' shares, d loss / d weight, and d loss / d parameter for `parameters`.

        Args:
            mixture: Point at which to differentiate.
            x: This replica's images, normalised.
            y: Their labels.
            images: Number of images of all replicas.
            parameters: Parameters whose gradients are wanted, too.

        Raises:
            NetworkFailed: Where the mixture cannot be run.
        """
        active = mixture.active()
        dtype = next(self.model.parameters()).dtype
        rows: list[list[float | Tensor]] = [list(row) for row in mixture.weights]
        inactive: list[tuple[tuple[int, ...], Tensor] | None] = []
        leaves: list[Tensor] = []
        places: list[tuple[int, tuple[int, ...]]] = []
        for choice, row in enumerate(rows):
            wanted = active[choice] if mixture.wanted is None else [i for i, w in enumerate(mixture.wanted[choice]) if w]
            for option in (i for i in wanted if i in active[choice]):
                row[option] = leaf = torch.tensor(
                    mixture.weights[choice][option], dtype=dtype, device=self.device, requires_grad=True
                )
                leaves.append(leaf)
                places.append((choice, (option,)))
            alone = tuple(i for i in wanted if i not in active[choice] and i in self.stage.options[choice])
            inactive.append(None)
            if alone:
                leaf = torch.zeros(len(alone), dtype=dtype, device=self.device, requires_grad=True)
                inactive[-1] = (alone, leaf)
                leaves.append(leaf)
                places.append((choice, alone))
        # Parameters that want no gradient need no activations kept for one, and no time.
        resting = [] if parameters else [p for p in self.model.parameters() if p.requires_grad]
        try:
            for p in resting:
                p.requires_grad_(False)

            def differentiated() -> tuple[Tensor, tuple[Tensor | None, ...]]:
                loss = self._loss(x, y, Weights(rows, inactive), images)
                return loss, torch.autograd.grad(loss, [*leaves, *parameters], allow_unused=True)

            loss, gradients = self._together(differentiated)
        finally:
            for p in resting:
                p.requires_grad_(True)
        answer = torch.cat(
            [loss.detach().reshape(1)]
            + [(torch.zeros_like(leaf) if g is None else g).reshape(-1) for leaf, g in zip(leaves, gradients, strict=False)]
        )
        self._sum_over_replicas([answer])
        slope = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients[len(leaves) :], strict=True)]
        self._sum_over_replicas(slope)
        numbers = iter(answer.tolist())
        value = next(numbers)
        cotangents = [[0.0] * len(row) for row in mixture.weights]
        for choice, options in places:
            for option in options:
                cotangents[choice][option] = next(numbers)
        return value, tuple(tuple(row) for row in cotangents), slope

    def state_dict(self) -> dict[str, Any]:
        return {
            "stage": asdict(self.stage) | {"options": [list(o) for o in self.stage.options]},
            "steps": self.steps,
            "begun": self._begun,
            "step": self.step,
            "asked": self.asked,
            "skipped": [self._skipped, self._in_a_row],
            "model": {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()},
            "optimizer": _to_cpu(self._optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.build(stage_of(state), state["steps"])
        self._begun, self.step, self.asked = state["begun"], state["step"], state.get("asked", 0)
        self._skipped, self._in_a_row = state.get("skipped", (0, 0))
        self.model.load_state_dict(state["model"])
        restore(self._optimizer, state["optimizer"])

    def inherit(self, state: dict[str, Any]) -> None:
        """Load the weights of a `state_dict` for measuring, whatever statistics of normalisation its search used.

        Averages that are wanted here and were not kept there start afresh, and are fitted by recalibration; those that are not
        wanted are left out.

        Raises:
            RunError: Where the weights are not of this supernet.
        """
        self.build(stage_of(state), state["steps"])
        ours = self.model.state_dict()
        theirs = {k: v for k, v in state["model"].items() if k in ours or not k.endswith(_AVERAGES)}
        fresh = {k: v for k, v in ours.items() if k.endswith(_AVERAGES) and k not in theirs}
        try:
            self.model.load_state_dict(theirs | fresh)
        except RuntimeError as error:
            raise RunError(f"the weights are of another network: {error}") from error

    @torch.no_grad()
    def standalone(self, architecture: Architecture) -> nn.Module:
        """Return an architecture as a plain module with the shared weights, on the CPU, apart from this supernet.

        Where normalisation keeps averages they are fitted to this network first, on `recalibration` training batches.
        """
        weights = Weights(Mixture.one_hot(architecture, self.space.sizes).weights)
        self.model.eval()
        if self.averages:
            self._recalibrate(weights)
        return extract(copy.deepcopy(self.model.network), architecture).cpu()

    @property
    def averages(self) -> bool:
        """Tell whether any normalisation keeps averages, so that there is something to recalibrate."""
        return any(norm.track_running_stats for norm in self._norms)


def stage_of(state: dict[str, Any]) -> Stage:
    """Read the stage that a supernet's `state_dict` was taken in."""
    return Stage(**state["stage"] | {"options": tuple(tuple(o) for o in state["stage"]["options"])})


def _normalisation(model: nn.Module, affine: bool, tracked: bool) -> list[_BatchNorm]:
    """Remove learned scales and running averages that are not wanted, and return all layers of batch normalisation."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        if not affine:
            norm.affine = False
            norm.weight = norm.bias = None  # type: ignore[assignment]
        norm.track_running_stats = tracked and norm.running_mean is not None  # a user's own may keep none
        if not tracked:
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return norms


def _sandwich(chosen: int | None, space: SearchSpace) -> int:
    """Return the number of networks between the largest and the smallest one that a step trains, 0 for no sandwich rule."""
    return (2 if space.pretrained else 0) if chosen is None else chosen


def _one_hot(mixture: Mixture) -> bool:
    """Tell whether a mixture is a single network."""
    return all(len(active) <= 1 for active in mixture.active())


def _number(*seed: int) -> int:
    """Derive a seed of 63 bits from several numbers."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {k: _to_cpu(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_to_cpu(v) for v in value]
    return value
