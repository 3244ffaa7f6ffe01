"""Energy of a pass, from the counters of the device itself, with the power of an idle device subtracted."""

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
"""Seconds over which the power of an idle device is read."""
CHUNK = 0.01
"""Seconds of passes between two looks at a counter."""


class NoMeter(Exception):
    """Why there is no counter to read."""


@dataclass(frozen=True)
class Meter:
    """joules: since some time in the past, never falling. idle: watts when nothing runs."""

    joules: Callable[[], float]
    idle: float
    source: str


def meter(device: str) -> Meter:
    """The counter of a device, `cpu` or `cuda`; waits for two seconds to read what it takes when idle. Raises NoMeter."""
    joules, source = _nvml() if device == "cuda" else _rapl()
    if device == "cuda":
        torch.cuda.synchronize()
    first, began = _tick(joules)
    time.sleep(IDLE)
    last, ended = _tick(joules)
    return Meter(joules, (last - first) / (ended - began), source)


def per_pass(run: Run, meter: Meter, seconds: float) -> float:
    """Joules of one pass above those of the idle device, over at least so many seconds of passes.

    Counters move a few times a second only, so it counts from one of their steps to another.
    """
    began = time.perf_counter()
    run()
    chunk = max(1, int(CHUNK / max(1e-9, time.perf_counter() - began)))
    passes, seen = 0, meter.joules()
    steps: list[tuple[float, float, int]] = []  # the counter, when it was seen to move, and the passes until then
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
    """The counter right after it has moved, and when that was."""
    before, began = joules(), time.perf_counter()
    while (now := joules()) == before:
        if time.perf_counter() - began > 5:
            raise NoMeter("the energy counter does not move; it cannot be read here")
        time.sleep(0.001)
    return now, time.perf_counter()


def _nvml() -> tuple[Callable[[], float], str]:
    """NVML's counter of a GPU that is whole and ours alone: what others do on it, it cannot tell from what we do."""
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
            split = 0  # it knows no MIG
        if split:
            raise NoMeter("the GPU is split (MIG), and its counter is that of all parts together; take a whole one")
        others = [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid != os.getpid()]
        if others:
            raise NoMeter(f"processes {', '.join(map(str, others))} use the GPU, too; its counter cannot tell them apart")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise NoMeter(f"NVML has no energy counter for this GPU ({error}); one of Volta's generation or later has") from error
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3, "NVML's energy counter"


def _rapl(folder: Path | None = None) -> tuple[Callable[[], float], str]:
    """RAPL's counters of all packages, through Linux's powercap; they wrap around."""
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
    """The version of NVIDIA's driver, as far as it can be told."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # without the library or the driver; the name of a version is not worth failing for
        return "unknown"
