"""Ways to train shared weights, and how well each then ranks networks, against a table of trained networks.

    python benchmarks/shared_weights.py TABLE ERROR,COST [section.key=value ...] [--images 40000] [--seeds 3] [--ways ...]

The settings are those of an experiment, as `paretoray search` takes them. Every way trains on as many images, with SGD and a
cosine from `training.lr` to 0, and is asked about the same random networks, of which no two are equal and none has operations
that take no part. Ways:

- notations: uniformly drawn ones, as random search has them;
- networks: uniformly drawn different networks, without operations that take no part;
- few-shot: notations for half of the images, then a copy of the weights for each quarter of the networks by cost, trained
  further on networks of that quarter (Zhao et al., ICML 2021, who split by the operations of an edge);
- rank-loss: a third of the images on pairs of 24 networks whose true order is taken from the table, which no search knows: the
  loss of each, and what the better one's is above the worse one's, with a weight that rises from 0 to 1;
- averaged: as notations, but with the mean of the weights over the last quarter of the steps.

Printed are Kendall's tau among all, among the better half, and within levels of cost, with the number of pairs.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from analysis.trust import cost_levels
from orchestrator.config.overrides import read
from orchestrator.config.plan import SearchPlan
from orchestrator.evaluators.supernet import Supernet
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.spaces.parts.choice import Weights
from searchers import Architecture, Mixture, Stage

WAYS = ("notations", "networks", "few-shot", "rank-loss", "averaged")
LANDMARKS, JUDGED, PARTS = 24, 150, 4
TOGETHER = 8  # steps at a time


def train(net: Supernet, networks: list[Architecture]) -> None:
    """Take a step with each of these networks."""
    net.train([Mixture.one_hot(a, net.space.sizes) for a in networks])


def train_by_rank(net: Supernet, better: Architecture, worse: Architecture, weight: float) -> None:
    """Take a step with the losses of two networks, and with what the better one's is above the worse one's."""
    net.model.train()
    net._schedule(one_hot=True)
    x, y, images = net._training_batch()
    net._optimizer.zero_grad(set_to_none=True)
    losses = [net._loss(x, y, Weights(Mixture.one_hot(a, net.space.sizes).weights), images) for a in (better, worse)]
    total = losses[0] + losses[1] + weight * torch.relu(losses[0] - losses[1])
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for p in net.model.parameters() if p.grad is not None], net.clip)
    net._optimizer.step()
    net.step += 1


def errors_by(
    way: str,
    net: Supernet,
    pool: list[Architecture],
    landmarks: list[Architecture],
    judged: list[Architecture],
    table: TabularBenchmark,
    steps: int,
    rng: np.random.Generator,
) -> list[float]:
    """Train shared weights in one way, and measure the networks that are judged, in percent."""
    sizes = net.space.sizes

    def notation() -> Architecture:
        return tuple(int(rng.integers(n)) for n in sizes)

    def measured(by: Supernet, some: list[Architecture]) -> list[float]:
        return [100 - m["accuracy"] for m in by.measure(some)]  # type: ignore[index]

    net.build(Stage(0, tuple(tuple(range(n)) for n in sizes), 1, 0), steps)
    if way == "few-shot":
        cost = {a: table.costs[a][1] for a in pool}
        bounds = np.quantile(list(cost.values()), np.arange(1, PARTS) / PARTS)
        train(net, [notation() for _ in range(steps // 2)])
        found: dict[Architecture, float] = {}
        each = steps // 2 // PARTS
        for part in range(PARTS):
            own, inside = copy.deepcopy(net), [a for a in pool if np.searchsorted(bounds, cost[a]) == part]
            own.steps, own._begun = 2 * each, own.step - each  # the rest of the cosine
            train(own, [inside[int(i)] for i in rng.integers(len(inside), size=each)])
            mine = [a for a in judged if np.searchsorted(bounds, cost[a]) == part]
            found.update(zip(mine, measured(own, mine), strict=True))
        return [found[a] for a in judged]
    if way == "rank-loss":
        order = sorted(landmarks, key=lambda a: table.costs[a][0])
        pairs = steps // 6  # each of two networks
        net.steps = steps - pairs
        when = set(np.linspace(0, net.steps - 1, pairs).astype(int).tolist())
        for step in range(net.steps):
            if step in when:
                i, j = sorted(rng.choice(len(order), 2, replace=False).tolist())
                train_by_rank(net, order[i], order[j], step / net.steps)
            else:
                train(net, [notation()])
    elif way == "networks":
        train(net, [pool[int(i)] for i in rng.integers(len(pool), size=steps)])
    elif way == "averaged":
        train(net, [notation() for _ in range(steps - steps // 4)])
        mean: dict[str, torch.Tensor] = {}
        for count in range(1, steps // 4 // TOGETHER + 1):
            train(net, [notation() for _ in range(TOGETHER)])
            for name, value in net.model.state_dict().items():
                before = mean.get(name, torch.zeros_like(value, dtype=torch.float64))
                mean[name] = before + (value.double() - before) / count
        net.model.load_state_dict(mean)
    else:
        train(net, [notation() for _ in range(steps)])
    return measured(net, judged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("columns", help="ERROR,COST")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    parser.add_argument("--images", type=float, default=40_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", default=",".join(WAYS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed, way in itertools.product(range(arguments.seeds), arguments.ways.split(",")):
        fixed = ["searcher.name=random-search", "workers.ray=false", "workers.count=1", f"seed={seed}"]
        plan = SearchPlan.of(read(None, [*fixed, *arguments.settings]))
        net, space = plan.build_evaluator(probes=()), plan.trained.space
        assert isinstance(net, Supernet)
        table = TabularBenchmark.read(arguments.table, space, arguments.columns.split(","))
        rng = np.random.default_rng(seed)
        different = {
            space.canonical(a): a for a in itertools.product(*map(range, space.sizes)) if space.pruned(a, constants=True) == a
        }
        pool = [list(different.values())[int(i)] for i in rng.permutation(len(different))]
        landmarks, judged = pool[:LANDMARKS], pool[LANDMARKS : LANDMARKS + JUDGED]
        errors = np.array(errors_by(way, net, pool, landmarks, judged, table, int(arguments.images) // net.batch, rng))
        true = np.array([table.costs[a] for a in judged])
        level, good = cost_levels(true[:, 1]), true[:, 0] <= np.median(true[:, 0])
        pairs = [(i, j) for i, j in itertools.combinations(range(len(judged)), 2) if level[i] == level[j]]
        within = (
            np.mean([np.sign((errors[i] - errors[j]) * (true[i, 0] - true[j, 0])) for i, j in pairs]) if pairs else math.nan
        )
        print(
            f"seed {seed}, {way:<10} tau {kendalltau(errors, true[:, 0]).statistic:.2f}, "
            f"better half {kendalltau(errors[good], true[good, 0]).statistic:.2f}, "
            f"within levels {within:.2f} of {len(pairs)} pairs, mean error {errors.mean():.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
