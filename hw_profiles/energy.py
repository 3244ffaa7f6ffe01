"""Energy of a forward pass, from the device's own counters and net of idle power."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hw_profiles.measure import Run

POWERCAP = Path("/sys/class/powercap")
IDLE = 2.0
"""Seconds over which idle power is measured."""
CHUNK = 0.01
"""Seconds of passes between two readings of a counter."""


class NoMeter(Exception):
    """Raised where no energy counter can be read; the message says why."""


@dataclass(frozen=True)
class Meter:
    """Energy counter of a device.

    Args:
        joules: Reads the counter, in joules since an arbitrary moment; never decreases.
        idle: Idle power in watts.
        source: Name of the counter, for messages.
    """

    joules: Callable[[], float]
    idle: float
    source: str


def meter(device: str) -> Meter:
    """Open the counter of a device and measure its idle power, which takes `IDLE` seconds.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        NoMeter: If the device has no counter that we can read.
    """
    joules, source = _nvml() if device == "cuda" else _rapl()
    if device == "cuda":
        torch.cuda.synchronize()
    first, began = _tick(joules)
    time.sleep(IDLE)
    last, ended = _tick(joules)
    return Meter(joules, (last - first) / (ended - began), source)


def per_pass(run: Run, meter: Meter, seconds: float) -> float:
    """Measure the energy of one pass in joules, net of idle power.

    Counters are updated only a few times a second, so the measurement runs from one update to another.

    Args:
        run: The pass.
        meter: Counter of the device.
        seconds: Minimum duration of the measurement.

    Raises:
        NoMeter: If the counter is not updated while the device works.
    """
    began = time.perf_counter()
    run()
    chunk = max(1, int(CHUNK / max(1e-9, time.perf_counter() - began)))
    passes, seen = 0, meter.joules()
    steps: list[tuple[float, float, int]] = []  # the counter, the time of its update, and the passes until then
    while len(steps) < 2 or steps[-1][1] - steps[0][1] < seconds:
        for _ in range(chunk):
            run()
        passes += chunk
        now, at = meter.joules(), time.perf_counter()
        if now != seen:
            steps.append((now, at, passes))
            seen = now
        elif at - began > 10 + 4 * seconds:
            raise NoMeter(f"{meter.source} does not move while the device works; it cannot be read here")
    (first, start, before), (last, end, after) = steps[0], steps[-1]
    return max(1e-12, (last - first - meter.idle * (end - start)) / (after - before))


def _tick(joules: Callable[[], float]) -> tuple[float, float]:
    """Wait for the next update of a counter; return its value and the time."""
    before, began = joules(), time.perf_counter()
    while (now := joules()) == before:
        if time.perf_counter() - began > 5:
            raise NoMeter("the energy counter does not move; it cannot be read here")
        time.sleep(0.001)
    return now, time.perf_counter()


def _nvml() -> tuple[Callable[[], float], str]:
    """Open NVML's counter of a GPU, which must be undivided and unused by others, since it counts their energy as well."""
    try:
        import pynvml
    except ImportError as error:
        raise NoMeter("nvidia-ml-py is not installed; pip install 'paretoray[energy]'") from error
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
        try:
            split = pynvml.nvmlDeviceGetMigMode(handle)[0]
        except pynvml.NVMLError:
            split = 0  # a GPU without MIG
        if split:
            raise NoMeter("the GPU is split (MIG), and its counter covers all instances together; take a whole GPU")
        others = [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid != os.getpid()]
        if others:
            raise NoMeter(
                f"processes {', '.join(map(str, others))} use the GPU as well; its counter covers them all, so end them"
            )
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise NoMeter(f"NVML has no energy counter for this GPU ({error}); Volta and later ones have") from error
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3, "NVML's energy counter"


def _rapl(folder: Path | None = None) -> tuple[Callable[[], float], str]:
    """Open the RAPL counters of all CPU packages, through Linux's powercap; they wrap around."""
    packages = sorted((folder or POWERCAP).glob("intel-rapl:[0-9]"))
    if not packages:
        raise NoMeter("this machine shows no RAPL counters (/sys/class/powercap/intel-rapl:0); virtual machines rarely do")
    try:
        ranges = [int((p / "max_energy_range_uj").read_text()) for p in packages]
        last = [int((p / "energy_uj").read_text()) for p in packages]
    except PermissionError as error:
        raise NoMeter(
            f"no permission to read {error.filename}; its owner can allow it: sudo chmod o+r {error.filename}"
        ) from error
    total = 0

    def joules() -> float:
        nonlocal total
        for i, package in enumerate(packages):
            now = int((package / "energy_uj").read_text())
            total += (now - last[i]) % (ranges[i] + 1)
            last[i] = now
        return total / 1e6

    return joules, "RAPL's counters"


def driver() -> str:
    """Version of the NVIDIA driver, or `unknown`."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # no library or no driver: a version for the records is not worth failing for
        return "unknown"
