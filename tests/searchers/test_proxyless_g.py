"""Gate gradients against the softmax's own derivative, the rescaling, and the expected cost."""

import itertools
import math
from typing import Any

import pytest
import torch

from searchers.proxyless_g import ProxylessG

PRICES = [[1.0, 4.0, 2.0], [0.0, 3.0], [7.0]]
SIZES = (3, 2, 1)


def made(**settings: Any) -> ProxylessG:
    given = {"rounds": 20, "steps": 40, "additive": [(10.0, PRICES)], "warmup": 0.0, "every": 1, "scale": 0.7, "seed": 2}
    return ProxylessG(SIZES, **{**given, "targets": 1, **settings})


def gradient(searcher: ProxylessG) -> torch.Tensor:
    assert searcher.policy.logits.grad is not None
    return searcher.policy.logits.grad.clone()


def test_all_gates_give_the_exact_gradient_of_a_linear_loss() -> None:
    searcher = made(gates="all", term="add-linear", strength=0.0, targets=[1.0])
    slopes = ((0.3, -0.2, 0.9), (0.5, 0.1), (2.0,))
    p = searcher.policy.probabilities()
    rows = torch.stack([torch.nn.functional.pad(torch.tensor(r, dtype=torch.float64), (0, 3 - len(r))) for r in slopes])
    (expected,) = torch.autograd.grad((p * rows).sum(), searcher.policy.logits)
    mixture = searcher.relax()
    assert mixture is not None and mixture.wanted == ((True,) * 3, (True,) * 2, (True,))
    assert all(len(active) == 1 for active in mixture.active())
    searcher.descend(1.0, slopes)
    assert torch.allclose(gradient(searcher), expected, atol=1e-12)
    assert torch.allclose(gradient(searcher).sum(dim=1), torch.zeros(3, dtype=torch.float64), atol=1e-12)


def test_two_paths_are_compared_by_their_own_softmax() -> None:
    searcher = made(gates="two", term="add-linear", strength=0.0, targets=[1.0])
    slopes = ((0.3, -0.2, 0.9), (0.5, 0.1), (2.0,))
    mixture = searcher.relax()
    assert mixture is not None and mixture.wanted is not None
    (i, k) = [o for o, wanted in enumerate(mixture.wanted[0]) if wanted]
    assert sum(mixture.wanted[1]) == 2 and sum(mixture.wanted[2]) == 1
    assert all(
        set(active) <= {o for o, w in enumerate(row) if w} for active, row in zip(mixture.active(), mixture.wanted, strict=True)
    )
    q = searcher.policy.logits.detach()[0, [i, k]].softmax(dim=0)
    searcher.descend(1.0, slopes)
    expected = float(q[0] * q[1]) * (slopes[0][i] - slopes[0][k])
    found = gradient(searcher)[0]
    assert float(found[i]) == pytest.approx(expected) and float(found[k]) == pytest.approx(-expected)
    assert float(found.abs().sum()) == pytest.approx(2 * abs(expected))


def test_after_the_rescaling_the_two_share_what_they_had() -> None:
    searcher = made(gates="two", term="add-linear", strength=0.0, targets=[1.0], lr=0.3)
    for _ in range(20):
        before = searcher.policy.probabilities().detach()
        mixture = searcher.relax()
        assert mixture is not None and mixture.wanted is not None
        searcher.descend(1.0, ((0.3, -0.2, 0.9), (0.5, 0.1), (2.0,)))
        after = searcher.policy.probabilities().detach()
        for choice, row in enumerate(mixture.wanted):
            pair = [o for o, wanted in enumerate(row) if wanted]
            others = [o for o in range(SIZES[choice]) if o not in pair]
            assert torch.allclose(after[choice, others], before[choice, others], atol=1e-9)
            assert float(after[choice, pair].sum()) == pytest.approx(float(before[choice, pair].sum()), abs=1e-9)
        better, worse = 1, 0
        assert float(after[1, better]) > float(before[1, better]) and float(after[1, worse]) < float(before[1, worse])


def test_paths_that_were_not_sampled_stand_still_though_adam_has_moved_them_before() -> None:
    searcher = ProxylessG(
        (4,), rounds=20, steps=40, additive=[(1.0, [[1.0, 2.0, 3.0, 4.0]])], warmup=0.0, every=1, lr=0.1, term="add-linear"
    )
    for _ in range(30):
        before = searcher.policy.logits.detach().clone()
        mixture = searcher.relax()
        assert mixture is not None and mixture.wanted is not None
        searcher.descend(1.0, ((1.0, -1.0, 2.0, 0.5),))
        out = [o for o, wanted in enumerate(mixture.wanted[0]) if not wanted]
        assert torch.equal(searcher.policy.logits.detach()[0, out], before[0, out])


