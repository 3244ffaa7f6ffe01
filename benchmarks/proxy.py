"""Which small supernet ranks the networks of a table best, for its seconds.

    python benchmarks/proxy.py TABLE IMAGES [--seconds 240] [--proxies 4x1,8x1,16x1,8x2] [--size 32] [--networks 150]

TABLE has NAS-Bench-201's networks, IMAGES the folder of CIFAR-10's. Each proxy, CHANNELSxCELLS, trains its shared weights on
uniform paths with one thread for so many seconds of processor time, in turn; then the same random networks are measured on
2,000 images of the validation part, and their accuracies compared with the table's.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from orchestrator.config.experiment import make_space
from orchestrator.data import loaders as data
from orchestrator.data.dataset import Part
from orchestrator.evaluators.supernet import Supernet
from orchestrator.evaluators.tabular import TabularBenchmark
from searchers import Mixture, Stage

COLUMN = "cifar10_val_accuracy"
JUDGED = 2000


def train(net: Supernet, seconds: float, rng: np.random.Generator) -> int:
    """Paths drawn uniformly, for about so many seconds by a cosine whose length a few steps tell; returns the steps."""
    sizes = net.space.sizes

    def paths(count: int) -> list[Mixture]:
        return [Mixture.one_hot(tuple(int(rng.integers(n)) for n in sizes), sizes) for _ in range(count)]

    stage = Stage(0, tuple(tuple(range(n)) for n in sizes), 1, 0)
    net.build(stage, 40)
    net.train(paths(10))
    began = time.process_time()
    net.train(paths(30))
    steps = int(seconds / ((time.process_time() - began) / 30))
    net.step = 0
    net.build(stage, steps)
    net.train(paths(steps))
    return steps


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--proxies", default="4x1,8x1,16x1,8x2")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--networks", type=int, default=150)
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = data.load(data.component("folder", {"path": str(given.images), "size": given.size}))
    images = replace(images, valid=Part(images.valid.images[:JUDGED], images.valid.labels[:JUDGED]))
    table = None
    for proxy in given.proxies.split(","):
        channels, cells = map(int, proxy.split("x"))
        space = make_space("nas-bench-201", {"channels": channels, "cells": cells}, images.image, len(images.classes))
        table = table or TabularBenchmark.read(given.table, space, [COLUMN, "params"])
        net = Supernet(space, images, batch=given.batch, lr=given.lr, valid_batch=500)
        began = time.process_time()
        steps = train(net, given.seconds, np.random.default_rng(0))
        took, rng = time.process_time() - began, np.random.default_rng(1)
        drawn = [tuple(int(rng.integers(n)) for n in space.sizes) for _ in range(given.networks)]
        found = np.array([m["accuracy"] for m in net.measure(drawn)])
        true = np.array([100 - table.costs[a][0] for a in drawn])
        better = true >= np.median(true)
        print(
            f"{proxy}: {steps} steps in {took:.0f} s; "
            f"accuracy {found.min():.1f} to {found.max():.1f}, mean {found.mean():.1f}; "
            f"tau {kendalltau(found, true).statistic:.3f}, {kendalltau(found[better], true[better]).statistic:.3f} among the "
            "better half",
            flush=True,
        )


if __name__ == "__main__":
    main()
