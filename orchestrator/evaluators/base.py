"""Interface of whatever evaluates architectures, be it one object in this process or actors on a cluster."""

from __future__ import annotations

import gc
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError, Interrupted, NetworkFailed, RunError, in_a_line
from orchestrator.evaluators.training_free import Scored, TrainingFree, once_each
from orchestrator.machine import Machine, machine
from orchestrator.objectives.base import Metrics, Probe
from orchestrator.spaces.base import SearchSpace
from searchers.base import Architecture, Cotangents, Mixture, Stage

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Reason that an evaluator returns in the place of metrics for a network that cannot be trained, measured or run.

    Args:
        reason: In one line, with the type of an exception and its place in a user's code.

    Example:
        >>> Failure("the training loss was not finite in epoch 1").reason
        'the training loss was not finite in epoch 1'
    """

    reason: str


Measured = Metrics | Failure
"""Metrics of a network, or the reason why it has none."""


def attempt(work: Callable[[], T]) -> T | Failure:
    """Return what `work` returns, or a `Failure` for whatever it raises that is the fault of the network it works on.

    What stops a run passes through: interruptions, and errors that name a setting.

    Raises:
        RunError: Where the device cannot be used any more in this process, so that every other network would fail as well.
    """
    try:
        return work()
    except NetworkFailed as error:
        return Failure(str(error))
    except (InputError, RunError, Interrupted):
        raise
    except Exception as error:
        reason = in_a_line(error)
        log.debug("a network failed", exc_info=True)
        memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not memory and torch.cuda.is_available() and "CUDA error" in str(error):
            raise RunError(f"the GPU cannot be used any more in this process: {reason}") from error
    if memory:  # here, where the traceback with its tensors is gone
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return Failure(reason)


@dataclass(frozen=True)
class Schedule:
    """Plan of how a budget in epochs is spent.

    Args:
        rounds: Rounds at most; in each of them the searcher is asked once.
        interval: Weight steps of shared weights per round.
        batch: Images per weight step, over all replicas.
        portion: Architectures that a round asks for at most.
        passes: Passes over the validation set that judging a network takes.
        steps_each: Weight steps that measuring a network takes, where it is trained for that; 0 with shared weights.
    """

    rounds: int
    interval: int
    batch: int
    portion: int = 2**31
    passes: int = 1
    steps_each: int = 0


class Evaluator(ABC):
    """Base of evaluators, which measure architectures with shared weights that they train, or each network by itself.

    Args:
        space: Search space of the architectures.
        data: Images to train and measure on.
        probes: Objectives that run a standalone network on the device.
        seed: Seed of everything that is random.
        device: torch's name of the device.
        rank: Number of this replica, in 0..world-1.
        world: Number of replicas. A class whose replicas need not know of each other leaves out `rank` and `world`, and
            overrides `create` accordingly.

    Attributes:
        space: Search space of the architectures; it and the two that follow are needed for training-free scores alone.
        data: Images.
        seed: Seed.
        device: Device of its networks, "cpu" or "cuda".
        step: Weight steps so far, over all stages.
        asked: Batches so far on which the loss was differentiated with respect to a mixture.
        target: Space and data of the networks that the search is for, where `space` and `data` are a proxy of them; None where
            they are those themselves. Devices measure networks of the target.
        elsewhere: Evaluators of the same settings at the further places where a search trains networks alone, by their number.
        shares_weights: Whether architectures share the weights that `train` trains; otherwise measuring one trains it.
    """

    SUPPLIED: ClassVar[tuple[str, ...]] = ("space", "data", "probes", "seed", "device", "rank", "world")
    shares_weights: ClassVar[bool] = True

    space: SearchSpace
    data: Dataset
    seed: int
    step: int
    asked: int = 0
    device: str = "cpu"
    target: tuple[SearchSpace, Dataset] | None = None
    elsewhere: Mapping[int, Evaluator] = MappingProxyType({})

    def machines(self) -> list[Machine]:
        """List the machines whose arithmetic goes into the results."""
        return [machine(self.device)]

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
        """Make one replica with a user's `settings`. Raises InputError."""
        return cls(space, data, probes, **settings, seed=seed, device=device)  # type: ignore[call-arg]

    @classmethod
    def schedule(cls, settings: Mapping[str, Any], *, epochs: float, interval: int, images: int, workers: int) -> Schedule:
        """Plan a search; this method, for evaluators with shared weights.

        Args:
            settings: The user's settings.
            epochs: Passes over the training images.
            interval: Weight steps per round.
            images: Number of training images.
            workers: Number of replicas.
        """
        batch = min(settings.get("batch", images), images)
        steps = epochs * (images // batch)
        return Schedule(max(1, math.ceil(steps / interval)), interval, batch)

    @classmethod
    def networks_per_step(cls, settings: Mapping[str, Any], space: SearchSpace) -> int:
        """Count the networks that a weight step trains, each on all images of the batch; here, it is one.

        Args:
            settings: The user's settings.
            space: The space.
        """
        return 1

    @abstractmethod
    def build(self, stage: Stage, steps: int) -> None:
        """Make fresh weights over the stage's surviving options; the learning rate falls to 0 over `steps` weight steps."""

    def extend(self, steps: int) -> None:  # noqa: B027, most have nothing that is planned by steps
        """Plan so many further weight steps, once those of `build` are over: the learning rate starts again, and falls to 0."""

    @abstractmethod
    def drop(self, stage: Stage) -> None:
        """Continue with the options of `stage` alone, weights as they are."""

    @abstractmethod
    def train(self, mixtures: Sequence[Mixture]) -> float:
        """Take one weight step per mixture, each on the next batch, and return their mean loss."""

    @abstractmethod
    def measure(self, architectures: Sequence[Architecture]) -> Sequence[Measured]:
        """Return the `accuracy` in percent of each on validation images that all networks share, all of them or many.

        Of another task, or by another metric, it is that metric by its name (`data.task.metric.name`).

        For a network that cannot be trained or measured it is a `Failure`, and the search goes on without that network.
        """

    def measure_on_batch(self, architectures: Sequence[Architecture], batch: int) -> Sequence[Measured]:
        """Return the `accuracy` of each on validation batch number `batch`, the same for all: a proxy evaluation.

        Where architectures do not share weights there is nothing cheaper than `measure`.
        """
        return self.measure(architectures)

    def train_alone(self, architectures: Sequence[Architecture], epochs: int) -> Sequence[Measured]:
        """Train each network by itself, from scratch, and return its `accuracy` as `measure` does.

        A search trains none alone where an evaluator does not override this, so only a direct call is refused.

        Raises:
            InputError: For an evaluator that does not override this.
        """
        raise InputError(f"{type(self).__name__} does not train networks alone; override train_alone(architectures, epochs)")

    def train_at(self, architectures: Sequence[Architecture], epochs: int, place: int) -> Sequence[Measured]:
        """Do as `train_alone` at a place of the search by its number, of which 0 is this evaluator's own."""
        return (self.elsewhere[place] if place else self).train_alone(architectures, epochs)

    @abstractmethod
    def measure_on_device(self, architectures: Sequence[Architecture]) -> Sequence[Measured]:
        """Return the metrics of the problem's probes (latency, ...) for each standalone network on this device."""

    def rest(self) -> None:  # noqa: B027, most have nothing running
        """End processes that work ahead, as nothing is asked for now; they begin again by themselves."""

    def skipped_steps(self) -> int:
        """Count the weight steps so far that were left out as their loss or gradients were not finite, or a network raised."""
        return 0

    def score(self, architectures: Sequence[Architecture], names: Sequence[str]) -> list[Metrics]:
        """Return training-free scores of each, NaN for no value, of which the log says the reason; higher is better.

        Args:
            architectures: Networks; those that are the same in another notation are scored once.
            names: Names of the scores, of `training_free.SCORES`.

        Raises:
            InputError: For an unknown score.
        """
        if not names:
            return [{} for _ in architectures]
        return once_each(self.space, architectures, names, lambda networks: self.score_each(networks, names))

    def score_each(self, architectures: Sequence[Architecture], names: Sequence[str]) -> list[Scored]:
        """Return the training-free scores of each, with the reasons of those that have no value."""
        if lacking := [a for a in ("space", "data", "seed") if not hasattr(self, a)]:
            raise InputError(f"{type(self).__name__} has no {lacking[0]}, which training-free scores need; keep it in __init__")
        scores = TrainingFree(self.space, self.data, names, seed=self.seed, device=self.device)
        return [scores.score(a) for a in architectures]

    def measure_alone(self, architectures: Sequence[Architecture]) -> Sequence[Measured]:
        """Return the same, measured one after the other while no other worker does anything."""
        return self.measure_on_device(architectures)

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer and position, on the CPU."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""


def run_probes(
    space: SearchSpace, data: Dataset, probes: Sequence[Probe], architectures: Sequence[Architecture], device: str, seed: int
) -> list[Measured]:
    """Return the metrics of the probes for each standalone network, or a `Failure` for one that does not run.

    Args:
        space: Search space of the architectures.
        data: Images, of which one is shown to the networks.
        probes: Objectives that run a network.
        architectures: Networks to measure.
        device: torch's name of the device to measure.
        seed: Seed of the networks' weights.
    """
    if not probes:
        return [{} for _ in architectures]
    image = data.normalise(data.valid.images[:1].to(device))

    def measured(architecture: Architecture) -> Metrics:
        @cache
        def network() -> nn.Module:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return space.network(architecture).to(image.device)

        metrics: Metrics = {}
        for probe in probes:
            metrics |= _measured(probe, architecture, network, image)
        return metrics

    return [attempt(lambda a=a: measured(a)) for a in architectures]  # type: ignore[misc]


def _measured(probe: Probe, architecture: Architecture, network: Callable[[], nn.Module], image: Tensor) -> Metrics:
    metrics: Any = probe.measure_architecture(architecture, network, image)
    if not isinstance(metrics, dict) or not all(isinstance(value, (int, float)) for value in metrics.values()):
        cls = type(probe)
        raise RunError(
            f"{cls.__module__}:{cls.__qualname__}.measure_on_device returned {metrics!r}; it must return a dict from names to "
            "numbers"
        )
    return metrics


class Differentiable(Evaluator):
    """Evaluator that also differentiates its loss at mixtures."""

    @abstractmethod
    def differentiate(self, mixture: Mixture, batch: int, unrolled: bool = False) -> tuple[float, Cotangents] | None:
        """Return the loss on validation batch number `batch`, and d loss / d weight for every option that the mixture wants.

        None where any of these numbers is not finite, or the mixture cannot be run; the method is then told nothing.

        Args:
            mixture: Point at which to differentiate.
            batch: Number of the validation batch.
            unrolled: Differentiate the loss after one more weight step on the next training batch, that step included.
        """
