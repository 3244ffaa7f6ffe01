"""Ranks of NAS-Bench-201's cells by training-free scores against a table of trained networks, and milliseconds per network.

    python benchmarks/training_free.py IMAGES [--table TABLE] [--columns COLUMNS] [--channels 8] [--cells 1] [--size 16]
        [--batch 32] [--networks 200] [--seeds 3]

IMAGES is the folder of CIFAR-10's images, and TABLE the file of NAS-Bench-201's networks, by default nas-bench-201.parquet in
the folder that PARETORAY_DATA names. The networks are random cells in which every operation takes part, the same ones for all
seeds, which decide weights and images. *Within* is tau inside levels of equal parameters.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

import paretoray as pr
from analysis.trust import ENOUGH, cost_levels, tau_within
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.evaluators.training_free import SCORES, TrainingFree
from orchestrator.spaces.base import SearchSpace
from searchers import Architecture


def clean_cells(space: SearchSpace, count: int) -> list[Architecture]:
    """Draw random cells of which no operation can be left out."""
    every = [a for a in itertools.product(*map(range, space.sizes)) if space.pruned(a, constants=True) == a]
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))[:count]]


def quality(scores: np.ndarray, true: np.ndarray, levels: np.ndarray) -> tuple[float, float, float]:
    """Return tau, tau within levels and tau among the better half, of the networks that have a score."""
    known = np.isfinite(scores)
    scores, true, levels = scores[known], true[known], levels[known]
    if len(scores) < ENOUGH:
        return (float("nan"),) * 3
    better = true >= np.median(true)
    half = float(kendalltau(scores[better], true[better]).statistic)
    return float(kendalltau(scores, true).statistic), tau_within(scores, true, levels).value, half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--table", type=Path, default=Path(os.environ.get("PARETORAY_DATA", "."), "nas-bench-201.parquet"))
    parser.add_argument("--columns", default="cifar10_val_accuracy,cifar100_val_accuracy")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    columns = arguments.columns.split(",")
    space_like = pr.spaces.NasBench201(channels=arguments.channels, cells=arguments.cells)
    problem = pr.Problem(space_like, pr.data.folder(path=str(arguments.images), size=arguments.size))
    space, data = problem.space, problem.data
    table = TabularBenchmark.read(arguments.table, space, columns)
    networks = clean_cells(space, arguments.networks)
    true = {c: np.array([table.values(table.costs[a])[i] for a in networks]) for i, c in enumerate(columns)}
    parameters = np.array([space.parameters(a) for a in networks], dtype=float)
    levels = cost_levels(parameters)
    print(f"{len(networks)} cells on {len(set(levels))} levels; tau, within, better half per seed against {', '.join(columns)}")
    measured = {"parameters": ([parameters], 0.0)}
    for name in SCORES:
        rows, began = [], time.process_time()
        for seed in range(arguments.seeds):
            rows.append(TrainingFree(space, data, [name], batch=arguments.batch, seed=seed)(networks)[:, 0])
        measured[name] = rows, 1e3 * (time.process_time() - began) / arguments.seeds / len(networks)
    for name, (rows, milliseconds) in measured.items():
        found = ["; ".join(" ".join(f"{v:.2f}" for v in quality(row, true[c], levels)) for row in rows) for c in columns]
        lacking = sum(int(np.isnan(row).sum()) for row in rows)
        print(f"{name:<14} {' | '.join(found)} | {milliseconds:.1f} ms{f', {lacking} without a value' if lacking else ''}")
    began = time.process_time()
    TrainingFree(space, data, SCORES, batch=arguments.batch)(networks)
    print(f"all in one: {1e3 * (time.process_time() - began) / len(networks):.1f} ms")


if __name__ == "__main__":
    main()
