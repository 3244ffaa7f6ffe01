"""Source of networks: it does what the network does, says no more than it needs, and reads like what a person writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.export.card import facts
from orchestrator.export.files import network_file, preprocess_file
from orchestrator.export.source import network_source
from orchestrator.export.tracing import Untraceable
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.spaces import Choice
from tests.orchestrator.export.trained import own, trained
from tests.orchestrator.spaces.small import SPACES, drawn, small


def written(network: TrainedNetwork) -> tuple[str, dict[str, Tensor]]:
    classes, state = network_source(network.network, network.preprocess.shape)
    return network_file(network, classes, facts(network, {})), state


def same(network: TrainedNetwork) -> str:
    """Load what was written into what it builds, compare it with the network, and return the source."""
    source, state = written(network)
    names: dict[str, Any] = {"__name__": "written", "__file__": "network.py"}
    exec(compile(source, "network.py", "exec"), names)
    module = names["build"]()
    assert set(module.state_dict()) == set(state)
    module.load_state_dict(state)
    module.eval()
    with torch.no_grad():
        for batch in (1, 4):
            images = torch.randn(batch, *network.preprocess.shape)
            assert torch.allclose(module(images), network(images), atol=1e-5, rtol=0)
    return source


@pytest.mark.parametrize("name", SPACES)
def test_networks_of_every_space_are_written_as_they_are(name: str) -> None:
    space = small(name)
    for architecture in drawn(space, 2, seed=3):
        network = trained(space, architecture)
        source = same(network)
        assert not re.search(r"paretoray|orchestrator|Choice", source)
        kept = set(written(network)[1])
        assert kept <= set(network.network.state_dict())  # under the names of networks/*.pt


def test_files_are_formatted_as_a_formatter_would(tmp_path: Path) -> None:
    for name in SPACES:
        space = small(name)
        network = trained(space, next(drawn(space, 1, seed=5)))
        (tmp_path / f"{name}.py").write_text(written(network)[0])
        (tmp_path / f"{name}-preprocess.py").write_text(preprocess_file(network, facts(network, {})))
    ruff = [sys.executable, "-m", "ruff"]
    formatted = [*ruff, "format", "--isolated", "--line-length", "120", "--diff", str(tmp_path)]
    done = subprocess.run(formatted, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    checked = [*ruff, "check", "--isolated", "--line-length", "120", "--select", "E,F,I,UP", str(tmp_path)]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_repeated_block_is_one_class_with_parameters_and_dead_parts_are_left_out() -> None:
    space = small("nas-bench-201", cells=2)
    network = trained(space, space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|nor_conv_3x3~0|none~1|none~2|"))
    source = same(network)
    # Nodes 1 and 2 feed nothing: only the edge from the input to the output is left of each cell.
    assert source.count("class Cell(nn.Module)") == 1 and "Cell2" not in source
    assert re.search(r"nn\.ModuleDict\(\{\"3\": ", source) and source.count("Cell(") == 1 + 6
    assert {key.split(".")[3] for key in written(network)[1] if ".edges." in key} == {"3"}
    assert 'self.edges["3"](x)' in source


def test_a_chain_without_its_skipped_blocks() -> None:
    space = small("proxyless")
    shallow = ":".join("-".join(["k3e3", *["id"] * (count - 1)]) for count in (4, 4, 4, 4, 4, 1))
    source = same(trained(space, space.parse(shallow)))
    assert source.count("nn.Identity()") == 15 and "Zero" not in source
    assert "MBConv2(in_channels=4, channels=12, stride=2, out_channels=6)" in source


class Block(nn.Module):
    """Two convolutions "in a row", with a\\shortcut."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor, gate: float = 1.0) -> Tensor:
        y = functional.gelu(self.first(x))
        self.unused(torch.zeros(1, 3))  # as an auxiliary head that only training uses
        return x + self.scale * self.second(y) * gate


