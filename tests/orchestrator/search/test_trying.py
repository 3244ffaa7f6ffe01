"""Users' networks, as published code writes them: what works, and what is refused before a search, by option and shape."""

from __future__ import annotations

import pickle
import re
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.rehearsal import rehearse
from orchestrator.spaces import Choice
from orchestrator.spaces.parts.choice import Weights
from orchestrator.spaces.parts.own import OwnSpace
from searchers import Mixture
from tests.helpers import tiny

HEAD = """
import torch
from torch import nn
from paretoray import Choice

def conv(a, b, **more):
    return nn.Conv2d(a, b, 3, padding=1, **more)

class Net(nn.Module):
    def __init__(self, stem, choice, head, out=lambda module, x: x):
        super().__init__()
        self.stem, self.choice, self.head, self.out = stem, choice, head, out

    def forward(self, x):
        return self.out(self, self.head(self.choice(self.stem(x))))

def net(choice, classes, **more):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
    return Net(nn.Conv2d(1, 4, 3, padding=1), choice, head, **more)
"""
SAME = '{"a": lambda: conv(4, 4), "b": lambda: nn.Conv2d(4, 4, 1)}'


def plan(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, **sections: Any) -> SearchPlan:
    """A search of the network that `code` ends with, as a module of its own."""
    name = f"net_{abs(hash((str(folder), code)))}"
    (folder / f"{name}.py").write_text(HEAD + code)
    monkeypatch.syspath_prepend(str(folder))
    given = {"searcher": {"name": "random-search"}, "objectives": {"error": {}, "parameters": {}}} | sections
    return SearchPlan.of(tiny(space={"name": f"{name}:build"}, **given))


