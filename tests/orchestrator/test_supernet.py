"""Which weights change in which step, cotangents against finite differences, and going on where it stopped."""

from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.data import Dataset
from orchestrator.errors import InputError, RunError
from orchestrator.evaluators.supernet import Supernet
from orchestrator.objectives.latency import Latency
from orchestrator.spaces.nas_bench_201 import NasBench201
from searchers import Mixture, Stage

SPACE = NasBench201(channels=4, cells=1, image=(1, 8, 8))
FULL = Stage(0, ((0, 1, 2, 3, 4),) * 6, rounds=10, warmup=6)
UNIFORM = Mixture(((0.2,) * 5,) * 6)


def path(*architecture: int) -> Mixture:
    return Mixture.one_hot(architecture, SPACE.sizes)


def made(digits: Dataset, stage: Stage = FULL, **keywords: Any) -> Supernet:
    supernet = Supernet(SPACE, digits, **{"batch": 32, **keywords})
    supernet.build(stage, 20)
    return supernet


def weights(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in supernet.model.state_dict().items()}


def test_unselected_options_do_not_move_even_with_momentum(digits: Dataset) -> None:
    supernet = made(digits)
    supernet.train([UNIFORM] * 3)  # gives every option momentum
    before = weights(supernet)
    supernet.train([path(3, 2, 3, 2, 3, 2)])
    for name, value in weights(supernet).items():
        parts = name.split(".")
        if "options" in parts:
            edge, option = (int(parts[parts.index(key) + 1]) for key in ("edges", "options"))
            assert torch.equal(value, before[name]) != ((3, 2, 3, 2, 3, 2)[edge] == option), name
        else:
            assert not torch.equal(value, before[name]), name


def test_measuring_and_differentiating_leave_no_trace(digits: Dataset) -> None:
    supernet = made(digits)
    supernet.train([UNIFORM] * 2)
    before = weights(supernet)
    supernet.model.zero_grad(set_to_none=True)
    first = supernet.measure([(3,) * 6, (1,) * 6], 4)
    supernet.differentiate(UNIFORM, 0)
    assert supernet.measure([(3,) * 6, (1,) * 6], 4) == first
    assert all(torch.equal(v, before[k]) for k, v in weights(supernet).items())
    assert all(p.grad is None for p in supernet.model.parameters())


def test_samples_of_a_round_share_a_batch_and_none_means_all(digits: Dataset) -> None:
    supernet = made(digits, valid_batch=16)
    accuracy = [m["accuracy"] for m in supernet.measure([(3,) * 6], 0)]
    assert accuracy[0] * 16 / 100 == pytest.approx(round(accuracy[0] * 16 / 100))
    assert supernet.measure([(3,) * 6, (3,) * 6], 0) == supernet.measure([(3,) * 6], 0) * 2
    whole = supernet.measure([(3,) * 6], None)[0]["accuracy"] * len(digits.valid) / 100
    assert whole == pytest.approx(round(whole))


