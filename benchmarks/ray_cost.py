"""Overhead of Ray, and speed-up by a second actor.

    python benchmarks/ray_cost.py [--repeats 3] [--steps 6]

First the same search (the built-in one with computed objectives) in this process and with one Ray actor, in turn: the time
of the search itself, and of everything from the call to the result, Ray's start included. Then the throughput of two
one-thread actors over that of one, for weight steps (images a second, the batch shared out) and for measurements
(architectures a second).
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray

import paretoray as pr
from orchestrator.cluster.replicas import Replicas
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Raw, Split


def search(with_ray: bool) -> tuple[float, float]:
    """Run the built-in search at half its budget; return the seconds of the search itself, and of the whole call."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = pr.search(
            pr.Problem(pr.spaces.NasBench201(channels=4, cells=2), "digits", ["error", "parameters", "macs"]),
            "tnd-nas",
            training={"batch": 32, "lr": 0.1},
            budget=pr.Budget(epochs=45, interval=8),
            workers=pr.Workers(ray=with_ray, count=1),
            retrain=pr.Retraining(members=0),
            out=Path(folder) / "run",
        )
        whole = time.perf_counter() - began
        return result.summary["spent"]["seconds"], whole


def throughput(title: str, overrides: list[str], data: pr.Dataset, steps: int, repeats: int) -> None:
    """Print the throughput of two one-thread actors over that of one."""
    uniform = pr.Mixture(((0.2,) * 5,) * 6)
    path = pr.Mixture.one_hot((3, 2, 3, 1, 4, 3), (5,) * 6)
    architectures = [tuple(a) for a in np.random.default_rng(0).integers(0, 5, (2 * steps, 6)).tolist()]
    works: dict[str, Callable[[Replicas], Any]] = {
        "mixture steps": lambda group: group.train([uniform] * steps),
        "path steps": lambda group: group.train([path] * 2 * steps),
        "measuring": lambda group: group.measure_on_batch(architectures, 0),
    }
    groups = {n: Replicas(SearchPlan.of(read(None, [*overrides, f"workers.count={n}"]), data)) for n in (1, 2)}
    for group in groups.values():
        group.build(pr.Stage(0, ((0, 1, 2, 3, 4),) * 6, rounds=10), 1000)
    for name, work in works.items():
        ratios = []
        for repeat in range(repeats + 1):
            seconds = {}
            for count, group in groups.items():
                began = time.perf_counter()
                work(group)
                seconds[count] = time.perf_counter() - began
            if repeat:  # the first pass allocates
                ratios.append(seconds[1] / seconds[2])
        each = ", ".join(f"{r:.2f}" for r in ratios)
        print(f"  {title:<38}{name:<15}throughput x {statistics.median(ratios):.2f} (of {each})", flush=True)
    for group in groups.values():
        group.close()


def colour_images() -> pr.Dataset:
    rng = np.random.default_rng(0)
    raw = Raw(rng.integers(0, 255, (600, 3, 32, 32), dtype=np.uint8), np.arange(600) % 10, None, tuple("0123456789"), True, 4)
    return Split().apply(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(arguments.repeats):
        for with_ray in (False, True):
            seconds, whole = search(with_ray)
            times[with_ray].append((seconds, whole))
            name = "Ray, one actor" if with_ray else "in process"
            print(f"  {name:<16} search {seconds:6.1f} s, whole call {whole:6.1f} s", flush=True)
    for i, title in enumerate(("search", "whole call")):
        ratios = [b[i] / a[i] for a, b in zip(times[False], times[True], strict=True)]
        each = ", ".join(f"{r:.3f}" for r in ratios)
        print(f"{title}: one actor over in process, median {statistics.median(ratios):.3f} (of {each})", flush=True)
    print("two one-thread actors over one:")
    # Three logical CPUs, so that both groups exist at once and take turns; the one that waits uses none.
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    throughput("digits, C=4, 1 cell, batch 32", [], read(None, []).load_data(), 2 * arguments.steps, arguments.repeats)
    for channels, batch in ((16, 64), (16, 128)):
        overrides = [f"space.channels={channels}", "space.cells=5", f"training.batch={batch}"]
        title = f"32x32 colour, C={channels}, 1 cell, batch {batch}"
        throughput(title, overrides, colour_images(), arguments.steps, arguments.repeats)


if __name__ == "__main__":
    main()
