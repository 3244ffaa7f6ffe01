"""Proxies: smaller networks on less data, of the same architectures, and whatever is still measured at the target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import paretoray as pr
from orchestrator.config.overrides import read
from orchestrator.config.settings import Proxy
from orchestrator.config.spaces import shrunk
from orchestrator.data.dataset import Dataset, Raw, Split
from orchestrator.errors import InputError, RunError
from orchestrator.search.coordinator import Coordinator
from orchestrator.spaces.parts.own import OwnSpace
from tests.helpers import assert_refused, call, timeless, tiny_plan, write_toml
from tests.orchestrator.spaces.small import SPACES, drawn, small

WIDER: dict[str, dict[str, Any]] = {
    "darts": {"channels": 8, "cells": 4, "supernet_channels": 8, "supernet_cells": [4]},
    "ddpnas-mobile": {"width": 0.4},
    "digits-tiny": {"channels": 8},
    "nas-bench-201": {"channels": 8, "cells": 3},
    "nas-bench-macro": {"channels": 8, "mix": 16},
    "nasp": {"channels": 8, "cells": 4},
    "nsga-net-macro": {"channels": [8, 12, 16], "image": (1, 16, 16)},
    "nsga-net-micro": {"channels": 8, "cells": 4, "supernet_cells": 4},
    "proxyless": {"widths": [8, 8, 12, 16, 16, 20, 24, 28, 32]},
    "proxyless-cifar": {"widths": [4, 8], "stem": 4},
    "tnd-nas": {"channels": 8, "cells": 4},
}
LESS = {"channels": 4, "cells": 3}


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_a_proxy_of_the_same_architectures(name: str) -> None:
    space = small(name, **{"image": (1, 16, 16), **WIDER[name]})
    less = {key: min(LESS[key], value - 1) for key, value in space.extent.items()}
    assert "channels" in less and ("cells" in less) == (name in ("darts", "nas-bench-201", "nasp", "nsga-net-micro", "tnd-nas"))
    proxy = shrunk(space, Proxy(size=8, **less), classes=3)
    assert (proxy.choices, proxy.image, proxy.classes) == (space.choices, (1, 8, 8), 3)
    assert name == "ddpnas-mobile" or {key: proxy.extent[key] for key in less} == less
    for architecture in drawn(space, 2):
        assert proxy.format(architecture) == space.format(architecture)
        assert proxy.parameters(architecture) < space.parameters(architecture)
        assert proxy.network(architecture)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert shrunk(space, Proxy(share=0.5), classes=10).settings == space.settings
    own = {key: value for key, value in vars(proxy).items() if key.startswith("supernet_")}
    assert all(value in (None, 4, 3, [3], [1, 1, 2]) for value in own.values()), own


def images(size: int = 8, each: tuple[int, ...] = (40, 20, 8)) -> Dataset:
    """Return random images, half of each class for weights."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(each)), each)
    raw = Raw(rng.integers(0, 256, (len(labels), 3, size, 2 * size), np.uint8), labels, None, ("ant", "bee", "cat"), False, 4)
    return Split(valid=0.5, test=0.25).apply(raw)


def test_data_shrink_in_pixels_images_and_classes() -> None:
    whole = images()
    small = whole.smaller(size=4)
    assert small.image == (3, 4, 8) and small.crop == 2
    blocks = whole.valid.images.float().view(-1, 3, 4, 2, 8, 2).mean(dim=(3, 5))
    assert torch.equal(small.valid.images, blocks.round().byte()) and torch.equal(small.valid.labels, whole.valid.labels)
    assert small.std[0] == pytest.approx(float(small.train.images[:, 0].float().std(correction=0)) / 255, abs=1e-6)

    half, quarter = (whole.smaller(share=share) for share in (0.5, 0.3))
    counts = [torch.bincount(data.train.labels).tolist() for data in (whole, half)]
    assert counts[1] == [round(n / 2 + 0.01) for n in counts[0]] and len(half.valid) == len(whole.valid)
    kept = {bytes(image.numpy()) for image in half.train.images}
    assert all(bytes(image.numpy()) in kept for image in quarter.train.images)

    without = whole.smaller(without=["bee"])
    assert without.classes == ("ant", "cat")
    for before, now in ((whole.train, without.train), (whole.valid, without.valid), (whole.test, without.test)):
        assert torch.equal(now.images, before.images[before.labels != 1])
        assert torch.equal(now.labels, before.labels[before.labels != 1] // 2)


def build(image: tuple[int, int, int], classes: int, channels: int = 8, cells: int = 3, width: int = 2) -> torch.nn.Module:
    """A network of one's own, which halves its images twice."""
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(image[0], channels, 3, 2), torch.nn.Conv2d(channels, channels, 2, 2)]
    for cell in range(cells):
        options = {"conv": lambda: torch.nn.Conv2d(channels, channels, 3, 1, 1), "skip": torch.nn.Identity}
        layers.append(pr.Choice("cell" if cell else "first", options))
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, classes))