def test_the_expected_cost_is_the_expectation() -> None:
    searcher = made()
    p = searcher.policy.probabilities().detach()
    enumerated = 0.0
    for a in itertools.product(*(range(n) for n in SIZES)):
        chance = float(torch.stack([p[i, o] for i, o in enumerate(a)]).prod())
        enumerated += chance * (10.0 + sum(PRICES[i][o] for i, o in enumerate(a)))
    assert float(searcher._expected(p)[0]) == pytest.approx(enumerated) and searcher.targets[0] == pytest.approx(enumerated)


@pytest.mark.parametrize("term", ["mul-log", "add-linear"])
def test_the_cost_term_by_finite_differences(term: Any) -> None:
    searcher = made(gates="all", term=term, targets=[14.0], strength=0.4)
    ce, slopes = 1.7, ((0.3, -0.2, 0.9), (0.5, 0.1), (2.0,))
    start = searcher.policy.logits.detach().clone()

    def loss(logits: torch.Tensor) -> float:
        p = logits.masked_fill(~searcher.policy.alive, -torch.inf).softmax(dim=1)
        # CE moves by its gates, from the value it has at the start.
        base = start.masked_fill(~searcher.policy.alive, -torch.inf).softmax(dim=1)
        moved = ce + sum(float((p - base)[i, o]) * s for i, row in enumerate(slopes) for o, s in enumerate(row))
        expected = 10.0 + sum(float(p[i, o]) * c for i, row in enumerate(PRICES) for o, c in enumerate(row))
        if term == "add-linear":
            return moved + 0.4 * (expected - 14.0) / 14.0
        return 0.2 * moved * (math.log(expected) / math.log(14.0)) ** 0.3

    searcher.relax()
    searcher.descend(ce, slopes)
    found = gradient(searcher)
    for choice, option in ((0, 0), (0, 2), (1, 1)):
        nudge = torch.zeros_like(start)
        nudge[choice, option] = 1e-5
        slope = (loss(start + nudge) - loss(start - nudge)) / 2e-5
        assert float(found[choice, option]) == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_it_finds_the_better_option_and_heeds_the_cost() -> None:
    for strength, winner in ((0.0, 1), (40.0, 0)):
        searcher = made(gates="all", term="add-linear", strength=strength, lr=0.1)
        for _ in range(60):
            assert searcher.relax() is not None
            searcher.descend(1.0, ((0.5, -0.5, 0.5), (0.1, -0.1), (0.0,)))
            searcher.train_on(1)
        assert searcher.derive() == [(winner, 0 if strength else 1, 0)]


def test_weights_alone_train_at_first_and_paths_are_single() -> None:
    searcher = made(warmup=0.5, every=5)
    asked = []
    for step in range(40):
        asked.append(searcher.relax() is not None)
        assert all(len(active) == 1 for active in searcher.train_on(1)[0].active())
        assert (searcher.ask(3) == []) == (step < 20)
    assert [i for i, yes in enumerate(asked) if yes] == [20, 25, 30, 35]


