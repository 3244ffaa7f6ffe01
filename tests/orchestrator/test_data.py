"""Three disjoint parts, augmentation per sample, and folders as people have them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.data import loaders as data
from orchestrator.data.dataset import Batches, Part, Raw, Split
from orchestrator.errors import InputError


def numbered(n: int = 90, classes: int = 3) -> Raw:
    """Images that carry their own number."""
    images = np.zeros((n, 1, 4, 4), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return Raw(images, np.arange(n) % classes, None, tuple("abc")[:classes], flip=False, crop=0)


def numbers(part: Part) -> set[int]:
    return set(part.images[:, 0, 0, 0].tolist())


def test_parts_are_disjoint_complete_and_stratified() -> None:
    made = Split(valid=0.25, test=0.2).apply(numbered())
    parts = [numbers(p) for p in (made.train, made.valid, made.test)]
    assert set.union(*parts) == set(range(90)) and sum(map(len, parts)) == 90
    for part, count in zip((made.train, made.valid, made.test), (18, 6, 6), strict=True):
        assert torch.bincount(part.labels).tolist() == [count] * 3
    assert numbers(Split(split_seed=1).apply(numbered()).test) != parts[2]


def test_an_official_test_part_stays_whole_and_apart() -> None:
    raw = numbered()
    held = (raw.images[:9] + 200, raw.labels[:9])
    made = Split(limit=30).apply(Raw(raw.images, raw.labels, held, raw.classes, False, 0))
    assert numbers(made.test) == set(range(200, 209))
    assert len(made.train) == len(made.valid) == 15


def test_the_validation_part_is_mixed_however_the_images_came() -> None:
    """Folders come class by class, and a batch of one class, normalised by itself, says nothing of a network."""
    raw = numbered(240)
    by_class = np.argsort(raw.labels, kind="stable")
    made = Split(valid=0.5).apply(Raw(raw.images[by_class], raw.labels[by_class], None, raw.classes, False, 0))
    for batch in made.valid.labels.split(24):
        assert torch.bincount(batch, minlength=3).min() >= 2


def test_normalised_training_images_have_mean_zero_and_deviation_one() -> None:
    made = data.load(data.component("digits", {}))
    x = made.normalise(made.train.images)
    assert float(x.mean()) == pytest.approx(0, abs=1e-5) and float(x.std()) == pytest.approx(1, abs=1e-3)
    assert made.image == (1, 8, 8) and int(made.train.images.max()) == 255
    assert len(made.train) + len(made.valid) + len(made.test) == 1797


def test_each_sample_is_shifted_and_flipped_on_its_own() -> None:
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8)
    raw = Raw(np.repeat(image[None], 9, axis=0), np.arange(9) % 3, None, tuple("abc"), flip=True, crop=2)
    made = Split().apply(raw)
    batch = torch.from_numpy(np.repeat(image[None], 64, axis=0))
    moved = made.augment(batch, np.random.default_rng(0))
    assert moved.shape == batch.shape and moved.dtype == torch.uint8
    assert torch.equal(moved, made.augment(batch, np.random.default_rng(0)))
    padded = np.pad(image[0], 2)
    possible = [padded[i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
    possible = [p.tobytes() for q in possible for p in (q, q[:, ::-1].copy())]
    seen = {possible.index(m[0].numpy().tobytes()) for m in moved}
    assert len(seen) > 20 and {s % 2 for s in seen} == {0, 1}
    still = Split(flip=False, crop=0).apply(raw)
    assert torch.equal(still.augment(batch, np.random.default_rng(0)), batch)


def test_batches_cover_an_epoch_once_and_depend_on_seed_and_number_alone() -> None:
    batches = Batches(20, 5, (3, 1))
    assert sorted(np.concatenate([batches[i] for i in range(4)])) == list(range(20))
    assert not np.array_equal(batches[0], batches[4])
    fresh = Batches(20, 5, (3, 1))
    assert np.array_equal(fresh[6], batches[6])
    assert not np.array_equal(Batches(20, 5, (4, 1))[6], batches[6])
    assert len(Batches(3, 5, (0,))[0]) == 3


def write_images(root: Path, classes: dict[str, int], size: int = 12) -> None:
    rng = np.random.default_rng(0)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(root / name / f"{i}.png")


def load_folder(path: Path, **keywords: Any) -> data.Dataset:
    return data.load(data.component("folder", {"path": str(path), **keywords}))


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

def floats():
    return np.zeros((30, 1, 6, 6)), np.arange(30) % 3
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
    made = data.load(data.component(name, keywords))
    assert [len(p) for p in (made.train, made.valid, made.test)] == sizes and made.image == image


def test_your_own_function_gone_wrong(module: str) -> None:
    with pytest.raises(InputError, match="wanted are uint8 images"):
        data.load(data.component(f"{module}:floats", {}))
    with pytest.raises(InputError, match="cannot import"):
        data.component(f"{module}:nothing", {})
    with pytest.raises(InputError, match=r"data\.m.*did you mean 'n'|unknown key data\.m"):
        data.component(f"{module}:arrays", {"m": 3})


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
    made = data.load(data.component(name, {}))
    assert made.image == image and [len(p) for p in (made.train, made.valid, made.test)] == [20, 20, 8]


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.name=folder"):
        data.load(data.component("cifar10", {"root": str(tmp_path), "download": False}))


def test_unknown_names_and_bad_shares() -> None:
    with pytest.raises(InputError, match="did you mean 'digits'"):
        data.component("digit", {})
    with pytest.raises(InputError, match="shares between 0 and 1"):
        data.load(data.component("digits", {"valid": 1.5}))
