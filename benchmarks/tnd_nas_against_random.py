"""Compare TND-NAS with random search at equal measured cost, over several seeds, by fronts whose members are trained.

    python benchmarks/tnd_nas_against_random.py [--seeds 5] [--processes 2]

The built-in experiment, one process and one thread per search. TND-NAS runs its whole schedule; the seconds that it took are
then what random search gets, which spends them on single paths and random samples. Up to five members of each front are
trained from scratch with the same recipe. Their latency is measured once more at the end, all in one go, as the searches ran
on a busy machine. Hypervolume is that of (test error, parameters, latency) in the box up to 20 % error and 1.1 times the
parameters and latency of the space's largest network.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from in_process import plan_of, search
from scipy.stats import mannwhitneyu

from analysis import pareto
from hw_profiles.measure import measure_latency


def figures_of(overrides: list[str], directory: Path) -> dict[str, Any]:
    """Search, and return what it spent, its hypervolume, and the retrained members of its front."""
    result = search(overrides, directory)
    retrained = directory / "retrained.csv"
    return {
        "seconds": result.summary["spent"]["seconds"],
        "evaluations": result.summary["spent"]["evaluations"],
        "inherited": result.hypervolume,
        "retrained": pd.read_csv(retrained) if retrained.exists() else None,
    }


def pair(seed: int, folder: Path, overrides: list[str]) -> dict[str, dict[str, Any]]:
    tnd = figures_of([f"seed={seed}", *overrides], folder / f"tnd-{seed}")
    # Random search's schedules must know their length in epochs; a short search tells how many fit into the time.
    epochs = plan_of(overrides).budget.epochs
    random = ["searcher.name=random-search", f"seed={seed}", *overrides]
    pilot = figures_of([*random, f"budget.epochs={epochs / 8}", "retrain.members=0"], folder / f"pilot-{seed}")
    fitting = epochs / 8 * tnd["seconds"] / pilot["seconds"]
    rival = figures_of([*random, f"budget.epochs={fitting}", f"budget.seconds={tnd['seconds']}"], folder / f"random-{seed}")
    return {"tnd-nas": tnd, "random-search": rival}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: a comparison needs two or more")
    torch.set_num_threads(1)
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(arguments.processes, spawn) as pool:
        jobs = [pool.submit(pair, seed, Path(folder), arguments.overrides) for seed in range(arguments.seeds)]
        pairs = [job.result() for job in jobs]
    problem = plan_of(arguments.overrides).problem
    data, space = problem.data, problem.space
    image = data.normalise(data.valid.images[:1])
    members = {a for p in pairs for r in p.values() for a in r["retrained"]["arch"]}
    known = {a: measure_latency(space.network(space.parse(a)), image, seconds=0.2).median_ms for a in sorted(members)}
    largest = space.largest()
    slowest = measure_latency(space.network(largest), image, seconds=0.2).median_ms
    reference = [20.0, 1.1 * space.parameters(largest), 1.1 * slowest]
    print(f"reference point: {reference[0]:.0f} % test error, {reference[1]:,.0f} parameters, {reference[2]:.2f} ms")
    print(f"{'':>4}{'searcher':<16}{'seconds':>9}{'samples':>9}{'inherited':>11}{'retrained':>11}  test errors of members, %")
    final: dict[str, list[float]] = {"tnd-nas": [], "random-search": []}
    for seed, results in enumerate(pairs):
        for name, r in results.items():
            rows = r["retrained"]
            costs = np.column_stack([rows["test_error_percent"], rows["parameters"], rows["arch"].map(known)])
            final[name].append(pareto.hypervolume(costs, reference))
            errors = ", ".join(f"{e:.1f}" for e in sorted(rows["test_error_percent"]))
            figures = f"{r['seconds']:>9.0f}{r['evaluations']:>9}{r['inherited']:>11.3f}{final[name][-1]:>11.3f}"
            print(f"{seed:>3} {name:<16}{figures}  {errors}")
    for name, values in final.items():
        print(f"{name:<16} retrained hypervolume: mean {statistics.mean(values):.3f}, deviation {statistics.stdev(values):.3f}")
    test = mannwhitneyu(final["tnd-nas"], final["random-search"])
    print(f"Mann-Whitney, two-sided: p = {test.pvalue:.3f} over {arguments.seeds} seeds")


if __name__ == "__main__":
    main()
