"""Returns of people's functions: used, or refused with the function's name and what to return instead."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.data import loaders
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError

MODULE = """
import numpy as np
import pandas as pd
import torch
from PIL import Image

N = 30
IMAGES = np.random.default_rng(0).integers(0, 255, (N, 16, 16, 3)).astype(np.uint8)
IMAGES[0, 0, 0], IMAGES[1, 0, 0] = 0, 255
LABELS = np.arange(N) % 3

class Dicts:
    def __init__(self, image="image", label="label", **more):
        self.image, self.label, self.more = image, label, more
    def __len__(self):
        return N
    def __getitem__(self, i):
        return {self.image: Image.fromarray(IMAGES[i]), self.label: int(LABELS[i]), **self.more}

class Transformed(torch.utils.data.Dataset):
    classes = ["cat", "dog", "cow"]
    def __len__(self):
        return N
    def __getitem__(self, i):
        return torch.from_numpy(IMAGES[i]).permute(2, 0, 1) / 255, torch.tensor(int(LABELS[i]))

class Random(Transformed):
    def __getitem__(self, i):
        return torch.rand(3, 16, 16), int(LABELS[i])

class Fails(Transformed):
    def __getitem__(self, i):
        if i == 7:
            return open("nowhere.png")
        return super().__getitem__(i)

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([])

def pil(mode):
    return [(Image.fromarray(i).convert(mode), int(c)) for i, c in zip(IMAGES, LABELS)]

def keras():
    return {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:6], "y_test": LABELS[:6]}

RETURNS = {
    "dicts": Dicts,
    "hugging_face": lambda: Dicts("img", "label", id=3),
    "named": lambda: {"train": Dicts(), "validation": Dicts(), "test": Dicts()},
    "two_named": lambda: {"train": Dicts(), "val": Dicts()},
    "lists": lambda: (list(IMAGES), list(map(int, LABELS))),
    "list_of_lists": lambda: [list(IMAGES), LABELS.tolist()],
    "pairs": lambda: list(zip(IMAGES, LABELS)),
    "triples": lambda: [(i, int(c), f"{c}.png") for i, c in zip(IMAGES, LABELS)],
    "two_datasets": lambda: (Transformed(), Transformed()),
    "arrays_dict": lambda: {"images": IMAGES, "labels": LABELS},
    "keras": keras,
    "transforms": Transformed,
    "tensors": lambda: (torch.from_numpy(IMAGES).permute(0, 3, 1, 2), torch.from_numpy(LABELS)),
    "subset": lambda: torch.utils.data.Subset(Transformed(), range(12)),
    "pil_palette": lambda: pil("P"),
    "texts": lambda: (IMAGES, np.array(["a", "b", "c"])[LABELS]),
    "series": lambda: (IMAGES, pd.Series(LABELS).map({0: "x", 1: "y", 2: "z"})),
    "whole_floats": lambda: (IMAGES, LABELS.astype(float)),
    "from_one": lambda: (IMAGES, LABELS + 1),
    "gaps": lambda: (IMAGES, LABELS * 10),
    "minus_one_and_one": lambda: (IMAGES, np.where(LABELS, 1, -1)),
    "booleans": lambda: (IMAGES, LABELS > 0),
    "column": lambda: (IMAGES, LABELS[:, None]),
    "one_hot": lambda: (IMAGES, np.eye(3)[LABELS]),
    "unit_floats": lambda: (IMAGES / 255, LABELS),
    "byte_floats": lambda: (IMAGES.astype(np.float32), LABELS),
    "int64": lambda: (IMAGES.astype(np.int64), LABELS),
    "uint16": lambda: (IMAGES.astype(np.uint16) * 257, LABELS),
    "normalised": lambda: ((IMAGES / 255 - .5) / .2, LABELS),
    "masks": lambda: (IMAGES > 128, LABELS),

    "nothing": lambda: None,
    "number": lambda: 3,
    "generator": lambda: ((i, c) for i, c in zip(IMAGES, LABELS)),
    "loader": lambda: torch.utils.data.DataLoader(Transformed()),
    "stream": Stream,
    "frame": lambda: pd.DataFrame({"path": ["a.png"] * N, "label": LABELS}),
    "array_alone": lambda: IMAGES,
    "four": lambda: (IMAGES, IMAGES, LABELS, LABELS),
    "three_parts": lambda: (Transformed(), Transformed(), Transformed()),
    "empty": lambda: [],
    "two_sizes": lambda: [(Image.fromarray(i).resize((16 + c, 16)), int(c)) for i, c in zip(IMAGES, LABELS)],
    "two_shapes": lambda: [(i[: 14 + c], int(c)) for i, c in zip(IMAGES, LABELS)],
    "unlike_items": lambda: [(i, c) if c else {"image": i} for i, c in zip(IMAGES, LABELS)],
    "two_numbers": lambda: [(i, int(c), 3) for i, c in zip(IMAGES, LABELS)],
    "no_image_key": lambda: Dicts("photo", "fine_label"),
    "no_train": lambda: {"test": Dicts(), "val": Dicts()},
    "unknown_part": lambda: {"train": Dicts(), "extra": Dicts()},
    "file_names": lambda: [("a.png", 1)] * N,
    "no_label": lambda: [(i, None) for i in IMAGES],
    "table": lambda: (IMAGES.reshape(N, -1), LABELS),
    "video": lambda: (IMAGES[:, None], LABELS),
    "strings": lambda: (IMAGES.astype(str), LABELS),
    "nan": lambda: (np.where(IMAGES == IMAGES[3, 0, 0, 0], np.nan, IMAGES), LABELS),
    "infinite": lambda: (np.full((N, 16, 16), np.inf), LABELS),
    "fewer_labels": lambda: (IMAGES, LABELS[:-1]),
    "measurements": lambda: (IMAGES, LABELS / 2),
    "nan_labels": lambda: (IMAGES, np.where(LABELS, LABELS, np.nan)),
    "unlabelled": lambda: (IMAGES, LABELS - 1),
    "several_labels": lambda: (IMAGES, np.ones((N, 3))),
    "one_class": lambda: (IMAGES, LABELS * 0),
    "none_among_labels": lambda: (IMAGES, [None, *LABELS[1:]]),
    "new_in_test": lambda: ((IMAGES, LABELS), (IMAGES, LABELS + 1)),
    "other_size_in_test": lambda: ((IMAGES, LABELS), (IMAGES[:, :8], LABELS)),
    "key_error": lambda: {}["images"],
    "exit": lambda: __import__("sys").exit("no data"),
    "item_fails": Fails,
    "random": Random,
}

