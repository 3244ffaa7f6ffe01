"""Every format of a network of every space, read in a fresh process that has no paretoray, gives the network's scores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orchestrator.errors import InputError
from orchestrator.export import formats
from orchestrator.export.card import facts
from orchestrator.export.formats import Exporter, NotWritten
from orchestrator.runs.networks import TrainedNetwork
from orchestrator.spaces import Choice
from orchestrator.spaces.base import SearchSpace
from searchers import Architecture
from tests.orchestrator.export.test_source import build
from tests.orchestrator.export.trained import own, trained
from tests.orchestrator.spaces.small import SPACES, drawn, small

READER = """
import importlib.util, json, sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path[:] = [p for p in sys.path if not (Path(p) / "paretoray").exists()]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
assert not any(map(importlib.util.find_spec, ("paretoray", "orchestrator", "searchers")))

import numpy as np, onnxruntime, torch

torch.set_num_threads(1)
found = {}
for folder in sorted(root.iterdir()):
    known = np.load(folder / "known.npz")
    images, scores, said = torch.from_numpy(known["images"]), known["scores"], {}
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    spec.loader.exec_module(network := importlib.util.module_from_spec(spec))
    with torch.no_grad():
        said["network"] = network.load()(images).numpy()
        said["pt2"] = torch.export.load(folder / "network.pt2").module()(images).numpy()
        said["torchscript"] = torch.jit.load(folder / "network.torchscript")(images).numpy()
    session = onnxruntime.InferenceSession(folder / "network.onnx")
    said["onnx"] = session.run(None, {"images": known["images"]})[0]
    said["one image in onnx"] = session.run(None, {"images": known["images"][:1]})[0]
    found[folder.name] = {name: float(np.abs(value - scores[: len(value)]).max()) for name, value in said.items()}
print(json.dumps(found))
"""
WRITTEN = ("network", "pt2", "torchscript", "onnx")
FEW = {"nas-bench-201", "own"}
"""Networks whose formats are tried every time; those of the other spaces take minutes in all."""


def exporter(network: TrainedNetwork, folder: Path) -> Exporter:
    folder.mkdir(exist_ok=True)
    return Exporter(network, folder, facts(network, {}), lambda: pytest.fail("no images are needed"))


def short(space: SearchSpace) -> Architecture:
    """Return a network three of whose four choices take what has the fewest operations: torch's exporters are slow."""
    found = list(next(drawn(space, 1, seed=7)))
    for choice, size in enumerate(space.sizes):
        if choice % 4:
            options = [(*found[:choice], option, *found[choice + 1 :]) for option in range(size)]
            found = list(min(options, key=lambda architecture: len(space.operations(architecture))))
    return tuple(found)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else pytest.mark.long) for name in (*SPACES, "own")]
)
def test_each_format_gives_the_same_scores_without_paretoray(name: str, tmp_path: Path) -> None:
    network = own(build) if name == "own" else trained(small(name), short(small(name)))
    root, elsewhere = tmp_path / "exports", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    writer = exporter(network, root / name)
    assert [writer.write(one).difference is not None for one in WRITTEN] == [True] * len(WRITTEN)
    images = torch.randn(6, *network.preprocess.shape)
    with torch.no_grad():
        np.savez(root / name / "known.npz", images=images.numpy(), scores=network(images).numpy())
    command = [sys.executable, "-I", "-c", READER, str(root)]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    differences: dict[str, float] = json.loads(done.stdout)[name]
    assert set(differences) >= set(WRITTEN) and max(differences.values()) < 1e-5


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def bessel(image: tuple[int, int, int], classes: int) -> nn.Module:
    kinds = {"bessel": Bessel, "skip": nn.Identity}
    return nn.Sequential(Choice("kind", kinds), nn.Flatten(), nn.Linear(image[1] * image[2], classes))


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([image * 2 for image in x])


def loop(image: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(Choice("kind", {"loop": Loop, "skip": nn.Identity}), nn.Flatten(), nn.Linear(64, classes))


def test_an_operation_that_onnx_lacks_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    writer = exporter(own(bessel), tmp_path)
    with pytest.raises(NotWritten, match=r"ONNX has no operation \w+\.\w*bessel_j0"):
        writer.write("onnx")
    for name in ("network", "pt2", "torchscript"):
        assert writer.write(name).difference == 0


def test_what_has_no_source_may_have_the_other_formats_for_one_image_at_a_time(tmp_path: Path) -> None:
    writer = exporter(own(loop), tmp_path)
    with pytest.raises(NotWritten, match="the forward pass of Loop: it loops over the images of a batch"):
        writer.write("network")
    for name in ("pt2", "onnx"):
        assert writer.write(name).facts["batch"] == "one image at a time"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.onnx", "network.pt2"]


def test_a_format_that_gives_other_scores_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = own(bessel)
    original = formats.network_source

    def wrong(module: nn.Module, image: tuple[int, int, int]) -> tuple[str, dict[str, Tensor]]:
        source, state = original(module, image)
        return source, {key: value + 0.01 for key, value in state.items()}

    monkeypatch.setattr(formats, "network_source", wrong)
    with pytest.raises(NotWritten, match="scores differ from the network's by"):
        exporter(network, tmp_path).write("network")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    found = formats.find_spec
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    yield


@pytest.mark.usefixtures("without")
def test_a_missing_package_is_named_with_the_extra() -> None:
    formats.check_installed(["network", "pt2", "torchscript"])
    with pytest.raises(InputError, match=r"--formats onnx needs onnxscript; pip install 'paretoray\[export\]'"):
        formats.check_installed(["network", "onnx"])


def test_preprocessing_and_classes_are_inside_of_each_file(tmp_path: Path) -> None:
    import onnx
    from safetensors import safe_open

    network = trained(small("digits-tiny"), (1, 2, 3, 4))
    writer = exporter(network, tmp_path)
    for name in WRITTEN:
        writer.write(name)
    pt2, script = {formats.METADATA: ""}, {formats.METADATA: ""}
    torch.export.load(tmp_path / "network.pt2", extra_files=pt2)
    torch.jit.load(str(tmp_path / "network.torchscript"), _extra_files=script)  # type: ignore[no-untyped-call]
    with safe_open(tmp_path / "network.safetensors", "pt") as file:
        tensors = file.metadata()
    props = {prop.key: prop.value for prop in onnx.load(tmp_path / "network.onnx").metadata_props}
    for holder in (pt2, script, tensors, props):
        said = json.loads(holder[formats.METADATA])
        assert tuple(said["shape"]) == network.preprocess.shape and tuple(said["classes"]) == network.classes
        assert (said["mean"], said["std"]) == ([0.3], [0.4])
