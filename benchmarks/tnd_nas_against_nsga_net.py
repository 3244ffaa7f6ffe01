"""Cost for TND-NAS to reach the hypervolume of NSGA-Net, which trains each of its candidates from scratch.

    python benchmarks/tnd_nas_against_nsga_net.py [--seeds 3] [--evaluations 100] [--epochs 15] [--lengths 5,10,20,40]
        [--members 10] [--reference 20] [section.key=value ...]

The built-in experiment with its data and space, or others by overrides; one process and one thread per search. Both are judged
by the same: networks trained from scratch for so many epochs, and (error on the validation set, parameters) of those in the
box up to the reference error and 1.1 times the largest network's parameters. NSGA-Net's candidates are such networks. TND-NAS
searches with shared weights, at several lengths in epochs; the members of the front that it returns are then trained, and that
is part of its cost.

Images: those of weight steps, of networks trained alone within the search as of others, and those that were only evaluated;
seconds: of the search, without start-up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from in_process import plan_of, search

from analysis.pareto import hypervolume
from orchestrator.evaluators.from_scratch import FromScratch

BASE = ["retrain.members=0", "objectives={error={}, parameters={}}"]
COSTS = ["error_percent", "parameters"]


def nsga_net(seed: int, evaluations: int, epochs: int, batch: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Run NSGA-Net, and return costs, seconds and images after each candidate."""
    method = ["searcher.name=nsga-net", "training.name=from-scratch", f"training.epochs={epochs}", f"training.batch={batch}"]
    budget = [f"budget.epochs={evaluations * epochs}", f"seed={seed}"]
    result = search([*BASE, *overrides, *method, *budget], folder / f"nsga-net-{seed}")
    rows, data = result.evaluations, result.problem.data
    rows = rows[rows["kind"] == "validation"] if (rows["kind"] == "validation").any() else rows
    each = epochs * len(data.train) + min(3, epochs) * len(data.valid)
    return {
        "costs": rows[COSTS].to_numpy(),
        "seconds": rows["seconds"].to_numpy(),
        "images": each * np.arange(1, len(rows) + 1),
    }


def tnd_nas(
    seed: int, length: float, epochs: int, batch: int, members: int, folder: Path, overrides: list[str]
) -> dict[str, Any]:
    """Run TND-NAS and train its front; return the costs of that, and images and seconds of the search and of the training."""
    method = ["searcher.name=tnd-nas", f"budget.epochs={length}", f"training.batch={batch}", f"seed={seed}"]
    result = search([*BASE, f"front.members={members}", *overrides, *method], folder / f"tnd-nas-{seed}-{length:g}")
    spent, data, space = result.summary["spent"], result.problem.data, result.problem.space
    judge = FromScratch(space, data, epochs=epochs, batch=batch, seed=seed)
    began = time.perf_counter()
    errors = [100 - m["accuracy"] for m in judge.measure([space.parse(a) for a in result.front["arch"]])]
    trained = time.perf_counter() - began
    each = epochs * len(data.train) + min(3, epochs) * len(data.valid)
    return {
        "costs": np.column_stack([errors, result.front["parameters"]]),
        "searched": (spent["images_trained_on"] + spent["images_judged_on"], spent["seconds"]),
        "trained": (each * len(errors), trained),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lengths", default="5,10,20,40")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--reference", type=float, default=20.0)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_args()
    lengths = [float(length) for length in arguments.lengths.split(",")]
    same = (arguments.epochs, arguments.batch)
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with tempfile.TemporaryDirectory() as temporary, ProcessPoolExecutor(arguments.processes, spawn) as pool:
        folder = Path(temporary)
        seeds = range(arguments.seeds)
        rivals = [pool.submit(nsga_net, s, arguments.evaluations, *same, folder, arguments.overrides) for s in seeds]
        ours = [
            [pool.submit(tnd_nas, s, n, *same, arguments.members, folder, arguments.overrides) for n in lengths] for s in seeds
        ]
        space = plan_of([*BASE, *arguments.overrides]).problem.space
        reference = [arguments.reference, 1.1 * space.parameters(space.largest())]
        print(f"reference point: {reference[0]:g} % validation error, {reference[1]:,.0f} parameters")
        title = f"{'seed':<5}{'':<22}{'hypervolume':>12}{'best error':>11}{'images':>12}{'seconds':>9}"
        print(f"{title}   NSGA-Net gets as far after: images, seconds")
        for seed in seeds:
            rival = rivals[seed].result()
            curve = np.array([hypervolume(rival["costs"][: i + 1], reference) for i in range(len(rival["costs"]))])
            total = (rival["images"][-1], rival["seconds"][-1])
            print(line(seed, "nsga-net", curve[-1], rival["costs"], *total))
            reached = ""
            for length, job in zip(lengths, ours[seed], strict=True):
                front = job.result()
                volume = hypervolume(front["costs"], reference)
                images, seconds = (a + b for a, b in zip(front["searched"], front["trained"], strict=True))
                there = "never"
                if (curve >= volume).any():
                    at = int(np.argmax(curve >= volume))
                    there = f"{rival['images'][at] / images:.2f}, {rival['seconds'][at] / seconds:.2f} of TND-NAS's"
                alone = f"the search alone {front['searched'][0]:,} images, {front['searched'][1]:.0f} s"
                shown = line("", f"tnd-nas, {length:g} epochs", volume, front["costs"], images, seconds)
                print(f"{shown}   {there} ({alone})", flush=True)
                if volume >= curve[-1] and not reached:
                    shares = f"{images / total[0]:.2f} of NSGA-Net's images, {seconds / total[1]:.2f} of its seconds"
                    reached = f"reaches NSGA-Net's hypervolume with {length:g} epochs: {shares}"
            print(f"     TND-NAS {reached or 'does not reach that of NSGA-Net with any of these lengths'}", flush=True)


def line(seed: int | str, title: str, volume: float, costs: np.ndarray, images: float, seconds: float) -> str:
    return f"{seed:<5}{title:<22}{volume:>12.4f}{costs[:, 0].min():>11.2f}{images:>12,.0f}{seconds:>9.0f}"


if __name__ == "__main__":
    main()
