"""Costs on every device of networks found for one: does a search for a device find what is good on it?

    python benchmarks/specialisation.py TABLE.parquet [--searcher nsga2] [--evaluations 200] [--seeds 10] [--networks 300]
        [--columns latency_ms_pixel3,...]

For each device a search over (error, its latency as its profile predicts it), the profile fitted to some networks of the table.
Every front is then priced on every device by what the table measured there: relative hypervolume of (CIFAR-10 validation
error, latency), 1 for the true front. Rows: searched for; columns: priced on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.pareto import non_dominated, relative_hypervolume
from orchestrator.bench.entries import parse
from orchestrator.bench.tables import run_on_table
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.objectives.predicted import Prediction
from orchestrator.profiling.fitting import from_table
from orchestrator.spaces.nas_bench_201 import NasBench201

ACCURACY = "cifar10_val_accuracy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--searcher", default="nsga2")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--columns")
    arguments = parser.parse_args()
    frame = pd.read_parquet(arguments.table)
    columns = arguments.columns.split(",") if arguments.columns else [c for c in frame.columns if c.startswith("latency")]
    space = NasBench201()
    true = TabularBenchmark(space, frame, [ACCURACY, *columns], "the table")
    costs = np.array(list(true.costs.values()))
    row_of = {a: i for i, a in enumerate(true.costs)}
    fronts = []
    for i in range(len(columns)):
        pair = costs[:, [0, 1 + i]]
        fronts.append(pair[non_dominated(pair)])
    scores = np.zeros((len(columns), len(columns), arguments.seeds))
    for i, column in enumerate(columns):
        profile = from_table(TabularBenchmark(space, frame, [column], column), "latency", arguments.networks, {}, column)
        predict = Prediction(profile, space).cost
        priced = frame[["arch", ACCURACY]].assign(latency=[predict(space.parse(a)) for a in frame["arch"]])
        table = TabularBenchmark(space, priced, [ACCURACY, "latency"], column)
        for seed in range(arguments.seeds):
            evaluations = run_on_table(table, parse(arguments.searcher), arguments.evaluations, seed)
            front = non_dominated(np.array([e.costs for e in evaluations]))
            measured = costs[[row_of[evaluations[k].architecture] for k in front]]
            for j in range(len(columns)):
                scores[i, j, seed] = relative_hypervolume(measured[:, [0, 1 + j]], fronts[j])
    names = [c.removeprefix("latency_ms_") for c in columns]
    print(f"{'searched for':<16}" + "".join(f"{name:>13}" for name in names))
    for i, name in enumerate(names):
        print(f"{name:<16}" + "".join(f"{scores[i, j].mean():>12.3f}{'*' if i == j else ' '}" for j in range(len(names))))
    devices = range(len(names))
    best = [int(scores[:, j].mean(axis=1).argmax()) for j in devices]
    print(f"best on a device, by the mean, is its own search: {sum(best[j] == j for j in devices)} of {len(names)} devices")
    wins = np.mean([scores[j, j] > scores[i, j] for i in devices for j in devices if i != j])
    print(f"it beats another device's search under the same seed in {wins:.0%} of cases")


if __name__ == "__main__":
    main()
