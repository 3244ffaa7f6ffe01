"""Time of a forward pass, measured here and now, where the search runs."""

from __future__ import annotations

from torch import Tensor, nn

from hw_profiles.measure import measure_latency
from orchestrator.objectives.base import Metrics, Objective, Probe
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import repeated
from searchers.base import Architecture


class Latency(Objective, Probe):
    """Median milliseconds of the standalone network in inference mode, on the device of the supernet's workers.

    While a search runs, other workers load the machine, so members of the front are timed again at its end, alone.

    Args:
        space: Search space of the architectures.
        batch: Images per pass.
        threads: CPU threads within an operation.
        seconds: Least time spent on timing a network.
    """

    column = "latency_ms"
    spread = "latency_iqr_ms"

    def __init__(self, space: SearchSpace, *, batch: int = 1, threads: int = 1, seconds: float = 0.02) -> None:
        super().__init__(space)
        if batch < 1 or threads < 1 or seconds <= 0:
            raise ValueError(f"latency: batch = {batch}, threads = {threads}, seconds = {seconds}; all must be positive")
        self.batch, self.threads, self.seconds = batch, threads, seconds
        self.title = f"latency (ms, batch {batch}, {threads} thread{'s' * (threads > 1)})"

    def measure_on_device(self, network: nn.Module, image: Tensor) -> Metrics:
        example = repeated(image, self.batch)
        measured = measure_latency(network, example, threads=self.threads, seconds=self.seconds)
        return {self.column: measured.median_ms, self.spread: measured.iqr_ms}

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return metrics[self.column]
