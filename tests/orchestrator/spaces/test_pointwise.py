"""Strided 1x1 convolutions: gradients that a CPU gets right, and that networks of all spaces have them."""

import copy

import pytest
import torch
from torch import nn

import paretoray as pr
from orchestrator.spaces.parts.pointwise import PointwiseConv2d, take_strides_first


@pytest.mark.parametrize("channels", [1, 4, 6, 12, 16])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_the_formula(channels: int, stride: int, layout: torch.memory_format, training: bool) -> None:
    """With few channels and channels last, torch's own are wrong or abort the process."""
    torch.manual_seed(0)
    conv = PointwiseConv2d(channels, 8, 1, stride).train(training)
    for _ in range(20):
        x = torch.randn(16, channels, 9, 9).to(memory_format=layout).requires_grad_()
        upstream = torch.randn(conv(x).shape)
        to_x, to_weight = torch.autograd.grad(conv(x), (x, conv.weight), upstream)
        kept = x.detach()[:, :, ::stride, ::stride]
        assert torch.allclose(to_weight[:, :, 0, 0], torch.einsum("nohw,nchw->oc", upstream, kept), rtol=1e-4, atol=1e-4)
        expected = torch.zeros_like(x)
        expected[:, :, ::stride, ::stride] = torch.einsum("nohw,oc->nchw", upstream, conv.weight.detach()[:, :, 0, 0])
        assert torch.allclose(to_x, expected, atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(conv(x), nn.functional.conv2d(x, conv.weight, conv.bias, stride), atol=1e-5)


def test_an_exported_program_has_an_ordinary_convolution() -> None:
    program = torch.export.export(PointwiseConv2d(4, 8, 1, 2).eval(), (torch.zeros(2, 4, 6, 6),))
    assert [str(node.target) for node in program.graph.nodes if node.op == "call_function"] == ["aten.conv2d.default"]


def test_only_strided_1x1_convolutions_without_padding_are_turned_into_them() -> None:
    turned = nn.Sequential(nn.Conv2d(4, 8, 1, 2), nn.Conv2d(4, 8, 1, (2, 1), bias=False), nn.Conv2d(4, 8, 1, 2, groups=2))
    left = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(4, 8, 1, 2, 1), nn.Conv1d(4, 8, 1, 2))
    before, x = copy.deepcopy(turned), torch.randn(2, 4, 7, 6)
    network = nn.ModuleList([turned, left])
    take_strides_first(network)
    assert all(type(m) is PointwiseConv2d for m in turned) and not any(isinstance(m, PointwiseConv2d) for m in left)
    assert all(torch.allclose(new(x), old(x), atol=1e-6) for new, old in zip(turned, before, strict=True))
    assert turned.state_dict().keys() == before.state_dict().keys()


@pytest.mark.parametrize("name", ["darts", "nas-bench-macro", "tests.orchestrator.spaces.elastic_models:build"])
def test_networks_and_supernets_have_them(name: str) -> None:
    space = pr.Problem(name, "digits", ["error", "parameters"]).space
    networks = [space.network(tuple(0 for _ in space.sizes))]
    if not space.pretrained:  # whose supernet makes each network as it runs
        networks.append(space.supernet(0, tuple(tuple(range(n)) for n in space.sizes)))
    for network in networks:
        strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1)]
        assert {type(m) for m in strided} == {PointwiseConv2d}
