"""How well costs of options that are fitted to a few measured networks predict all the others, device by device.

    python benchmarks/fit_devices.py TABLE.parquet [--networks 300] [--draws 5] [--columns latency_ms_fpga,...]

TABLE: a column arch in NAS-Bench-201's notation and latencies in ms; by default all columns whose name begins with latency.
Each draw takes other networks. Where a device leaves out what does not reach the output, networks whose output does not depend
on the image are no part of the error in percent; `of all` is the rank correlation with them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from hw_profiles import Profile
from orchestrator.config.experiment import make_space
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.objectives.predicted import Prediction
from orchestrator.profiling.command import from_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--columns")
    arguments = parser.parse_args()
    frame = pd.read_parquet(arguments.table)
    columns = arguments.columns.split(",") if arguments.columns else [c for c in frame.columns if c.startswith("latency")]
    space = make_space("nas-bench-201", {}, (3, 32, 32), 10)
    print(f"{'':<26}{'Spearman':>9}{'of all':>8}{'Kendall':>9}{'R2':>7}{'MAPE %':>8}   leaves out")
    for column in columns:
        table = TabularBenchmark(space, frame, [column], column)
        rows, left = [], []
        for draw in range(arguments.draws):
            profile = from_table(table, "latency", arguments.networks, {"source": column}, column, seed=draw)
            found = profile.validation
            rows.append((found.spearman, _of_all(profile, table), found.kendall, found.r2, found.mape))
            left.append(profile.leaves_out)
        mean = np.mean(rows, axis=0)
        figures = f"{mean[0]:>9.4f}{mean[1]:>8.4f}{mean[2]:>9.4f}{mean[3]:>7.3f}{mean[4]:>8.2f}"
        print(f"{column:<26}{figures}   {', '.join(sorted(set(left)))}")


def _of_all(profile: Profile, table: TabularBenchmark) -> float:
    predict = Prediction(profile, table.space).cost
    return float(spearmanr([costs[0] for costs in table.costs.values()], list(map(predict, table.costs))).statistic)


if __name__ == "__main__":
    main()
