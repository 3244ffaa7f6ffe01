"""The mixed operation by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestrator.spaces.parts.choice import Choice, MixedNetwork, Weights, Zero, keeping, total
from orchestrator.spaces.parts.depthwise import DepthwiseConv2d


class Counting(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.runs = factor, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        assert self.factor != 3.0 or not torch.is_grad_enabled()  # the third only ever runs alone, without a graph
        return x * self.factor


def test_an_option_of_weight_zero_is_not_run() -> None:
    options = [Counting(1.0), Counting(2.0), Counting(3.0)]
    network = MixedNetwork(Choice("c", dict(zip("abc", options, strict=True))), {"c": 0})
    x = torch.ones(2, 3)
    assert torch.equal(network(x, Weights([[0.25, 0.5, 0.0]])), 1.25 * x)
    assert [option.runs for option in options] == [1, 1, 0]


def test_cotangents_of_inactive_options_run_one_at_a_time_without_a_graph() -> None:
    options = [Counting(1.0), Counting(2.0), Counting(3.0)]
    network = MixedNetwork(Choice("c", dict(zip("abc", options, strict=True))), {"c": 0})
    x = torch.ones(2, 3, requires_grad=True)
    leaf = torch.zeros(2, requires_grad=True)
    network(x, Weights([[1.0, 0.0, 0.0]], [((1, 2), leaf)])).sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [12.0, 18.0]
    assert x.grad is not None and torch.equal(x.grad, torch.ones(2, 3))


def test_cotangents_where_nothing_is_active_at_another_shape_of_output() -> None:
    """NASP prunes edges, and still asks what their operations would be worth."""
    conv = nn.Conv2d(2, 5, 3, stride=2, padding=1, bias=False).double()  # a sum near 0 is mostly rounding in single precision
    network = MixedNetwork(Choice("c", {"conv": conv, "none": Zero()}), {"c": 0})
    x, leaf = torch.randn(1, 2, 8, 8).double(), torch.zeros(1, requires_grad=True, dtype=torch.float64)
    y = network(x, Weights([[0.0, 0.0]], [((0,), leaf)]))
    assert y.shape == (1, 5, 4, 4) and not y.any()
    y.sum().backward()
    assert leaf.grad is not None and torch.allclose(leaf.grad, conv(x).sum())
    assert conv.weight.grad is None


def test_zero_adds_nothing_and_costs_nothing() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(x + Zero()(x), x) and Zero()(x).dim() == 0
    assert total([Zero()(x), x, Zero()(x)]) is x
    network = MixedNetwork(Choice("c", {"none": Zero(), "same": nn.Identity()}), {"c": 0})
    assert torch.equal(network(x, Weights([[0.5, 0.5]])), 0.5 * x)
    assert network(x, Weights([[1.0, 0.0]])).dim() == 0


def test_options_are_made_only_where_they_are_kept() -> None:
    made: list[str] = []

    def option(name: str) -> nn.Module:
        made.append(name)
        return nn.Identity()

    with keeping({"c": [1]}):
        choice = Choice("c", {name: (lambda name=name: option(name)) for name in "abc"})
    assert made == ["b"] and list(choice.options) == ["1"]


def test_a_choice_outside_of_its_supernet_says_so() -> None:
    with pytest.raises(RuntimeError, match="'c' has no weights"):
        Choice("c", {"a": nn.Identity()})(torch.zeros(1))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_depthwise_convolution_is_torchs(kernel: int, stride: int, dilation: int) -> None:
    conv = DepthwiseConv2d(3, kernel, stride, dilation).double()
    for size in ((8, 8), (7, 5), (9, 6)):
        x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
        ours, theirs = conv(x), nn.Conv2d.forward(conv, x)
        assert torch.allclose(ours, theirs, atol=1e-12)
        upstream = torch.randn_like(ours)
        for a, b in zip(*(torch.autograd.grad(y, (x, conv.weight), upstream) for y in (ours, theirs)), strict=True):
            assert torch.allclose(a, b, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(conv(x), nn.Conv2d.forward(conv, x))
