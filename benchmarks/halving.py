"""Compare sweeps of nine searches with and without successive halving: what they cost, and what their merged fronts are worth.

    python benchmarks/halving.py OUT [--epochs 40] [--sweeps 3] [--halving 3] [--varied KEY=V,V,V]

Each sweep has three values of a setting of ProxylessNAS-R, by default of its trade-off, under three seeds, on the images that
the shipped table was made from, in one process. The hypervolume is that of the merged front's members by the table's test
accuracies and parameters, relative to the true front of all 625 networks. Both sweeps of a row have the same seeds. A run that
was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from click.testing import CliRunner

from analysis import records
from analysis.pareto import relative_hypervolume
from orchestrator.cli import main as command
from orchestrator.config.spaces import make_space
from orchestrator.evaluators.tabular import TabularBenchmark

SETTINGS = [
    "space.name=digits-tiny", "data.name=digits", "data.test=0.25", "objectives=error,parameters", "searcher.name=proxyless-r",
    "workers.ray=false", "workers.count=1", "retrain.members=0", "training.batch=32", "training.lr=0.1", "budget.interval=4",
]  # fmt: skip


def call(*arguments: str) -> None:
    """Run a command of ours in this process."""
    result = CliRunner().invoke(command, arguments)
    if result.exit_code:
        raise SystemExit(result.output)


def sweep(out: Path, varied: str, seed: int, epochs: float, halving: int | None) -> Path:
    """Run a sweep, or what is left of it, and return its directory."""
    directory = out / f"{seed}-{'whole' if halving is None else halving}"
    if directory.exists():
        call("resume", str(directory))
        return directory
    halved = [] if halving is None else [f"sweep.halving={halving}"]
    what = [f"budget.epochs={epochs}", f"seed={seed}", *halved, "--sweep", varied, "--seeds", "3", "--out", str(directory)]
    call("search", *SETTINGS, *what)
    return directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--sweeps", type=int, default=3)
    parser.add_argument("--halving", type=int, default=3)
    parser.add_argument("--varied", default="searcher.power=0.02,0.05,0.1")
    arguments = parser.parse_args()
    space = make_space("digits-tiny", {}, (1, 8, 8), 10)
    table = TabularBenchmark.read([Path("digits-tiny")], space, ["test_accuracy", "parameters"])
    print(f"{'seeds':<8}{'halving':>8}{'hypervolume':>13}{'seconds':>9}{'images':>12}   stopped after")
    for first in range(0, 3 * arguments.sweeps, 3):
        for halving in (None, arguments.halving):
            directory = sweep(arguments.out, arguments.varied, first, arguments.epochs, halving)
            summary = json.loads((directory / records.SUMMARY).read_text())
            front = records.read(directory / records.FRONT, ["arch"])
            costs = [table.costs[table.named(str(arch))] for arch in front["arch"]]
            spent = summary["spent"]
            images = spent["images_trained_on"] + spent["images_judged_on"]
            stopped = [search["stopped"].split(" of the budget")[0] for search in summary["searches"] if "stopped" in search]
            when = ", ".join(f"{stopped.count(share)} {share}" for share in dict.fromkeys(stopped))
            volume = relative_hypervolume(costs, table.front())
            row = f"{f'{first}-{first + 2}':<8}{halving or 'none':>8}{volume:>13.3f}{spent['seconds']:>9.0f}{images:>12,}"
            print(f"{row}   {when}", flush=True)


if __name__ == "__main__":
    main()