def test_a_function_shrinks_by_its_keywords_channels_and_cells() -> None:
    space = OwnSpace(build, {"channels": 8, "cells": 3, "width": 2}, (1, 16, 16), 10)
    proxy = shrunk(space, Proxy(channels=4, cells=2, size=8), 5)
    assert proxy.settings == {"channels": 4, "cells": 2, "width": 2} and (proxy.image, proxy.classes) == ((1, 8, 8), 5)
    with pytest.raises(InputError, match=r"proxy\.cells = 1: the space would have other choices; write at least 2"):
        shrunk(space, Proxy(cells=1), 10)
    with pytest.raises(InputError, match=r"proxy\.size = 2: .*; write at least 5"):
        shrunk(space, Proxy(size=2), 10)
    assert shrunk(space, Proxy(size=5), 10).image == (1, 5, 5)


@pytest.mark.parametrize(
    ("space", "proxy", "message"),
    [
        ("nas-bench-201", {"cells": 3}, "proxy.cells = 3: the target has 2; write at most 2"),
        ("nas-bench-201", {"channels": 5}, "proxy.channels = 5: the target has 4; write at most 4"),
        ("nas-bench-201", {"size": 16}, "proxy.size = 16: the target has 8; write at most 8"),
        ("nas-bench-201", {"size": 3}, "proxy.size = 3: images of 3x3 are too small: .*halves them twice; write at least 4"),
        ("nas-bench-201", {"share": 0.01}, r"proxy.share = 0.01 leaves no image of class '\d'; write at least 0.05"),
        ("nas-bench-201", {"share": 2}, r"proxy.share = 2: must be at most 1"),
        ("nas-bench-201", {"size": 0}, r"proxy.size = 0: must be at least 1"),
        ("nas-bench-201", {"without": ["3", "12"]}, "proxy.without = '12': the data has no such class; did you mean"),
        ("nas-bench-201", {"without": list("012345678")}, "proxy.without leaves 1 of 10 classes; leave out at most 8"),
        ("nas-bench-201", {"cels": 1}, "unknown key proxy.cels; did you mean 'cells'"),
        ("digits-tiny", {"cells": 1}, "digits-tiny cannot have fewer cells, only fewer channels; leave it out"),
        ("darts", {"cells": 2}, "proxy.cells = 2: .* at least 3, as two of them are reductions; write at least 3"),
        ("tests.fakes:FakeSpace", {"channels": 2}, "only smaller images and less data; leave it out"),
    ],
)  # fmt: skip
def test_a_proxy_that_cannot_be_names_the_key_and_what_works(
    space: str, proxy: dict[str, Any], message: str, digits: Dataset
) -> None:
    keys = {} if space == "nas-bench-201" else {"space": {"name": space}}
    with pytest.raises(InputError, match=message):
        tiny_plan(digits, proxy=proxy, searcher={"name": "random-search"}, **keys).trained  # noqa: B018


def test_the_value_that_an_error_names_works(digits: Dataset) -> None:
    assert min(torch.bincount(digits.smaller(share=0.05).train.labels).tolist()) == 1


