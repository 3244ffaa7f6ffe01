"""The chain rule to the logits, and derivation by the space's own rule."""

import itertools
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


def test_with_several_targets_the_most_probable_network_within_each_is_derived() -> None:
    prices = [[0.0, 2.0, 5.0], [1.0, 4.0]]
    searcher = made(additive=[(10.0, prices)], targets=[11.0, 14.0, 19.0])
    p = searcher.policy.rows()
    expected = []
    for bound in (11.0, 14.0, 19.0):
        kept = [a for a in itertools.product(range(3), range(2)) if 10.0 + sum(prices[c][o] for c, o in enumerate(a)) <= bound]
        expected.append(max(kept, key=lambda a: p[0][a[0]] * p[1][a[1]]))
    assert searcher._within_bounds() == expected and searcher.derive() == list(dict.fromkeys(expected))
    asked = searcher.ask(10)
    assert asked[:3] == expected and len(asked) == 5
    for network, best in zip(asked[3:], expected, strict=False):
        assert sum(a != b for a, b in zip(network, best, strict=True)) == 1


def test_cells_within_the_largest_target_are_derived_by_the_published_rule() -> None:
    """Three edges into one node, of which two are kept, by their strongest operation besides none."""
    space = {"node_inputs": [(0, 1, 2)], "none_option": [0, 0, 0]}
    prices = [[0.0, 2.0, 5.0]] * 3
    for seed in range(5):
        given = {"rounds": 10, "steps": 40, "scale": 1.0, "additive": [(1.0, prices)], "targets": [5.0, 11.0], "seed": seed}
        searcher = Darts((3, 3, 3), **given, **space)
        strongest = [max(row[1:]) for row in searcher.policy.rows()]
        kept = sorted(range(3), key=lambda c: -strongest[c])[:2]
        published = tuple(row.index(strongest[c]) if c in kept else 0 for c, row in enumerate(searcher.policy.rows()))
        assert searcher._within_bounds()[1] == published


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"weight_decay": -1.0}, {"samples": 0}])
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        made(**bad)
