"""Overhead and memory of the coordinator beside many workers, which are simulated: they answer at once, and count their time.

    python benchmarks/scale.py [--workers 256 1024] [--evaluations 100000] [--searchers random-search nsga2]

Each network is trained alone for `--seconds` on one of the workers, all of which work side by side, as with
`training.name=from-scratch`. What is measured is everything else that happens in the process of the search: proposals,
prices, the judge, tables and checkpoints. Sending calls to actors is not in it.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.evaluators.base import Evaluator, Measured
from orchestrator.search.coordinator import Coordinator
from orchestrator.search.progress import Round
from searchers import Architecture, Mixture, Stage

ASKED = {"random-search": ["samples"], "nsga2": ["population", "samples"]}
"""Settings that say how many networks a searcher asks for at a time: as many as there are workers, or some would idle."""


class Simulated(Evaluator):
    """Workers that train a network each in `seconds`, and whose accuracies follow from the options that it has."""

    shares_weights = False

    def __init__(self, plan: SearchPlan, seconds: float) -> None:
        self.space, self.data, self.seed = plan.problem.space, plan.problem.data, plan.seed
        self.workers, self.seconds, self.worked, self.step = plan.workers.count, seconds, 0.0, 0
        self.quality = [np.random.default_rng([7, i]).normal(size=size) for i, size in enumerate(self.space.sizes)]

    def build(self, stage: Stage, steps: int) -> None:
        pass

    def drop(self, stage: Stage) -> None:
        pass

    def train(self, mixtures: Sequence[Mixture]) -> float:
        return math.nan

    def measure(self, architectures: Sequence[Architecture]) -> list[Measured]:
        self.worked += self.seconds * math.ceil(len(architectures) / self.workers)
        scores = [sum(float(q[o]) for q, o in zip(self.quality, a, strict=True)) for a in architectures]
        return [{"accuracy": 100 / (1 + math.exp(-0.3 * score))} for score in scores]

    def measure_on_device(self, architectures: Sequence[Architecture]) -> list[Measured]:
        return [{} for _ in architectures]

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def memory() -> float:
    """Return the resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measure(searcher: str, workers: int, evaluations: int, seconds: float, space: Sequence[str]) -> None:
    """Search, and print what the coordinator took in each fifth of the evaluations."""
    rounds = math.ceil(evaluations / workers)
    plan = SearchPlan.of(
        read(
            None,
            [
                f"searcher.name={searcher}",
                *(f"searcher.{key}={workers}" for key in ASKED[searcher]),
                *space,
                "data.limit=200",
                "objectives={error={},parameters={},macs={}}",
                "training.name=from-scratch",
                "training.epochs=1",
                f"workers.count={workers}",
                f"budget.epochs={rounds * workers}",
                f"budget.evaluations={evaluations}",
                "retrain.members=0",
            ],
        )
    )
    evaluator, began, before = Simulated(plan, seconds), time.perf_counter(), time.process_time()
    marks: list[tuple[int, float, float, float, float]] = [(0, 0.0, 0.0, 0.0, memory())]

    def observe(happened: Round) -> None:
        done = happened.progress.evaluations
        if done * 5 // evaluations > marks[-1][0] * 5 // evaluations:
            marks.append((done, time.perf_counter() - began, time.process_time() - before, evaluator.worked, memory()))

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        (directory / "checkpoints").mkdir(parents=True)
        Coordinator(plan, directory, evaluator).run(lambda: False, observe)
        checkpoint = (directory / "checkpoints" / "latest.pt").stat().st_size / 2**20
    for (n, t, p, w, _), (done, now, cpu, worked, mb) in itertools.pairwise(marks):
        each, busy = 1e3 * (now - t) / (done - n), 1e3 * (cpu - p) / (done - n)
        share, least = 100 * (now - t) / (worked - w), 100 * (cpu - p) / (worked - w)
        print(
            f"{searcher}, {workers} workers, {done:,} evaluations: {each:.2f} ms of coordinator each, {busy:.2f} of processor; "
            f"{share:.1f} % of the workers' time, {least:.1f} % without what other work took; {mb:.0f} MB"
        )
    print(f"{searcher}, {workers} workers: last checkpoint {checkpoint:.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="training of one network")
    parser.add_argument("--searchers", nargs="+", default=list(ASKED), choices=list(ASKED))
    parser.add_argument("--space", nargs="+", default=["space.name=proxyless-cifar"])
    options = parser.parse_args()
    for searcher in options.searchers:
        for workers in options.workers:
            measure(searcher, workers, options.evaluations, options.seconds, options.space)


if __name__ == "__main__":
    main()
