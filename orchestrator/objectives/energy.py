"""Energy of a forward pass, measured here and now, where the search runs."""

from __future__ import annotations

from torch import Tensor, nn

from hw_profiles import energy
from hw_profiles.measure import in_torch
from orchestrator.errors import InputError
from orchestrator.objectives.base import Metrics, Objective, Probe
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import repeated
from searchers.base import Architecture


class Energy(Objective, Probe):
    """Millijoules per batch of the standalone network in inference mode, above what the idle device takes: from NVML's counter
    on a GPU that nothing else uses, from RAPL's on a CPU.

    A CPU's counter is the whole machine's; nothing else should run beside the search, which wants workers.count=1. Where there
    is no counter, take energy@DEVICE, or profile a device that has one.

    Args:
        space: Search space of the architectures.
        batch: Images per pass.
        seconds: Least time of the passes that are counted for a network.
    """

    column = "energy_mj"

    def __init__(self, space: SearchSpace, *, batch: int = 1, seconds: float = 1.0) -> None:
        super().__init__(space)
        if batch < 1 or seconds <= 0:
            raise ValueError(f"energy: batch = {batch}, seconds = {seconds}; both must be positive")
        self.batch, self.seconds = batch, seconds
        self._meters: dict[str, energy.Meter] = {}  # by kind of device, once something was measured there
        self.title = f"energy (mJ above idle, batch {batch})"

    def check(self, device: str) -> None:
        self._meter(device)

    def measure_on_device(self, network: nn.Module, image: Tensor) -> Metrics:
        """Measure `network` (see `Probe`). Raises InputError where there is no counter."""
        run = in_torch(network, (repeated(image, self.batch),))
        meter = self._meter(image.device.type)
        try:
            return {self.column: 1e3 * energy.per_pass(run, meter, self.seconds)}
        except energy.NoMeter as error:
            raise InputError(f"objectives.energy: {error}") from error

    def _meter(self, device: str) -> energy.Meter:
        if device not in self._meters:
            try:
                self._meters[device] = energy.meter(device)
            except energy.NoMeter as error:
                hint = "take energy@DEVICE instead, for a device that has a profile"
                raise InputError(f"objectives.energy: {error}; {hint}") from error
        return self._meters[device]

    def cost(self, architecture: Architecture, metrics: Metrics) -> float:
        return metrics[self.column]
