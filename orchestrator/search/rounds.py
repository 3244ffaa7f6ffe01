"""The two ways of asking a searcher. They hold the whole difference between method families; what follows is written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.errors import blamed
from orchestrator.evaluators.base import Differentiable, Evaluator
from searchers import Architecture, Evaluation, GradientSearcher, Searcher

Told = Callable[[list[Evaluation]], list[Evaluation]]
"""Makes of measurements what a searcher is told."""
Assess = Callable[[Sequence[Architecture]], list[Evaluation]]
"""Measures architectures with the weights as they are now, and prices them."""


def rounds(
    searcher: Searcher,
    evaluator: Evaluator,
    assess: Assess,
    interval: int,
    room: Callable[[], int],
    told: Told = lambda evaluations: evaluations,
) -> Iterator[list[Evaluation]]:
    """Yield the evaluations of each round, for ever: `interval` weight steps, then what the searcher wants to know.

    Between rounds the caller may have the evaluator built anew for another stage.

    Args:
        searcher: Asked and told.
        evaluator: Trains, and differentiates for a `GradientSearcher`.
        assess: Measures what the searcher asks about.
        interval: Weight steps per round.
        room: Tells how many evaluations the budget still has.
        told: Makes of what was measured what the searcher is told; the evaluations themselves by default.

    Raises:
        TypeError: For a gradient method and an evaluator without gradients.
        RunError: For an exception in a searcher from outside, with its place.
    """
    if not isinstance(searcher, GradientSearcher):
        return _sampled(searcher, evaluator, assess, interval, room, told)
    if not isinstance(evaluator, Differentiable):
        raise TypeError(f"{type(searcher).__name__} needs gradients, which {type(evaluator).__name__} does not have")
    return _descended(searcher, evaluator, assess, interval, room)


def _sampled(
    searcher: Searcher, evaluator: Evaluator, assess: Assess, interval: int, room: Callable[[], int], told: Told
) -> Iterator[list[Evaluation]]:
    while True:
        with blamed(searcher, "train_on"):
            mixtures = searcher.train_on(interval)
        evaluator.train(mixtures)
        with blamed(searcher, "ask"):
            architectures = searcher.ask(room())
        evaluations = assess(architectures)
        if architectures:
            with blamed(searcher, "tell"):
                searcher.tell(told(evaluations))
        yield evaluations


def _descended(
    searcher: GradientSearcher, evaluator: Differentiable, assess: Assess, interval: int, room: Callable[[], int]
) -> Iterator[list[Evaluation]]:
    while True:
        for _ in range(interval):
            with blamed(searcher, "relax"):
                mixture = searcher.relax()
            if mixture is not None:
                loss, cotangents = evaluator.differentiate(mixture, evaluator.step, searcher.unrolled)
                with blamed(searcher, "descend"):
                    searcher.descend(loss, cotangents)
            with blamed(searcher, "train_on"):
                mixtures = searcher.train_on(1)
            evaluator.train(mixtures)
        with blamed(searcher, "ask"):
            architectures = searcher.ask(room())
        yield assess(architectures)
