"""Measurement of the latency of networks and single operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hw_profiles.files import onnx_bytes

Run = Callable[[], object]
"""One pass over a batch, complete when the call returns."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PASSES = 5
WINDOW = 20
"""Consecutive measurements over which the speed of a machine is taken as constant."""


@dataclass(frozen=True)
class Latency:
    """Latency of a forward pass over one batch.

    Args:
        median_ms: Median in milliseconds.
        iqr_ms: Interquartile range in milliseconds.
        runs: Number of passes timed.
    """

    median_ms: float
    iqr_ms: float
    runs: int


def measure_latency(network: nn.Module, example: Any, *, threads: int = 1, seconds: float = 0.02, warmup: int = 3) -> Latency:
    """Time `network(example)` in inference mode on the example's device; on CUDA each pass is synchronised.

    Args:
        network: The network; its mode is restored afterwards.
        example: (batch, channels, height, width), or what else the network takes.
        threads: Intra-op threads of torch on the CPU.
        seconds: Minimum total duration of the timed passes.
        warmup: Passes before timing starts.

    Raises:
        ValueError: For a setting with which nothing can be timed.
    """
    if threads < 1:
        raise ValueError(f"threads = {threads}: cannot time a network with less than one thread")
    if seconds <= 0:
        raise ValueError(f"seconds = {seconds}: cannot time a network for no time; give a positive number")
    if warmup < 0:
        raise ValueError(f"warmup = {warmup}: cannot time a network after fewer than 0 passes")
    training, before = network.training, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = in_torch(network, (example,))
        for _ in range(max(1, warmup)):
            run()
        times = 1e3 * np.array(timed(run, seconds))
    finally:
        torch.set_num_threads(before)
        network.train(training)
    low, median, high = np.percentile(times, [25, 50, 75])
    return Latency(float(median), float(high - low), len(times))


def timed(run: Run, seconds: float) -> list[float]:
    """Time at least five passes that last at least `seconds` together, and return the seconds of each."""
    times: list[float] = []
    while len(times) < PASSES or sum(times) < seconds:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def in_torch(module: nn.Module, inputs: Sequence[Any]) -> Run:
    """Prepare a pass through a module in torch.

    Args:
        module: The module; it is put into evaluation mode.
        inputs: Its input tensors, or what else it takes, on the device where it is to run.
    """
    module.eval()
    argument = inputs[0] if len(inputs) == 1 else tuple(inputs)
    cuda = tree_leaves(argument)[0].is_cuda

    @torch.inference_mode()
    def run() -> None:
        module(argument)
        if cuda:
            torch.cuda.synchronize()

    return run


def in_onnxruntime(module: nn.Module, inputs: Sequence[Tensor], threads: int) -> Run:
    """Prepare a pass through a module in ONNX Runtime on the CPU.

    Args:
        module: The module to export to ONNX.
        inputs: Its input tensors.
        threads: Intra-op threads.

    Raises:
        ImportError: Without the extra `onnx`.
    """
    names = [f"input{i}" for i in range(len(inputs))]
    session = runtime_session(onnx_bytes(_Spread(module), inputs), threads)
    used = {i.name for i in session.get_inputs()}  # the exporter drops the input of a network with constant output
    feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True) if name in used}
    return lambda: session.run(None, feed)


def runtime_session(model: bytes, threads: int) -> Any:
    """Return a session of ONNX Runtime on the CPU.

    Args:
        model: A file in ONNX's format.
        threads: Intra-op threads.

    Raises:
        ImportError: Without the extra `onnx`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that keep spinning after a pass would disturb the next measurement.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads == 1 else "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _Spread(nn.Module):
    """Wrapper that passes separate tensors to a module as one tensor or as a tuple, since the exporter takes no tuples."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *x: Tensor) -> Tensor:
        return self.module(x[0] if len(x) == 1 else x)  # type: ignore[no-any-return]


def steady(rows: pd.DataFrame) -> pd.DataFrame:
    """Remove the drift of a shared machine's speed from repeated measurements.

    The speed of a shared machine drifts over seconds. The factor that measurements close in time have in common is divided
    out by Tukey's median polish on logarithms.

    Args:
        rows: `job` and `value`, in order of measurement, with every job once per round.

    Returns:
        Indexed by `job`: the median `value`, and `spread`, the interquartile range over rounds divided by that median.
    """
    logs = np.log(rows["value"].to_numpy(dtype=float))
    jobs, index = np.unique(rows["job"].to_numpy(dtype=str), return_inverse=True)
    window = np.arange(len(rows)) // WINDOW
    if window[-1] and (window == window[-1]).sum() < WINDOW // 2:
        window[window == window[-1]] -= 1
    speed = np.zeros(window[-1] + 1)
    if len(rows) >= 3 * len(jobs):  # fewer rounds cannot separate speed from cost
        for _ in range(5):
            level = pd.Series(logs - speed[window]).groupby(index).median().to_numpy()
            speed = pd.Series(logs - level[index]).groupby(window).median().to_numpy()
            speed = speed - np.median(speed)
    per_job = pd.Series(logs - speed[window]).groupby(index)
    low, middle, high = (np.exp(per_job.quantile(q).to_numpy()) for q in (0.25, 0.5, 0.75))
    return pd.DataFrame({"value": middle, "spread": (high - low) / middle}, index=pd.Index(jobs, name="job"))
