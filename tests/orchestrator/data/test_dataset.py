"""Three disjoint parts, augmentation per sample, and batches."""

import numpy as np
import pytest
import torch

from orchestrator.data import loaders
from orchestrator.data.dataset import Batches, Part, Raw, Split


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
    made = loaders.load(loaders.component("digits", {}))
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