REFUSED = {
    "an option that fails in training mode": (
        """
class Odd(nn.Module):
    def forward(self, x):
        if self.training:
            raise KeyError("mask")
        return x
def build(image, classes):
    return net(Choice("block", {"conv": lambda: conv(4, 4), "odd": Odd}), classes)
""",
        "random-search",
        [r"option 'odd' of 'block' in training mode", "KeyError: 'mask'", "Net.forward raised", "line 24"],
    ),
    "no scores in training mode": (
        """
def build(image, classes):
    out = lambda module, x: {"loss": x.sum()} if module.training else x
    return net(Choice("block", SAME), classes, out=out)
""".replace("SAME", SAME),
        "random-search",
        ["all first options in training mode", "returns dict", r"must return \(4, 10\)"],
    ),
    "no axis of images for a single one": (
        f"""
def build(image, classes):
    return net(Choice("block", {SAME}), classes, out=lambda module, x: x.squeeze())
""",
        "random-search",
        ["all first options in evaluation mode", r"returns \(10,\) for 1 image;"],
    ),
    "nothing to differentiate": (
        """
def build(image, classes):
    return Net(Choice("block", {"a": lambda: conv(1, 1), "b": lambda: nn.Conv2d(1, 1, 1)}), nn.Identity(),
               nn.Sequential(nn.Flatten(), nn.Linear(64, classes)), out=lambda module, x: x).apply(cut)
def cut(module):
    if isinstance(module, nn.Flatten):
        module.forward = lambda x: torch.from_numpy(x.detach().numpy()).flatten(1)
""",
        "darts",
        ["the gradients that darts asks for", "does not require grad"],
    ),
    "an option without a gradient": (
        """
class Sign(nn.Module):
    def forward(self, x):
        return x.detach().sign()
def build(image, classes):
    class Head(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) @ torch.ones(1, classes)
    return Net(nn.Identity(), Choice("block", {"a": lambda: conv(1, 1), "sign": Sign}), Head())
""",
        "random-search",
        ["option 'sign' of 'block' in training mode", "does not require grad"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_with_option_and_shapes(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, searchers, parts = REFUSED[case]
    for searcher in searchers.split("|"):
        with pytest.raises(InputError) as raised:
            rehearse(plan(tmp_path, monkeypatch, code, searcher={"name": searcher}))
        for part in parts:
            assert re.search(part, str(raised.value)), str(raised.value)


UNBUILT = {
    "attention in a choice": (
        """
def build(image, classes):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.choice = Choice("heads", {f"h{h}": lambda h=h: nn.MultiheadAttention(8, h, batch_first=True) for h in (1, 2)})
            self.head = nn.Linear(8, classes)
        def forward(self, x):
            return self.head(self.choice(x[:, 0], x[:, 0], x[:, 0])[0][:, 0])
    return Own()
""",
        "Choice 'heads' is called with 3 inputs",
    ),
    "another network each time": (
        """
import itertools
widths = itertools.count(3)
def build(image, classes):
    width = next(widths)
    return Net(conv(1, width), Choice("block", {"a": lambda: conv(width, 4), "b": lambda: nn.Conv2d(width, 4, 1)}),
               nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)))
""",
        "builds another network each time",
    ),
    "a scripted module": (
        f"""
def build(image, classes):
    made = net(Choice("block", {SAME}), classes)
    made.stem = nn.Sequential(made.stem, torch.jit.script(nn.ReLU()))
    return made
""",
        "its module 'stem.1' is scripted",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("case", UNBUILT)
def test_networks_that_no_space_can_be_made_of_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, message = UNBUILT[case]
    with pytest.raises(InputError, match=message):
        plan(tmp_path, monkeypatch, code)


ODD = {
    "softmax": ("lambda module, x: x.softmax(1)", "returns probabilities; leave out its softmax"),
    "log-softmax": ("lambda module, x: x.log_softmax(1)", ""),
    "scores": ("lambda module, x: x", ""),
}


@pytest.mark.parametrize("case", ODD)
def test_probabilities_in_place_of_scores_bring_a_warning(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, message = ODD[case]
    code = f'def build(image, classes):\n    return net(Choice("block", {SAME}), classes, out={out})\n'
    warned = "; ".join(plan(tmp_path, monkeypatch, code).problem.warnings)
    assert message in warned and bool(message) == bool(warned)


def test_frozen_weights_do_not_keep_second_order_gradients_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
def build(image, classes):
    made = net(Choice("block", {SAME}), classes)
    made.stem.requires_grad_(False)
    return made
"""
    search = plan(tmp_path, monkeypatch, code, searcher={"name": "darts", "order": 2})
    rehearse(search)
    evaluator = search.in_process().build_evaluator(probes=[])
    searcher = search.build_searcher()
    evaluator.build(searcher.stage, 4)
    assert evaluator.differentiate(searcher.relax(), 0, True) is not None  # type: ignore[attr-defined]


TAKEN = {
    "a tuple with an auxiliary head": "lambda module, x: (x, 2 * x) if module.training else x",
    "features before the scores": "lambda module, x: (x.new_zeros(len(x), 3), x)",
    "a dict": 'lambda module, x: {"features": x.new_zeros(len(x), 3, 2), "logits": x}',
}


@pytest.mark.parametrize("out", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("searcher", ["random-search", "proxyless-g", "darts"])
def test_networks_that_return_more_than_scores_are_searched(
    out: str, searcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f'def build(image, classes):\n    return net(Choice("block", {SAME}), classes, out={out})\n'
    search = plan(tmp_path, monkeypatch, code, searcher={"name": searcher}, budget={"epochs": 4, "interval": 2})
    rehearse(search)
    assert Coordinator(search, tmp_path, search.build_evaluator()).run(lambda: False, lambda happened: None)
    assert (tmp_path / "front.csv").read_text().count("\n") > 1


Outputs = namedtuple("Outputs", ["logits", "aux"])


def build_named(image: tuple[int, int, int], classes: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Choice("block", {"a": lambda: nn.Linear(64, 10), "b": lambda: nn.Linear(64, 10, bias=False)})

        def forward(self, x: Tensor) -> Any:
            scores = self.block(x.flatten(1))
            return Outputs(scores, None) if self.training else scores

    return Net()


def test_the_first_scores_count_and_a_plain_network_stays_portable() -> None:
    space = OwnSpace(build_named, {}, (1, 8, 8), 10)
    network = space.network((1,)).train()
    scores = network(torch.ones(3, 1, 8, 8))
    assert isinstance(scores, Tensor) and scores.shape == (3, 10)
    hook = next(iter(network._forward_hooks.values()))
    assert pickle.loads(pickle.dumps(hook))(network, (), Outputs(scores, None)) is scores


class Overwriting(nn.Module):
    """An option that overwrites its input, as published code does to save memory."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.relu_()


class Net(nn.Module):
    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(64, 6), Choice("block", options), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block(self.stem(x.flatten(1))))
        return out


@pytest.mark.parametrize("order", [["relu", "skip", "double"], ["skip", "double", "relu"]])
def test_an_option_that_overwrites_its_input_does_not_disturb_the_others(order: list[str]) -> None:
    made = {"relu": Overwriting, "skip": nn.Identity, "double": nn.Identity}

    def build(image: tuple[int, int, int], classes: int) -> nn.Module:
        return Net({name: made[name] for name in order})

    torch.manual_seed(0)
    model = OwnSpace(build, {}, (1, 8, 8), 10).supernet(0, ((0, 1, 2),)).train()
    x, net = torch.randn(4, 1, 8, 8), model.network
    before = net.stem(x.flatten(1))
    row = (0.25, 0.25, 0.5)
    weights = dict(zip(order, row, strict=True))
    for _ in range(2):  # the second time an option is known
        got = model(x, Weights(Mixture((row,)).weights))
        want = weights["relu"] * 3 * before.relu() + (weights["skip"] + weights["double"]) * before
        torch.testing.assert_close(got, net.head(want))
        got.sum().backward()


def build_overwriting(image: tuple[int, int, int], classes: int) -> nn.Module:
    return Net({"relu": Overwriting, "skip": nn.Identity, "tanh": nn.Tanh})


def test_gates_have_true_gradients_beside_an_option_that_overwrites_its_input() -> None:
    space = OwnSpace(build_overwriting, {}, (1, 8, 8), 10)
    torch.manual_seed(0)
    model = space.supernet(0, ((0, 1, 2),)).eval()
    x = torch.randn(4, 1, 8, 8)
    slopes = []
    for active in range(3):  # the sum of the scores is linear in the block's output, so the slopes do not depend on the path
        row: list[float | Tensor] = [0.0, 0.0, 0.0]
        row[active] = gate = torch.ones((), requires_grad=True)
        others = tuple(i for i in range(3) if i != active)
        leaf = torch.zeros(2, requires_grad=True)
        model(x, Weights([row], [(others, leaf)])).sum().backward()
        assert leaf.grad is not None and gate.grad is not None
        found = dict(zip(others, leaf.grad.tolist(), strict=True)) | {active: float(gate.grad)}
        slopes.append([found[i] for i in range(3)])
    for slope in slopes[1:]:
        assert slope == pytest.approx(slopes[0], rel=1e-5)
