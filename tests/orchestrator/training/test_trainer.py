import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.data.dataset import Dataset
from orchestrator.errors import Interrupted, RunError
from orchestrator.spaces.darts import Darts
from orchestrator.spaces.nas_bench_201 import NasBench201
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import portable, quality
from orchestrator.training.trainer import Training, fit, retrain

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


CELLS = Darts(channels=4, cells=3, image=(1, 8, 8))
CELL = CELLS.parse(CELLS.published["DARTS_V2"].notation)
EVERYTHING: dict[str, Any] = {
    "drop_path": 0.3,
    "auxiliary": 0.4,
    "cutout": 4,
    "dropout": 0.2,
    "label_smoothing": 0.1,
    "warmup": 0.5,
    "randaugment": 5,
    "erasing": 0.3,
    "mixup": 0.2,
    "cutmix": 1.0,
    "ema": 0.9,
}
"""All regularisation and augmentation at once, so that whatever draws by chance is among what goes on."""


class Stopping:
    """Keeper that saves after a step and stops there, or restores what it has."""

    def __init__(self, at: int | None = None, state: dict[str, Any] | None = None) -> None:
        self.at, self.state = at, state

    def restore(self, training: Training) -> None:
        if self.state is not None:
            training.load_state_dict(self.state)

    def after_step(self, training: Training) -> None:
        if training.step == self.at:
            content = io.BytesIO()
            torch.save(training.state_dict(), content)
            self.state = torch.load(io.BytesIO(content.getvalue()), weights_only=True)
            raise Interrupted


def of_cells(
    digits: Dataset, parts: Parts, keeper: Stopping | None = None, **more: Any
) -> tuple[dict[str, torch.Tensor], float]:
    network = CELLS.network(CELL)
    loss = fit(network, CELL, digits, digits.train, parts, space=CELLS, keeper=keeper)
    return portable(network), loss


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


@pytest.mark.parametrize(
    "settings",
    [{}, EVERYTHING, {"optimizer": "adamw", "schedule": "linear"}, {"optimizer": "rmsprop", "schedule": "step", "lr": 0.01}],
    ids=["plain", "everything", "adamw", "rmsprop"],
)
def test_an_interrupted_training_goes_on_to_the_same_weights(digits: Dataset, settings: dict[str, Any]) -> None:
    parts = Parts(**{"epochs": 2, "batch": 20, "lr": 0.05, **settings})
    whole, loss = of_cells(digits, parts)
    per_epoch = len(digits.train) // 20
    keeper = Stopping(per_epoch + per_epoch // 2)  # in the middle of the second epoch
    torch.manual_seed(17)
    with pytest.raises(Interrupted):
        of_cells(digits, parts, keeper)
    torch.manual_seed(18)  # whoever else draws numbers meanwhile changes nothing
    drawn = torch.rand(1)
    again, its_loss = of_cells(digits, parts, Stopping(state=keeper.state))
    assert same(whole, again) and its_loss == loss
    torch.manual_seed(18)
    assert torch.equal(drawn, torch.rand(1)) and set(whole) == set(CELLS.network(CELL).state_dict())


def test_every_part_changes_the_weights(digits: Dataset) -> None:
    space = NasBench201(channels=2, cells=1, image=(1, 8, 8))

    def weights(**changed: Any) -> dict[str, torch.Tensor]:
        network, parts = space.network(ARCHITECTURE), Parts(**{"epochs": 2, "batch": 50, "lr": 0.05, **changed})
        fit(network, ARCHITECTURE, digits, digits.train, parts, space=space)
        return portable(network)

    plain = weights()
    further = {
        "optimizer": "adamw", "momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "decay_norm": False, "clip": 0.01,
        "schedule": "constant", "resized_crop": 0.3, "jitter": (0.4, 0.4, 0.4, 0.1), "amp": True,
    }  # fmt: skip
    for part, value in (EVERYTHING | further).items():
        assert not same(plain, weights(**{part: value})), part


def test_a_pupil_learns_what_its_teacher_says_rather_than_the_labels(digits: Dataset) -> None:
    shifted = replace(digits.train, labels=(digits.train.labels + 1) % 10)
    teacher = SPACE.network(ARCHITECTURE)
    fit(teacher, ARCHITECTURE, digits, shifted, Parts(epochs=12, batch=20, lr=0.1))
    pupil = SPACE.network(ARCHITECTURE)
    parts = Parts(epochs=12, batch=20, lr=0.1, distill=1.0, temperature=2.0)
    fit(pupil, ARCHITECTURE, digits, digits.train, parts, teacher=teacher.eval())
    assert quality(pupil, digits, shifted) > 70 > quality(pupil, digits, digits.train)
