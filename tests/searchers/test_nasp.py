"""Projections against brute force, two edges a node, and where the gradient is taken."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from searchers.nasp import Nasp

pytestmark = pytest.mark.numeric

# Two nodes with two and three edges into them; option 0 of each stands for no edge.
SIZES = (4,) * 5
NODE_INPUTS = ((0, 1), (2, 3, 4))


def made(**settings: Any) -> Nasp:
    given = {"rounds": 10, "steps": 100, "node_inputs": NODE_INPUTS, "none_option": (0,) * 5, "noise": 0.2, "seed": 1}
    return Nasp(SIZES, **{**given, **settings})


def test_projection_is_the_nearest_point_with_one_entry() -> None:
    """Onto {one entry in [0, 1], the rest 0}: brute force over which entry stays."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        searcher = made(node_inputs=(), none_option=None, edges=0)
        row = rng.uniform(-1, 2, 4)
        with torch.no_grad():
            searcher.copies[0][0] = torch.tensor(row).clamp(0, 1)
        best = min(range(4), key=lambda k: sum(row[j] ** 2 for j in range(4) if j != k) + (row[k] - np.clip(row[k], 0, 1)) ** 2)
        kept = searcher._projected(0)[0]
        assert kept == best or np.clip(row[best], 0, 1) == np.clip(row[kept], 0, 1)  # ties that clipping made


def test_two_edges_a_node_and_never_the_option_that_is_no_edge() -> None:
    searcher = made()
    with torch.no_grad():
        searcher.copies[0][:, 0] = 1.0  # no edge would win everywhere
        for choice, value in enumerate((0.9, 0.8, 0.3, 0.7, 0.5)):
            searcher.copies[0][choice, 1:] = torch.tensor([0.1, value, 0.2])
    mixture = searcher.train_on(1)[0]
    assert mixture.weights == ((0, 0, 1, 0), (0, 0, 1, 0), (0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 1, 0))
    assert searcher.ask(1) == [(2, 2, 0, 2, 2)]
    everything = made(edges=0)
    assert sum(sum(row) for row in everything.train_on(1)[0].weights) == 5


def test_all_operations_of_all_edges_are_asked_about_at_the_projected_point() -> None:
    mixture = made().relax()
    assert mixture is not None
    assert mixture.wanted == ((False, True, True, True),) * 5
    assert sorted(sum(row) for row in mixture.weights) == [0, 1, 1, 1, 1]


def test_entries_stay_in_the_box_and_off_the_corners() -> None:
    searcher = made(lr=0.2)
    rng = np.random.default_rng(0)
    for _ in range(30):
        searcher.relax()
        searcher.descend(1.0, tuple(tuple(rng.normal(size=4)) for _ in range(5)))
        assert float(searcher.copies[0].detach().min()) >= 0 and float(searcher.copies[0].detach().max()) <= 1
    assert any(0 < value < 1 for value in searcher.copies[0].detach()[:, 1:].flatten().tolist())


def test_the_first_step_is_adams_with_the_cotangents_as_gradient() -> None:
    searcher = made(weight_decay=0.0, lr=0.01, noise=0.01)
    before = searcher.copies[0].detach().clone()
    searcher.descend(1.0, tuple((9.0, 1.0, -1.0, 0.0) for _ in range(5)))
    moved = (searcher.copies[0].detach() - before)[:, :4]
    assert torch.allclose(moved, torch.tensor([0.0, -0.01, 0.01, 0.0], dtype=torch.float64).expand(5, 4), atol=1e-6)


def test_it_picks_the_best_operation_of_a_linear_loss() -> None:
    searcher = made(lr=0.05)
    for _ in range(60):
        searcher.descend(1.0, tuple((0.0, 0.3, -0.4, 0.1) for _ in range(5)))
    assert all(set(a) <= {0, 2} and a.count(2) == 4 for a in [*searcher.ask(1), *searcher.derive()])


def test_the_size_regulariser_pushes_the_large_operation_down() -> None:
    prices = [[0.0, 1.0, 50.0, 2.0]] * 5
    plain, sized = made(lr=0.01), made(lr=0.01, size=3.0, additive=[(0.0, prices)], targets=1)
    for searcher in (plain, sized):
        with torch.no_grad():
            searcher.copies[0][:, 2] = 0.9
        for _ in range(40):
            searcher.descend(1.0, ((0.0,) * 4,) * 5)
    assert float(sized.copies[0].detach()[0, 2]) < float(plain.copies[0].detach()[0, 2])
    # It does not run, so it costs nothing.
    assert float(sized.copies[0].detach()[0, 1]) == pytest.approx(float(plain.copies[0].detach()[0, 1]))
    with pytest.raises(ValueError, match="sum over operations"):
        made(size=1.0, additive=[None])