def give(what: str = "lists"):
    return RETURNS[what]()

def shaped(shape: list[int], seed: int = 0):
    return np.random.default_rng(seed).integers(0, 255, (30, *shape)).astype(np.uint8), LABELS
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "people.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("people", None)


def give(what: str) -> Dataset:
    return loaders.load(loaders.component("people:give", {"what": what}))


@pytest.mark.parametrize(
    ("what", "classes", "sizes"),
    [
        ("dicts", "012", [12, 12, 6]),
        ("hugging_face", "012", [12, 12, 6]),
        ("named", "012", [30, 30, 30]),
        ("two_named", "012", [15, 15, 30]),
        ("lists", "012", [12, 12, 6]),
        ("list_of_lists", "012", [12, 12, 6]),
        ("pairs", "012", [12, 12, 6]),
        ("triples", "012", [12, 12, 6]),
        ("two_datasets", ("cat", "dog", "cow"), [15, 15, 30]),
        ("arrays_dict", "012", [12, 12, 6]),
        ("keras", "012", [15, 15, 6]),
        ("transforms", ("cat", "dog", "cow"), [12, 12, 6]),
        ("tensors", "012", [12, 12, 6]),
        ("subset", "012", [3, 6, 3]),
        ("pil_palette", "012", [12, 12, 6]),
        ("texts", "abc", [12, 12, 6]),
        ("series", "xyz", [12, 12, 6]),
        ("whole_floats", "012", [12, 12, 6]),
        ("from_one", "123", [12, 12, 6]),
        ("gaps", ("0", "10", "20"), [12, 12, 6]),
        ("minus_one_and_one", ("-1", "1"), [12, 12, 6]),
        ("booleans", ("False", "True"), [12, 12, 6]),
        ("column", "012", [12, 12, 6]),
        ("one_hot", "012", [12, 12, 6]),
    ],
)
def test_what_is_used(what: str, classes: Any, sizes: list[int]) -> None:
    data = give(what)
    assert data.classes == tuple(classes) and data.image == (3, 16, 16)
    assert [len(p) for p in (data.train, data.valid, data.test)] == sizes


