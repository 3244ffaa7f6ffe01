"""Energy measurement with simulated counters, since no machine of ours has real ones."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from hw_profiles import energy

WATTS, IDLE = 30.0, 10.0


class Device:
    """Simulated device with its own clock: IDLE watts, WATTS under load, and a counter that is updated every 20 ms."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.used = self.shown = 0.0
        monkeypatch.setattr(energy.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(energy.time, "sleep", lambda seconds: self.spend(seconds, IDLE))

    def spend(self, seconds: float, watts: float) -> None:
        for _ in range(round(seconds / 1e-4)):
            self.now += 1e-4
            self.used += 1e-4 * watts
            if round(self.now / 1e-4) % 200 == 0:
                self.shown = self.used

    def joules(self) -> float:
        self.spend(1e-4, IDLE)  # reading takes time as well
        return self.shown


def test_energy_of_a_pass_is_net_of_idle_power(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    monkeypatch.setattr(energy, "_rapl", lambda: (device.joules, "a clock"))
    meter = energy.meter("cpu")
    assert meter.idle == pytest.approx(IDLE, rel=1e-6)
    for length in (0.002, 0.07):  # shorter and longer than the counter's step
        result = energy.per_pass(lambda length=length: device.spend(length, WATTS), meter, 1.0)  # type: ignore[misc]
        assert result == pytest.approx((WATTS - IDLE) * length, rel=0.05)


def test_a_counter_that_is_not_updated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    with pytest.raises(energy.NoMeter, match="does not move"):
        energy.per_pass(lambda: device.spend(0.5, WATTS), energy.Meter(lambda: 5.0, 0.0, "a stopped clock"), 0.001)


def package(folder: Path, index: int, energy_uj: int, full: int = 1000) -> Path:
    place = folder / f"intel-rapl:{index}"
    place.mkdir()
    (place / "max_energy_range_uj").write_text(f"{full}\n")
    (place / "energy_uj").write_text(f"{energy_uj}\n")
    return place / "energy_uj"


def test_rapl_sums_packages_and_follows_wrap_around(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 900), package(tmp_path, 1, 10)
    (tmp_path / "intel-rapl:0:0").mkdir()  # a core's share of its package; adding it would count it twice
    joules, _ = energy._rapl(tmp_path)
    first.write_text("950")
    second.write_text("20")
    assert joules() == pytest.approx(60e-6)
    first.write_text("49")  # 51 to the end of its range and 49 after the wrap
    assert joules() == pytest.approx(160e-6)


def test_missing_counters_and_permissions_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(energy.NoMeter, match="shows no RAPL counters"):
        energy._rapl(tmp_path)
    package(tmp_path, 0, 5)
    read = Path.read_text

    def closed(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", closed)
    with pytest.raises(energy.NoMeter, match=r"no permission to read .*energy_uj.*chmod"):
        energy._rapl(tmp_path)


def nvml(monkeypatch: pytest.MonkeyPatch, *, mig: int = 0, others: tuple[int, ...] = (), counter: bool = True) -> None:
    class NVMLError(Exception):
        pass

    fake = ModuleType("pynvml")

    def total(handle: str) -> int:
        assert handle == "GPU-abc"
        if not counter:
            raise NVMLError("Not Supported")
        return 12_500

    for name, value in {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetMigMode": lambda handle: (mig, mig),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=p) for p in (os.getpid(), *others)],
        "nvmlDeviceGetTotalEnergyConsumption": total,
    }.items():
        setattr(fake, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="abc"))


def test_nvml_reads_an_unshared_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch)
    joules, source = energy._nvml()
    assert joules() == 12.5 and "NVML" in source


@pytest.mark.parametrize(
    ("gpu", "words"),
    [({"mig": 1}, "split"), ({"others": (4321,)}, "4321 use the GPU"), ({"counter": False}, "no energy counter")],
)
def test_a_gpu_that_is_shared_or_has_no_counter_is_refused(
    monkeypatch: pytest.MonkeyPatch, gpu: dict[str, Any], words: str
) -> None:
    nvml(monkeypatch, **gpu)
    with pytest.raises(energy.NoMeter, match=words):
        energy._nvml()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(energy.NoMeter, match=r"paretoray\[energy\]"):
        energy._nvml()
