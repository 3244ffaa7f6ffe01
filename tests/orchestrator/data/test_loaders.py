"""Folders as people have them, functions of their own, and data sets by name."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.data import loaders
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError


def write_images(root: Path, classes: dict[str, int], size: int = 12) -> None:
    rng = np.random.default_rng(0)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(root / name / f"{i}.png")


def load_folder(path: Path, **keywords: Any) -> Dataset:
    return loaders.load(loaders.component("folder", {"path": str(path), **keywords}))


def test_a_plain_folder_is_split_and_resized(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 10, "dog": 15})
    made = load_folder(tmp_path, size=8)
    assert made.image == (3, 8, 8) and made.classes == ("cat", "dog")
    assert [len(p) for p in (made.train, made.valid, made.test)] == [10, 10, 5]


def test_train_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 6, "dog": 6})
    write_images(tmp_path / "test", {"cat": 2, "dog": 3})
    made = load_folder(tmp_path)
    assert len(made.test) == 5 and made.image == (3, 32, 32)
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "cow")
    with pytest.raises(InputError, match=r"classes cat, dog; .* has cow, dog"):
        load_folder(tmp_path)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 4, "dog": 4})
    whole = (tmp_path / "dog" / "2.png").read_bytes()
    for broken in (b"not an image", whole[: len(whole) // 2]):
        (tmp_path / "dog" / "2.png").write_bytes(broken)
        with pytest.raises(InputError, match=r"dog/2\.png is not a readable image"):
            load_folder(tmp_path)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "one folder of images per class"),
        ({"cat": 5}, "one class only"),
        ({"cat": 5, "dog": 0}, "dog"),
        ({"a": 5, "b": 2}, "'b' has 2"),
    ],
)
def test_folders_that_cannot_be_learnt_from(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    write_images(tmp_path, classes)
    with pytest.raises(InputError, match=message):
        load_folder(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        load_folder(tmp_path / "nowhere")


MODULE = """
import numpy as np
import torch

def arrays(n=30):
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (n, 6, 6, 3), dtype=np.uint8), np.arange(n) % 3

def two():
    return arrays(30), arrays(9)

class Scans(torch.utils.data.Dataset):
    def __len__(self):
        return 12
    def __getitem__(self, i):
        return torch.full((1, 6, 6), i, dtype=torch.uint8), i % 2

def dataset():
    return Scans()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_images.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("my_images", None)
    return "my_images"


@pytest.mark.parametrize(
    ("function", "keywords", "sizes", "image"),
    [
        ("arrays", {"n": 60}, [24, 24, 12], (3, 6, 6)),
        ("two", {}, [15, 15, 9], (3, 6, 6)),
        ("dataset", {"valid": 0.4}, [6, 4, 2], (1, 6, 6)),
    ],
)
def test_your_own_function(
    module: str, function: str, keywords: dict[str, Any], sizes: list[int], image: tuple[int, ...]
) -> None:
    name = f"{module}:{function}"
    made = loaders.load(loaders.component(name, keywords))
    assert [len(p) for p in (made.train, made.valid, made.test)] == sizes and made.image == image


def test_your_own_function_gone_wrong(module: str) -> None:
    with pytest.raises(InputError, match="cannot import"):
        loaders.component(f"{module}:nothing", {})
    with pytest.raises(InputError, match=r"data\.m.*did you mean 'n'|unknown key data\.m"):
        loaders.component(f"{module}:arrays", {"m": 3})


@pytest.mark.parametrize(
    ("name", "cls", "shape", "image"),
    [
        ("cifar10", "CIFAR10", (40, 32, 32, 3), (3, 32, 32)),
        ("cifar100", "CIFAR100", (40, 32, 32, 3), (3, 32, 32)),
        ("fashion-mnist", "FashionMNIST", (40, 28, 28), (1, 28, 28)),
    ],
)
def test_torchvision_datasets(
    monkeypatch: pytest.MonkeyPatch, name: str, cls: str, shape: tuple[int, ...], image: tuple[int, ...]
) -> None:
    """With torchvision's class in place of a download: the attributes that it documents are all that we use."""
    import torchvision

    class Local:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert download and "~" not in root
            self.data = np.zeros((shape[0] if train else 8, *shape[1:]), dtype=np.uint8)
            self.data = torch.from_numpy(self.data) if len(shape) == 3 else self.data
            self.targets = [i % 4 for i in range(len(self.data))]
            self.classes = list("abcd")

    monkeypatch.setattr(torchvision.datasets, cls, Local)
    made = loaders.load(loaders.component(name, {}))
    assert made.image == image and [len(p) for p in (made.train, made.valid, made.test)] == [20, 20, 8]


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.name=folder"):
        loaders.load(loaders.component("cifar10", {"root": str(tmp_path), "download": False}))


def test_unknown_names_and_bad_shares() -> None:
    with pytest.raises(InputError, match="did you mean 'digits'"):
        loaders.component("digit", {})
    with pytest.raises(InputError, match="shares between 0 and 1"):
        loaders.load(loaders.component("digits", {"valid": 1.5}))