@pytest.mark.parametrize("what", ["unit_floats", "byte_floats", "int64", "uint16", "transforms"])
def test_values_of_other_types_are_those_of_8_bits(what: str) -> None:
    expected, data = give("lists"), give(what)
    assert np.array_equal(data.train.images, expected.train.images)


def test_values_that_were_normalised_keep_their_order() -> None:
    exact = give("lists").train.images.numpy().astype(float)
    assert np.abs(give("normalised").train.images.numpy() - exact).max() <= 1
    assert set(np.unique(give("masks").train.images)) == {0, 255}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "returned None; return uint8 images"),
        ("number", "returned an int, whose items cannot be looked up"),
        ("generator", "return a list of its items"),
        ("loader", r"return its \.dataset"),
        ("stream", "Stream, whose items cannot be looked up"),
        ("frame", r"returned 'a\.png', which cannot be read as an image \(No such file"),
        ("array_alone", "returned a ndarray alone"),
        ("four", "returned 4 things.*train, valid and test"),
        ("three_parts", "returned 3 things"),
        ("empty", "returned no items"),
        ("two_sizes", "3 different sizes .*; resize them to one"),
        ("two_shapes", "3 different shapes .*; resize all of them"),
        ("unlike_items", "items"),
        ("two_numbers", "items of 3 things, 2 of them whole numbers"),
        ("no_image_key", "keys photo, fine_label; call two of them image and label"),
        ("no_train", "keys test, val"),
        ("unknown_part", "keys train, extra"),
        ("file_names", r"returned 'a\.png', which cannot be read as an image \(No such file"),
        ("no_label", "no label with item 0"),
        ("table", r"shape \(30, 768\)"),
        ("video", r"shape \(30, 1, 16, 16, 3\)"),
        ("strings", "images of type <U"),
        ("nan", "NaN or infinite"),
        ("infinite", "30 images with pixels that are NaN or infinite, number 0 first"),
        ("fewer_labels", "30 images and 29 labels"),
        ("measurements", r"the label 0\.5; wanted are classes"),
        ("nan_labels", "the label nan"),
        ("unlabelled", "the label -1; leave out images without a label"),
        ("several_labels", r"labels of shape \(30, 3\)"),
        ("one_class", "one class only"),
        ("none_among_labels", "the label None as number 0"),
        ("new_in_test", "the label 3 as test"),
        ("other_size_in_test", "as test"),
        ("key_error", r"raised KeyError: 'images' \(people\.py, line \d+\)"),
        ("exit", r"raised SystemExit: no data \(people\.py, line \d+\)"),
        ("item_fails", r"its item 7 raised FileNotFoundError: .*nowhere\.png.* \(people\.py, line \d+\)"),
    ],
)
def test_what_is_refused_with_the_functions_name(what: str, message: str) -> None:
    with pytest.raises(InputError, match=f"people:give.*{message}"):
        give(what)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ([12, 12], (1, 12, 12)),
        ([1, 12, 12], (1, 12, 12)),
        ([12, 12, 2], (2, 12, 12)),
        ([12, 12, 4], (4, 12, 12)),
        ([12, 12, 13], (13, 12, 12)),
        ([4, 12, 12], (4, 12, 12)),
        ([13, 12, 12], (13, 12, 12)),
        ([3, 12, 20], (3, 12, 20)),
        ([12, 20, 2], (2, 12, 20)),
        ([13, 12, 20], None),
        ([12, 20, 13], None),
        ([6, 6, 6], None),
        ([3, 3, 3], None),
        ([3, 12, 4], None),
        ([3, 3, 24], None),
    ],
)
def test_the_order_of_channels_is_told_from_the_shape_or_asked_for(shape: list[int], image: tuple[int, ...] | None) -> None:
    if image is not None:
        assert loaders.load(loaders.component("people:shaped", {"shape": shape})).image == image
        return
    with pytest.raises(InputError, match=r"people:shaped.*expected are \(n, channels, height, width\), so write data\.layout"):
        loaders.load(loaders.component("people:shaped", {"shape": shape}))
    for layout, channels in {"channels-first": shape[0], "channels-last": shape[-1]}.items():
        given = {"shape": shape, "layout": layout}
        assert loaders.load(loaders.component("people:shaped", given)).image[0] == channels


def test_random_transforms_are_warned_of() -> None:
    assert re.search("random transforms act only then", " ".join(give("random").warnings)) and not give("transforms").warnings
