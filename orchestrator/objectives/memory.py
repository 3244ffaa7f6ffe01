"""Peak memory of a network during a pass, measured where the search runs."""

from __future__ import annotations

from torch import Tensor, nn

from hw_profiles.memory import peak_memory
from orchestrator.objectives.base import Metrics, Objective, Probe
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import repeated
from searchers.base import Architecture


class Memory(Objective, Probe):
    """Peak of weights, input and activations of the standalone network in megabytes (10^6 bytes): what the allocator measures
    on CUDA, the sum of live tensors on a CPU (see `hw_profiles.memory`).

    Args:
        space: Search space of the architectures.
        batch: Images per pass.
        training: Whether to measure a forward and a backward pass instead of inference; gradients count, an optimiser's state
            does not.
    """

    column = "memory_mb"

    def __init__(self, space: SearchSpace, *, batch: int = 1, training: bool = False) -> None:
        super().__init__(space)
        if batch < 1:
            raise ValueError(f"memory: batch = {batch}; it must be positive")
        self.batch, self.training = batch, training
        self.title = f"peak memory (MB, {'training' if training else 'inference'}, batch {batch})"

    def measure_on_device(self, network: nn.Module, image: Tensor) -> Metrics:
        example = repeated(image, self.batch)
        return {self.column: peak_memory(network, example, training=self.training) / 1e6}

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return metrics[self.column]
