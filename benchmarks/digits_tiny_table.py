"""Train every network of digits-tiny on scikit-learn's digits: the table that is shipped, and that `paretoray bench` uses.

    python benchmarks/digits_tiny_table.py [--seeds 3] [--rounds 15] [--share 0/1] [--out orchestrator/tables/digits-tiny.csv]

Each of the 625 is trained from its own weights under every seed, on 674 images for 20 epochs by SGD with a cosine, with one
thread. `valid_accuracy` (673 images) and `test_accuracy` (450) are means over the seeds in percent, `valid_deviation` the
standard deviation of one training, `train_seconds` what one took, `latency_ms` a forward pass of one image through torch with
one thread: all networks in turn, in another order every round, the machine's drift divided out. About 45 minutes, of which
`--rounds` are two; the same command goes on with what is in OUT.trainings. `--share 1/2` makes the second half of the
trainings alone, for a second process, and stops there.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import paretoray as pr
from hw_profiles.measure import in_torch, steady, timed
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import quality
from orchestrator.training.trainer import fit

TRAINING: dict[str, Any] = {
    "epochs": 20,
    "batch": 32,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 3e-4,
    "clip": 5.0,
    "channels_last": True,
}
FIELDS = ("arch", "seed", "valid_accuracy", "test_accuracy", "train_seconds")


def train(problem: pr.Problem, seeds: int, share: tuple[int, int], path: Path) -> None:
    """Append a row to `path` for every training of this share that it lacks."""
    space, data = problem.space, problem.data
    done = {(row["arch"], int(row["seed"])) for file in path.parent.glob(f"{path.stem}.trainings*") for row in read(file)}
    jobs = [(a, s) for s in range(seeds) for a in itertools.product(*map(range, space.sizes))]
    mine = jobs[share[0] :: share[1]]
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        for i, (a, seed) in enumerate(mine, 1):
            if (space.format(a), seed) in done:
                continue
            network, began = space.network(a), time.perf_counter()
            fit(network, a, data, data.train, Parts(**TRAINING), seed=seed)
            took = time.perf_counter() - began
            right = [quality(network, data, part) for part in (data.valid, data.test)]
            writer.writerow([space.format(a), seed, *(f"{r:.4f}" for r in right), f"{took:.3f}"])
            file.flush()
            if i % 50 == 0:
                print(f"{i} of {len(mine)} trainings", flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """Read the trainings of a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, FIELDS))


def latencies(space: pr.SearchSpace, rounds: int) -> dict[str, float]:
    """Time a forward pass of every network, in milliseconds."""
    image = torch.randn(1, *space.image)
    runs = {space.format(a): in_torch(space.network(a), (image,)) for a in itertools.product(*map(range, space.sizes))}
    for run in runs.values():
        run()
    rows, rng = [], np.random.default_rng(0)
    for _ in range(rounds):
        rows += [{"job": job, "value": 1e3 * float(np.median(timed(runs[job], 0.002)))} for job in rng.permutation(list(runs))]
    return {str(job): float(value) for job, value in steady(pd.DataFrame(rows))["value"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--share", default="0/1")
    parser.add_argument("--out", type=Path, default=Path("orchestrator/tables/digits-tiny.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    problem = pr.Problem("digits-tiny", pr.data.digits(valid=0.5, test=0.25))
    space, out = problem.space, arguments.out
    share, shares = map(int, arguments.share.split("/"))
    train(problem, arguments.seeds, (share, shares), out.with_suffix(f".trainings{share}"))
    if shares > 1:
        return
    files = out.parent.glob(f"{out.stem}.trainings*")
    trainings = pd.DataFrame([row for file in files for row in read(file)])
    trainings[list(FIELDS[1:])] = trainings[list(FIELDS[1:])].astype(float)
    times = latencies(space, arguments.rounds)
    rows = []
    for arch, runs in trainings.groupby("arch"):
        a = space.parse(str(arch))
        rows.append(
            {
                "arch": arch,
                "valid_accuracy": round(runs["valid_accuracy"].mean(), 3),
                "test_accuracy": round(runs["test_accuracy"].mean(), 3),
                "valid_deviation": round(runs["valid_accuracy"].std(), 3),
                "parameters": space.parameters(a),
                "macs": space.macs(a),
                "latency_ms": round(times[str(arch)], 4),
                "train_seconds": round(runs["train_seconds"].median(), 3),
            }
        )
    pd.DataFrame(rows).to_csv(out, index=False)
    print(f"{out}: {len(rows)} networks, {len(trainings)} trainings")


if __name__ == "__main__":
    main()