def test_a_search_trains_at_the_proxy_and_prices_at_the_target(tmp_path: Path) -> None:
    objectives = {"error": {}, "parameters": {}, f"{__name__}:Pixels": {}}
    proxy = ("proxy.size=4", "proxy.cells=1", "proxy.share=0.5", "proxy.without=3,5")
    sections = {"objectives": objectives, "searcher": {"name": "random-search"}, "retrain": {"members": 1, "epochs": 1}}
    path = write_toml(tmp_path, **sections)
    shown = call("search", path, *proxy, "--dry-run")
    assert "proxy       images of 4 pixels, 1 cell, 50 % of the training images, without 3, 5" in shown.output, shown.output
    assert call("search", path, *proxy, "--out", tmp_path / "run").exit_code == 0

    plan = pr.Result.open(tmp_path / "run").plan
    assert plan.proxy == Proxy(size=4, cells=1, share=0.5, without=("3", "5"))
    table = pd.read_csv(tmp_path / "run/evaluations.csv")
    target, evaluator = plan.problem.space, plan.build_evaluator()
    for row in table.to_dict("records"):
        architecture = target.parse(row["arch"])
        assert row["parameters"] == target.parameters(architecture)
        assert (row["pixels"], row["modules"]) == (64, len(list(target.network(architecture).modules())))
    assert set(table["proxy"]) == {"size=4,cells=1,share=0.5,without=3,5"}
    assert (evaluator.space.image, evaluator.space.classes) == ((1, 4, 4), 8)  # type: ignore[attr-defined]
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["proxy"] == {
        "words": "images of 4 pixels, 1 cell, 50 % of the training images, without 3, 5",
        "size": 4,
        "cells": 1,
        "share": 0.5,
        "without": ["3", "5"],
    }
    assert summary["data"]["train"] == 40 and summary["data"]["test"] == len(plan.problem.data.test)
    assert "errors measured at a proxy: images of 4 pixels" in (tmp_path / "run/report.html").read_text()

    first = pd.read_csv(tmp_path / "run/retrained.csv").iloc[0]
    weights = torch.load(tmp_path / f"run/networks/network-{first['member']}.pt", weights_only=True)
    retrained = target.network(target.parse(str(first["arch"])))
    retrained.load_state_dict(weights)
    result = call("trust", tmp_path / "run", "--networks", 5, "--retrain", 2, "--levels", 1, "--each", 2)
    assert result.exit_code == 0, result.output
    good = json.loads((tmp_path / "run/trust.json").read_text())["good"]
    assert [p["proxy"] for p in good["proxies"]] == [str(plan.proxy), "shared weights"]
    assert good["target_seconds"] > 0 and all(p["seconds"] > 0 for p in good["proxies"])
    assert (tmp_path / "run/proxies/proxies.png").exists() and good["advice"] in " ".join(result.output.split())
    with pytest.raises(InputError, match=r"shared weights .* are those of a proxy"):
        pr.Result.open(tmp_path / "run").network(1, "inherited")

    moved = (tmp_path / "run/experiment.toml").read_text().replace("size = 4", "size = 8")
    (tmp_path / "run/experiment.toml").write_text(moved)
    assert_refused(call("resume", tmp_path / "run", "--trust"), "another proxy", "'size': 4", "'size': 8", code=1)


class Pixels(pr.Objective, pr.Probe):
    """Runs networks on the device, and counts what it gets there."""

    column = title = "pixels"
    spread = "modules"

    def measure_on_device(self, network: torch.nn.Module, image: torch.Tensor) -> dict[str, float]:
        assert network(image).shape == (1, 10)
        return {"pixels": image.shape[-1] * image.shape[-2], "modules": len(list(network.modules()))}

    def cost(self, architecture: pr.Architecture, metrics: dict[str, float]) -> float:
        return metrics["pixels"]


def test_a_proxy_from_python_and_none_at_all(digits: Dataset, tmp_path: Path) -> None:
    problem = tiny_plan(digits).problem
    for name, proxy in {"none": pr.Proxy(), "small": pr.Proxy(cells=1)}.items():
        pr.search(
            problem,
            "random-search",
            proxy=proxy,
            budget=pr.Budget(epochs=1, interval=2, validate=2),
            workers=pr.Workers(ray=False, count=1),
            retrain=pr.Retraining(members=0),
            out=tmp_path / name,
        )
    assert "proxy" not in (tmp_path / "none/experiment.toml").read_text()
    assert "proxy" not in (tmp_path / "none/summary.json").read_text() and "proxy" not in timeless(tmp_path / "none")
    again = read(tmp_path / "small/experiment.toml", [])
    assert again.proxy == Proxy(cells=1)
    with pytest.raises(InputError, match=r"proxy\.cells = -1"):
        pr.Proxy(cells=-1)


def test_a_checkpoint_without_a_proxy_does_not_go_on_with_one(digits: Dataset, tmp_path: Path) -> None:
    plan = tiny_plan(digits, searcher={"name": "random-search"})
    (tmp_path / "checkpoints").mkdir()
    coordinator = Coordinator(plan, tmp_path, plan.build_evaluator())
    assert not coordinator.run(lambda: True, lambda happened: None)
    other = plan.varied(proxy=Proxy(size=4))
    with pytest.raises(RunError, match=r"another proxy: None, now \{'size': 4\}"):
        Coordinator(other, tmp_path, other.build_evaluator()).run(lambda: True, lambda happened: None)
