"""Worker that measures operations and networks: on this machine, or as an actor on another."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from hw_profiles import energy, measure
from hw_profiles.profile import COLUMNS
from orchestrator.errors import InputError
from orchestrator.machine import processor
from orchestrator.profiling.operations import operations
from orchestrator.profiling.plan import Job, MeasurementPlan, Row

JOULES = 1.0
"""Seconds of passes for each reading of an energy counter, which is renewed a few times a second only."""


class MeasurementWorker:
    """Worker that measures on the machine where it is built.

    Args:
        plan: Fields of a `MeasurementPlan`.

    Raises:
        InputError: Where the device, its runtime or its energy counter is not there.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = MeasurementPlan(**plan | {"image": tuple(plan["image"])})
        self.device = "cuda" if self.plan.device == "cuda" else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: torch sees no GPU here")
        if self.plan.device == "onnxruntime":
            try:
                import onnx  # noqa: F401, torch's exporter needs it
                import onnxruntime  # noqa: F401
            except ImportError as error:
                raise InputError(
                    f"--device onnxruntime: {error.name} is not installed; pip install 'paretoray[onnx]'"
                ) from error
        torch.set_num_threads(self.plan.threads)
        self.meter = None
        if self.plan.energy:
            try:
                self.meter = energy.meter(self.device)
            except energy.NoMeter as error:
                raise InputError(f"--energy: {error}") from error
        self.space = self.plan.build()
        self.networks = self.plan.choose(self.space)
        self.operations = operations(self.space)
        self._runs: dict[Job, measure.Run] = {}

    def jobs(self) -> list[Job]:
        """List everything that is measured in a round."""
        return [f"op {name}" for name in self.operations] + [f"net {self.space.format(a)}" for a in self.networks]

    def hardware(self) -> dict[str, str]:
        """Describe the device and the software on it."""
        return _hardware(self.device, self.plan.device)

    def round(self, index: int, done: Sequence[Job] = ()) -> Iterator[Row]:
        """Measure every job but those `done`, in another order in each round, so that drift does not become a pattern."""
        jobs = self.jobs()
        for place in np.random.default_rng((self.plan.seed, index)).permutation(len(jobs)):
            if (job := jobs[place]) not in done:
                run = self._run(job)
                for _ in range(2):
                    run()
                seconds = float(np.median(measure.timed(run, self.plan.seconds)))
                yield {"round": index, "job": job, "cost": COLUMNS["latency"], "value": 1e3 * seconds}
                if self.meter is not None:
                    joules = energy.per_pass(run, self.meter, max(JOULES, self.plan.seconds))
                    yield {"round": index, "job": job, "cost": COLUMNS["energy"], "value": 1e3 * joules}

    def _run(self, job: Job) -> measure.Run:
        if job not in self._runs:
            kind, _, name = job.partition(" ")
            plan = self.plan
            shapes: list[tuple[int, ...]] = [plan.image]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(plan.seed)
                if kind == "op":
                    module, shapes = self.operations[name]
                else:
                    module = self.space.network(self.space.parse(name))
                inputs = [torch.randn(plan.batch, *shape) for shape in shapes]
            if plan.device == "onnxruntime":
                self._runs[job] = measure.in_onnxruntime(module, inputs, plan.threads)
            else:
                place: dict[str, Any] = {"device": self.device, "dtype": measure.DTYPES[plan.dtype]}
                self._runs[job] = measure.in_torch(module.to(**place), [x.to(**place) for x in inputs])
        return self._runs[job]


def _hardware(device: str, runtime: str) -> dict[str, str]:
    versions = {"torch": torch.__version__}
    if runtime == "onnxruntime":
        import onnxruntime

        versions["onnxruntime"] = onnxruntime.__version__
    if device == "cuda":
        shown = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, driver {energy.driver()}"
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        shown = f"{processor()}, {cores} cores"
    ran = "onnxruntime" if runtime == "onnxruntime" else "torch"
    return {
        "device": shown,
        "runtime": f"{ran} {versions[ran]}",
        "software": f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        + ", ".join(f"{key} {value}" for key, value in versions.items()),
    }
