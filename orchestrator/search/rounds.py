"""Rounds of a search, the only place where method families differ; what follows from them is written once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from orchestrator.errors import RunError
from orchestrator.evaluators.base import Differentiable, Evaluator
from searchers import Architecture, Evaluation, GradientSearcher, Mixture, Searcher
from searchers.base import check_architecture

Told = Callable[[list[Evaluation]], list[Evaluation]]
"""Makes of measurements what a searcher is told."""
Assess = Callable[[Sequence[Architecture]], list[Evaluation]]
"""Function that evaluates architectures with the current weights."""


def rounds(
    searcher: Searcher,
    evaluator: Evaluator,
    assess: Assess,
    interval: int,
    room: Callable[[], int],
    told: Told = lambda evaluations: evaluations,
    trained: Callable[[float], None] = lambda loss: None,
) -> Iterator[list[Evaluation]]:
    """Yield the evaluations of each round, without end: `interval` weight steps, then what the searcher asks for.

    Between rounds the caller may have the evaluator built anew for another stage.

    Args:
        searcher: The method.
        evaluator: Trains, and differentiates for a `GradientSearcher`.
        assess: Evaluates what the searcher asks for.
        interval: Weight steps per round.
        room: Returns the number of evaluations that the budget has left.
        told: Makes of what was measured what the searcher is told; the evaluations themselves by default.
        trained: Called with the mean loss of weight steps.

    Raises:
        TypeError: For a gradient method and an evaluator without gradients.
        RunError: For mixtures or architectures that the space does not have, and for more of them than were asked for.
    """
    if not isinstance(searcher, GradientSearcher):
        return _sampled(searcher, evaluator, assess, interval, room, told, trained)
    if not isinstance(evaluator, Differentiable):
        raise TypeError(f"{type(searcher).__name__} needs gradients, which {type(evaluator).__name__} does not have")
    return _descended(searcher, evaluator, assess, interval, room, trained)


def _sampled(
    searcher: Searcher,
    evaluator: Evaluator,
    assess: Assess,
    interval: int,
    room: Callable[[], int],
    told: Told,
    trained: Callable[[float], None],
) -> Iterator[list[Evaluation]]:
    while True:
        trained(evaluator.train(mixtures_of(searcher, interval)))
        architectures = proposals_of(searcher, room())
        evaluations = assess(architectures)
        if architectures:
            searcher.tell(told(evaluations))
        yield evaluations


def _descended(
    searcher: GradientSearcher,
    evaluator: Differentiable,
    assess: Assess,
    interval: int,
    room: Callable[[], int],
    trained: Callable[[float], None],
) -> Iterator[list[Evaluation]]:
    while True:
        losses = []
        for _ in range(interval):
            mixture = searcher.relax()
            if mixture is not None:
                _check_mixtures(searcher, "relax", [mixture])
                gradient = evaluator.differentiate(mixture, evaluator.step, searcher.unrolled)
                if gradient is not None:
                    searcher.descend(*gradient)
            losses.append(evaluator.train(mixtures_of(searcher, 1)))
        trained(sum(losses) / interval)
        yield assess(proposals_of(searcher, room()))


def mixtures_of(searcher: Searcher, steps: int) -> Sequence[Mixture]:
    """Ask a searcher what to train on. Raises RunError for what is no mixture of the space."""
    mixtures: Any = searcher.train_on(steps)
    _check_mixtures(searcher, "train_on", mixtures)
    return mixtures  # type: ignore[no-any-return]


def _check_mixtures(searcher: Searcher, method: str, mixtures: Any) -> None:
    if not isinstance(mixtures, (list, tuple)) or not all(isinstance(mixture, Mixture) for mixture in mixtures):
        raise RunError(f"{_named(searcher)}.{method} returned {_shortened(mixtures)}; it must return Mixtures, in a list")
    for mixture in mixtures:
        if (options := [len(row) for row in mixture.weights]) != list(searcher.sizes):
            raise RunError(
                f"{_named(searcher)}.{method} returned a mixture of {options} options; the space has {list(searcher.sizes)}"
            )


def proposals_of(searcher: Searcher, most: int) -> list[Architecture]:
    """Ask a searcher for at most `most` architectures. Raises RunError for more, and for any that is not in the space."""
    architectures = checked(searcher, "ask", searcher.ask(most))
    if len(architectures) > most:
        raise RunError(f"{_named(searcher)}.ask returned {len(architectures)} architectures; at most {most} were asked for")
    return architectures


def checked(searcher: Searcher, method: str, architectures: Any) -> list[Architecture]:
    """Return what a method of a searcher proposed as tuples of int, which it may have as lists or as integers of numpy.

    Raises:
        RunError: For what is no list of architectures, or not in the space.
    """
    try:
        converted = [tuple(operator.index(option) for option in architecture) for architecture in architectures]
    except TypeError as error:
        raise RunError(
            f"{_named(searcher)}.{method} returned {_shortened(architectures)}; it must return a list of architectures, each a "
            "tuple with the index of an option for every choice"
        ) from error
    for architecture in converted:
        try:
            check_architecture(architecture, searcher.sizes)
        except ValueError as error:
            raise RunError(f"{_named(searcher)}.{method} returned what is not in the space: {error}") from error
    return converted


def _named(searcher: Searcher) -> str:
    return f"{type(searcher).__module__}:{type(searcher).__qualname__}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
