"""Evaluations as tensors of a checkpoint."""

from __future__ import annotations

import io

import pytest
import torch

from searchers import Evaluation
from searchers.parts.packing import pack, unpack

SOME = [
    Evaluation((0, 3, 1), (12.5, 1e7, 0.1), 0.25),
    Evaluation((2, 0, 0), (100.0, 3.0, 1 / 3), 1.5, failed=True),
]


@pytest.mark.parametrize("evaluations", [[], SOME, [Evaluation((300, 1), (0.1,))]], ids=["none", "some", "many options"])
def test_what_is_packed_comes_back_digit_by_digit(evaluations: list[Evaluation]) -> None:
    file = io.BytesIO()
    torch.save(pack(evaluations), file)
    file.seek(0)
    assert unpack(torch.load(file, weights_only=True)) == evaluations


def test_lists_of_earlier_versions_are_read() -> None:
    assert unpack([e.to_data() for e in SOME]) == SOME


def test_tensors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError):
        unpack(pack(SOME) | {"violations": torch.zeros(1, dtype=torch.float64)})


def test_a_checkpoint_grows_by_the_options_and_costs_alone() -> None:
    def size(count: int) -> int:
        file = io.BytesIO()
        torch.save(pack([Evaluation((1,) * 500, (50.0, 1.0), 0.0)] * count), file)
        return file.tell()

    assert size(2000) - size(1000) < 1000 * 600
