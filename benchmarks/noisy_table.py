"""Searchers on a table whose accuracies are told with noise: what they measure, and what a front of noisy errors is worth.

    python benchmarks/noisy_table.py TABLE.parquet [--space nas-bench-201] [--error cifar10_val_accuracy] [--cost params]
        [--searchers random-search,tnd-nas,tnd-nas:targets=1] [--noise 0,0.5,1] [--budget 400] [--seeds 4]

The accuracies' normal scores are disturbed by noise of that deviation, once per network and seed, and told as errors of the
same distribution as the table's. All hypervolumes are relative and of the true errors (analysis.pareto): of everything that was
measured, which is what sampling is worth; of the networks that are non-dominated by the told errors; and of the best told
network of each cost. The differences are what selection loses.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import rankdata

from analysis.pareto import non_dominated, relative_hypervolume
from orchestrator.bench.entries import parse
from orchestrator.bench.tables import run_on_table
from orchestrator.config.spaces import make_space
from orchestrator.evaluators.tabular import TabularBenchmark


def disturbed(table: TabularBenchmark, deviation: float, seed: int) -> TabularBenchmark:
    """Return the table with noise of a deviation on the normal scores of its errors."""
    architectures = list(table.costs)
    errors = np.array([table.costs[a][0] for a in architectures])
    scores = ndtri((rankdata(errors) - 0.5) / len(errors))
    noise = np.random.default_rng(seed).normal(size=len(scores))
    places = rankdata(scores + deviation * noise, method="ordinal").astype(int) - 1
    told = copy.copy(table)
    told.costs = {
        a: (float(error), *table.costs[a][1:]) for a, error in zip(architectures, np.sort(errors)[places], strict=True)
    }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--space", default="nas-bench-201")
    parser.add_argument("--error", default="cifar10_val_accuracy")
    parser.add_argument("--cost", default="params")
    parser.add_argument("--searchers", default="random-search,tnd-nas,tnd-nas:targets=1,proxyless-r,proxyless-r:targets=1")
    parser.add_argument("--noise", default="0,0.5,1")
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = make_space(arguments.space, {}, (3, 32, 32), 10)
    table = TabularBenchmark.read(arguments.table, space, [arguments.error, arguments.cost])
    front = table.front()
    for text in arguments.searchers.split(","):
        for deviation in map(float, arguments.noise.split(",")):
            scores = []
            for seed in range(arguments.seeds):
                told = disturbed(table, deviation, seed) if deviation else table
                found = run_on_table(told, parse(text), arguments.budget, seed)
                best = {e.costs[1]: e.architecture for e in sorted(found, key=lambda e: -e.costs[0])}
                chosen = [found[i].architecture for i in non_dominated([e.costs for e in found])]
                groups = ([e.architecture for e in found], chosen, list(best.values()))
                scores.append([relative_hypervolume([table.costs[a] for a in group], front) for group in groups])
            means, each = np.mean(scores, axis=0), " ".join(f"{s[0]:.3f}" for s in scores)
            print(
                f"{text:<24} noise {deviation:<4g} measured {means[0]:.3f} ({each})  told front {means[1]:.3f}  "
                f"best told per cost {means[2]:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
