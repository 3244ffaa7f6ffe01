"""One DDPNAS search, then a family of networks along a constraint: how many of them are on the front of everything measured?

    python benchmarks/ddpnas_family.py [--seeds 3] [--processes 2] [section.key=value ...]

The built-in experiment with its data and space, or others by overrides, error against parameters; one process and one thread
per search. The family is what `derive` returns: in cells, heights and numbers of operations without weights; elsewhere the
knapsack's networks along parameters. All with the weights that they share at the end, normalisation fitted to each network.
With retrain.members=N up to N members of the front are trained from scratch besides.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from in_process import search

from analysis.pareto import non_dominated

BASE = ["retrain.members=0", "objectives={error={}, parameters={}}"]


def validated(seed: int, overrides: list[str], directory: Path) -> pd.DataFrame:
    """Search, and return the networks that were measured on the whole validation set, with columns `family` and `front`."""
    result = search([*BASE, "searcher.name=ddpnas", "searcher.targets=1", f"seed={seed}", *overrides], directory)
    rows = result.evaluations
    rows = rows[rows["kind"] == "validation"].drop_duplicates("arch").reset_index(drop=True)
    rows["family"] = rows["arch"].isin(result.summary["derived"])
    rows["front"] = False
    rows.loc[non_dominated(rows[["error_percent", "parameters"]].to_numpy()), "front"] = True
    rows.attrs = result.summary["spent"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_args()
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(arguments.processes, spawn) as pool:
        jobs = [pool.submit(validated, s, arguments.overrides, Path(folder) / str(s)) for s in range(arguments.seeds)]
        for seed, job in enumerate(jobs):
            rows = job.result()
            family = rows[rows["family"]].sort_values("parameters")
            others = len(rows) - len(family)
            print(
                f"seed {seed}: {rows.attrs['seconds']:.0f} s, {len(family)} networks in the family, {others} others measured "
                f"alike; on the front of all {int(family['front'].sum())} of the family "
                f"({family['front'].mean():.0%}) and {int(rows['front'].sum()) - int(family['front'].sum())} others"
            )
            listed = zip(family["parameters"], family["error_percent"], family["front"], strict=True)
            print("  " + ", ".join(f"{p:,.0f}: {e:.1f} %{'' if f else ' (dominated)'}" for p, e, f in listed), flush=True)


if __name__ == "__main__":
    main()
