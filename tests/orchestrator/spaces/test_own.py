"""Anybody's network: the page that explains it, and what is refused."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from orchestrator.cli import main
from orchestrator.config.experiment import Experiment
from orchestrator.config.spaces import find_space
from orchestrator.errors import InputError
from orchestrator.spaces import Choice, Zero
from orchestrator.spaces.parts.choice import Weights, extract
from orchestrator.spaces.parts.own import OwnSpace
from searchers import Mixture
from tests.orchestrator.spaces.small import drawn, everything

PAGE = Path(__file__).parents[3] / "docs" / "own-space.md"


def own(factory: Any, **settings: Any) -> OwnSpace:
    return OwnSpace(factory, settings, (1, 8, 8), 10)


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = PAGE.read_text()
    files = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, flags=re.S)
    assert [name for name, _ in files] == ["my_network.py", "load.py"]
    for name, code in files:
        (tmp_path / name).write_text(code)
    blocks = re.findall(r"```console\n(.*?)```", page, flags=re.S)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) == 3 and all(command[0] == "paretoray" for command in commands)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    told = []
    for command in commands:
        result = CliRunner().invoke(main, command[1:])
        assert result.exit_code == 0, result.output
        told.append(result.output)
    runpy.run_path("load.py")
    assert "192 architectures" in told[0] and "A few blocks" in told[0]
    assert "block0: conv3 > block1: skip > block2: conv5 > block3: skip" in told[1]
    assert (tmp_path / "pictures" / "network.png").stat().st_size > 2000
    assert "block0=" in (tmp_path / "runs/mine/front.csv").read_text()
    assert len(list((tmp_path / "runs/mine/networks").glob("*.pt"))) == 2
    assert re.fullmatch(r"\d{4,} torch.Size\(\[1, 10\]\)\n", capsys.readouterr().out)


class Net(nn.Module):
    """Shared names, a nested choice, a list, a residual that may vanish, and a parameter and a product of its own."""

    def __init__(self, image: tuple[int, int, int], classes: int, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(image[0], width, 3, padding=1)
        self.twice = nn.ModuleList(
            Choice("twin", {"a": lambda: nn.Conv2d(width, width, 3, padding=1), "b": lambda: nn.Conv2d(width, width, 1)})
            for _ in range(2)
        )
        inner = Choice("inner", {"tanh": nn.Tanh, "conv": lambda: nn.Conv2d(width, width, 1)})
        self.outer = Choice("outer", {"plain": nn.Identity(), "deep": nn.Sequential(nn.Conv2d(width, width, 1), inner)})
        self.branch = Choice("branch", {"none": Zero(), "conv": nn.Conv2d(width, width, 3, padding=1)})
        self.scale = nn.Parameter(torch.ones(width, 1, 1))
        self.mixing = nn.Parameter(torch.eye(width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.twice:
            x = layer(x).tanh()
        x = self.outer(x)
        x = x + self.branch(x)
        return self.head((x * self.scale).mean(dim=(2, 3)) @ self.mixing)  # type: ignore[no-any-return]


def test_choices_are_read_in_order_and_same_names_are_one() -> None:
    space = own(Net)
    assert [choice.name for choice in space.choices] == ["twin", "outer", "inner", "branch"]
    assert space.architectures == 16
    assert space.format((1, 1, 0, 1)) == "twin=b|outer=deep|inner=tanh|branch=conv"


def test_a_skip_is_known_by_its_name_or_its_module() -> None:
    space = own(Net)
    marked = {
        (c.name, o) for c, row in zip(space.choices, space.skips, strict=True) for o, s in zip(c.options, row, strict=True) if s
    }
    assert marked == {("outer", "plain")}

    def named(image: tuple[int, int, int], classes: int) -> nn.Module:
        pool = Choice("pool", {"skip": lambda: nn.AvgPool2d(1), "conv": lambda: nn.Conv2d(image[0], image[0], 1)})
        return nn.Sequential(pool, nn.Flatten(), nn.Linear(64 * image[0], classes))

    assert own(named).skips == ((True, False),)


def test_counts_of_nested_choices_and_of_what_lies_outside_of_layers() -> None:
    space = own(Net)
    for architecture in drawn(space, 16):
        network = space.network(architecture)
        assert space.parameters(architecture) == sum(p.numel() for p in network.parameters())
    flat, deep, conv = (space.macs((0, *rest, 0)) for rest in ((0, 1), (1, 0), (1, 1)))
    assert space.macs((0, 0, 0, 0)) == flat  # what is inside an option that is not taken costs nothing
    assert deep - flat == conv - deep == 6 * 6 * 64
    operations = space.operations((0, 0, 0, 0))
    assert operations[-1].name == "elsewhere" and operations[-1].parameters == 6 + 36 and operations[-1].macs == 36


def test_supernet_and_network_come_from_the_same_code() -> None:
    space = own(Net)
    supernet = space.supernet(0, everything(space)).double()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    for architecture in drawn(space, 16):
        network = space.network(architecture).double()
        single = space.supernet(0, [(o,) for o in architecture]).double()
        single.load_state_dict(supernet.state_dict(), strict=False)
        network.load_state_dict(extract(single.network, architecture).state_dict())
        rows = Mixture.one_hot(architecture, space.sizes).weights
        assert torch.allclose(supernet(x, Weights(rows)), network(x), atol=1e-10, rtol=0)
        assert type(network) is Net and not any(isinstance(m, Choice) for m in network.modules())


def test_a_choice_that_is_passed_twice_holds_its_parameters_once() -> None:
    class Twice(nn.Module):
        def __init__(self, image: tuple[int, int, int], classes: int) -> None:
            super().__init__()
            self.again = Choice("again", {"conv": lambda: nn.Conv2d(1, 1, 3, padding=1), "skip": nn.Identity})
            self.head = nn.Linear(image[1] * image[2], classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.again(self.again(x)).flatten(1))  # type: ignore[no-any-return]

    space = own(Twice)
    assert space.parameters((0,)) - space.parameters((1,)) == 10
    assert space.macs((0,)) - space.macs((1,)) == 2 * 9 * 64
    assert space.parameters((0,)) == sum(p.numel() for p in space.network((0,)).parameters())


def test_drawing_follows_the_data() -> None:
    space = own(Net)
    graph = space.drawing(space.parse("twin=a|outer=deep|inner=conv|branch=conv"))["network"]
    assert ("in", "twin") in graph.arrows and ("twin", "twin (2)") in graph.arrows
    assert ("outer", "branch") in graph.arrows and ("branch", "out") in graph.arrows and ("outer", "out") in graph.arrows
    assert graph.kinds["twin (2)"] == "a"


def test_a_network_that_looks_at_numbers_is_run_on_the_cpu() -> None:
    class Looks(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x / max(1.0, float(x.abs().max())))

    space = own(Looks)
    assert space.parameters((0, 0, 0, 0)) == own(Net).parameters((0, 0, 0, 0))


def _small(options: dict[str, Any], lost: bool = False, classes: int = 10) -> Any:
    def build(image: tuple[int, int, int], classes: int = classes) -> nn.Module:
        network = nn.Sequential(Choice("c", options), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        if lost:
            network.extra = [Choice("lost", {"a": nn.Identity()})]  # type: ignore[assignment]
        return network

    return build


GOOD = {"a": lambda: nn.Conv2d(1, 4, 1), "b": lambda: nn.Conv2d(1, 4, 3, padding=1)}


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda image, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "no Choice"),
        (lambda image, classes: None, "returned NoneType"),
        (_small(GOOD, lost=True), "Choice 'lost' is not part of the network"),
        (_small({"a": GOOD["a"], "b": lambda: nn.Conv2d(1, 4, 3)}), "option 'a' returns the shape"),
        (_small({"a=1": GOOD["a"]}), "cannot name a choice"),
        (_small({}), "no options"),
        (_small({"a": lambda: nn.Conv2d(1, 7, 1)}), "RuntimeError"),
        (lambda image, classes: nn.Sequential(Choice("c", GOOD), nn.Flatten(), nn.Linear(256, 3)), r"\(2, 10\)"),
        (
            lambda image, classes: nn.Sequential(Choice("c", GOOD), Choice("c", {"x": nn.Identity}), nn.Flatten()),
            "has the options",
        ),
    ],
)
def test_networks_that_cannot_be_searched_are_refused_with_the_reason(factory: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own(factory)


def test_the_error_names_the_line_of_the_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_network.py").write_text("from torch import nn\n\ndef build(image, classes):\n    return nn.Missing()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    experiment = {"data": {"name": "digits"}, "space": {"name": "broken_network:build"}, "searcher": {"name": "random-search"}}
    read = Experiment.from_dict({**experiment, "objectives": {"error": {}, "macs": {}}})
    with pytest.raises(InputError, match=r"broken_network\.py, line 4"):
        read.problem()


def test_factories_are_checked_by_their_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other_network.py").write_text("def build(size):\n    return size\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"def build\(image, classes"):
        find_space("other_network:build")
    with pytest.raises(InputError, match="module:name"):
        find_space("other_network:nothing")


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("twin=c", 5),
        ("twin=a|inner=conv", 7),
        ("twin=a|outer=deep|inner=conv|branch=none|", 40),
        ("twin=a,outer=deep", 5),
    ],
)
def test_bad_notation_is_refused_at_its_position(text: str, position: int) -> None:
    with pytest.raises(ValueError, match=rf"position {position}\b"):
        own(Net).parse(text)


def layer(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


class Depth(nn.Module):
    """The first of some layers, all of which are registered."""

    def __init__(self, layers: list[nn.Module], used: int) -> None:
        super().__init__()
        self.layers, self.used = nn.ModuleList(layers), used

    def forward(self, x: Tensor) -> Tensor:
        for each in self.layers[: self.used]:
            x = each(x)
        return x


def shared_depths(image: tuple[int, int, int], classes: int, registered: bool = False) -> nn.Module:
    layers = [layer(4) for _ in range(3)]
    depths = {str(n): Depth(layers, n) if registered else nn.Sequential(*layers[:n]) for n in (1, 2, 3)}
    return nn.Sequential(nn.Conv2d(image[0], 4, 1), Choice("depth", depths), nn.Flatten(), nn.Linear(256, classes))


def shared_everywhere(image: tuple[int, int, int], classes: int) -> nn.Module:
    """One layer in options of three choices, one of them inside another, and outside of choices."""
    one, two, fixed = layer(4), layer(4), layer(4)
    inner = Choice("inner", {"one": one, "two": two})
    choices = [
        Choice("a", {"one": one, "nested": nn.Sequential(inner, fixed), "skip": nn.Identity()}),
        Choice("b", {"both": nn.Sequential(one, two), "two": two, "fixed": fixed}),
    ]
    return nn.Sequential(nn.Conv2d(image[0], 4, 1), *choices, fixed, nn.Flatten(), nn.Linear(256, classes))


@pytest.mark.parametrize("build", [shared_depths, shared_everywhere])
def test_networks_that_share_modules_cost_what_they_cost_alone(build: Any) -> None:
    space = own(build)
    for architecture in drawn(space, 18):
        parameters = space.network(architecture).parameters()
        assert space.parameters(architecture) == sum(p.numel() for p in parameters), space.format(architecture)
        assert space.parameters(architecture) == sum(o.parameters for o in space.operations(architecture))
    layers = 16 * 9 * 64
    if build is shared_depths:
        assert [space.macs((n,)) - space.macs((0,)) for n in range(3)] == [0, layers, 2 * layers]
        assert own(build, registered=True).parameters((0,)) == space.parameters((0,))  # what does not run does not count
    else:
        a, b = {"a": space.parse("a=one|inner=one|b=both"), "b": space.parse("a=skip|inner=one|b=two")}.values()
        assert space.macs(a) - space.macs(b) == 2 * layers


def test_recurrent_layers_and_attention_are_counted() -> None:
    class Sequence(nn.Module):
        def __init__(self, cell: nn.Module) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: Tensor) -> Tensor:
            y = self.cell(x.flatten(1, 2))
            return y[0] if isinstance(y, tuple) else y

    def build(image: tuple[int, int, int], classes: int) -> nn.Module:
        cells = {
            "lstm": lambda: Sequence(nn.LSTM(8, 8, batch_first=True)),
            "attention": lambda: Sequence(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
        }
        return nn.Sequential(Choice("cell", cells), nn.Flatten(), nn.Linear(64, classes))

    space = own(build)
    head = 64 * 10
    assert space.macs((0,)) - head == 8 * 4 * 8 * (8 + 8)
    assert space.macs((1,)) - head == 8 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 8 * 8 * 8
    for a in ((0,), (1,)):
        assert space.parameters(a) == sum(p.numel() for p in space.network(a).parameters())


def test_a_network_that_overwrites_the_output_of_a_choice_is_drawn() -> None:
    def build(image: tuple[int, int, int], classes: int) -> nn.Module:
        choices = [Choice(f"c{i}", {"conv": lambda: nn.Conv2d(1, 1, 3, padding=1), "skip": nn.Identity}) for i in range(2)]
        layers = [module for choice in choices for module in (choice, nn.ReLU(inplace=True))]
        return nn.Sequential(nn.Conv2d(image[0], 1, 1), *layers, nn.Flatten(), nn.Linear(64, classes))

    for architecture in drawn(own(build), 4):
        graph = own(build).graph(architecture)["network"]
        assert graph.arrows == [("in", "c0"), ("c0", "c1"), ("c1", "out")]


def test_gates_have_their_gradients_where_the_output_of_a_choice_is_overwritten() -> None:
    """Cotangents of an inactive option are the same with an activation in place as with one that is not."""
    found = []
    for inplace in (True, False):

        def build(image: tuple[int, int, int], classes: int, inplace: bool = inplace) -> nn.Module:
            choice = Choice("c", {"conv": lambda: nn.Conv2d(1, 1, 3, padding=1), "skip": nn.Identity})
            stem = nn.Conv2d(image[0], 1, 1)
            return nn.Sequential(stem, choice, nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(64, classes))

        torch.manual_seed(0)
        supernet = own(build).supernet(0, [(0, 1)])
        for active in (0, 1):
            leaf = torch.zeros(1, requires_grad=True)
            rows = [[float(option == active) for option in range(2)]]
            scores = supernet(torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8), Weights(rows, [((1 - active,), leaf)]))
            (gradient,) = torch.autograd.grad(scores.square().sum(), [leaf])
            found.append(float(gradient))
    assert found[:2] == pytest.approx(found[2:]) and all(found)
