"""Warnings about data, what is said of it, and the sheet of examples."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from analysis import examples
from orchestrator.cli import main
from orchestrator.data import inspection, loaders
from orchestrator.data.dataset import Raw, Split
from orchestrator.errors import InputError
from orchestrator.tasks.regression import Regression


def noise(n: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8)).astype(np.uint8)


def doubts(images: np.ndarray, labels: np.ndarray | None = None, test: np.ndarray | None = None) -> str:
    labels = np.arange(len(images)) % 2 if labels is None else labels
    held = None if test is None else (test, np.arange(len(test)) % 2)
    return "; ".join(inspection.doubts_about(Split().apply(Raw(images, labels, held, ("a", "b"), False, 0))))


def test_ordinary_data_is_not_doubted() -> None:
    assert not doubts(noise()) and not inspection.doubts_about(loaders.load(loaders.component("digits", {})))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((60, 1, 8, 8), 90, dtype=np.uint8), "24 of 24 images that were looked at are of one colour"),
        (noise(1).repeat(60, axis=0) // 4 * 4 + (np.arange(60) % 2).astype(np.uint8)[:, None, None, None], "nearly the same"),
        (noise() // 16, "nearly black"),
        (noise() // 16 + 240, "nearly white"),
    ],
)
def test_images_that_say_nothing(images: np.ndarray, message: str) -> None:
    assert message in doubts(images)


def test_one_class_for_nearly_everything() -> None:
    labels = np.zeros(200, dtype=np.int64)
    labels[:8] = 1
    assert "class 'a' has 96% of the images" in doubts(noise(200), labels)


def test_duplicates_between_parts_and_classes() -> None:
    images = noise()
    assert "3 of 10 test images are in the other parts" in doubts(images, test=np.concatenate([images[:3], noise(7, seed=1)]))
    images[1] = images[0]  # one of either class
    assert "1 images are in more than one class" in doubts(images)


def photos(root: Path, classes: int = 3) -> None:
    for c in range(classes):
        (root / f"class {c}").mkdir(parents=True)
        for i in range(5):
            Image.fromarray(noise(1, seed=5 * c + i)[0, 0].astype(np.uint16) * 16).save(root / f"class {c}" / f"{i}.png")
    (root / "notes.txt").write_text("x")


def test_the_command_says_what_it_understood_and_draws_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    done = CliRunner().invoke(main, ["data", "photos", "data.size=8", "data.channels=1", "--out", "sheets/photos.png"])
    assert done.exit_code == 0, done.output
    said = done.output
    for words in (
        "6 for train, 6 for validation, 3 for test",
        "class 1  2 + 2 + 1",
        "1, of 8x8 pixels",
        "15 I;16",
        "0 to 4095 becomes 0 to 255",
        "1 .txt files",
        "warning     left out",
        "examples    sheets/photos.png",
    ):
        assert words in said
    with Image.open("sheets/photos.png") as sheet:
        assert sheet.width > 300 and len(np.unique(np.asarray(sheet))) > 50
    assert CliRunner().invoke(main, ["data", "photos", "--out", "folder"]).exit_code == 0
    assert Path("folder/examples.png").exists()


def test_the_command_takes_functions_and_names_and_refuses_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "10" in CliRunner().invoke(main, ["data", "digits", "data.limit=100"]).output
    for arguments, message in {
        ("nowhere",): "is not a folder",
        ("no_such_module:load",): "cannot import it",
        ("digits", "split.size=3"): "is not of the form data.key=value",
        ("digits", "data.sice=3"): "unknown key data.sice",
    }.items():
        done = CliRunner().invoke(main, ["data", *arguments])
        assert done.exit_code == 2 and message in done.output
    with pytest.raises(InputError):
        inspection.source_of("digits", ["limit"])
    assert inspection.source_of("digits", ["limit=3"]) == inspection.source_of("digits", ["data.limit=3"])


def test_many_classes_are_listed_by_size() -> None:
    images, labels = noise(120), np.concatenate([np.repeat(np.arange(20), 3), np.full(60, 7)])
    data = Split().apply(Raw(images, labels, None, tuple(f"c{i}" for i in range(20)), False, 0))
    said = inspection.words(data)["classes"].splitlines()
    assert said[0] == "20" and said[1].split()[0] == "c7" and "8 classes" in said[7] and len(said) == 14


def test_a_sheet_has_a_row_for_each_class_and_a_block_for_each_part() -> None:
    images = np.stack([np.full((1, 4, 4), c, dtype=np.uint8) for c in (10, 20, 10)])
    part = (images, np.array([0, 1, 0]))
    sheet = examples.sheet({"train": part, "test": part}, [0, 1], each=2)
    assert sheet.shape == (2 * 6, 5 * 6, 3)
    assert sheet[:4, :4].max() == 10 and sheet[6:10, :4].max() == 20 and sheet[0, 6, 0] == 10 and sheet[6, 6, 0] == 255
    assert sheet[0, 18, 0] == 10 and (sheet[:, 12:18] == 255).all()


RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(60, 4))
KINDS = {
    "regression": (TABLE, TABLE @ [1, 2, 3, 4], [], "24 for train, 24 for validation, 12 for test", "mean "),
    "classes": (RNG.normal(size=(60, 2, 9)), np.arange(60) % 3, ["data.kind=signals"], "signals of 2x9", "8 + 8 + 4"),
    "tokens": (RNG.integers(0, 9, (60, 5)), np.arange(60) % 3, ["data.kind=tokens"], "5 tokens out of 9", "8 + 8 + 4"),
    "multi-label": (TABLE, RNG.random((60, 2)) < 0.5, [], "multi-label, judged by f1", "labels"),
    "segmentation": (noise(60), RNG.integers(0, 3, (60, 8, 8)), [], "segmentation, judged by miou", "24 + 24 + 12"),
    "images and numbers": (
        noise(60),
        RNG.normal(size=60),
        ["task=regression", "task.metric=mae"],
        "judged by mae",
        "deviation",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_examples_and_targets_of_every_kind_are_described_and_drawn(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples_of_kind, targets, settings, *said = KINDS[kind]
    np.savez(kept := tmp_path / "kept.npz", x=examples_of_kind, y=targets)
    (tmp_path / f"kept_{kind[:4]}.py").write_text(
        f"import numpy as np\ndef load():\n    kept = np.load({str(kept)!r})\n    return kept['x'], kept['y']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = [] if kind in ("classes", "tokens", "images and numbers") else [f"task={kind}"]
    done = CliRunner().invoke(main, ["data", f"kept_{kind[:4]}:load", *settings, *task, "--out", str(tmp_path / "x.png")])
    assert done.exit_code == 0, done.output
    assert all(words in done.output for words in said), done.output
    with Image.open(tmp_path / "x.png") as sheet:
        assert len(np.unique(np.asarray(sheet))) > 20


def test_columns_and_targets_that_look_wrong() -> None:
    target = (3 * TABLE[:, :1] + 2).astype(np.float32)
    rows = np.concatenate([TABLE, np.ones((60, 1))], axis=1).astype(np.float32)
    raw = Raw(rows, target, None, ("price",), False, 0)
    doubts = "; ".join(inspection.doubts_about(Split().apply(raw, Regression())))
    assert "column 4 has one value" in doubts and "column 0 is a target itself" in doubts and "deviations" not in doubts
    far = (TABLE @ [1, 2, 3, 4])[:, None].astype(np.float32).repeat(20, axis=0).ravel()[:, None]
    far[7] = 1e6
    raw = Raw(RNG.normal(size=(1200, 4)).astype(np.float32), far, None, ("price",), False, 0)
    assert "price has a value 35 deviations from its mean" in "; ".join(
        inspection.doubts_about(Split().apply(raw, Regression()))
    )