@pytest.mark.parametrize("cells", [True, False])
def test_with_several_targets_the_projection_is_the_nearest_network_within_each(cells: bool) -> None:
    prices = [[0.0, 1.0, 2.0, 5.0]] * 5
    nodes = {} if cells else {"node_inputs": (), "none_option": None, "edges": 0}
    searcher = made(additive=[(1.0, prices)], targets=[6.0, 12.0], noise=0.5, **nodes)
    for copy, bound in enumerate((6.0, 12.0)):
        values = searcher.copies[copy].detach()
        best = -1.0
        for options in itertools.product(range(4), repeat=5):
            kept = [sum(options[c] > 0 for c in node) for node in NODE_INPUTS]
            if 1.0 + sum(prices[0][o] for o in options) <= bound and (not cells or kept == [2, 2]):
                best = max(best, sum(float(values[c, o]) for c, o in enumerate(options) if not cells or o))
        projected = searcher._projected(copy)
        assert sum(float(values[c, o]) for c, o in enumerate(projected) if o is not None) == pytest.approx(best)
        assert 1.0 + sum(prices[0][o or 0] for o in projected) <= bound


def test_copies_take_turns_and_only_the_one_whose_turn_it_is_moves() -> None:
    searcher = made(additive=[(1.0, [[0.0, 1.0, 2.0, 5.0]] * 5)], targets=2)
    for turn in (0, 1, 0):
        before = [a.detach().clone() for a in searcher.copies]
        mixture = searcher.relax()
        searcher.descend(1.0, ((0.0, 1.0, -1.0, 0.5),) * 5)
        moved = [not torch.equal(a, b) for a, b in zip(searcher.copies, before, strict=True)]
        assert moved == [turn == 0, turn == 1]
        assert mixture is not None and len(searcher.train_on(1)) == 1
    assert len(searcher.ask(10)) == 5 and len(searcher.derive()) == 2


def test_with_several_targets_weights_train_around_the_projections_and_end_at_them() -> None:
    searcher = made(steps=60, additive=[(1.0, [[0.0, 1.0, 2.0, 5.0]] * 5)], targets=[6.0, 12.0])
    projections = [searcher._mixture(wanted=False).weights for searcher._turn in (0, 1)]
    searcher._turn = 0
    trained = [m.weights for m in searcher.train_on(60)]
    assert len(set(trained[:20])) > 5
    for turn, bound in ((0, 6.0), (1, 12.0)):
        costs = [1.0 + sum(w * p for row in m for w, p in zip(row, (0, 1, 2, 5), strict=True)) for m in trained[turn::2]]
        assert max(costs) <= bound
    assert [m.weights for m in searcher.train_on(2)] == projections


def test_targets_need_a_cost_that_is_a_sum_and_lie_within_it() -> None:
    assert made(additive=[None]).bounds is None
    with pytest.raises(ValueError, match="nothing to bound"):
        made(additive=[None], targets=3)
    with pytest.raises(ValueError, match="99 lies outside"):
        made(additive=[(1.0, [[0.0, 1.0, 2.0, 5.0]] * 5)], targets=[99.0])


def test_proposals_are_the_projection_and_its_neighbours() -> None:
    searcher = made(samples=6)
    here, *others = searcher.ask(10)
    assert len(others) == 5
    for other in others:
        assert sum(a != b for a, b in zip(here, other, strict=True)) <= 1
        assert all((a == 0) == (b == 0) for a, b in zip(here, other, strict=True))  # as many edges


def test_spaces_without_an_absent_option_run_one_of_each() -> None:
    searcher = made(node_inputs=(), none_option=None)
    assert all(sum(row) == 1 for row in searcher.train_on(1)[0].weights)
    drawn = set(itertools.chain.from_iterable(made(node_inputs=(), none_option=None, seed=s).ask(1) for s in range(30)))
    assert len({a[0] for a in drawn}) == 4  # noise breaks the ties that 0.5 everywhere would leave to the first option


@pytest.mark.parametrize("bad", [{"edges": -1}, {"lr": 0.0}, {"samples": 0}, {"noise": -1.0}])
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        made(**bad)
