"""NSGA-Net's macro space: decoding, repair, duplicates, and that mixtures are refused."""

from __future__ import annotations

import itertools

import pytest
import torch

from orchestrator.spaces.nsga_net_macro import NsgaNetMacro, decode
from orchestrator.spaces.parts.choice import Weights
from tests.orchestrator.spaces.small import drawn, everything, small


def test_forty_eight_bits() -> None:
    space = NsgaNetMacro()
    assert len(space.choices) == 48 and set(space.sizes) == {2}


def test_all_ones_is_the_dense_graph() -> None:
    assert decode([1] * 7, 4) == {1: [0], 2: [1], 3: [1, 2], 4: [1, 2, 3], 5: [0, 4]}


def test_repair() -> None:
    # 1 -> 2 and 3 -> 4: the sources get the phase's input, the sinks feed its output.
    assert decode([1, 0, 0, 0, 0, 1, 0], 4) == {1: [0], 2: [1], 3: [0], 4: [3], 5: [2, 4]}
    # 2 -> 4 alone: nodes 1 and 3 have neither inputs nor outputs.
    assert decode([0, 0, 0, 0, 1, 0, 1], 4) == {2: [0], 4: [2], 5: [0, 4]}
    assert decode([0, 0, 0, 0, 0, 0, 1], 4) == {}


def test_strings_that_decode_to_one_graph_are_duplicates() -> None:
    space = NsgaNetMacro(nodes=4, channels=[8])

    def key(text: str) -> object:
        return space.canonical(space.parse(text))

    # One edge between any two nodes is always the same pair of convolutions.
    assert key("[1][00][000][0]") == key("[0][00][010][0]") == key("[0][01][000][0]")
    assert key("[1][00][000][0]") != key("[1][00][000][1]")
    assert key("[0][00][000][0]") == key("[0][00][000][1]")  # the shortcut of a phase that is not there
    networks = {space.canonical(a) for a in drawn(space, 400)}
    assert 20 < len(networks) < len(set(drawn(space, 400)))


def test_duplicates_compute_the_same() -> None:
    space = small("nsga-net-macro", channels=[4])
    alike: dict[object, tuple[int, ...]] = {}
    for architecture in itertools.product(range(2), repeat=7):
        other = alike.setdefault(space.canonical(architecture), architecture)
        assert space.parameters(other) == space.parameters(architecture)
        assert space.macs(other) == space.macs(architecture)
    assert 30 < len(alike) < 120


def test_a_network_of_nothing_still_runs() -> None:
    space = small("nsga-net-macro")
    nothing = (0,) * len(space.choices)
    network = space.network(nothing)
    assert network(torch.zeros(2, *space.image)).shape == (2, 10)
    assert space.parameters(nothing) == space.image[0] * 10 + 10


def test_gradients_reach_only_the_layers_of_the_path() -> None:
    space = small("nsga-net-macro")
    supernet = space.supernet(0, everything(space)).train()
    for architecture in drawn(space, 5):
        supernet.zero_grad(set_to_none=True)
        rows = [[float(o == b) for o in range(2)] for b in architecture]
        supernet(torch.randn(4, *space.image), Weights(rows)).square().sum().backward()
        reached = {name.removeprefix("network.") for name, p in supernet.named_parameters() if p.grad is not None}
        assert reached == {name for name, _ in space.network(architecture).named_parameters()}


def test_mixtures_are_refused_with_advice() -> None:
    space = small("nsga-net-macro")
    supernet = space.supernet(0, everything(space))
    with pytest.raises(ValueError, match="one network at a time"):
        supernet(torch.zeros(1, *space.image), Weights([[0.5, 0.5]] * len(space.choices)))


@pytest.mark.parametrize(
    ("text", "position"),
    [("", 0), ("[1][00][000][0", 14), ("[1][0][000][0]", 5), ("[2][00][000][0]", 1), ("[1][00][000][0]-[1]", 15)],
)
def test_bad_strings_are_refused_at_their_position(text: str, position: int) -> None:
    with pytest.raises(ValueError, match=rf"position {position}\b"):
        NsgaNetMacro(nodes=4, channels=[8]).parse(text)


def test_impossible_spaces_are_refused() -> None:
    for bad in ({"nodes": 1}, {"channels": []}, {"image": (3, 5, 5)}):
        with pytest.raises(ValueError):
            NsgaNetMacro(**bad)  # type: ignore[arg-type]
