"""The two ways of asking a searcher. They hold the whole difference between method families; what follows is written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.evaluators.base import Differentiable, Evaluator
from searchers import Architecture, Evaluation, GradientSearcher, Searcher

Assess = Callable[[Sequence[Architecture]], list[Evaluation]]
"""Measures architectures with the shared weights as they are now, and prices them."""


def rounds(
    searcher: Searcher, evaluator: Evaluator, assess: Assess, interval: int, room: Callable[[], int]
) -> Iterator[list[Evaluation]]:
    """The evaluations of each round, for ever: `interval` weight steps, then what the searcher wants to know.

    room: how many evaluations the budget still has. Between rounds the caller may rebuild the evaluator for a new stage.
    """
    if isinstance(searcher, GradientSearcher):
        if not isinstance(evaluator, Differentiable):
            raise TypeError(f"{type(searcher).__name__} needs gradients, which {type(evaluator).__name__} does not have")
        return _descended(searcher, evaluator, assess, interval, room)
    return _sampled(searcher, evaluator, assess, interval, room)


def _sampled(
    searcher: Searcher, evaluator: Evaluator, assess: Assess, interval: int, room: Callable[[], int]
) -> Iterator[list[Evaluation]]:
    while True:
        evaluator.train(searcher.train_on(interval))
        asked = searcher.ask(room())
        told = assess(asked)
        if asked:
            searcher.tell(told)
        yield told


def _descended(
    searcher: GradientSearcher, evaluator: Differentiable, assess: Assess, interval: int, room: Callable[[], int]
) -> Iterator[list[Evaluation]]:
    while True:
        for _ in range(interval):
            relaxed = searcher.relax()
            if relaxed is not None:
                searcher.descend(*evaluator.differentiate(relaxed, evaluator.step, searcher.unrolled))
            evaluator.train(searcher.train_on(1))
        yield assess(searcher.ask(room()))
