"""A user's network, run once in every way in which the search will run it, before the search starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, attributed_to, first_line
from orchestrator.evaluators.base import Differentiable
from orchestrator.evaluators.supernet import NO_FINITE_GRADIENT, Supernet
from orchestrator.search.rounds import mixtures_of
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.own import OwnSpace
from searchers import Architecture, GradientSearcher, Mixture

IMAGES = 4
"""Images of a try; enough for normalisation in training mode, and soon done."""


def try_network(plan: SearchPlan) -> None:
    """Run every option of a user's network alone, forwards and backwards in training mode, and the mixtures of the method.

    Networks of ours are tested elsewhere. Values are not looked at: an option that computes no number for some inputs is
    recorded as failed by the search.

    Raises:
        InputError: For an option that cannot run, or not together with the others, with its name.
    """
    space, data = plan.trained.space, plan.trained.data
    if not isinstance(space, OwnSpace):
        return
    count = min(IMAGES, len(data.train))
    x, y = data.normalise(data.train.images[:count]), data.train.labels[:count]
    with torch.random.fork_rng(devices=[]):
        for words, architecture in _each_option(space):
            with _named(f"{words} in training mode", plan):
                network = space.network(architecture).train()
                data.task.loss(_checked(network(x), count, data.task.outputs), y).backward()  # type: ignore[no-untyped-call]
            with _named(f"{words} in evaluation mode", plan), torch.no_grad():
                _checked(network.eval()(x), count, data.task.outputs)
                _checked(network(x[:1]), 1, data.task.outputs)  # as it is timed, and as the last one of a part may be
        if plan.shares_weights:
            _try_mixtures(plan, count)


def _each_option(space: SearchSpace) -> Iterator[tuple[str, Architecture]]:
    """Networks in which each option takes part once; all other choices have their first."""
    first = (0,) * len(space.choices)
    yield "the network of all first options", first
    for i, choice in enumerate(space.choices):
        for option in range(1, len(choice.options)):
            yield f"option {choice.options[option]!r} of {choice.name!r}", (*first[:i], option, *first[i + 1 :])


def _checked(scores: Any, images: int, outputs: tuple[int, ...]) -> Tensor:
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if shape != (images, *outputs):
        raise ValueError(
            f"the network returns {shape} for {images} image{'s' * (images > 1)}; it must return {(images, *outputs)}"
        )
    assert isinstance(scores, Tensor)
    return scores


def _try_mixtures(plan: SearchPlan, count: int) -> None:
    """Have the evaluator do with few images what a round of the method asks of it."""
    training = plan.experiment.training
    few = {"batch": count, "valid_batch": count, "valid_images": count} if training.factory is Supernet else {}
    settings = {**training.settings, **few}
    small = plan.varied(training=type(training)(training.name, training.factory, settings, training.chosen))
    evaluator, searcher = small.in_process().build_evaluator(probes=[]), plan.build_searcher()
    if not isinstance(evaluator, Supernet):
        return
    evaluator.build(searcher.stage, 1)
    relaxed = searcher.relax() if isinstance(searcher, GradientSearcher) else None
    mixtures = [*mixtures_of(searcher, 1), *([] if relaxed is None else [relaxed])]
    name = plan.experiment.searcher.name
    with _named(f"the mixtures on which {name} trains weights", plan):
        evaluator.train([_everything(mixture) for mixture in mixtures[:1]])
    if relaxed is not None and isinstance(searcher, GradientSearcher) and isinstance(evaluator, Differentiable):
        with _named(f"the gradients that {name} asks for", plan):
            found = evaluator.differentiate(relaxed, 0, searcher.unrolled)
            if found is None and evaluator.no_gradient != NO_FINITE_GRADIENT:
                raise ValueError(evaluator.no_gradient)
    evaluator.rest()


def _everything(mixture: Mixture) -> Mixture:
    """Spread a mixture over all options, unless it is a path."""
    if all(len(active) <= 1 for active in mixture.active()):
        return mixture
    return Mixture(tuple(tuple(1.0 / len(row) for _ in row) for row in mixture.weights))


@contextmanager
def _named(what: str, plan: SearchPlan) -> Iterator[None]:
    """Say which part of the network an exception is about, and whose line raised it."""
    where = f"space.name = {plan.experiment.space.name!r}: {what}"
    try:
        with attributed_to(plan.plugins, InputError):
            yield
    except InputError as error:
        raise InputError(f"{where} cannot run: {error}") from error
    except Exception as error:  # raised by a library between our call and theirs
        raise InputError(f"{where} cannot run: {type(error).__name__}: {first_line(error)}") from error
