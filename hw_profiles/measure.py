"""Timing a network where it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Measurement, Timer

BLOCKS = 5


@dataclass(frozen=True)
class Latency:
    """Milliseconds per forward pass of one batch: median and interquartile range over blocks of `runs` passes in all."""

    median_ms: float
    iqr_ms: float
    runs: int


def measure_latency(
    network: nn.Module, example: Tensor, *, threads: int = 1, seconds: float = 0.02, warmup: int = 3
) -> Latency:
    """Times `network(example)` in inference mode on the example's device.

    example: a whole batch, (batch, channels, height, width). threads: torch's threads within an operation. seconds: the
    least time to spend on timed passes. warmup: passes before the clock counts. On CUDA the timer synchronises.
    Raises ValueError for settings that time nothing.
    """
    if threads < 1 or seconds <= 0 or warmup < 0:
        raise ValueError(f"threads = {threads}, seconds = {seconds}, warmup = {warmup}: cannot time a network with these")
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            timer = Timer(stmt="network(example)", globals={"network": network, "example": example}, num_threads=threads)
            timer.timeit(max(1, warmup))
            one = timer.timeit(1).median
            # blocked_autorange often settles for a single block, which has no spread; five blocks always have one.
            number = max(1, math.ceil(seconds / BLOCKS / one))
            (measured,) = Measurement.merge(timer.timeit(number) for _ in range(BLOCKS))
    finally:
        network.train(training)
    return Latency(1e3 * measured.median, 1e3 * measured.iqr, number * BLOCKS)
