"""Quality of costs per option, fitted to a few measured networks, as predictions of all the others, device by device.

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

from hw_profiles.profile import Profile
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.objectives.predicted import Prediction
from orchestrator.profiling.fitting import from_table
from orchestrator.spaces.nas_bench_201 import NasBench201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--columns")
    arguments = parser.parse_args()
    frame = pd.read_parquet(arguments.table)
    columns = arguments.columns.split(",") if arguments.columns else [c for c in frame.columns if c.startswith("latency")]
    space = NasBench201()
    print(f"{'':<26}{'Spearman':>9}{'of all':>8}{'Kendall':>9}{'R2':>7}{'MAPE %':>8}   leaves out")
    for column in columns:
        table = TabularBenchmark(space, frame, [column], column)
        figures, leaves_out = [], set()
        for draw in range(arguments.draws):
            profile = from_table(table, "latency", arguments.networks, {"source": column}, column, seed=draw)
            validation = profile.validation
            of_all = _spearman_of_all(profile, table)
            figures.append((validation.spearman, of_all, validation.kendall, validation.r2, validation.mape))
            leaves_out.add(profile.leaves_out)
        mean = np.mean(figures, axis=0)
        row = f"{mean[0]:>9.4f}{mean[1]:>8.4f}{mean[2]:>9.4f}{mean[3]:>7.3f}{mean[4]:>8.2f}"
        print(f"{column:<26}{row}   {', '.join(sorted(leaves_out))}")


def _spearman_of_all(profile: Profile, table: TabularBenchmark) -> float:
    predict = Prediction(profile, table.space).cost
    return float(spearmanr([costs[0] for costs in table.costs.values()], list(map(predict, table.costs))).statistic)


if __name__ == "__main__":
    main()
