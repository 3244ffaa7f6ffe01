"""Tasks: metrics against scikit-learn, losses that workers can add up, and targets that are refused."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn import metrics
from torch import nn

from analysis import members
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import goals_of
from orchestrator.data.dataset import Split
from orchestrator.data.functions import to_raw
from orchestrator.errors import InputError
from orchestrator.evaluators.base import run_probes
from orchestrator.judge.belief import Observation
from orchestrator.search.retraining import check
from orchestrator.spaces import Choice
from orchestrator.spaces.parts.own import OwnSpace
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification
from orchestrator.tasks.multi_label import MultiLabel
from orchestrator.tasks.regression import Regression
from orchestrator.tasks.segmentation import Segmentation
from orchestrator.training.augmentation import Augmentation
from orchestrator.training.parts import Parts

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], [150, 40, 10])
SCORES = RNG.normal(size=(200, 3)) + 1.5 * np.eye(3)[LABELS]


def measured(task: Task, outputs: Any, targets: Any) -> float:
    """The metric of evidence that came in three batches."""
    pieces = [
        task.evidence(torch.as_tensor(o), torch.as_tensor(t))
        for o, t in zip(np.array_split(outputs, 3), np.array_split(targets, 3), strict=True)
    ]
    return task.metric.of(torch.cat(pieces).double().numpy())


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1", "auc"])
def test_metrics_of_classification_are_those_of_all_predictions(metric: Any) -> None:
    task = Classification(metric).fitted(LABELS, "abc")
    shares = torch.from_numpy(SCORES).softmax(dim=1).numpy()
    wanted = {
        "accuracy": metrics.accuracy_score(LABELS, SCORES.argmax(1)),
        "balanced_accuracy": metrics.balanced_accuracy_score(LABELS, SCORES.argmax(1)),
        "f1": metrics.f1_score(LABELS, SCORES.argmax(1), average="macro"),
        "auc": metrics.roc_auc_score(LABELS, shares, multi_class="ovr"),
    }
    assert measured(task, SCORES, LABELS) == pytest.approx(100 * wanted[metric])


def test_the_loss_adds_up_over_shares_of_a_batch_and_weighs_classes() -> None:
    outputs, targets = torch.from_numpy(SCORES), torch.from_numpy(LABELS)
    for weights in (None, "balanced", (3.0, 1.0, 2.0)):
        task = Classification(class_weights=weights).fitted(LABELS, "abc")  # type: ignore[arg-type]
        whole = task.loss(outputs, targets)
        shares = [task.loss(outputs[i::2], targets[i::2]) for i in range(2)]
        assert float(sum(shares)) == pytest.approx(float(whole))
    balanced = Classification(class_weights="balanced").fitted(LABELS, "abc")
    assert balanced.weights is not None
    assert balanced.weights.tolist() == pytest.approx([200 / 450, 200 / 120, 200 / 30])
    alone = torch.nn.functional.cross_entropy(outputs, targets, weight=balanced.weights, reduction="sum")
    assert float(balanced.loss(outputs, targets)) == pytest.approx(float(alone))


def test_regression_is_judged_in_the_targets_unit_and_told_as_a_share() -> None:
    targets = (50 + 10 * RNG.normal(size=(200, 1))).astype(np.float32)
    task = Regression().fitted(targets, ["y"])
    exact = (targets - targets.mean()) / targets.std()
    assert measured(task, exact, targets) == pytest.approx(0, abs=1e-4)
    assert measured(task, 0 * exact, targets) == pytest.approx(float(targets.std()), rel=1e-4)
    assert task.to_share(task.guessing) == pytest.approx(50)
    assert task.from_share(task.to_share(3.7)) == pytest.approx(3.7)
    assert measured(Regression("r2").fitted(targets, ["y"]), 0 * exact, targets) == pytest.approx(0, abs=1e-4)
    assert task.restored(["y"], task.learned).predict(torch.zeros(1, 1)).item() == pytest.approx(targets.mean(), rel=1e-5)
    errors = 3 * RNG.normal(size=(2000, 100))
    found = np.array([task.to_share(float(v)) for v in np.sqrt((errors**2).mean(axis=1))])
    assert task.chance(float(found.mean()), 100) == pytest.approx(found.var(), rel=0.15)
    assert Observation((0,), 20.0, 100, chance=task.chance).variance == task.chance(20.0, 100)


def test_several_labels_and_maps_of_pixels_are_measured_as_scikit_learn_does() -> None:
    labels = (RNG.random((200, 3)) < 0.4).astype(np.float32)
    scores = (RNG.normal(size=(200, 3)) + labels).astype(np.float32)
    wanted = 100 * metrics.f1_score(labels, scores > 0, average="macro")
    assert measured(MultiLabel().fitted(labels, "abc"), scores, labels) == pytest.approx(wanted)
    maps = RNG.integers(0, 3, (12, 4, 5))
    maps[0, 0] = 255
    outputs = RNG.normal(size=(12, 3, 4, 5)).astype(np.float32)
    task = Segmentation().fitted(maps, "abc")
    counted = maps != 255
    wanted = 100 * metrics.jaccard_score(maps[counted], outputs.argmax(1)[counted], average="macro")
    assert task.outputs == (3, 4, 5) and measured(task, outputs, maps) == pytest.approx(wanted)
    whole = torch.nn.functional.cross_entropy(torch.from_numpy(outputs[1:]), torch.from_numpy(maps[1:]))
    assert float(task.loss(torch.from_numpy(outputs[1:]), torch.from_numpy(maps[1:]))) == pytest.approx(11 * float(whole))


def test_the_bootstrap_is_about_wilsons_interval_where_both_are_known() -> None:
    task = Classification().fitted(LABELS, "abc")
    evidence = task.evidence(torch.from_numpy(SCORES), torch.from_numpy(LABELS)).double().numpy()
    assert task.interval(evidence, 0.9) is None
    found = Task.interval(task, evidence, 0.9)
    wilson = members.wilson(task.metric.cost_of(evidence), len(evidence))
    assert found is not None and np.abs(np.subtract(found, wilson)).max() < 1.5
    ends = np.array([[18.0, 25.0], [20.0, 27.0]])
    low, high = members.interval(np.array([21.0, 23.0]), 200, ends)
    assert low < 19 and high > 26  # the seeds' own interval comes on top


KINDS = {
    "images": RNG.integers(0, 255, (40, 1, 8, 8)).astype(np.uint8),
    "signals": RNG.normal(size=(40, 2, 16)) * [[1.0], [1000.0]],
    "table": RNG.normal(size=(40, 3)) * [1.0, 1e-6, 1e6],
    "tokens": RNG.integers(0, 9, (40, 7)),
}


@pytest.mark.parametrize("kind", ["signals", "table", "tokens"])
def test_other_examples_than_images_are_normalised_and_left_alone(kind: Any) -> None:
    data = Split().apply(to_raw((KINDS[kind], np.arange(40) % 2), "m:f", lambda: None, kind=kind))
    x = data.normalise(data.train.images)
    assert torch.equal(data.augment(data.train.images, np.random.default_rng(0)), data.train.images)
    if kind == "tokens":
        assert torch.equal(x, data.train.images) and data.image.vocabulary == KINDS[kind].max() + 1  # type: ignore[attr-defined]
    else:
        over = [d for d in range(x.dim()) if d != 1]
        assert x.mean(over).abs().max() < 1e-2 and (x.std(over) - 1).abs().max() < 0.1


@pytest.mark.parametrize("kind", ["signals", "table", "tokens"])
def test_other_examples_than_images_are_run_on_the_device(kind: Any) -> None:
    def build(image: Any, classes: int) -> nn.Module:
        first = nn.Embedding(image.vocabulary, 4) if kind == "tokens" else nn.Flatten()
        inside = 4 * image[0] if kind == "tokens" else int(np.prod(image))
        options = {"a": lambda: nn.Linear(inside, classes), "b": lambda: nn.Linear(inside, classes, bias=False)}
        return nn.Sequential(first, nn.Flatten(), Choice("head", options))

    data = Split().apply(to_raw((KINDS[kind], np.arange(40) % 2), "m:f", lambda: None, kind=kind))
    space = OwnSpace(build, {}, data.image, 2)
    goals = goals_of({"error": {}, "memory": {"batch": 3}, "latency": {"batch": 2}})
    probes: list[Any] = [goals[name].build(space) for name in ("memory", "latency")]
    (measured,) = run_probes(space, data, probes, [(0,)], "cpu", 0)
    assert isinstance(measured, dict) and all(probe.cost((0,), measured) > 0 for probe in probes), measured


WRONG_DATA = [
    ("classification", "table", np.linspace(0, 1, 40), "the label 0.025641; wanted are classes.*task=regression"),
    ("classification", "images", np.zeros((40, 3)), "task=multi_label"),
    ("regression", "table", np.array(["a"] * 40), "wanted are numbers"),
    ("regression", "table", np.full(40, np.nan), "40 targets that are NaN"),
    ("regression", "table", np.ones(40), "the same target"),
    ("multi-label", "table", np.arange(40), "0 and 1"),
    ("multi-label", "table", np.ones((40, 2)), "the same for all"),
    ("segmentation", "images", np.zeros((40, 9, 8), int), "classes"),
    ("segmentation", "images", np.arange(40 * 72).reshape(40, 9, 8) % 2, "the height and width of the images"),
    ("segmentation", "images", np.zeros((40, 8)), "a class for each pixel"),
    ("segmentation", "images", 255 * (np.arange(40 * 64).reshape(40, 8, 8) % 2), "divide such masks by 255"),
    ("segmentation", "images", np.zeros((40, 2, 8, 8), int), r"take argmax\(axis=1\)"),
    ("classification", "images", [None, *["a", "b"] * 19, "a"], "the label None as number 0"),
    ("classification", "images", ["a", ""] * 20, "20 empty labels, number 1 first"),
    ("multi-label", "images", [["a"], "b"] * 20, "'b' as the labels of example 1"),
]


@pytest.mark.parametrize(("name", "kind", "targets", "message"), WRONG_DATA)
def test_targets_of_another_kind_are_refused(name: str, kind: Any, targets: Any, message: str) -> None:
    task = {"classification": Classification, "regression": Regression, "multi-label": MultiLabel, "segmentation": Segmentation}
    with pytest.raises(InputError, match=message):
        to_raw((KINDS[kind], targets), "m:f", lambda: None, kind=kind, task=task[name]())


WRONG_INPUTS = [
    (None, KINDS["tokens"], "data.kind=table or data.kind=tokens"),
    ("tokens", KINDS["table"], "no whole numbers from 0"),
    ("tokens", 2**40 + KINDS["tokens"], "tokens up to 1099511627.*number the tokens"),
    ("tokens", ["some words"] * 40, "returned texts, as 'some words'"),
    ("tokens", [[1, 2], [1, 2, 3]] * 20, "tokens of 2 shapes .* pad or cut all to one length"),
    ("signals", RNG.normal(size=(40, 200, 3)), "200 channels of 3 values; write data.layout=channels-last"),
    (None, {"image": KINDS["images"], "age": np.arange(39.0)}, r"\(input 'age'\) returned 39 images and 40 labels"),
    (
        None,
        {"image": KINDS["images"], "ids": KINDS["tokens"]},
        r"\(input 'ids'\).* data.kind.ids=table or data.kind.ids=tokens",
    ),
    ({"age": "table"}, {"image": KINDS["images"], "ages": np.arange(40)}, "no 'age', which data.kind names"),
    ({"age": "table"}, KINDS["images"], "examples of one input"),
    (None, {"image": KINDS["images"]}, "one input; return its array"),
    (None, [KINDS["images"][:, 0], KINDS["images"][:, 0]], "2 images and 40 labels; networks of several inputs take a tuple"),
    (None, pd.DataFrame({"a": [1.0, np.nan] * 20}), "column 'a' has 20 missing values"),
    (None, pd.DataFrame({"a": range(40), "b": ["x"] * 40}), "column 'b' holds no numbers"),
    ("signals", KINDS["table"], r"takes \(n, channels, length\); a single channel is \(n, 1, length\)"),
    ("table", np.where(np.arange(120).reshape(40, 3) == 7, np.nan, 1.0), "1 examples with values that are NaN"),
    ("table", np.full((40, 3), "a"), "encode texts as numbers"),
]


@pytest.mark.parametrize(("kind", "inputs", "message"), WRONG_INPUTS)
def test_examples_of_another_kind_are_refused(kind: Any, inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_raw((inputs, np.arange(40) % 2), "m:f", lambda: None, kind=kind)


FRAME = pd.DataFrame({"a": np.arange(40), "b": RNG.normal(size=40), "target": np.arange(40) % 2})
GREY = [Image.fromarray(x[0]) for x in KINDS["images"]]
MASKS = KINDS["images"][:, 0] > 128
UNDERSTOOD: dict[str, tuple[Task, Any, tuple[int, ...], tuple[str, ...]]] = {
    "frame": (Classification(), FRAME, (2,), ("0", "1")),
    "frames": (Classification(), {"train": FRAME, "test": FRAME}, (2,), ("0", "1")),
    "frame and column": (Regression(), (FRAME[["a", "b"]], FRAME[["b"]]), (2,), ("b",)),
    "frame of labels": (MultiLabel(), (FRAME[["a"]], FRAME[["target"]].assign(odd=[0, 1, 1, 0] * 10)), (1,), ("target", "odd")),
    "lists of labels": (MultiLabel(), (KINDS["table"], [["b"], [], ["b", "c"], ["a"]] * 10), (3,), ("a", "b", "c")),
    "bunch": (Classification(), {"data": KINDS["table"], "target": np.arange(40) % 2, "target_names": "xy"}, (3,), ("x", "y")),
    "pillow masks": (Segmentation(), (GREY, [Image.fromarray(m.astype(np.uint8)) for m in MASKS]), (1, 8, 8), ("0", "1")),
    "masks with a channel": (Segmentation(), (KINDS["images"], MASKS[:, None].astype(float)), (1, 8, 8), ("0", "1")),
    "objects": (Regression(), (KINDS["table"], np.array(list(RNG.normal(size=40)), dtype=object)), (3,), ("target",)),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_what_people_return_is_understood(name: str) -> None:
    task, returned, shape, names = UNDERSTOOD[name]
    data = Split().apply(to_raw(returned, "m:f", lambda: None, task=task), task)
    assert data.image == shape and data.classes == names


def test_files_are_opened_and_signals_turned(tmp_path: Path) -> None:
    for number, photo in enumerate(GREY):
        photo.save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(40)]
    for returned in ((paths, np.arange(40) % 2), [(p, i % 2) for i, p in enumerate(paths)]):
        raw = to_raw(returned, "m:f", lambda: None)
        assert np.array_equal(raw.images[:, 0], KINDS["images"][:, 0])  # type: ignore[call-overload]
    signals = RNG.normal(size=(40, 200, 3)).astype(np.float32)
    raw = to_raw((signals, np.arange(40) % 2), "m:f", lambda: None, layout="channels-last", kind="signals")
    assert np.array_equal(raw.images, signals.transpose(0, 2, 1))  # type: ignore[arg-type]


MODULE = """
import numpy as np
from torch import nn
from paretoray import Choice, Task

