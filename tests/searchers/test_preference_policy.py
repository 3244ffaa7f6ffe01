"""The conditioned policy: its gradient by enumeration, its worth, and both ends of a front from one search."""

import itertools
from typing import Any

import pytest
import torch

from searchers import Evaluation
from searchers.preference_policy import PreferencePolicy
from tests.searchers.evolution import SIZES, costs, evaluated

pytestmark = pytest.mark.numeric

SMALL = (2, 3)
EVERY = list(itertools.product(range(2), range(3)))


def made(sizes: tuple[int, ...] = SMALL, **settings: Any) -> PreferencePolicy:
    return PreferencePolicy(sizes, **{"rounds": 20, "warmup": 0.0, "samples": 2, "scale": 1.0} | settings)


PREFERENCES = torch.tensor([[0.2, 0.8], [0.7, 0.3]], dtype=torch.float64)


def chances(searcher: PreferencePolicy) -> torch.Tensor:
    """(preferences, architectures) of all there are."""
    log_p = searcher.log_probabilities(PREFERENCES)
    return torch.stack([log_p[:, 0, a] + log_p[:, 1, b] for a, b in EVERY], dim=1).exp()


def test_the_loss_has_an_unbiased_gradient_though_every_sample_teaches_every_preference() -> None:
    searcher = made()
    worth = torch.randn((len(EVERY), 2), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p = chances(searcher)
    (expected,) = torch.autograd.grad(-(p.T * worth).sum() / 2, searcher.logits)
    mean = torch.zeros_like(expected)
    for i, j in itertools.product(range(len(EVERY)), repeat=2):
        loss = searcher.loss([EVERY[i], EVERY[j]], PREFERENCES, worth[[i, j]])
        (found,) = torch.autograd.grad(loss, searcher.logits)
        mean += p[0, i].detach() * p[1, j].detach() * found
    torch.testing.assert_close(mean, expected)


def test_worth_is_best_at_the_ends_that_a_preference_asks_for_and_in_the_concave_middle() -> None:
    searcher = made()
    told = [Evaluation((0, 0), (0.0, 10.0)), Evaluation((1, 0), (7.0, 7.0)), Evaluation((1, 1), (10.0, 0.0))]
    scale = (torch.zeros(2, dtype=torch.float64), torch.full((2,), 10.0, dtype=torch.float64))
    preferences = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)
    worth = searcher.worth(told, preferences, scale)
    assert worth.argmax(dim=0).tolist() == [0, 1, 2]  # no weighted sum prefers (7, 7)
    assert worth[1, 1] == pytest.approx(-(0.35 + 0.05 * 0.7))
    broken = searcher.worth([Evaluation((0, 0), (0.0, 10.0), violation=0.5)], preferences, scale)
    torch.testing.assert_close(broken, worth[:1] - 0.5)


def test_one_search_covers_both_ends_and_the_middle() -> None:
    searcher = made(SIZES, rounds=150, samples=10, scale=1e-3, lr=0.1)
    for _ in range(150):
        searcher.train_on(1)
        searcher.tell(evaluated(searcher.ask(10)))
    modes = [costs(a) for a in searcher.derive()]
    assert min(c[0] for c in modes) <= 2 and min(c[1] for c in modes) <= 2
    assert any(10 < c[0] < 30 for c in modes)
    # No mode wastes anything: option 1 costs more of the second objective than it saves of the first, or as much.
    assert len(modes) >= 4


def test_preferences_are_spread_evenly_and_sum_to_one() -> None:
    for objectives in (2, 3):
        searcher = made(costs=objectives - 1)
        preferences, _ = searcher._draw(400)
        torch.testing.assert_close(preferences.sum(dim=1), torch.ones(400, dtype=torch.float64))
        assert (preferences >= 0).all()
        torch.testing.assert_close(
            preferences.mean(dim=0), torch.full((objectives,), 1 / objectives, dtype=torch.float64), atol=0.05, rtol=0
        )


@pytest.mark.parametrize("bad", [{"samples": 1}, {"anchors": 1}, {"width": 0.0}, {"lr": -1.0}, {"entropy": -0.1}])
def test_settings_out_of_bounds_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|negative"):
        made(**bad)