class Network(nn.Module):
    """A network as people write them: sizes read off tensors, tied weights, buffers, lists in loops, assignments in place."""

    def __init__(self, channels: int, classes: int, image: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(image[0], channels, 3, padding=1)
        self.blocks = nn.ModuleList([Block(channels, 3), Block(channels, 5)])
        self.again = self.blocks[0]
        self.mixed = Choice("mixed", {"conv": lambda: nn.Conv2d(channels, channels, 1), "skip": nn.Identity})
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.recurrent = nn.GRU(channels, channels, batch_first=True)
        self.narrow = nn.Linear(channels, channels, bias=False)
        self.tied = nn.Linear(channels, channels)
        self.tied.weight = self.narrow.weight
        self.register_buffer("offset", torch.linspace(0, 1, channels), persistent=False)
        self.head = nn.Linear(2 * channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x = self.mixed(self.stem(x))
        for index, block in enumerate(self.blocks):
            x = block(x, gate=1.0 + index)
        x = self.again(x)
        tokens = x.flatten(2).transpose(1, 2).reshape(batch, height * width, -1) + self.offset
        places = torch.arange(tokens.shape[1], dtype=tokens.dtype).view(1, -1, 1)
        tokens = tokens + 0.01 * places
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        attended[:, 0] = 0
        sequence, _ = self.recurrent(attended)
        padded = torch.zeros(batch, 1, sequence.size(-1), device=x.device)
        mean = torch.cat([sequence, padded], dim=1).mean(dim=1)
        if x.size(1) > 2 and x.dim() == 4:
            mean = self.tied(self.narrow(mean) ** 2 - mean)
        left, right = torch.chunk(torch.cat((mean, -mean), 1), 2, dim=-1)
        return self.head(torch.cat([left, right], dim=-1).view(batch, -1))  # type: ignore[no-any-return]


def build(image: tuple[int, int, int], classes: int) -> nn.Module:
    return Network(8, classes, image)


def test_a_network_of_ones_own_is_written_as_it_is() -> None:
    network = own(build)
    with torch.no_grad():
        network.network.blocks[1].scale.fill_(0.25)  # type: ignore[union-attr, operator, index]
    source = same(network)
    assert "class NetworkBlock" not in source and source.count("class Network(") == 1
    assert "Two convolutions" not in source, "a docstring that would end the written one is left out"
    assert "unused" not in source and "network.again = network.blocks[0]  # shared" in source
    assert "network.tied.weight = network.narrow.weight  # shared" in source
    assert "nn.GRU(8, 8, batch_first=True)" in source and "nn.MultiheadAttention(8, 2, " in source


class Values(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([image * 2 for image in x])


class Outside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Conv2d(1, 1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden[0](x)  # type: ignore[no-any-return]


class Numbers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.max())


class Elsewhere(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.sin(x.numpy()))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Values(), "the forward pass of Values: its control flow depends on the values of a tensor"),
        (Loop(), "the forward pass of Loop: it loops over the images of a batch"),
        (Outside(), "the forward pass of Outside: it calls a Conv2d that is not one of its modules"),
        (Numbers(), "the forward pass of Numbers: it makes a number of a tensor"),
        (Elsewhere(), "the forward pass of Elsewhere"),
    ],
)
def test_what_no_list_of_operations_can_stand_for_is_refused_with_the_reason(module: nn.Module, why: str) -> None:
    network = nn.Sequential(module, nn.Flatten(), nn.Linear(64, 10)).eval()
    with pytest.raises(Untraceable, match=re.escape(why)):
        network_source(network, (1, 8, 8))


def test_class_names_of_users_and_odd_class_labels_do_no_harm() -> None:
    class Tensor(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 + 1

    class Image(Tensor):
        pass

    def odd(image: tuple[int, int, int], classes: int) -> nn.Module:
        kinds = {"one": lambda: nn.Sequential(Tensor(), Image()), "two": nn.Identity}
        return nn.Sequential(Choice("kind", kinds), nn.Flatten(), nn.Linear(64, classes))

    network = own(odd, classes=2)
    network.classes = ('a "quoted" \\ class', "line\nbreak")
    source = same(network)
    names: dict[str, Any] = {"__name__": "written", "__file__": "network.py"}
    exec(compile(source, "network.py", "exec"), names)
    assert names["CLASSES"] == network.classes
    assert "class TensorBlock(nn.Module)" in source and "class ImageBlock(nn.Module)" in source