def numbers():
    x = np.random.default_rng(0).normal(size=(60, 3))
    return x, x.sum(axis=1)

def photos():
    return np.random.default_rng(0).integers(0, 255, (60, 3, 16, 16)).astype(np.uint8), np.arange(60) / 7

def maps():
    return photos()[0], photos()[0][:, 0] // 128

def net(image, classes):
    return nn.Sequential(Choice("a", {"one": lambda: nn.Linear(3, 4), "two": lambda: nn.Linear(3, 4)}), nn.Linear(4, classes))

def pixels(image, classes):
    return Choice("a", {"one": lambda: nn.Conv2d(3, classes, 1), "three": lambda: nn.Conv2d(3, classes, 3, padding=1)})

class Bare(Task):
    def __init__(self):
        pass
"""


@pytest.mark.parametrize("parts", [Parts(), Parts(resized_crop=0.3, jitter=(0.0, 0.0, 0.0, 0.0))], ids=["shifts", "crops"])
def test_maps_of_pixels_move_with_their_images(parts: Parts) -> None:
    images = RNG.integers(0, 2, (60, 1, 2, 2)).repeat(6, axis=2).repeat(6, axis=3).astype(np.uint8)
    raw = to_raw((images, images[:, 0].astype(int)), "m:f", lambda: None, layout="channels-first", task=Segmentation())
    data = Split(flip=True, crop=3).apply(raw, Segmentation())
    whole = replace(data, mean=(0.0,), std=(1 / 255,))  # so that normalised images are the values themselves
    torch.manual_seed(0)
    x, maps = Augmentation(parts, whole)(data.train.images, data.train.labels, np.random.default_rng(0))
    inside = maps != 255
    assert not x[:, 0].equal(data.train.images[:, 0].float()) and maps.shape == data.train.labels.shape
    if parts.resized_crop:  # pixels are means there, and nearest neighbours here
        agreeing = (x[:, 0].round() == maps).float().mean()
        assert inside.all() and agreeing > 0.9
    else:
        assert (~inside).any() and (x[:, 0][inside] == maps[inside]).all()


TABLE = ["data.name=people:numbers", "space.name=people:net", "task=regression"]
PHOTOS = ["data.name=people:photos", "task=regression", "space.name=digits-tiny"]
MAPS = ["data.name=people:maps", "task=segmentation", "space.name=people:pixels"]
REFUSED = [
    (["task=regresion"], "did you mean 'regression'"),
    (["task.metric=acuracy"], "task.metric = 'acuracy'"),
    (["task.class_weights=1,2"], "2 numbers for 10 classes"),
    (["task.class_weights=0,1"], "a positive number for each class"),
    (["task=regression"], "data.name = 'digits' has classes"),
    (["task=regression", "task.unit=a (b)"], "without commas and parentheses"),
    (["task=people:Bare"], "lacks evidence"),
    (["data.name=people:numbers", "task=regression"], "space.name=module:function"),
    (["data.name=people:maps", "task=segmentation"], "a map of the pixels for each class"),
    ([*MAPS, "data.flip=true", "retrain.randaugment=9"], "retrain.randaugment=0"),
    ([*MAPS, "retrain.label_smoothing=0.1"], "retrain.label_smoothing=0"),
    ([*TABLE, "data.crop=2"], "data.crop = 2: only images are augmented"),
    ([*TABLE, "proxy.size=4"], "proxy.size: only images can be smaller"),
    ([*TABLE, "proxy.without=a"], "proxy.without: regression has no classes"),
    ([*TABLE, "retrain.label_smoothing=0.1"], "retrain.label_smoothing = 0.1: it mixes classes"),
    ([*TABLE, "retrain.mixup=0.2"], "retrain.mixup=0"),
    ([*TABLE, "retrain.cutout=2"], "retrain.cutout = 2: it changes images, and these are rows of 3 numbers"),
    ([*PHOTOS, "retrain.distill=0.5"], "retrain.distill=0"),
    ([*PHOTOS, "objectives.mae={}"], "unknown objective"),
]


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "people.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "people", raising=False)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_does_not_go_together_is_refused_before_anything_starts(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        plan = SearchPlan.of(read(None, settings))
        assert plan.trained
        check(plan)


@pytest.mark.usefixtures("people")
def test_the_metric_names_the_first_objective(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('objectives = ["mae", "parameters"]\ntask = "regression"\n')
    settings = ["task.metric=mae", "data.name=people:numbers", "space.name=people:net", "searcher.name=random-search"]
    plan = SearchPlan.of(read(tmp_path / "run.toml", settings))
    assert plan.problem.columns == ["mae", "parameters"]
    again = SearchPlan.of(read(None, [])).experiment.to_dict()
    assert "task" not in again and plan.experiment.to_dict()["task"] == {
        "name": "regression", "metric": "mae", "loss": "mse", "unit": "",
    }  # fmt: skip
