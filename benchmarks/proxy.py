"""Rank correlation of small supernets with a table of trained networks, for the same processor time.

    python benchmarks/proxy.py TABLE IMAGES [--seconds 240] [--proxies 4x1,8x1,16x1,8x2] [--size 32] [--networks 150]

TABLE has NAS-Bench-201's networks, IMAGES the folder of CIFAR-10's. Each proxy, CHANNELSxCELLS, trains its shared weights on
uniform paths with one thread for so many seconds of processor time, in turn; then the same random networks are measured on
2,000 images of the validation set, and their accuracies compared with the table's.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

import paretoray as pr
from orchestrator.data.dataset import Part
from orchestrator.evaluators.supernet import Supernet
from orchestrator.evaluators.tabular import TabularBenchmark

COLUMN = "cifar10_val_accuracy"
IMAGES = 2000


def train(net: Supernet, seconds: float, rng: np.random.Generator) -> int:
    """Train on uniform paths for about so many seconds of processor time, and return the steps.

    The learning rate follows a cosine, whose length in steps follows from the time that a few of them take.
    """
    sizes = net.space.sizes

    def paths(count: int) -> list[pr.Mixture]:
        return [pr.Mixture.one_hot(tuple(int(rng.integers(n)) for n in sizes), sizes) for _ in range(count)]

    stage = pr.Stage(0, tuple(tuple(range(n)) for n in sizes), 1, 0)
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--proxies", default="4x1,8x1,16x1,8x2")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--networks", type=int, default=150)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = pr.Problem("nas-bench-201", pr.data.folder(path=str(arguments.images), size=arguments.size)).data
    data = replace(data, valid=Part(data.valid.images[:IMAGES], data.valid.labels[:IMAGES]))
    table = None
    for proxy in arguments.proxies.split(","):
        channels, cells = map(int, proxy.split("x"))
        space = pr.Problem(pr.spaces.NasBench201(channels=channels, cells=cells), data).space
        table = table or TabularBenchmark.read(arguments.table, space, [COLUMN, "params"])
        net = Supernet(space, data, batch=arguments.batch, lr=arguments.lr, valid_batch=500)
        began = time.process_time()
        steps = train(net, arguments.seconds, np.random.default_rng(0))
        seconds, rng = time.process_time() - began, np.random.default_rng(1)
        networks = [tuple(int(rng.integers(n)) for n in space.sizes) for _ in range(arguments.networks)]
        inherited = np.array([metrics["accuracy"] for metrics in net.measure(networks)])
        true = np.array([100 - table.costs[a][0] for a in networks])
        better = true >= np.median(true)
        print(
            f"{proxy}: {steps} steps in {seconds:.0f} s; "
            f"accuracy {inherited.min():.1f} to {inherited.max():.1f}, mean {inherited.mean():.1f}; "
            f"tau {kendalltau(inherited, true).statistic:.3f}, "
            f"{kendalltau(inherited[better], true[better]).statistic:.3f} among the better half",
            flush=True,
        )


if __name__ == "__main__":
    main()
