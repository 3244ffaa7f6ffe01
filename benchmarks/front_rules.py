"""Fronts chosen anew from the records of finished searches, by how much larger networks may gain from more training.

    python benchmarks/front_rules.py TABLE RUN ... [--error cifar10_val_accuracy] [--cost params] [--slopes 0,0.3,1,2,4]

RUN are run directories of searches with parameters as second objective, TABLE has what their networks are worth. The judge's
processes are fitted to all that a search measured, without training-free scores. From the networks that were measured on more
than a batch they choose ten members, with 128 draws, for each slope (`orchestrator.judge.selection.SLOPE`; 0 takes errors as
they are measured). Printed is the relative hypervolume of the members by the table for each run, and the mean; for comparison
that of all networks that could be chosen, and that of the best by expectation of ten cost levels, spread evenly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analysis import records
from analysis.pareto import relative_hypervolume
from orchestrator.config.plan import SearchPlan
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.judge import selection
from orchestrator.judge.belief import Observation, believe
from orchestrator.judge.selection import best_of_levels, best_of_others, choose, levels, outgrown, sizes_of
from orchestrator.runs.directory import open_run
from searchers import Architecture
from searchers.parts.gaussian_process import Encoding

MEMBERS, DRAWS = 10, 128
SHARED = (records.SAMPLE, records.VALIDATION)


def observations(plan: SearchPlan, rows: pd.DataFrame) -> list[Observation]:
    """Read rows of evaluations.csv of one source, which are in the order of their steps."""
    data, settings = plan.trained.data, plan.experiment.training.settings
    whole = min(settings.get("valid_images", len(data.valid)), len(data.valid))
    batch = min(settings.get("valid_batch", whole), whole)
    first, last = rows["step"].min(), rows["step"].max()
    return [
        Observation(
            plan.problem.space.parse(row.arch),
            row.error_percent,
            batch if row.kind == records.SAMPLE else whole,
            row.step if row.kind == records.SAMPLE else -1,
            (row.step - first) / (last - first) if last > first else 1.0,
        )
        for row in rows.itertuples()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--error", default="cifar10_val_accuracy")
    parser.add_argument("--cost", default="params")
    parser.add_argument("--slopes", default="0,0.3,1,2,4")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    slopes = [float(slope) for slope in arguments.slopes.split(",")]
    worth: dict[str, list[float]] = {}
    for run in arguments.runs:
        plan = SearchPlan.of(open_run(run))
        space = plan.problem.space
        table = TabularBenchmark.read(arguments.table, space, [arguments.error, arguments.cost])
        rows = pd.read_csv(run / records.EVALUATIONS)
        shared = rows[rows["kind"].isin(SHARED)]
        sources = [observations(plan, part) for _, part in shared.groupby("stage")]
        sources.append(observations(plan, rows[~rows["kind"].isin(SHARED)]) if len(rows) > len(shared) else [])
        belief = believe(Encoding(space.sizes, space.path_encoding), sources)[-1]
        known = [space.parse(arch) for arch in rows.loc[rows["kind"] != records.SAMPLE, "arch"].unique()]
        known = [a for a in known if space.pruned(a, constants=True) == a]  # as the judge has it
        costs = np.array([table.costs[a][1:] for a in known])
        draws, (mean, _) = belief.draws(known, DRAWS, np.random.default_rng(0)), belief(known)

        def value(chosen: list[Architecture], table: TabularBenchmark = table) -> float:
            return relative_hypervolume([table.costs[a] for a in chosen], table.front())

        for slope in slopes:
            selection.SLOPE = slope
            chosen = choose(outgrown(draws, sizes_of(costs), np.random.default_rng(1)), costs, MEMBERS)
            chosen += best_of_others(mean, costs, chosen, MEMBERS - len(chosen))
            worth.setdefault(f"slope {slope:g}", []).append(value([known[i] for i in chosen]))
        firsts = best_of_levels(mean, costs, int(levels(costs).max()) + 1)
        firsts = sorted(firsts, key=lambda i: tuple(costs[i]))
        spread = np.linspace(0, len(firsts) - 1, min(MEMBERS, len(firsts))).round().astype(int)
        worth.setdefault("levels", []).append(value([known[firsts[i]] for i in spread]))
        worth.setdefault("all", []).append(value(known))
    for name, found in worth.items():
        print(f"{name:<10} mean {np.mean(found):.3f}   {' '.join(f'{x:.3f}' for x in found)}")


if __name__ == "__main__":
    main()
