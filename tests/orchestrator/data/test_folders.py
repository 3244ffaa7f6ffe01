"""Folders as people have them: what is a class, what is a part, and what is left out."""

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.data import images, loaders
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError

RNG = np.random.default_rng(0)


def fill(root: Path, *folders: str, count: int = 4, suffix: str = ".png") -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(RNG.integers(0, 255, (6, 6, 3), dtype=np.uint8)).save(root / folder / f"{i}{suffix}")


def load(root: Path, **keywords: object) -> Dataset:
    return loaders.load(loaders.component("folder", {"path": str(root), "size": 6, **keywords}))


def whole(data: Dataset) -> int:
    return len(data.train) + len(data.valid) + len(data.test)


def parts(train: str, held: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        fill(root, f"{train}/a", f"{train}/b", count=6)
        fill(root, f"{held}/a", f"{held}/b", count=2)

    return make


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("Train", "Test"),
        ("TRAINING", "testing"),
        ("trn", "tst"),
        ("train", "valid"),
        ("train", "Validation"),
        ("train", "holdout"),
    ],
)
def test_parts_under_their_usual_names(tmp_path: Path, train: str, held: str) -> None:
    parts(train, held)(tmp_path)
    data = load(tmp_path)
    assert data.classes == ("a", "b") and [len(p) for p in (data.train, data.valid, data.test)] == [6, 6, 4]
    assert (f"{held} is the final test" in data.notes["parts"]) == (held not in ("Test", "testing", "tst"))


def test_a_validation_folder_beside_a_test_folder_decides_about_architectures(tmp_path: Path) -> None:
    parts("train", "test")(tmp_path)
    fill(tmp_path, "val/a", "val/b", count=3)
    assert [len(p) for p in (load(tmp_path).train, load(tmp_path).valid, load(tmp_path).test)] == [12, 6, 4]
    limited = load(tmp_path, limit=6)
    assert [len(p) for p in (limited.train, limited.valid, limited.test)] == [4, 2, 4]


def vehicles(root: Path) -> None:
    fill(root, "train", "car")


def hidden(root: Path) -> None:
    fill(root, "a", "b", ".git", "__MACOSX/a", "a/.ipynb_checkpoints")
    for name in ("Thumbs.db", "._0.jpg", ".DS_Store"):
        (root / "a" / name).write_bytes(b"x")


def foreign(root: Path) -> None:
    fill(root, "a", "b")
    (root / "a" / "notes.txt").write_text("x")
    (root / "labels.csv").write_text("x")
    fill(root, ".", count=1)


def loops(root: Path) -> None:
    fill(root, "a", "b")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "above").symlink_to(root.parent)
    (root / "a" / "b").symlink_to(root / "b")
    (root / "b" / "a").symlink_to(root / "a")
    (root / "b" / "self").symlink_to(root / "b" / "self")
    (root / "a" / "0-again.png").symlink_to(root / "b" / "0.png")
    os.link(root / "b" / "1.png", root / "b" / "hard.png")
    (root / "alias").symlink_to(root / "a")


def pipes(root: Path) -> None:
    fill(root, "a", "b")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "b" / "null.png").symlink_to("/dev/zero")


def outside(root: Path) -> None:
    fill(root.parent / "elsewhere", "b")
    fill(root, "a")
    (root / "b").symlink_to(root.parent / "elsewhere" / "b")


def nested(root: Path) -> None:
    fill(root, "a/2019/may", "a/2020", "b/x", count=3)


def suffixes(root: Path) -> None:
    for suffix in (".PNG", ".JPG", ".Jpeg", ".webp", ".TIF", ".tiff", ".gif", ".bmp", ".ppm"):
        for name in ("a", "b"):
            fill(root, f"{name}/{suffix[1:]}", count=1, suffix=suffix)
    (root / "a" / "kitten.heic").write_bytes(b"x")


def unicode(root: Path) -> None:
    fill(root, "train/\u65e5\u672c", "train/cafe\u0301", "test/\u65e5\u672c", "test/caf\u00e9")


def unlabelled_test(root: Path) -> None:
    fill(root, "train/a", "train/b", "test")


def notes_beside_parts(root: Path) -> None:
    parts("train", "test")(root)
    (root / "annotations").mkdir()
    (root / "annotations" / "a.xml").write_text("x")


