import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hw_profiles.measure import WINDOW, in_onnxruntime, in_torch, measure_latency, steady, timed


class Witness(nn.Module):
    """Records the conditions under which it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.conditions: set[tuple[int, bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.conditions.add((torch.get_num_threads(), torch.is_inference_mode_enabled(), self.training))
        return x


def test_measuring_conditions_are_set_and_restored() -> None:
    witness = Witness().train()
    measured = measure_latency(witness, torch.zeros(1), threads=2, seconds=0.001, warmup=4)
    assert witness.conditions == {(2, True, False)}
    assert torch.get_num_threads() == 1 and witness.training
    assert witness.calls == measured.runs + 4


def test_spread_and_median_are_plausible() -> None:
    class Sleeper(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.004)
            return x

    measured = measure_latency(Sleeper(), torch.zeros(1))
    assert 4.0 <= measured.median_ms < 400
    assert measured.iqr_ms >= 0 and measured.runs >= 5


@pytest.mark.parametrize("bad", [{"threads": 0}, {"seconds": 0.0}, {"warmup": -1}])
def test_impossible_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot time"):
        measure_latency(nn.Identity(), torch.zeros(1), **bad)


def test_timing_takes_five_passes_and_the_requested_time() -> None:
    calls = []
    assert len(timed(lambda: calls.append(1), 0.0)) == len(calls) == 5
    taken = timed(lambda: time.sleep(0.002), 0.02)
    assert sum(taken) >= 0.02 and sum(taken[:-1]) < 0.02


class Sum(nn.Module):
    """Operation of a cell with two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        self.seen.append(len(x))
        return x[0] + 2 * x[1]


def test_several_inputs_are_passed_as_a_tuple() -> None:
    module = Sum()
    in_torch(module, [torch.zeros(1, 2), torch.ones(1, 2)])()
    assert module.seen == [2]


def test_onnxruntime_runs_the_same_network() -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    (output,) = in_onnxruntime(network, [x], 1)()  # type: ignore[misc]
    np.testing.assert_allclose(output, network(x).detach().numpy(), atol=1e-5)
    (output,) = in_onnxruntime(Sum(), [x, y], 1)()  # type: ignore[misc]
    np.testing.assert_allclose(output, (x + 2 * y).numpy(), atol=1e-6)


def rows(seed: int, drift: float, noise: float = 0.01, jobs: int = 60, rounds: int = 5) -> tuple[pd.DataFrame, pd.Series]:
    """Jobs of known duration, measured in a new order each round on a machine whose speed drifts."""
    rng = np.random.default_rng(seed)
    true = pd.Series(np.exp(rng.uniform(-3, 2, jobs)), index=[f"j{i:02}" for i in range(jobs)])
    measurements = []
    for r in range(rounds):
        for i, job in enumerate(rng.permutation(jobs)):
            at = r * jobs + i
            speed = np.exp(drift * np.sin(at / 25))
            measurements.append({"job": f"j{job:02}", "value": true.iloc[job] * speed * np.exp(noise * rng.normal())})
    return pd.DataFrame(measurements), true


@pytest.mark.numeric
def test_drift_of_the_machine_is_divided_out() -> None:
    measurements, true = rows(0, drift=0.2)
    plain = measurements.groupby("job")["value"].median()
    ratio = steady(measurements)["value"] / true
    before = (plain / true / (plain / true).median() - 1).abs().mean()
    after = (ratio / ratio.median() - 1).abs().mean()
    assert before > 0.04 and after < 0.015
    assert (
        steady(measurements)["spread"].median()
        < 0.1
        < 0.15
        < rows(0, 0.2)[0].groupby("job")["value"].agg(lambda v: (v.quantile(0.75) - v.quantile(0.25)) / v.median()).median()
    )


@pytest.mark.numeric
def test_measurements_without_drift_are_unchanged() -> None:
    measurements, true = rows(1, drift=0.0, noise=0.0)
    np.testing.assert_allclose(steady(measurements)["value"], true, rtol=1e-9)
    assert steady(measurements)["spread"].max() < 1e-9


@pytest.mark.numeric
def test_one_slow_reading_changes_nothing() -> None:
    measurements, true = rows(2, drift=0.0, noise=0.0)
    measurements.loc[7, "value"] *= 50
    np.testing.assert_allclose(steady(measurements)["value"], true, rtol=1e-6)


@pytest.mark.numeric
def test_drift_is_not_estimated_from_a_single_round() -> None:
    measurements, _ = rows(3, drift=0.3, rounds=1)
    assert len(measurements) > 2 * WINDOW
    pd.testing.assert_series_equal(
        steady(measurements)["value"], measurements.set_index("job")["value"].sort_index(), rtol=1e-12
    )
