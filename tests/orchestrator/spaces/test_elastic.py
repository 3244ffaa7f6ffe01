"""Elastic spaces: what they find in a model, slices of its weights, costs by size, and what is refused."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock

from orchestrator.errors import InputError
from orchestrator.profiling.operations import operations
from orchestrator.spaces.elastic.space import ElasticSpace, elastic
from orchestrator.spaces.parts.choice import Weights
from orchestrator.spaces.parts.costs import unfused
from searchers import Architecture, Mixture
from tests.orchestrator.spaces.elastic_models import SmallResNet, efficientnet, mobilenet, resnet, transformer

MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "resnet": (resnet, {"depth": [0.5, 1]}),
    "mobilenet": (mobilenet, {"depth": [0.5, 1], "kernel": [3, 5]}),
    "efficientnet": (efficientnet, {"depth": [0.5, 1], "kernel": [3]}),
    "transformer": (transformer, {"depth": [0.5, 1]}),
}


def space_of(model: nn.Module, image: tuple[int, int, int] = (1, 8, 8), **how: Any) -> ElasticSpace:
    return ElasticSpace(elastic(model, **how).build, {}, image, 10)


@pytest.fixture(scope="module", params=MODELS)
def found(request: pytest.FixtureRequest) -> tuple[nn.Module, ElasticSpace]:
    make, how = MODELS[request.param]
    model = make().eval()
    return model, space_of(model, width=[0.5, 0.75, 1], **how)


def drawn(space: ElasticSpace, count: int) -> list[Architecture]:
    chance = random.Random(0)
    return [tuple(chance.randrange(size) for size in space.sizes) for _ in range(count)]


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_largest_network_is_the_model_to_the_last_bit(found: tuple[nn.Module, ElasticSpace]) -> None:
    model, space = found
    network = space.network(space.largest()).eval()
    with torch.no_grad():
        assert torch.equal(network(images(3)), model(images(3)))
    assert type(network) is type(model) and network.state_dict().keys() == model.state_dict().keys()


def test_costs_are_those_of_the_networks(found: tuple[nn.Module, ElasticSpace]) -> None:
    _, space = found
    for architecture in [space.largest(), (0,) * len(space.sizes), *drawn(space, 6)]:
        network = space.network(architecture).eval()
        # Without fused kernels, which hide products from the counter.
        with torch.no_grad(), unfused("cpu"), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network(images(1))
        assert space.parameters(architecture) == sum(p.numel() for p in network.parameters())
        assert space.macs(architecture) == counter.get_total_flops() // 2


def test_each_layer_can_be_measured_at_each_of_its_sizes(found: tuple[nn.Module, ElasticSpace]) -> None:
    _, space = found
    modules = operations(space)
    assert set(modules) == set(space.operation_costs.varying_parts)
    for part, (module, shapes) in modules.items():
        before, _, after = part.rpartition(" -> ")
        inputs = [torch.randn(1, *shape) for shape in shapes]
        assert before.endswith("x".join(map(str, inputs[0].shape[1:])))
        output = module.eval()(*inputs)
        assert after == "x".join(map(str, (output[0] if isinstance(output, tuple) else output).shape[1:]))


def test_the_supernet_runs_as_the_networks_it_gives(found: tuple[nn.Module, ElasticSpace]) -> None:
    _, space = found
    supernet = space.supernet(0, [range(size) for size in space.sizes])
    state = supernet.state_dict()
    for architecture in drawn(space, 3):
        alone = space.inheriting(architecture, state)
        for training in (True, False):
            weights = Weights(Mixture.one_hot(architecture, space.sizes).weights)
            alone.train(training)
            supernet.load_state_dict(state)
            supernet.train(training)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                one = supernet(images(4), weights)
                torch.manual_seed(0)
                assert torch.allclose(one, alone(images(4)), atol=1e-6)
        supernet.load_state_dict(state)
        supernet.train()
        supernet(images(4), weights).square().sum().backward()
        assert all(p.grad is None or p.grad.shape == p.shape for p in supernet.parameters())


def test_channels_that_go_are_those_that_shrink_together() -> None:
    """A sliced network computes what the whole one does once nothing reads the channels that are gone."""
    model = resnet().eval()
    space = space_of(model, width=[0.5, 1])
    for choice, axis in enumerate(space.blueprint.axes):
        architecture = tuple(int(i != choice) for i in range(len(space.sizes)))
        gone = axis.order[axis.counts[0] :]
        silent = resnet().eval()
        tensors = dict(silent.named_parameters())
        readers = [cut for cut in axis.cuts if cut.dim == 1]
        assert readers
        with torch.no_grad():
            for cut in readers:
                tensors[cut.tensor].index_fill_(1, cut.positions[gone].flatten(), 0.0)
            assert torch.allclose(space.network(architecture).eval()(images(3)), silent(images(3)), atol=1e-5)


def test_choices_of_a_residual_network() -> None:
    space = space_of(resnet(), width=[0.5, 0.75, 1], depth=[0.5, 1])
    assert {c.name: c.options for c in space.choices} == {
        "conv1/width": ("4", "6", "8"),
        "layer1/depth": ("1", "2"),
        "layer1.0.conv1/width": ("4", "6", "8"),
        "layer1.1.conv1/width": ("4", "6", "8"),
        "layer2/depth": ("1", "2"),
        "layer2.0.conv1/width": ("8", "12", "16"),
        "layer2.0.conv2/width": ("8", "12", "16"),
        "layer2.1.conv1/width": ("8", "12", "16"),
    }
    assert space.fixed == {"fc": "its channels are those of the scores"}
    text = space.format(space.uniform(0.75))
    assert text.startswith("conv1/width=6|layer1/depth=2|") and space.parse(text) == space.uniform(0.75)
    shallow = space.network(space.parse(text.replace("depth=2", "depth=1"))).get_submodule("layer2")
    assert isinstance(shallow[1], nn.Identity) and shallow[0].conv1.out_channels == 12


def test_stages_in_a_list_of_stages_are_no_blocks_themselves() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 8, 3)
            self.stages = nn.Sequential(*(nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8)) for _ in range(2)))
            self.last = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.stages(self.first(x)).mean((2, 3)))  # type: ignore[no-any-return]

    space = space_of(Nested(), depth=[0.5, 1])
    assert [c.name for c in space.choices] == ["stages.0/depth", "stages.1/depth"]
    assert isinstance(space.network((0, 1)).get_submodule("stages.0.1"), nn.Identity)


def test_a_space_that_has_run_can_be_sent_to_workers() -> None:
    space = space_of(resnet(), width=[0.5, 1], layers="conv1")
    small = space.supernet(0, [range(2)])
    small(images(2), Weights([[1.0, 0.0]]))
    carried = pickle.loads(pickle.dumps(space))
    assert carried.format((0,)) == space.format((0,)) and carried.macs((0,)) == space.macs((0,))


def test_the_most_important_channels_stay() -> None:
    model = SmallResNet()
    with torch.no_grad():
        for parameter in (model.layer1[0].conv1.weight, model.layer1[0].bn1.weight):
            parameter[[1, 4, 6, 7]] *= 100
    space = space_of(model, width=[0.5, 1], layers=["layer1.0.conv1"])
    small = space.network((0,)).get_submodule("layer1.0.conv1")
    assert torch.equal(small.weight, model.layer1[0].conv1.weight[[1, 4, 6, 7]])  # type: ignore[arg-type]


def test_a_smaller_kernel_is_the_centre_of_the_larger_one() -> None:
    model = mobilenet()
    space = space_of(model, kernel=[3, 5])
    (name,) = {c.name.removesuffix("/kernel") for c in space.choices if c.name.startswith("features.2.")}
    small = space.network((0,) * len(space.choices)).get_submodule(name)
    whole = model.get_submodule(name)
    assert torch.equal(small.weight, whole.weight[:, :, 1:4, 1:4])  # type: ignore[index, arg-type]
    assert small.kernel_size == (3, 3) and small.padding == (1, 1) and small.stride == whole.stride


def test_heads_and_hidden_neurons_of_a_transformer_shrink() -> None:
    model = transformer()
    space = space_of(model, width=[0.5, 1])
    names = [choice.name for choice in space.choices]
    assert len(names) == 4 and sum(name.endswith("/heads") for name in names) == 2
    assert any("nn.MultiheadAttention" in reason for reason in space.fixed.values())
    # The network of all but two heads is the whole one without what these two wrote.
    heads = names.index(next(name for name in names if name.endswith("/heads")))
    axis = space.blueprint.axes[heads]
    silent = transformer().eval()
    with torch.no_grad():
        output = silent.get_submodule(axis.layer).out_proj.weight  # type: ignore[union-attr]
        output.index_fill_(1, axis.cuts[-1].positions[axis.order[2:]].flatten(), 0.0)  # type: ignore[operator]
        small = space.network(tuple(int(i != heads) for i in range(4))).eval()
        assert torch.allclose(small(images(2)), silent(images(2)), atol=1e-5)


def test_concatenated_channels_shrink_where_they_are_read() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 6, 1)
            self.norm, self.last = nn.BatchNorm2d(10), nn.Linear(10 * 64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.norm(torch.cat([self.a(x), self.b(x)], 1)).flatten(1))  # type: ignore[no-any-return]

    space = space_of(Both(), width=[0.5, 1])
    assert [c.options for c in space.choices] == [("2", "4"), ("3", "6")]
    network = space.network((0, 1))
    assert network.norm.num_features == 8 and network.last.in_features == 8 * 64  # type: ignore[union-attr]
    weights = Weights(Mixture.one_hot((0, 1), space.sizes).weights)
    supernet = space.supernet(0, [range(2)] * 2).train()
    before = supernet.network.model.norm.running_mean.clone()  # type: ignore[union-attr, operator]
    supernet(images(4), weights)
    moved = supernet.network.model.norm.running_mean != before  # type: ignore[union-attr]
    assert int(moved.sum()) == 8  # type: ignore[union-attr, operator]


class Reading(SmallResNet):
    """Asks for values, which the meta device has none of."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * (1.0 if float(x.sum()) > 1e9 else 0.5))


