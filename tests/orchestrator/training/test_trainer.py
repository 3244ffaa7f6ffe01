from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.data.dataset import Dataset
from orchestrator.errors import RunError
from orchestrator.spaces.nas_bench_201 import NasBench201
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import portable
from orchestrator.training.trainer import retrain

SPACE = NasBench201(channels=8, cells=1, image=(1, 8, 8))
ARCHITECTURE = (3, 1, 1, 1, 1, 3)


def trained(digits: Dataset, **keywords: Any) -> tuple[dict[str, float], torch.nn.Module, list[int]]:
    network, epochs = SPACE.network(ARCHITECTURE), []
    parts = Parts(**{"epochs": 12, "batch": 32, "lr": 0.1, **keywords})
    return retrain(network, ARCHITECTURE, digits, parts, progress=epochs.append), network, epochs


def test_real_digits_are_learnt_and_repeatable(digits: Dataset, tmp_path: Path) -> None:
    result, network, epochs = trained(digits)
    assert epochs == list(range(1, 13))
    assert result["test_error_percent"] < 40  # guessing gets 90; 160 images are few
    again, other, _ = trained(digits)
    assert again == result
    assert all(torch.equal(a, b) for a, b in zip(portable(network).values(), portable(other).values(), strict=True))
    torch.save(portable(network), tmp_path / "w.pt")
    fresh = SPACE.network(ARCHITECTURE)
    fresh.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))


def test_the_test_part_is_not_trained_on(digits: Dataset) -> None:
    import dataclasses

    wrong = dataclasses.replace(digits, test=dataclasses.replace(digits.test, labels=(digits.test.labels + 1) % 10))
    honest, network, _ = trained(digits)
    lied, same, _ = trained(wrong)
    assert lied["train_loss"] == honest["train_loss"]
    assert lied["test_error_percent"] > 60
    assert all(torch.equal(a, b) for a, b in zip(portable(network).values(), portable(same).values(), strict=True))


def test_divergence_is_an_error_with_advice(digits: Dataset) -> None:
    with pytest.raises(RunError, match=r"lower retrain\.lr"):
        trained(digits, lr=1e30, clip=1e30)
