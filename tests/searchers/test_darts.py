"""The chain rule to the logits, and derivation by the space's own rule."""

from typing import Any

import pytest
import torch

from searchers.darts import Darts

pytestmark = pytest.mark.numeric


def made(**settings: Any) -> Darts:
    return Darts((3, 2), **{"rounds": 10, "steps": 40, "scale": 0.5, "weight_decay": 0.0, "seed": 4, **settings})


def test_the_gradient_goes_through_the_softmax() -> None:
    searcher = made()
    mixture = searcher.relax()
    assert mixture is not None and mixture.wanted is None
    p = searcher.policy.probabilities().detach()
    assert [list(row) for row in mixture.weights] == [
        pytest.approx(p[i, : len(row)].tolist()) for i, row in enumerate(mixture.weights)
    ]
    cotangents = ((0.3, -0.2, 0.9), (0.5, 0.1))
    searcher.descend(1.0, cotangents)
    assert searcher.policy.logits.grad is not None
    for choice, row in enumerate(cotangents):
        mean = sum(float(p[choice, o]) * c for o, c in enumerate(row))
        for option, c in enumerate(row):
            assert float(searcher.policy.logits.grad[choice, option]) == pytest.approx(float(p[choice, option]) * (c - mean))


def test_weights_train_on_the_mixture_that_is_asked_about() -> None:
    searcher = made()
    assert searcher.train_on(3) == [searcher.relax()] * 3
    assert searcher.unrolled and not made(order=1).unrolled


def test_it_descends() -> None:
    searcher = made(lr=0.1)
    for _ in range(50):
        searcher.descend(1.0, ((0.0, -1.0, 0.5), (0.2, 0.1)))
    assert searcher.derive() == [(1, 1)] and searcher.probabilities()[0][1] > 0.9


def test_the_space_derives() -> None:
    seen = []

    def derive(rows: Any) -> tuple[int, ...]:
        seen.append(rows)
        return (2, 0)

    searcher = made(derive=derive, samples=3)
    asked = searcher.ask(10)
    assert asked[0] == (2, 0) and len(asked) == 3 and searcher.ask(1) == [(2, 0)]
    assert torch.allclose(torch.tensor(seen[0][0]), torch.tensor(searcher.probabilities()[0]))


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"weight_decay": -1.0}, {"samples": 0}])
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        made(**bad)