def test_training_learns_real_digits(digits: Dataset) -> None:
    supernet = made(digits, lr=0.1, skip_dropout=())
    supernet.steps = 80
    before = supernet.measure([(3, 1, 1, 1, 1, 3)], None)[0]["accuracy"]
    losses = [supernet.train([path(3, 1, 1, 1, 1, 3)] * 10) for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    assert supernet.measure([(3, 1, 1, 1, 1, 3)], None)[0]["accuracy"] > max(60, before + 30)


def test_cotangents_by_finite_differences_active_and_inactive(digits: Dataset) -> None:
    supernet = made(digits)
    supernet.model.double()
    supernet.data = type("Double", (), {"normalise": lambda self, x: digits.normalise(x).double()})()  # type: ignore[assignment]
    one_hot = path(3, 2, 1, 4, 3, 2)
    everything = Mixture(one_hot.weights, tuple((True,) * 5 for _ in range(6)))
    loss, cotangents = supernet.differentiate(everything, 0)

    def loss_at(rows: tuple[tuple[float, ...], ...]) -> float:
        return supernet.differentiate(Mixture(rows), 0)[0]

    assert loss == pytest.approx(loss_at(one_hot.weights))
    rng = np.random.default_rng(0)
    for choice, option in [(c, int(o)) for c in range(6) for o in rng.choice(5, 3, replace=False)]:
        step = 1e-6  # small, since a ReLU may have its kink nearby
        nudged = [
            tuple(
                tuple(w + sign * step * (c == choice and o == option) for o, w in enumerate(row))
                for c, row in enumerate(one_hot.weights)
            )
            for sign in (1, -1)
        ]
        slope = (loss_at(nudged[0]) - loss_at(nudged[1])) / (2 * step)
        assert cotangents[choice][option] == pytest.approx(slope, rel=1e-4, abs=1e-7), (choice, option)


def test_only_wanted_cotangents_are_given(digits: Dataset) -> None:
    supernet = made(digits)
    wanted = tuple(tuple(o in (2, 3) for o in range(5)) for _ in range(6))
    _, cotangents = supernet.differentiate(Mixture(path(3, 3, 3, 3, 3, 3).weights, wanted), 0)
    for row in cotangents:
        assert row[2] != 0 and row[3] != 0 and row[0] == row[1] == row[4] == 0


def test_it_goes_on_where_it_was_saved(digits: Dataset, tmp_path: Any) -> None:
    straight, plan = made(digits), [UNIFORM, path(3, 1, 3, 1, 3, 1), path(2, 2, 2, 2, 2, 2)]
    straight.train(plan)
    torch.save(straight.state_dict(), tmp_path / "s.pt")
    straight.train(plan)
    resumed = Supernet(SPACE, digits, batch=32)
    resumed.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    resumed.train(plan)
    assert resumed.step == straight.step == 6
    assert all(torch.equal(v, weights(straight)[k]) for k, v in weights(resumed).items())


def test_a_new_stage_has_new_and_fewer_weights(digits: Dataset) -> None:
    supernet = made(digits)
    many = sum(p.numel() for p in supernet.model.parameters())
    supernet.train([UNIFORM])
    supernet.build(Stage(1, ((1, 3),) * 6, rounds=10, stages=2), 20)
    assert sum(p.numel() for p in supernet.model.parameters()) < many and supernet.step == 1
    assert not supernet._optimizer.state


def test_learning_rate_falls_to_zero_and_skip_dropout_with_it(digits: Dataset) -> None:
    supernet = made(digits, skip_dropout=(0.4,))
    rates, learning = [], []
    for _ in range(20):
        supernet.train([UNIFORM])
        rates.append(supernet._skips[0].rate)
        learning.append(supernet._optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.4) and rates[10] == pytest.approx(0.2)
    assert rates[12] == pytest.approx(0.4) and rates[16] == pytest.approx(0.4 * np.exp(-5 * 0.2))
    supernet.train([path(1, 1, 1, 1, 1, 1)])
    assert supernet._skips[0].rate == 0  # a path is not a mixture that could lean on its skips
    assert learning[0] == pytest.approx(0.025) and learning[-1] < 0.025 * 0.01 and learning == sorted(learning, reverse=True)


def test_skip_dropout_acts_in_training_only(digits: Dataset) -> None:
    supernet = made(digits)
    skip = supernet._skips[0]
    skip.rate = 0.5
    x = torch.ones(1000)
    skip.chance = torch.Generator().manual_seed(0)
    dropped = skip.train()(x)
    assert set(dropped.tolist()) == {0.0, 2.0} and float(dropped.mean()) == pytest.approx(1, abs=0.15)
    assert torch.equal(skip.eval()(x), x)


def test_probing_builds_the_full_network_with_fixed_weights(digits: Dataset) -> None:
    seen = []

    class Probe(Latency):
        def probe(self, network: torch.nn.Module, image: torch.Tensor) -> dict[str, float]:
            seen.append(network)
            return super().probe(network, image)

    space = NasBench201(channels=4, cells=3, supernet_cells=[1], image=(1, 8, 8))
    supernet = Supernet(space, digits, [Probe(space, seconds=0.001)])
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    (metrics,) = supernet.probe([(3,) * 6])
    assert metrics["latency_ms"] > 0 and metrics["latency_iqr_ms"] >= 0
    assert sum(p.numel() for p in seen[0].parameters()) == sum(o.parameters for o in space.operations((3,) * 6))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_loss_that_explodes_is_an_error_with_advice(digits: Dataset) -> None:
    supernet = made(digits, lr=1e30, clip=1e30)
    with pytest.raises(RunError, match=r"lower training\.lr"):
        supernet.train([UNIFORM] * 8)


@pytest.mark.parametrize("bad", [{"batch": 0}, {"lr": 0.0}, {"skip_dropout": (1.0,)}, {"batch": 1, "world": 2}])
def test_impossible_settings_are_refused(digits: Dataset, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Supernet(SPACE, digits, **bad)
