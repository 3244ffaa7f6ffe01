"""Parts of recipes against what the papers say of them: numbers, not only that something happens."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.darts import Darts
from orchestrator.spaces.digits_tiny import DigitsTiny
from orchestrator.spaces.nas_bench_201 import NasBench201
from orchestrator.spaces.nsga_net_micro import NsgaNetMicro
from orchestrator.spaces.proxyless_cifar import ProxylessCifar
from orchestrator.training.augmentation import Augmentation, cutout
from orchestrator.training.optimisation import make_optimizer, make_schedule
from orchestrator.training.parts import Parts
from orchestrator.training.regularisation import AuxiliaryHead, Regularised


def rates(parts: Parts, per_epoch: int) -> list[float]:
    optimizer = make_optimizer(parts, nn.Linear(1, 1))
    schedule = make_schedule(parts, optimizer, per_epoch)
    found = []
    for _ in range(parts.epochs * per_epoch):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_schedules_follow_their_formulas() -> None:
    cosine = [0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert rates(Parts(epochs=4, lr=1.0), 5) == pytest.approx(cosine)
    assert rates(Parts(epochs=4, lr=1.0, schedule="linear"), 5) == pytest.approx([1 - step / 20 for step in range(20)])
    stepped = [0.5 ** (step // 10) for step in range(20)]
    assert rates(Parts(epochs=4, lr=1.0, schedule="step", step_epochs=2, step_factor=0.5), 5) == pytest.approx(stepped)
    assert rates(Parts(epochs=4, lr=1.0, schedule="constant"), 5) == [1.0] * 20
    warm = rates(Parts(epochs=4, lr=1.0, warmup=1), 5)
    assert warm[:5] == pytest.approx([(step + 1) / 6 for step in range(5)])
    assert warm[5:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 15)) for step in range(15)])


def test_normalisation_is_spared_from_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    groups = make_optimizer(Parts(decay_norm=False), network).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 3e-4), (2, 0.0)]


def test_cutout_sets_one_square_to_zero_which_the_border_cuts() -> None:
    torch.manual_seed(0)
    holes = (cutout(torch.ones(4000, 3, 32, 32), 16) == 0).all(dim=1)
    areas = holes.sum(dim=(1, 2)).float()
    assert areas.max() == 256 and areas.min() >= 64, "a corner keeps a quarter of it"
    # Each side has 12 pixels in the mean: 16, less what the 16 outer positions of the centre lose.
    side = np.mean([min(32, c + 8) - max(0, c - 8) for c in range(32)])
    assert float(areas.mean()) == pytest.approx(side**2, rel=0.02)
    assert holes.any(dim=2).sum(dim=1).mul(holes.any(dim=1).sum(dim=1)).eq(areas).all(), "they are rectangles"


def test_mixed_labels_are_shares_of_classes(digits: Dataset) -> None:
    torch.manual_seed(0)
    augmentation = Augmentation(Parts(mixup=1.0, cutmix=1.0), digits)
    x, y = augmentation(digits.train.images[:16], digits.train.labels[:16], np.random.default_rng(0))
    assert x.shape == (16, 1, 8, 8) and y.shape == (16, 10) and y.sum(dim=1).allclose(torch.ones(16))
    assert ((y > 0).sum(dim=1) <= 2).all() and ((y > 0) & (y < 1)).any()


SPACES: list[SearchSpace] = [
    Darts(channels=4, cells=3, image=(1, 8, 8)),
    NasBench201(channels=4, cells=1, image=(1, 8, 8)),
    NsgaNetMicro(channels=4, cells=3, image=(1, 8, 8)),
    NsgaNetMicro(channels=4, cells=4, image=(1, 8, 8)),
    ProxylessCifar(blocks=1, stem=4, widths=(4, 6), image=(1, 8, 8)),
    DigitsTiny(),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_drop_path_keeps_the_expectation_and_leaves_the_network_as_it_was(space: SearchSpace) -> None:
    torch.manual_seed(0)
    network = space.network(tuple(size - 1 for size in space.sizes))
    paths = space.droppable_paths(network)
    assert paths and not any(isinstance(path, nn.Identity) for path in paths)
    x, before = torch.rand(3, 1, 8, 8), network.eval()(torch.rand(3, 1, 8, 8)).shape
    wanted = network(x)
    model = Regularised(network, (1, 8, 8), 10, paths=paths)
    model.drop_path.fill_(0.5)
    assert torch.equal(model(x)[0], wanted), "nothing is dropped while it is tested"
    kept: list[torch.Tensor] = []
    paths[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    plain = kept
    network.train()
    for _ in range(40):
        model(x)
    dropped = [float((y.flatten(1) == 0).all(dim=1).float().mean()) for y in plain]
    assert 0.3 < np.mean(dropped) < 0.7
    model.close()
    kept.clear()
    network(x)
    assert not (kept[0].flatten(1) == 0).all() and before == wanted.shape


@pytest.mark.parametrize("space", SPACES[:4], ids=lambda space: space.name)
def test_an_auxiliary_classifier_reads_the_middle_of_a_network(space: SearchSpace) -> None:
    network = space.network(tuple(size - 1 for size in space.sizes)) if not isinstance(space, Darts) else None
    if network is None:
        network = space.network(space.parse(space.published["DARTS_V2"].notation))
    model = Regularised(network, (1, 8, 8), 10, point=space.auxiliary_point(network))
    names = set(network.state_dict())
    scores, auxiliary = model(torch.rand(3, 1, 8, 8))
    assert auxiliary is not None and auxiliary.shape == scores.shape == (3, 10)
    auxiliary.sum().backward()
    trained = [name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)]
    assert trained and not any(name.startswith(("leave", "classifier")) for name in trained)
    model.close()
    assert set(network.state_dict()) == names


def test_the_published_head_has_the_published_size() -> None:
    # DARTS, cnn/model.py: C = 36 channels, which the second reduction has four times, in each of four nodes.
    head = AuxiliaryHead(4 * 4 * 36, (8, 8), 10)
    assert sum(p.numel() for p in head.parameters()) == 576 * 128 + 2 * 128 + 128 * 768 * 4 + 2 * 768 + 768 * 10 + 10
    assert AuxiliaryHead(8, (7, 7), 10)[1].stride == 2 and head[1].stride == 3