@pytest.mark.parametrize(
    ("make", "classes", "count", "left_out", "warning"),
    [
        (vehicles, ("car", "train"), 8, "nothing", "train/ is taken for a class"),
        (hidden, ("a", "b"), 8, "6 hidden files and folders", ""),
        (foreign, ("a", "b"), 8, r"1 \.csv files, 1 \.txt files, 1 images outside", r"left out: 1 \.csv"),
        (loops, ("a", "b"), 8, "7 links to what is read already, 1 links that lead nowhere", "left out"),
        (pipes, ("a", "b"), 8, "2 devices and pipes", "left out"),
        (outside, ("a", "b"), 8, "nothing", ""),
        (nested, ("a", "b"), 9, "nothing", ""),
        (suffixes, ("a", "b"), 18, r"1 \.heic files", "left out"),
        (unicode, ("caf\u00e9", "\u65e5\u672c"), 16, "nothing", ""),
        (unlabelled_test, ("a", "b"), 8, "4 images of test/, which has no folders of classes", "left out"),
        (notes_beside_parts, ("a", "b"), 16, r"1 \.xml files", "left out"),
    ],
)
def test_folders_that_are_understood(
    tmp_path: Path, make: Callable[[Path], None], classes: tuple[str, ...], count: int, left_out: str, warning: str
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    make(root)
    data = load(root)
    assert data.classes == classes and whole(data) == count
    assert re.fullmatch(f".*{left_out}.*", data.notes["left out"])
    assert re.search(warning, " ".join(data.warnings)) and bool(warning) == bool(data.warnings)


def make_all(*calls: tuple[str, ...]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for folders in calls:
            fill(root, *folders)

    return make


def empty_class(root: Path) -> None:
    fill(root, "a", "b")
    (root / "dog").mkdir()
    (root / "dog" / "1.heic").write_text("x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            make_all(("train/a", "train/b", "cat", "dog")),
            r"train looks like a part.*cat, dog lies beside it.*divided=false",
        ),
        (make_all(("test", "cat", "dog")), r"test holds no folder of images per class beside cat, dog"),
        (make_all(("train", "test")), r"test, train hold no folder of images per class"),
        (make_all(("train/a", "train/b", "val/a", "val/b", "valid/a", "valid/b")), "val and valid are both named"),
        (make_all(("train/a", "train/b", "Training/a", "Training/b")), "Training and train are both named"),
        (make_all(("test/a", "test/b")), "none with classes to train on"),
        (make_all(("train/a", "train/b", "test/a", "test/c")), r"it lacks b; c is not trained on"),
        (make_all(("a/train", "a/test", "b/train", "b/test")), r"a is divided itself.*train/a/"),
        (
            make_all(("photos/cat", "photos/dog")),
            r"one class only \(photos\).*cat, dog are the classes, write .*photos",
        ),
        (make_all((".",)), "it has 4 images and no folders"),
        (empty_class, r"no images in dog \(1 \.heic files\)"),
        (make_all(("caf\u00e9", "cafe\u0301", "b")), "two folders that are both called"),
    ],
)
def test_folders_that_are_refused_by_name(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_a_key_says_whether_folders_are_parts(tmp_path: Path) -> None:
    fill(tmp_path, "train/steam", "train/diesel", "car/old")
    assert load(tmp_path, divided=False).classes == ("car", "train")
    with pytest.raises(InputError, match="car"):
        load(tmp_path, divided=True)
    fill(tmp_path / "vehicles", "train", "car")
    assert not load(tmp_path / "vehicles", divided=False).warnings


def test_a_class_of_one_image_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "cat", "dog")
    fill(tmp_path, "cow", count=1)
    with pytest.raises(InputError, match=r"class 'cow' has 1 image; .* 3 here"):
        load(tmp_path)


def test_several_hundred_classes(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{i:03}" for i in range(300)), count=3)
    data = load(tmp_path)
    assert len(data.classes) == 300 and len(data.train) == len(data.valid) == len(data.test) == 300


def test_a_limit_decodes_no_more_than_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "train/a", "train/b", count=20)
    fill(tmp_path, "test/a", "test/b", count=2)
    opened = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda image, form, path: (opened.append(path), decode(image, form))[1])
    data = load(tmp_path, limit=8)
    assert len(opened) == len(set(opened)) == whole(data) == 12


def test_the_order_of_names_in_a_directory_does_not_matter(tmp_path: Path) -> None:
    names = list("abcdef")
    random.Random(0).shuffle(names)
    for name in ("x", "y"):
        for i in names:
            fill(tmp_path, name, count=0)
            Image.new("RGB", (6, 6), (ord(i), ord(name), 0)).save(tmp_path / name / f"{i}.png")
    read = images.read(sorted((tmp_path / "x").iterdir()), images.Form(6, channels=3))[0]
    assert read[:, 0, 0, 0].tolist() == [ord(i) for i in "abcdef"]
