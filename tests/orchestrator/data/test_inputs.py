"""Networks of several inputs: what functions return of them, how a forward pass takes them, and what they cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.data.dataset import Dataset, Split
from orchestrator.data.functions import to_raw
from orchestrator.data.preprocessing import Preprocessing
from orchestrator.errors import InputError
from orchestrator.evaluators.training_free import TrainingFree, unscored
from orchestrator.search.weights import Origin
from orchestrator.spaces import Choice
from orchestrator.spaces.parts.inputs import Inputs, Shapes, Tokens, arguments, zeros
from orchestrator.spaces.parts.own import OwnSpace

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 2
PHOTOS = RNG.integers(0, 255, (40, 1, 8, 8)).astype(np.uint8)
ROWS = RNG.normal(size=(40, 3)) * [1.0, 1e-3, 1e3]
TOKENS = RNG.integers(0, 9, (40, 7))
MASK = (RNG.random((40, 7)) < 0.5).astype(int)
WORDS = {"input_ids": TOKENS, "attention_mask": MASK}


def dataset(returned: Any, **reading: Any) -> Dataset:
    return Split().apply(to_raw(returned, "m:f", lambda: None, **reading))


def item(i: int) -> dict[str, Any]:
    return {"photo": PHOTOS[i], "row": ROWS[i], "label": int(LABELS[i]), "id": i}


RETURNED: dict[str, Any] = {
    "dict": (({"photo": PHOTOS, "row": ROWS}, LABELS), {}),
    "parts": ({"train": ({"photo": PHOTOS, "row": ROWS}, LABELS), "test": ({"photo": PHOTOS, "row": ROWS}, LABELS)}, {}),
    "one dict": ({"photo": PHOTOS, "row": ROWS, "label": LABELS, "names": ["x"] * 40}, {}),
    "items": ([({"photo": PHOTOS[i], "row": ROWS[i]}, LABELS[i]) for i in range(40)], {}),
    "items with more": ([item(i) for i in range(40)], {}),
    "items with inputs": ([item(i) | {"image": PHOTOS[i]} for i in range(40)], {"inputs": ["photo", "row"]}),
}


@pytest.mark.parametrize("name", RETURNED)
def test_inputs_are_found_and_normalised_each_by_its_own_rule(name: str) -> None:
    returned, reading = RETURNED[name]
    data = dataset(returned, layout="channels-first", **reading)
    assert data.image == Shapes({"photo": (1, 8, 8), "row": (3,)}) and data.image["row"] == (3,)  # type: ignore[call-overload]
    assert not data.has_images and len(data.train) == len(data.train.images)
    x = data.normalise(data.train.select(np.arange(len(data.train))).images)
    for part in x.plain.values():
        over = [d for d in range(part.dim()) if d != 1]
        assert part.mean(over).abs().max() < 1e-3 and (part.std(over) - 1).abs().max() < 0.1


def test_inputs_stay_together_and_with_their_targets() -> None:
    data = dataset(({"photo": PHOTOS, "number": np.arange(40)}, LABELS), layout="channels-first", kind={"number": "table"})
    both = data.train.joined(data.valid).select(np.arange(5))
    numbers = both.images.plain["number"][:, 0].long()  # type: ignore[union-attr]
    assert torch.equal(both.labels, numbers % 2)
    assert np.array_equal(both.images.plain["photo"], PHOTOS[numbers])  # type: ignore[union-attr]


def test_a_mask_is_an_input_or_refused_by_name() -> None:
    given = {**WORDS, "labels": LABELS}
    for returned in (given, [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]):
        with pytest.raises(InputError, match=r"'attention_mask' may be an input .* data.inputs=input_ids,attention_mask if so"):
            dataset(returned, kind="tokens")
        data = dataset(returned, kind="tokens", inputs=["input_ids", "attention_mask"])
        assert isinstance(data.image, Shapes) and data.image["attention_mask"] == (7,)
        assert data.image["input_ids"].vocabulary == 9 and data.image["attention_mask"].vocabulary == 2
        assert isinstance(data.train.images, Inputs) and data.normalise(data.train.images).parts[1].dtype == torch.int64
        assert dataset(returned, kind="tokens", inputs=["input_ids"]).image == (7,)
        with pytest.raises(InputError, match=r"no 'mask', which data.inputs names"):
            dataset(returned, kind="tokens", inputs=["input_ids", "mask"])
    with pytest.raises(InputError, match="number 1 may be an input"):
        dataset([(TOKENS[i], MASK[i], int(LABELS[i])) for i in range(40)], kind="tokens")
    arrays = {f"{name}_{part}": values for part in ("train", "test") for name, values in given.items()}
    data = dataset(arrays, kind="tokens", inputs=["input_ids", "attention_mask"])
    assert isinstance(data.image, Shapes) and len(data.test) == 40
    with pytest.raises(InputError, match="'attention_mask' may be an input"):
        dataset(arrays, kind="tokens")


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Choice("first", {"linear": lambda: nn.Linear(64, 4), "bare": lambda: nn.Linear(64, 4, bias=False)})
        self.second = Choice("second", {"linear": lambda: nn.Linear(3, 4), "skip": lambda: nn.Linear(3, 4, bias=False)})
        self.head = nn.Linear(4, 2)

    def forward(self, row: Any, photo: Any) -> Any:
        return self.head(self.first(photo.flatten(1)) + self.second(row))


class Whole(Named):
    def forward(self, batch: Any) -> Any:  # type: ignore[override]
        assert isinstance(batch, (dict, tuple))
        photo, row = batch.values() if isinstance(batch, dict) else batch
        return super().forward(row, photo)


class Ordered(Named):
    def forward(self, photo: Any, row: Any) -> Any:
        return super().forward(row, photo)


SEVERAL = {"photo": (1, 8, 8), "row": (3,)}


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        (Shapes(SEVERAL), Named),
        (Shapes(SEVERAL), Whole),
        (Shapes(SEVERAL.values()), Ordered),
        (Shapes(SEVERAL.values()), Whole),
    ],
)
def test_a_network_takes_keywords_arguments_or_the_whole(shapes: Any, kind: type[nn.Module]) -> None:
    space = OwnSpace(lambda image, classes: kind(), {}, shapes, 2)
    # First and second choice by their options, and the head.
    assert space.parameters((0, 1)) == 64 * 4 + 4 + 3 * 4 + 4 * 2 + 2 and space.macs((1, 0)) == 64 * 4 + 3 * 4 + 4 * 2
    assert space.network((0, 0))(zeros(5, shapes)).shape == (5, 2)
    assert {("in", "first"), ("in", "second"), ("first", "out")} <= set(space.graph((0, 0))["network"].arrows)


def test_an_input_that_forward_does_not_name_is_refused() -> None:
    with pytest.raises(ValueError, match="forward takes row, photo, and no 'image', an input of the data"):
        OwnSpace(lambda image, classes: Named(), {}, Shapes({"image": (1, 8, 8), "row": (3,)}), 2)  # type: ignore[arg-type]
    assert arguments(nn.Identity(), torch.zeros(1))[1] == {}


@pytest.mark.parametrize("returned", [{"photo": PHOTOS, "ids": TOKENS}, (PHOTOS, TOKENS)], ids=["dict", "tuple"])
def test_preprocessing_of_several_inputs_is_kept_with_the_weights(returned: Any) -> None:
    named = isinstance(returned, Mapping)
    data = dataset((returned, LABELS), layout="channels-first", kind={"ids" if named else "1": "tokens"})
    origin = Origin("a", "m:f", {}, Preprocessing.of(data), ("x", "y")).plain
    assert origin.preprocessing.shape == data.image and isinstance(origin.preprocessing.shape[1], Tokens)
    example = {"photo": PHOTOS[3], "ids": TOKENS[3]} if named else (PHOTOS[3], TOKENS[3])
    prepared = origin.preprocessing(example)[None]
    parts = [torch.from_numpy(values[3:4]) for values in (PHOTOS, TOKENS)]
    wanted = data.normalise(Inputs(dict(zip(example, parts, strict=True)) if named else parts))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(prepared.parts, wanted.parts, strict=True))
    with pytest.raises(ValueError, match="must be a"):
        origin.preprocessing(PHOTOS[3])


def test_what_one_input_alone_allows_is_refused() -> None:
    raw = to_raw(({"photo": PHOTOS, "row": ROWS}, LABELS), "m:f", lambda: None, layout="channels-first")
    data = Split().apply(raw)
    space = OwnSpace(lambda image, classes: Named(), {}, data.image, 2)
    with pytest.raises(InputError, match=r"data.flip = True: .* several inputs are not augmented"):
        Split(flip=True).apply(raw)
    with pytest.raises(InputError, match=r"data.stream = true: this data is in memory"):
        Split(stream=True).apply(raw)
    with pytest.raises(InputError, match=r"proxy.size: only images"):
        data.smaller(size=4)
    with pytest.raises(InputError, match=r"'synflow': .* several inputs do not allow"):
        TrainingFree(space, data, ["synflow"])
    assert unscored(data) == "several inputs"
    assert unscored(dataset((TOKENS, LABELS), kind="tokens")) == "tokens" and not unscored(dataset((PHOTOS, LABELS)))
    smaller = data.smaller(share=0.5)
    assert len(smaller.train) == len(data.train) // 2 and smaller.inputs != data.inputs


def test_images_that_are_not_shifted_are_mirrored_as_others_are() -> None:
    data = Split(flip=True, crop=0).apply(to_raw((PHOTOS, LABELS), "m:f", lambda: None, layout="channels-first"))
    mirrored = data.augment(data.train.images, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    rng.integers(0, 1, (2, len(data.train)))  # shifts of nothing, which are drawn first
    turned = rng.random(len(data.train)) < 0.5
    assert 0 < turned.sum() < len(turned) and isinstance(data.train.images, torch.Tensor)
    for image, before, turn in zip(mirrored, data.train.images, turned, strict=True):
        assert torch.equal(image, before.flip(-1) if turn else before)
