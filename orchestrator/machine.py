"""Whatever the last bits of a number depend on where it was computed, in words; and the threads that compute it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.linalg  # noqa: F401 -- scipy brings a BLAS of its own, which must be loaded to be named and to be limited
import torch
from threadpoolctl import threadpool_info, threadpool_limits

Machine = dict[str, str | int]


def machine(device: str = "cpu") -> Machine:
    """Facts of this process: machines that agree in all of them compute the same numbers.

    device: "cuda" where networks are on a GPU, whose name is then among the facts.
    """
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    kernels = {f"{library['internal_api']} {library.get('architecture') or ''}".strip() for library in libraries}
    facts: Machine = {
        "processor": processor(),
        "BLAS": " and ".join(sorted(kernels)) or "unknown",
        "torch": str(torch.__version__),
        "torch kernels": torch.backends.cpu.get_cpu_capability(),
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
    }
    return facts | ({"GPU": torch.cuda.get_device_name()} if device == "cuda" else {})


def unique(machines: Iterable[Machine]) -> list[Machine]:
    """List each machine once, in their order."""
    found: list[Machine] = []
    for one in machines:
        if one not in found:
            found.append(one)
    return found


def processor() -> str:
    """Name the processor's model as the system does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or the limit of its control group."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    texts = [path.read_text().strip() for path in limits if path.exists()]
    return min([installed, *(int(text) for text in texts if text.isdecimal())])


def cap_gpu_memory(gpus: float) -> None:
    """Keep torch in this process to a fraction of its GPU's memory; a whole GPU, or none, needs no cap."""
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)


def set_threads(count: int) -> None:
    """Give torch and BLAS as many threads as a worker of the experiment has: the order of a sum depends on their number."""
    torch.set_num_threads(count)
    threadpool_limits(count, user_api="blas")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Apply `set_threads` within a block."""
    before = torch.get_num_threads()
    with threadpool_limits(count, user_api="blas"):
        set_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