def test_a_network_that_reads_values_is_counted_on_the_cpu() -> None:
    space = space_of(Reading(), width=[0.5, 1], layers="layer1.0.conv1")
    assert space.macs((0,)) < space.macs((1,))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=4)
        self.second, self.last = nn.Conv2d(8, 6, 1), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.grouped(self.first(x))).mean((2, 3)))  # type: ignore[no-any-return]


class Branching(SmallResNet):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 1:
            raise RuntimeError("one image")
        return super().forward(x)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: elastic("resnet18", width=[0.5]), "model is str; give a trained nn.Module"),  # type: ignore[arg-type]
    "nothing": (lambda: elastic(resnet()), "nothing may shrink; write width="),
    "width 0": (lambda: elastic(resnet(), width=[0, 1]), "width = 0; it is a fraction"),
    "width above 1": (lambda: elastic(resnet(), width=[0.5, 1.5]), "width = 1.5; it is a fraction"),
    "width in words": (lambda: elastic(resnet(), width="half"), "width = 'half'"),  # type: ignore[arg-type]
    "depth below 0": (lambda: elastic(resnet(), depth=-1), "depth = -1; it is a fraction"),
    "an even kernel": (lambda: elastic(mobilenet(), kernel=[4]), "kernel = 4; kernels have odd sizes"),
    "no multiple": (lambda: elastic(resnet(), width=[0.5], multiple=0), "multiple = 0; write a whole number"),
    "no block": (lambda: space_of(Grouped(), depth=[0.5, 1]), "no block of Grouped can be dropped"),
    "no fewer blocks": (lambda: space_of(resnet(), depth=[0.9, 1]), "write smaller fractions"),
    "no larger kernel": (lambda: space_of(mobilenet(), kernel=[7]), "no depthwise convolution with a larger kernel"),
    "no narrower": (lambda: space_of(resnet(), width=[0.99, 1]), "nothing of SmallResNet can shrink .*all fractions keep"),
    "a grouped layer": (
        lambda: space_of(Grouped(), width=[0.5], layers="first"),
        "first cannot shrink: grouped is a convolution of 4 groups",
    ),
    "an unknown layer": (lambda: space_of(resnet(), width=[0.5], layers="layer9*"), "no layer that can shrink has this name"),
    "other classes": (lambda: space_of(SmallResNet(7), width=[0.5]), r"returns \(2, 7\) for two images, and the data has 10"),
    "other colours": (lambda: space_of(SmallResNet(10, 3), width=[0.5]), "does not take the data, 1x8x8"),
    "no trace": (lambda: space_of(Branching(), width=[0.5]), "Branching cannot be traced for width .*one image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_shrink_is_refused(case: str) -> None:
    work, says = REFUSED[case]
    with pytest.raises(InputError, match=f"elastic: .*{says}"):
        work()


def test_mixtures_are_refused() -> None:
    space = space_of(resnet(), width=[0.5, 1], layers="conv1")
    with pytest.raises(ValueError, match=re.escape("one at a time")):
        space.supernet(0, [(0, 1)])(images(2), Weights([[0.5, 0.5]]))
