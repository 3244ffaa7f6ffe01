"""Order of good NAS-Bench-201 cells of one cost by proxies of about equal cost, judged by a table of trained networks.

    python benchmarks/proxies.py TABLE IMAGES [--networks 60] [--random 20] [--images 1.0] [--proxies 16-8-1-75000 ...]

TABLE has NAS-Bench-201's networks, IMAGES the folder of CIFAR-10's. A proxy is PIXELS-CHANNELS-CELLS-IMAGES: how large images
and networks are, and how many images each network is trained on, `--images` times as many for a shorter run. The good networks
are drawn from the best sixth, by `cifar10_val_accuracy`, of six levels of parameters; the random ones from all cells that have
a path. Each is trained alone with one thread (SGD, cosine, rate 0.1, batches of 64), and judged on 10,000 validation images.
Trainings are kept in `--out`, and the same command goes on. Settings are to be chosen by `cifar10_val_accuracy`; the other
columns say whether that holds elsewhere. The last rows show how well the table's own columns agree, and are all that there is
with an empty `--proxies`. 60 and 20 networks at the seven proxies take about two hours and a half of one core; `--networks 24
--random 12 --images 0.1` takes twenty minutes, judging included.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import paretoray as pr
from analysis.proxies import concordance, shown
from analysis.trust import tau
from orchestrator.api.search import make_plan
from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Part
from orchestrator.runs.retraining import retrain_all
from orchestrator.runs.watcher import Watcher
from orchestrator.search.retraining import Member

CHOSEN_BY = "cifar10_val_accuracy"
COLUMNS = (CHOSEN_BY, "cifar10_test_accuracy", "cifar100_val_accuracy", "cifar100_test_accuracy")
PROXIES = ("16-8-1-75000", "8-8-1-225000", "16-4-1-120000", "16-8-2-40000", "32-8-1-20000", "8-8-3-75000", "8-8-5-45000")
LEVELS, BEST = 6, 1 / 6
VALID = 10_000


def networks(table: pd.DataFrame, good: int, random: int) -> pd.DataFrame:
    """Draw good networks of six levels, and random ones, in a column `kind`."""
    rng = np.random.default_rng(0)
    sizes = table.groupby("params").size()
    full = sizes[sizes * BEST >= math.ceil(good / LEVELS)].index
    levels = [full[i] for i in np.linspace(0, len(full) - 1, LEVELS).round().astype(int)]
    found = []
    for i, level in enumerate(levels):
        rows = table[table["params"] == level].sort_values(CHOSEN_BY, ascending=False)
        best = rows.head(max(1, math.floor(len(rows) * BEST)))
        count = good // LEVELS + (i < good % LEVELS)
        found.append(best.iloc[rng.permutation(len(best))[:count]].assign(kind="good"))
    others = table[(table[CHOSEN_BY] > 15) & ~table["arch"].isin(pd.concat(found)["arch"])]
    return pd.concat([*found, others.iloc[rng.permutation(len(others))[:random]].assign(kind="random")], ignore_index=True)


def member(plan: SearchPlan, arch: str, text: str, images: float, out: Path) -> Member:
    """Describe the training of a network at PIXELS-CHANNELS-CELLS-IMAGES."""
    pixels, channels, cells, count = map(int, text.split("-"))
    whole = len(plan.problem.data.train)
    epochs = math.ceil(count * images / whole)
    proxy = pr.Proxy(size=pixels, channels=channels, cells=cells, share=round(count * images / whole / epochs, 4))
    name = f"{plan.problem.space.parse(arch)}-{proxy}-{epochs}.json".replace(" ", "")
    return Member(arch, out / name, at=proxy, epochs=epochs)


def plan_of(folder: Path) -> SearchPlan:
    """Put the target and the settings of training together; of the validation part the first 10,000 images count."""
    problem = pr.Problem(pr.spaces.NasBench201(), pr.data.folder(path=str(folder), size=32))
    valid = Part(problem.data.valid.images[:VALID], problem.data.valid.labels[:VALID])
    return make_plan(
        problem.on(replace(problem.data, valid=valid)),
        "random-search",
        budget=None,
        workers=pr.Workers(ray=False, count=1),
        training="supernet",
        retrain=pr.Retraining(batch=64, lr=0.1, weight_decay=5e-4),
        seed=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--images", type=float, default=1.0)
    parser.add_argument("--proxies", nargs="*", default=PROXIES)
    parser.add_argument("--out", type=Path, default=Path("runs/proxies-benchmark"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = networks(pd.read_parquet(arguments.table), arguments.networks, arguments.random)
    good, random = (np.flatnonzero(chosen["kind"] == kind) for kind in ("good", "random"))
    levels = chosen["params"].to_numpy()
    print(
        f"{len(good)} good networks of {LEVELS} levels, {len(random)} random ones; tau of random and good ones by {CHOSEN_BY}"
    )
    print("| proxy | core-seconds | tau, random | tau, good | " + " | ".join(f"within, {c}" for c in COLUMNS) + " |")
    print("| --- " * (4 + len(COLUMNS)) + "|")
    plan = plan_of(arguments.folder) if arguments.proxies else None
    for text in arguments.proxies:
        assert plan is not None
        wanted = [member(plan, str(arch), text, arguments.images, arguments.out) for arch in chosen["arch"]]
        results = retrain_all(plan, arguments.out, wanted, Watcher())
        row(text, f"{results['seconds'].mean():.1f}", results["accuracy"].to_numpy(), chosen, levels, good, random)
    for column in COLUMNS[1:]:
        row(f"table: {column}", "", chosen[column].to_numpy(), chosen, levels, good, random)


def row(
    name: str, seconds: str, values: np.ndarray, chosen: pd.DataFrame, levels: np.ndarray, good: np.ndarray, random: np.ndarray
) -> None:
    """Print a row of the table."""
    truth = chosen[CHOSEN_BY].to_numpy()
    taus = [shown(tau(values[rows], truth[rows])) for rows in (random, good)]
    within = [shown(concordance(values[good], chosen[column].to_numpy()[good], levels[good])) for column in COLUMNS]
    print(f"| {name} | {seconds} | " + " | ".join([*taus, *within]) + " |", flush=True)


if __name__ == "__main__":
    main()
