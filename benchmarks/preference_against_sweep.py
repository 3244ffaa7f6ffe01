"""Compare one search conditioned on the preference between objectives with sweeps over a trade-off weight, at equal cost.

    python benchmarks/preference_against_sweep.py TABLE.parquet [--space nas-bench-201] [--error cifar10_val_accuracy]
        [--costs params,latency_ms_1080ti_1] [--budget 400] [--seeds 20]

On a table, so the cost is the number of different architectures that were evaluated, and the true front is known. A sweep of k
weights gives each search a k-th of the budget; its front is that of all their evaluations. The single searches at one weight
have the whole budget. Figures are relative hypervolumes (analysis.pareto), means over seeds with bootstrap 95 % intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap, mannwhitneyu

import paretoray as pr
from analysis.pareto import relative_hypervolume
from orchestrator.bench.tables import run_on_table
from orchestrator.config.spaces import make_space
from orchestrator.evaluators.tabular import TabularBenchmark

Run = Callable[[TabularBenchmark, int, int], list[pr.Evaluation]]
"""Run of a method: a table, a budget of different architectures and a seed give what it evaluates."""


def single(name: str) -> Run:
    """One search with default settings."""
    return lambda table, budget, seed: run_on_table(table, pr.searchers(name), budget, seed)


def sweep(name: str, key: str, values: list[Any]) -> Run:
    """A search for each value of a setting, which share the budget."""

    def run(table: TabularBenchmark, budget: int, seed: int) -> list[pr.Evaluation]:
        evaluations: list[pr.Evaluation] = []
        for i, value in enumerate(values):
            share = budget * (i + 1) // len(values) - budget * i // len(values)
            evaluations += run_on_table(table, pr.searchers(name, **{key: value}), share, seed * len(values) + i)
        return evaluations

    return run


def methods() -> dict[str, Run]:
    powers = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8]
    runs = {"preference-policy": single("preference-policy")}
    for name, key, sign in (("proxyless-r", "power", 1), ("tnd-nas", "exponents", -1)):
        values: list[Any] = [power if sign > 0 else [-power] for power in powers]
        runs[f"{name}, sweep of 4"] = sweep(name, key, values[::2])
        runs[f"{name}, sweep of 8"] = sweep(name, key, values)
        runs[f"{name}, at {powers[2]}"] = sweep(name, key, values[2:3])
        runs[f"{name}, at {powers[4]}"] = sweep(name, key, values[4:5])
    runs["random-search"] = single("random-search")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--space", default="nas-bench-201")
    parser.add_argument("--error", default="cifar10_val_accuracy")
    parser.add_argument("--costs", default="params,latency_ms_1080ti_1")
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: an interval needs two or more")
    torch.set_num_threads(1)
    space = make_space(arguments.space, {}, (3, 32, 32), 10)
    for cost in arguments.costs.split(","):
        table = TabularBenchmark.read(arguments.table, space, [arguments.error, cost])
        print(f"\n{arguments.error} against {cost}, {arguments.budget} architectures, {arguments.seeds} seeds")
        print(f"{'':<26}{'mean':>7}   95 % interval    p against preference-policy")
        ours = None
        for title, run in methods().items():
            front = table.front()
            searches = [run(table, arguments.budget, seed) for seed in range(arguments.seeds)]
            scores = np.array([relative_hypervolume([e.costs for e in evaluations], front) for evaluations in searches])
            low, high = bootstrap((scores,), np.mean, rng=0).confidence_interval
            ours = scores if ours is None else ours
            p = "" if scores is ours else f"{mannwhitneyu(ours, scores).pvalue:.2g}"
            print(f"{title:<26}{scores.mean():>7.3f}   {low:.3f} .. {high:.3f}   {p}", flush=True)


if __name__ == "__main__":
    main()
