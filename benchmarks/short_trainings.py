"""Rank correlation of short trainings with a table of trained networks, from shared weights and from scratch, and their errors.

    python benchmarks/short_trainings.py RUN TABLE [--networks 48] [--epochs 1,3] [--column cifar10_val_accuracy]
        [--cost params] [--lr 0.1] [--batch 64]

RUN is a run directory of a finished search with shared weights, as by random-search over NAS-Bench-201, and TABLE the file of
the space's networks. A quarter of the networks are random cells; the others come from the best sixth,
by the table, of each of the twelve most frequent levels of parameters. Each is measured on 5,000 validation images: with the
shared weights, after an epoch more of them alone (lr 0.05, cosine), and after training from scratch for so many epochs. Printed
are tau among the random and among the good, concordance of pairs of one level among the good, the mean error, and by which
exponent of the epochs the error falls from the training before to each longer one: mean and deviation over the networks, and
over means of cost levels.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from analysis.trust import cost_levels
from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Batches, Dataset, Part
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.runs.directory import open_run
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.choice import extract
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import quality
from orchestrator.training.trainer import fit
from orchestrator.trust.weights import SharedWeights
from searchers import Architecture


def chosen(space: SearchSpace, table: TabularBenchmark, count: int) -> tuple[list[Architecture], int]:
    """Choose random cells, then good ones of frequent levels; returns them and the number of random ones."""
    cells = list({space.canonical(a): a for a in itertools.product(*map(range, space.sizes))}.values())
    rng = np.random.default_rng(5)
    random = [int(i) for i in rng.choice(len(cells), count // 4, replace=False)]
    costs = np.array([table.costs[a] for a in cells])
    good, each = [], (count - len(random)) // 12
    for level in np.argsort(-np.bincount(cost_levels(costs[:, 1])), kind="stable")[:12]:
        inside = np.flatnonzero(cost_levels(costs[:, 1]) == level)
        best = inside[np.argsort(costs[inside, 0], kind="stable")][: max(each, len(inside) // 6)]
        good += [int(i) for i in rng.choice(best, each, replace=False)]
    return [cells[i] for i in dict.fromkeys([*random, *good])], len(random)


def tuned(network: torch.nn.Module, data: Dataset, seed: list[int]) -> None:
    """Train a network for an epoch from the weights that it has."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-4)
    batches = Batches(len(data.train), 64, tuple(seed))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches.per_epoch)
    for step in range(batches.per_epoch):
        indices = torch.from_numpy(batches[step])
        x = data.normalise(data.augment(data.train.images[indices], np.random.default_rng([*seed, step])))
        loss = torch.nn.functional.cross_entropy(network(x), data.train.labels[indices])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("table", type=Path, help="file, or name of a table that comes with a space")
    parser.add_argument("--networks", type=int, default=48)
    parser.add_argument("--epochs", default="1,3")
    parser.add_argument("--column", default="cifar10_val_accuracy")
    parser.add_argument("--cost", default="params")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = SearchPlan.of(open_run(arguments.run))
    space, data = plan.problem.space, plan.problem.data
    table = TabularBenchmark.read(arguments.table, space, [arguments.column, arguments.cost])
    settings: dict[str, Any] = {"lr": arguments.lr, "batch": arguments.batch, "weight_decay": 5e-4}
    networks, random = chosen(space, table, arguments.networks)
    order = np.random.default_rng(1).permutation(len(data.valid))[:5000]
    valid = Part(data.valid.images[order], data.valid.labels[order])
    shared = SharedWeights(plan, arguments.run)
    supernet = shared.supernet("batch", replace(data, valid=valid))
    errors: dict[str, list[float]] = {}
    for number, architecture in enumerate(networks, 1):
        inherited = 100 - supernet.measure([architecture])[0]["accuracy"]
        network = extract(copy.deepcopy(supernet.model.network), architecture)
        tuned(network, data, [0, *architecture])
        found = {"shared weights": inherited, "an epoch more": 100 - quality(network, data, valid)}
        for epochs in map(int, arguments.epochs.split(",")):
            alone = space.network(architecture)
            fit(alone, architecture, data, data.train, Parts(epochs=epochs, **settings))
            found[f"from scratch, {epochs} epochs"] = 100 - quality(alone, data, valid)
        for name, error in found.items():
            errors.setdefault(name, []).append(error)
        print(
            f"{number} of {len(networks)}: " + ", ".join(f"{name} {error:.1f} %" for name, error in found.items()), flush=True
        )
    costs = np.array([table.costs[a] for a in networks])
    true, level = costs[:, 0], cost_levels(costs[:, 1])
    pairs = [(i, j) for i, j in itertools.combinations(range(random, len(networks)), 2) if level[i] == level[j]]
    for name, measured in errors.items():
        e = np.array(measured)
        agree = np.mean([np.sign((e[i] - e[j]) * (true[i] - true[j])) for i, j in pairs])
        taus = [kendalltau(e[part], true[part]).statistic for part in (slice(random), slice(random, None))]
        print(
            f"{name:<26} error {e.mean():.1f} %, tau of random {taus[0]:.2f}, of good {taus[1]:.2f}, within levels {agree:.2f} "
            f"of {len(pairs)} pairs"
        )
    least = 50 / len(valid)  # percent, half an image
    for brief, longer in itertools.pairwise(map(int, arguments.epochs.split(","))):
        logs = [np.log(np.maximum(errors[f"from scratch, {epochs} epochs"], least)) for epochs in (brief, longer)]
        each = (logs[0] - logs[1]) / np.log(longer / brief)
        means = [each[level == number].mean() for number in np.unique(level)]
        print(
            f"from {brief} to {longer} epochs the error falls by the power {each.mean():.2f}, {each.std():.2f} over networks, "
            f"{np.std(means):.2f} over means of levels"
        )


if __name__ == "__main__":
    main()
