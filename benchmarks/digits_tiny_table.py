"""Trains every network of digits-tiny on scikit-learn's digits: the table that is shipped, and that `paretoray bench` plays on.

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

import numpy as np
import pandas as pd
import torch

from hw_profiles.measure import in_torch, steady, timed
from orchestrator.config.spaces import make_space
from orchestrator.data import loaders as data
from orchestrator.evaluators.training import fit, wrong
from orchestrator.spaces.base import SearchSpace

DATA = {"valid": 0.5, "test": 0.25}
TRAINING = {"epochs": 20, "batch": 32, "lr": 0.1, "momentum": 0.9, "weight_decay": 3e-4, "clip": 5.0, "channels_last": True}
FIELDS = ("arch", "seed", "valid_accuracy", "test_accuracy", "train_seconds")


def train(space: SearchSpace, dataset: data.Dataset, seeds: int, share: tuple[int, int], path: Path) -> None:
    """Adds a row to `path` for every training of this share that it has not."""
    done = {(row["arch"], int(row["seed"])) for file in path.parent.glob(f"{path.stem}*") for row in read(file)}
    jobs = [(a, s) for s in range(seeds) for a in itertools.product(*map(range, space.sizes))]
    own = jobs[share[0] :: share[1]]
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        for i, (a, seed) in enumerate(own, 1):
            if (space.format(a), seed) in done:
                continue
            network, began = space.network(a), time.perf_counter()
            fit(network, a, dataset, dataset.train, seed=seed, device="cpu", progress=lambda epoch: None, **TRAINING)
            took = time.perf_counter() - began
            right = [100 - 100 * wrong(network, dataset, part) / len(part) for part in (dataset.valid, dataset.test)]
            writer.writerow([space.format(a), seed, *(f"{r:.4f}" for r in right), f"{took:.3f}"])
            file.flush()
            if i % 50 == 0:
                print(f"{i} of {len(own)} trainings", flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """The trainings of a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, FIELDS))


def latencies(space: SearchSpace, rounds: int) -> dict[str, float]:
    """Milliseconds by architecture."""
    image = torch.randn(1, *space.image)
    runs = {space.format(a): in_torch(space.network(a), (image,)) for a in itertools.product(*map(range, space.sizes))}
    for run in runs.values():
        run()
    rows, rng = [], np.random.default_rng(0)
    for _ in range(rounds):
        rows += [{"job": job, "value": 1e3 * float(np.median(timed(runs[job], 0.002)))} for job in rng.permutation(list(runs))]
    return {str(job): float(value) for job, value in steady(pd.DataFrame(rows))["value"].items()}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--share", default="0/1")
    parser.add_argument("--out", type=Path, default=Path("orchestrator/tables/digits-tiny.csv"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = data.load(data.component("digits", DATA))
    space = make_space("digits-tiny", {}, dataset.image, len(dataset.classes))
    share, shares = map(int, given.share.split("/"))
    train(space, dataset, given.seeds, (share, shares), given.out.with_suffix(f".trainings{share}"))
    if shares > 1:
        return
    files = given.out.parent.glob(f"{given.out.stem}.trainings*")
    trainings = pd.DataFrame([row for file in files for row in read(file)])
    trainings[list(FIELDS[1:])] = trainings[list(FIELDS[1:])].astype(float)
    times = latencies(space, given.rounds)
    rows = []
    for arch, own in trainings.groupby("arch"):
        a = space.parse(str(arch))
        rows.append(
            {
                "arch": arch,
                "valid_accuracy": round(own["valid_accuracy"].mean(), 3),
                "test_accuracy": round(own["test_accuracy"].mean(), 3),
                "valid_deviation": round(own["valid_accuracy"].std(), 3),
                "parameters": space.parameters(a),
                "macs": space.macs(a),
                "latency_ms": round(times[str(arch)], 4),
                "train_seconds": round(own["train_seconds"].median(), 3),
            }
        )
    pd.DataFrame(rows).to_csv(given.out, index=False)
    print(f"{given.out}: {len(rows)} networks, {len(trainings)} trainings")


if __name__ == "__main__":
    main()
