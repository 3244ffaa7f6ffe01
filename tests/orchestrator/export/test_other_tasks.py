"""Exports of networks that do not classify images: inputs, predictions and figures are the task's own."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from torch import nn

import paretoray as pr
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.export.card import card, facts
from orchestrator.export.files import preprocess_file
from orchestrator.export.formats import Exporter
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.search.weights import Origin
from orchestrator.spaces import Choice
from orchestrator.spaces.parts.inputs import Tokens
from orchestrator.spaces.parts.own import OwnSpace
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification
from orchestrator.tasks.multi_label import MultiLabel
from orchestrator.tasks.regression import Regression
from orchestrator.tasks.segmentation import Segmentation
from tests.helpers import call

RNG = np.random.default_rng(0)


def perceptron(image: Any, classes: int) -> nn.Module:
    return nn.Sequential(Choice("layer", {"wide": lambda: nn.Linear(image[0], 8)}), nn.ReLU(), nn.Linear(8, classes))


def convolution(image: Any, classes: int) -> nn.Module:
    conv = Choice("conv", {"conv3": lambda: nn.Conv1d(image[0], 4, 3)})
    return nn.Sequential(conv, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, classes))


def embedding(image: Any, classes: int) -> nn.Module:
    layer = Choice("layer", {"linear": lambda: nn.Linear(4, 4)})
    return nn.Sequential(nn.Embedding(image.vocabulary, 4), layer, nn.Flatten(), nn.Linear(4 * image[0], classes))


def maps(image: Any, classes: int) -> nn.Module:
    return nn.Sequential(Choice("conv", {"conv3": lambda: nn.Conv2d(image[0], 4, 3, padding=1)}), nn.Conv2d(4, classes, 1))


CASES: dict[str, tuple[Any, Any, Task, Any, Any]] = {
    "two targets": (perceptron, (3,), Regression(), RNG.normal(size=(9, 2)).astype(np.float32), RNG.normal(size=3)),
    "labels": (perceptron, (3,), MultiLabel(), (RNG.random((9, 2)) < 0.5).astype(np.float32), RNG.normal(size=3)),
    "signals": (convolution, (2, 9), Classification(), np.arange(9) % 3, RNG.normal(size=(2, 9))),
    "tokens": (embedding, Tokens((5,), 7), Classification(), np.arange(9) % 3, RNG.integers(7, size=5)),
    "maps": (maps, (1, 6, 5), Segmentation(), RNG.integers(3, size=(9, 6, 5)), RNG.integers(255, size=(6, 5)).astype(np.uint8)),
}


def trained(factory: Any, shape: tuple[int, ...], task: Task, targets: Any) -> TrainedNetwork:
    fitted = task.fitted(targets, [f"name {i}" for i in range(targets.shape[1] if targets.ndim == 2 else 3)])
    space = OwnSpace(factory, {}, shape, fitted.outputs[0])
    vocabulary = shape.vocabulary if isinstance(shape, Tokens) else None
    moments = () if vocabulary else (0.25,) * shape[0]
    preprocessing = Preprocessing(shape, moments, moments, vocabulary=vocabulary)
    arch = space.format((0,))
    origin = Origin(arch, space.name, {}, preprocessing, fitted.names, fitted.name, fitted.learned)
    torch.manual_seed(0)
    row = {"arch": arch, "member": 1}
    return TrainedNetwork(space.network((0,)), 1, row, origin, space, Path("network-1.pt"), fitted)


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("case", CASES)
def test_files_take_and_predict_what_the_network_does(case: str, tmp_path: Path) -> None:
    factory, shape, task, targets, example = CASES[case]
    network = trained(factory, shape, task, targets)
    written = {}
    for name in ("network", "onnx") if case == "tokens" else ("network",):
        written[name] = Exporter(network, tmp_path, facts(network, {}), data=lambda: None).write(name)  # type: ignore[arg-type, return-value]
        assert written[name].difference is not None and written[name].difference <= 1e-5
    (tmp_path / "preprocess.py").write_text(preprocess_file(network, []))
    source, plain = module(tmp_path / "network.py"), module(tmp_path / "preprocess.py")
    prepared = network.preprocess(example)
    assert source.preprocess(example).equal(prepared) and np.array_equal(plain.preprocess(example), prepared.numpy())
    with torch.no_grad():
        outputs = source.load()(prepared[None])
        wanted = network.predict(prepared[None])
    assert torch.allclose(source.predict(outputs).float(), wanted.float(), atol=1e-5)
    assert np.allclose(plain.predict(outputs.numpy()), wanted.numpy(), atol=1e-5)
    assert getattr(plain, task.named.upper()) == network.task.names
    (tmp_path / "experiment.toml").write_text('[data]\nname = "mine:load"\n')
    text = card(network, tmp_path, "paretoray export", {}, written, {})
    assert "image" not in text.replace("`images`", "") or len(shape) == 3


def diabetes() -> Any:
    return load_diabetes(return_X_y=True)


def test_a_run_of_regression_is_exported_and_judged_by_its_own_metric(tmp_path: Path) -> None:
    problem = pr.Problem(perceptron, f"{__name__}:diabetes", task="regression")
    few: dict[str, Any] = {"budget": pr.Budget(epochs=2), "workers": pr.Workers(ray=False, count=1)}
    pr.search(
        problem, "random-search", retrain=pr.Retraining(members=1, epochs=4, batch=32, lr=0.05), out=tmp_path / "run", **few
    )
    result = call("export", tmp_path / "run", "--knee", "--formats", "onnx,int8", "--json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)["written"]["int8"]
    loaded = pr.load(tmp_path / "run", 1)
    assert said["float_test_rmse"] == pytest.approx(loaded.costs["test_rmse"], rel=1e-4) and said["test_images"] == 88
    assert abs(said["test_rmse"] / said["float_test_rmse"] - 1) < 0.1
    assert "test RMSE" in (tmp_path / "out/card.md").read_text()
