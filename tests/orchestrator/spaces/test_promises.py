"""Promises of every space: its notation, its counts, and a supernet that equals the standalone networks."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from analysis import drawing
from orchestrator import registry as names
from orchestrator.data.dataset import Dataset
from orchestrator.evaluators.supernet import Supernet
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.choice import Choice, SkipDropout, Weights, decided, extract
from searchers import Mixture, Stage
from tests.orchestrator.spaces.small import RELAXED, SPACES, drawn, everything, small


def one_hot(architecture: tuple[int, ...], sizes: tuple[int, ...]) -> Weights:
    return Weights(Mixture.one_hot(architecture, sizes).weights)


def test_all_spaces_are_tested() -> None:
    assert names.known("space") == SPACES


@pytest.mark.parametrize("name", SPACES)
def test_notation_round_trip(name: str) -> None:
    space = small(name)
    for architecture in drawn(space, 50):
        assert space.parse(space.format(architecture)) == architecture
    assert len({space.format(a) for a in drawn(space, 50)}) == len(set(drawn(space, 50)))


@pytest.mark.parametrize("name", SPACES)
def test_skips_are_the_options_that_pass_their_input_on(name: str) -> None:
    space = small(name)
    marked = {choice.name: row for choice, row in zip(space.choices, space.skips, strict=True)}
    assert [len(row) for row in space.skips] == list(space.sizes)
    for place in decided(space.build()):
        if isinstance(place, Choice):
            for index, option in place.options.items():
                bare = isinstance(option, torch.nn.Identity | SkipDropout)
                # Where shapes change, a skip has to do something, too.
                assert bare <= marked[place.name][int(index)], (place.name, option)
    lacking = ("ddpnas-mobile", "nsga-net-macro")
    assert any(any(row) for row in space.skips) is (name not in lacking)


@pytest.mark.parametrize("name", SPACES)
def test_damaged_notation_is_refused_with_a_position(name: str) -> None:
    space = small(name)
    rng = np.random.default_rng(1)
    refused = 0
    for architecture in drawn(space, 60):
        text = space.format(architecture)
        at = int(rng.integers(len(text)))
        damaged = [text[:at] + text[at + 1 :], text[:at] + "?" + text[at:], text[:at] + "5" + text[at + 1 :]][
            int(rng.integers(3))
        ]
        try:
            read = space.parse(damaged)
        except ValueError as error:
            found = re.search(r"position (\d+)", str(error))
            assert found, error
            assert 0 <= int(found.group(1)) <= len(damaged)
            if "?" in damaged:  # no notation has this sign, so reading ends at the token that it stands in or before
                assert at - 16 <= int(found.group(1)) <= at, error
            refused += 1
        else:
            assert "?" not in damaged
            assert re.sub(r"\s", "", space.format(read)) == re.sub(r"\s", "", damaged)
    assert refused > 20
    for bad in ("", " ", "?", space.format(next(drawn(space, 1))) + "!"):
        with pytest.raises(ValueError, match=r"position \d+"):
            space.parse(bad)


@pytest.mark.parametrize("name", SPACES)
def test_arithmetic_equals_the_built_network(name: str) -> None:
    space = small(name)
    for architecture in [*drawn(space, 10), space.largest()]:
        network = space.network(architecture).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            scores = network(torch.zeros(1, *space.image))
        assert scores.shape == (1, space.classes)
        assert space.parameters(architecture) == sum(p.numel() for p in network.parameters())
        assert 2 * space.macs(architecture) == counter.get_total_flops()  # torch counts two for each
        operations = space.operations(architecture)
        assert sum(o.parameters for o in operations) == space.parameters(architecture)
        assert sum(o.macs for o in operations) == space.macs(architecture)


@pytest.mark.parametrize("name", SPACES)
def test_counting_builds_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = small(name)
    first = space.parameters((0,) * len(space.sizes))
    monkeypatch.setattr(type(space), "build", lambda self: pytest.fail("built a network to count it"))
    assert space.parameters((0,) * len(space.sizes)) == first
    assert space.macs(space.largest()) >= space.macs((0,) * len(space.sizes)) > 0


@pytest.mark.parametrize("name", SPACES)
def test_one_hot_supernet_is_the_standalone_network(name: str) -> None:
    space = small(name)
    torch.manual_seed(0)
    supernet = space.supernet(0, everything(space)).double().train()
    x = torch.randn(4, *space.image, dtype=torch.float64)
    plain = 0
    for architecture in drawn(space, 22):
        shared = supernet(x, one_hot(architecture, space.sizes))
        single = space.supernet(0, [(option,) for option in architecture]).double()
        assert not single.load_state_dict(supernet.state_dict(), strict=False).missing_keys
        path = extract(single.network, architecture).train()
        assert not list(decided(path))
        assert torch.allclose(shared, path(x), atol=1e-10, rtol=0)
        own = space.network(architecture).double().train()
        if own.state_dict().keys() == path.state_dict().keys():  # but for the pools' normalisation, which only supernets have
            own.load_state_dict(path.state_dict())
            assert torch.allclose(shared, own(x), atol=1e-10, rtol=0)
            plain += 1
    assert plain == 22 or name in ("darts", "nasp", "tnd-nas", "nsga-net-micro")


@pytest.mark.parametrize("name", RELAXED)
def test_gradients_reach_exactly_the_selected_options(name: str) -> None:
    space = small(name)
    supernet = space.supernet(0, everything(space)).train()
    whole = next(a for a in drawn(space, 1000, seed=5) if "none" not in _taken(space, a))
    for architecture in [whole, *drawn(space, 5)]:
        supernet.zero_grad(set_to_none=True)
        supernet(torch.randn(4, *space.image), one_hot(architecture, space.sizes)).square().sum().backward()
        parts = [
            (part, all((architecture[c] == o) is taken for c, o, taken in conditions))
            for place in decided(supernet)
            for _, part, conditions in place.parts()
        ]
        off = {id(p) for part, on in parts if not on for p in part.parameters()}
        assert off
        for path, parameter in supernet.named_parameters():
            assert parameter.grad is None or id(parameter) not in off, path
        if architecture == whole:  # elsewhere an option that is taken may be cut off behind a `none`
            for part, on in parts:
                assert not on or all(p.grad is not None or not p.requires_grad or id(p) in off for p in part.parameters())


def _taken(space: SearchSpace, architecture: tuple[int, ...]) -> list[str]:
    return [choice.options[option] for choice, option in zip(space.choices, architecture, strict=True)]


@pytest.mark.parametrize("name", RELAXED)
def test_cotangents_by_finite_differences(name: str, digits: Dataset) -> None:
    """Of active and inactive options, at a path and at a mixture."""
    space = small(name)
    supernet = Supernet(space, digits, batch=32, valid_batch=24)
    supernet.build(Stage(0, tuple(tuple(range(n)) for n in space.sizes), rounds=10), 10)
    supernet.model.double()
    supernet.data = type("Double", (), {"normalise": lambda self, x: digits.normalise(x).double()})()  # type: ignore[assignment]
    rng = np.random.default_rng(0)
    rows = [tuple(rng.dirichlet(np.ones(n))) for n in space.sizes]
    wanted = tuple((True,) * n for n in space.sizes)
    # A node that nothing enters is zero, where ReLU and max pooling have a kink; so the path has no `none`.
    path = next(a for a in drawn(space, 1000, seed=5) if "none" not in _taken(space, a))
    points = [Mixture.one_hot(path, space.sizes).weights, tuple(rows)]
    seen = 0.0
    for weights in points:
        _, cotangents = supernet.differentiate(Mixture(weights, wanted), 0)
        for _ in range(1 if name == "nsga-net-micro" else 3):  # whose supernet takes a second for each
            choice = int(rng.integers(len(space.sizes)))
            option = int(rng.integers(space.sizes[choice]))
            losses = []
            for nudge in (3e-8, -3e-8):  # ReLUs have their kinks nearby
                moved = [list(row) for row in weights]
                moved[choice][option] += nudge
                losses.append(supernet.differentiate(Mixture(tuple(map(tuple, moved))), 0)[0])
            slope = (losses[0] - losses[1]) / 6e-8
            assert cotangents[choice][option] == pytest.approx(slope, rel=1e-4, abs=1e-6), (choice, option)
            seen = max(seen, abs(slope))
    assert seen > 1e-4


@pytest.mark.parametrize("name", SPACES)
def test_a_space_can_be_sent_to_a_worker(name: str) -> None:
    space = small(name)
    clone = pickle.loads(pickle.dumps(space))
    architecture = space.largest()
    assert clone.format(architecture) == space.format(architecture)
    assert clone.parameters(architecture) == space.parameters(architecture)


@pytest.mark.parametrize("name", RELAXED)
def test_dropped_options_hold_no_parameters(name: str) -> None:
    space = small(name)
    whole = space.supernet(0, everything(space))
    kept = [(size - 1,) for size in space.sizes]
    few = space.supernet(0, kept)

    def count(network: torch.nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    assert count(few) < count(whole)
    whole.keep(kept)
    assert count(few) == count(whole)
    assert few.state_dict().keys() == whole.state_dict().keys()


@pytest.mark.parametrize("name", SPACES)
def test_drawings(name: str) -> None:
    space = small(name)
    for architecture in drawn(space, 6):
        drawings = space.drawing(architecture)
        assert drawings
        for title, graph in drawings.items():
            assert all(end in graph.boxes for arrow in graph.arrows for end in arrow)
            assert set(graph.kinds) <= set(graph.boxes)
            assert len(set(graph.arrows)) == len(graph.arrows)
            dot = graph.dot(title)
            assert dot.count("->") >= len(graph.arrows) and dot.count("label=") == len(graph.boxes)
            assert graph.lines()
            assert drawing.figure(graph, title).get_figwidth() < 40
