"""Timing a network, or an operation of one, where it runs."""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

Run = Callable[[], object]
"""One pass over a batch, finished when it returns."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PASSES = 5
WINDOW = 20
"""Measurements in a row over which a machine's speed counts as one."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds per forward pass of one batch: median and interquartile range over `runs` passes."""

    median_ms: float
    iqr_ms: float
    runs: int


def measure_latency(
    network: nn.Module, example: Tensor, *, threads: int = 1, seconds: float = 0.02, warmup: int = 3
) -> Latency:
    """Times `network(example)` in inference mode on the example's device.

    example: a whole batch, (batch, channels, height, width). threads: torch's threads within an operation. seconds: the
    least time to spend on timed passes. warmup: passes before the clock counts. On CUDA a pass ends when the device has
    finished it. Raises ValueError for settings that time nothing.
    """
    if threads < 1 or seconds <= 0 or warmup < 0:
        raise ValueError(f"threads = {threads}, seconds = {seconds}, warmup = {warmup}: cannot time a network with these")
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
    """Seconds of each of at least five passes that take at least `seconds` together."""
    times: list[float] = []
    while len(times) < PASSES or sum(times) < seconds:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def in_torch(module: nn.Module, inputs: Sequence[Tensor]) -> Run:
    """`module` on the tensors it takes, all on the device where it is to run."""
    module.eval()
    argument = inputs[0] if len(inputs) == 1 else tuple(inputs)
    cuda = inputs[0].is_cuda

    @torch.inference_mode()
    def run() -> None:
        module(argument)
        if cuda:
            torch.cuda.synchronize()

    return run


def in_onnxruntime(module: nn.Module, inputs: Sequence[Tensor], threads: int) -> Run:
    """`module`, exported to ONNX, through ONNX Runtime on the CPU. Raises ImportError without the extra `onnx`."""
    import onnxruntime

    file = io.BytesIO()
    names = [f"input{i}" for i in range(len(inputs))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter by tracing, ten times as fast as the other, is the older one
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(_Spread(module).eval(), tuple(inputs), file, input_names=names, dynamo=False)  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that go on spinning after a pass would disturb whatever is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads == 1 else "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    taken = {i.name for i in session.get_inputs()}  # a network whose output is constant takes none
    feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True) if name in taken}
    return lambda: session.run(None, feed)


class _Spread(nn.Module):
    """A module that takes one tensor or a tuple of them, as one that takes each by itself."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *x: Tensor) -> Tensor:
        return self.module(x[0] if len(x) == 1 else x)  # type: ignore[no-any-return]


def steady(rows: pd.DataFrame) -> pd.DataFrame:
    """What each job takes on this machine at its usual speed: by `job`, the median `value` and `spread`, the interquartile
    range of its rounds over that median.

    rows: `job` and `value`, in the order in which they were measured, every job once a round. A shared machine is now fast and
    now slow for seconds on end; what neighbours in time have in common is divided out, by medians in turn (Tukey's median
    polish, on logarithms).
    """
    logs = np.log(rows["value"].to_numpy(dtype=float))
    jobs, index = np.unique(rows["job"].to_numpy(dtype=str), return_inverse=True)
    window = np.arange(len(rows)) // WINDOW
    if window[-1] and (window == window[-1]).sum() < WINDOW // 2:
        window[window == window[-1]] -= 1
    speed = np.zeros(window[-1] + 1)
    if len(rows) >= 3 * len(jobs):  # with fewer rounds the two cannot be told apart
        for _ in range(5):
            level = pd.Series(logs - speed[window]).groupby(index).median().to_numpy()
            speed = pd.Series(logs - level[index]).groupby(window).median().to_numpy()
            speed = speed - np.median(speed)
    own = pd.Series(logs - speed[window]).groupby(index)
    low, middle, high = (np.exp(own.quantile(q).to_numpy()) for q in (0.25, 0.5, 0.75))
    return pd.DataFrame({"value": middle, "spread": (high - low) / middle}, index=pd.Index(jobs, name="job"))
