import pytest
import torch
from torch import Tensor, nn

from hw_profiles import measure_latency


class Witness(nn.Module):
    """Notes under which conditions it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.conditions: set[tuple[int, bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.conditions.add((torch.get_num_threads(), torch.is_inference_mode_enabled(), self.training))
        return x


def test_conditions_are_those_asked_for_and_are_put_back() -> None:
    witness = Witness().train()
    measured = measure_latency(witness, torch.zeros(1), threads=2, seconds=0.001, warmup=4)
    assert witness.conditions == {(2, True, False)}
    assert torch.get_num_threads() == 1 and witness.training
    assert witness.calls >= measured.runs + 4


def test_the_spread_is_kept_and_the_median_is_plausible() -> None:
    import time

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