@pytest.mark.parametrize(
    "bad",
    [
        {"additive": [None]},
        {"additive": []},
        {"targets": [0.5]},
        {"targets": [5.0, 5.0]},
        {"every": 0},
        {"warmup": 1.0},
        {"lr": 0.0},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        made(**bad)


def test_a_limit_costs_nothing_below_and_its_slope_above() -> None:
    """Beside a loss without one; the expected cost of these logits is about 15."""
    flat = ((0.0,) * 3, (0.0,) * 2, (0.0,))

    def slope(**settings: Any) -> torch.Tensor:
        searcher = made(gates="all", term="add-linear", strength=0.0, targets=[1.0], **settings)
        assert searcher.relax() is not None
        searcher.descend(1.0, flat)
        return gradient(searcher)

    assert not slope(limits=[30.0], penalty=2.0).any() and not slope().any()
    searcher = made()
    p = searcher.policy.probabilities()
    rows = torch.tensor([[1.0, 4.0, 2.0], [0.0, 3.0, 0.0], [7.0, 0.0, 0.0]], dtype=torch.float64)
    (expected,) = torch.autograd.grad(2.0 * (10.0 + (p * rows).sum()) / 5.0, searcher.policy.logits)
    assert torch.allclose(slope(limits=[5.0], penalty=2.0), expected)


@pytest.mark.parametrize("term", ["mul-log", "add-linear"])
def test_limits_of_several_costs_by_finite_differences(term: Any) -> None:
    """One cost is above its limit, one below, one has none; the rest of the loss is the same without limits."""
    other = [[5.0, 1.0, 0.0], [2.0, 9.0], [3.0]]
    fixed, rows, limits = (10.0, 20.0, 4.0), (PRICES, other, other), (12.0, 90.0, None)
    ce, slopes = 1.7, ((0.3, -0.2, 0.9), (0.5, 0.1), (2.0,))

    def stepped(**settings: Any) -> torch.Tensor:
        additive = list(zip(fixed, rows, strict=True))
        searcher = made(gates="all", term=term, costs=3, additive=additive, penalty=2.5, **settings)
        assert searcher.relax() is not None
        searcher.descend(ce, slopes)
        return gradient(searcher)

    start = made().policy

    def broken(logits: torch.Tensor) -> float:
        p = logits.masked_fill(~start.alive, -torch.inf).softmax(dim=1)
        total = 0.0
        for base, prices, limit in zip(fixed, rows, limits, strict=True):
            expected = base + sum(float(p[i, o]) * c for i, row in enumerate(prices) for o, c in enumerate(row))
            total += 0.0 if limit is None else 2.5 * max(0.0, expected / limit - 1)
        return total

    found = stepped(limits=limits) - stepped()
    logits = start.logits.detach()
    assert broken(logits) > 0 and found.any()
    for choice, option in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        nudge = torch.zeros_like(logits)
        nudge[choice, option] = 1e-5
        slope = (broken(logits + nudge) - broken(logits - nudge)) / 2e-5
        assert float(found[choice, option]) == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_targets_take_turns_and_only_the_one_whose_turn_it_is_moves() -> None:
    searcher = made(targets=[19.0, 22.0])
    for turn in (0, 1, 0):
        before = [policy.logits.detach().clone() for policy in searcher.policies]
        assert searcher.relax() is not None
        searcher.descend(1.0, ((0.3, -0.2, 0.9), (0.5, 0.1), (2.0,)))
        moved = [not torch.equal(p.logits, b) for p, b in zip(searcher.policies, before, strict=True)]
        assert moved == [turn == 0, turn == 1]
    assert len(searcher.train_on(5)) == 5 and len(made(targets=None).policies) == 9


def test_a_target_costs_nothing_below_and_the_slope_of_the_logarithm_above() -> None:
    """The expected cost of these logits is about 20."""
    flat = ((0.0,) * 3, (0.0,) * 2, (0.0,))

    def slope(target: float) -> torch.Tensor:
        searcher = made(gates="all", targets=[target, 24.0], penalty=2.0)
        assert searcher.relax() is not None
        searcher.descend(1.0, flat)
        return searcher.policies[0].logits.grad  # type: ignore[return-value]

    searcher = made()
    p = searcher.policy.probabilities()
    rows = torch.tensor([[1.0, 4.0, 2.0], [0.0, 3.0, 0.0], [7.0, 0.0, 0.0]], dtype=torch.float64)
    (expected,) = torch.autograd.grad(2.0 * (10.0 + (p * rows).sum()).log(), searcher.policy.logits)
    assert torch.allclose(slope(18.5), expected) and not slope(23.5).any()


def test_the_most_probable_network_within_each_target_is_derived() -> None:
    searcher = made(targets=[18.0, 20.0, 24.0])
    for policy, (bound,), found in zip(searcher.policies, searcher.bounds or [], searcher._within_targets(), strict=True):
        p = policy.probabilities().detach()
        best, chance = None, -1.0
        for a in itertools.product(*(range(n) for n in SIZES)):
            if 10.0 + sum(PRICES[i][o] for i, o in enumerate(a)) <= bound:
                new = float(torch.stack([p[i, o] for i, o in enumerate(a)]).prod())
                best, chance = (a, new) if new > chance else (best, chance)
        assert found == best
    searcher.train_on(1)
    assert searcher.ask(3) == searcher._within_targets()


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"term": "add-linear"}, "term"), ({"power": 0.1}, "power"), ({"targets": [99.0, 20.0]}, "99 lies outside")],
)
def test_what_does_not_go_with_several_targets_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**{"targets": 3, **settings})
