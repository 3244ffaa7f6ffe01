"""Promises that every searcher keeps."""

import math
from typing import Any

import pytest
import torch

from orchestrator import registry as names
from orchestrator.config.experiment import find_searcher
from searchers import Evaluation, GradientSearcher, SearchContext, Searcher
from searchers.parts.additive import Additive

SIZES = (5, 3, 5, 2)
ROUNDS = 24


class Sum:
    """A cost that is a sum over the options."""

    def additive(self) -> Additive:
        return 5.0, [[10.0 * (i + 1) * o for o in range(size)] for i, size in enumerate(SIZES)]


def made(name: str, seed: int = 0) -> Searcher:
    context = SearchContext(SIZES, rounds=ROUNDS, steps=2 * ROUNDS, seed=seed, cost_models=[Sum()])
    return find_searcher(name).build(context)


def cost(architecture: tuple[int, ...]) -> tuple[float, ...]:
    return (20.0 + 3.0 * sum(architecture), 1.0 + sum(a * (i + 1) for i, a in enumerate(architecture)))


def play(searcher: Searcher, rounds: int) -> list[Any]:
    """Collect what a searcher proposes in `rounds` rounds, told the truth each time."""
    said: list[Any] = []
    for _ in range(rounds):
        said.append([m.weights for m in searcher.train_on(2)])
        if isinstance(searcher, GradientSearcher):
            mixture = searcher.relax()
            if mixture is not None:
                searcher.descend(2.0, tuple(tuple(0.1 * (i + 1) for i in range(len(row))) for row in mixture.weights))
        asked = searcher.ask(10)
        said.append(asked)
        if asked:
            searcher.tell([Evaluation(a, cost(a)) for a in asked])
    return said


@pytest.fixture(params=names.known("searcher"))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    return str(request.param)


def test_proposals_lie_in_what_survives(name: str) -> None:
    searcher = made(name)
    asked = 0
    for _ in range(ROUNDS):
        options = searcher.stage.options
        for row in (r for m in searcher.train_on(1) for r in [m.active()]):
            assert all(set(active) <= set(left) for active, left in zip(row, options, strict=True))
        drawn = searcher.ask(7)
        assert len(drawn) <= 7
        asked += len(drawn)
        for a in drawn:
            assert all(k in left for k, left in zip(a, options, strict=True))
        if drawn:
            searcher.tell([Evaluation(a, cost(a)) for a in drawn])
    assert asked


def test_same_seed_same_proposals_and_another_seed_others(name: str) -> None:
    assert play(made(name), ROUNDS) == play(made(name), ROUNDS)
    assert play(made(name), ROUNDS) != play(made(name, seed=1), ROUNDS)


@pytest.mark.parametrize("after", [1, 7, 8, 15, 20])
def test_saved_and_restored_it_goes_on_identically(name: str, after: int, tmp_path: Any) -> None:
    straight = made(name)
    play(straight, after)
    torch.save(straight.state_dict(), tmp_path / "state.pt")
    restored = made(name, seed=99)
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert restored.stage == straight.stage
    assert play(restored, ROUNDS - after) == play(straight, ROUNDS - after)


@pytest.mark.parametrize("portions", [1, 3])
def test_the_order_of_what_is_told_makes_no_difference(name: str, portions: int) -> None:
    there, back = made(name), made(name)
    for _ in range(ROUNDS):
        assert there.train_on(1) == back.train_on(1)
        asked = there.ask(9)
        assert back.ask(9) == asked
        if not asked:
            continue
        told = [Evaluation(a, cost(a)) for a in asked]
        there.tell(told)
        for i in range(min(portions, len(told))):  # in another order, and as it comes
            back.tell(told[::-1][i::portions])


def test_the_global_generator_is_left_alone(name: str) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    play(made(name), ROUNDS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_probabilities_match_the_sizes(name: str) -> None:
    rows = made(name).probabilities()
    if rows is not None:
        assert [len(row) for row in rows] == list(SIZES)
        assert all(sum(row) == pytest.approx(1) for row in rows)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_told_is_finite(value: float) -> None:
    """Refused where an evaluation is made, so that no searcher is ever told."""
    for costs, violation in (((1.0, value), 0.0), ((1.0, 2.0), value)):
        with pytest.raises(ValueError, match=r"architecture \(3, 1\).*finite"):
            Evaluation((3, 1), costs, violation)
