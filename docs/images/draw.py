"""Draw the pictures of the searchers' pages: each method at work on the NAS-Bench-201 table (CIFAR-10, 12 epochs).

    python docs/images/draw.py TABLE.parquet

TABLE has the columns `arch`, `cifar10_val_accuracy` and `params` (see orchestrator/evaluators/tabular.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import paretoray as pr
from analysis.plots import FAINT, FRONT, OPTIONS
from orchestrator.bench.tables import build
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.search.rounds import rounds
from orchestrator.spaces.nas_bench_201 import NasBench201
from searchers.ddpnas import Ddpnas
from searchers.nasp import Nasp
from searchers.nsga_net import NsgaNet
from searchers.preference_policy import PreferencePolicy, _lattice

HERE = Path(__file__).parent
NAMES = ("none", "skip", "conv 1x1", "conv 3x3", "pool")


def run(
    table: TabularBenchmark, name: str, length: int, interval: int = 1, **settings: Any
) -> Iterator[tuple[pr.Searcher, Sequence[pr.Evaluation]]]:
    """Yield the searcher and what was evaluated, after each of `length` rounds."""
    searcher = build(table, pr.searchers(name, **settings), length * interval, seed=0)
    endless = rounds(searcher, table, lambda asked: [pr.Evaluation(a, table.costs[a]) for a in asked], interval, lambda: 10**6)
    for _ in range(length):
        evaluations = next(endless)
        yield searcher, evaluations


def figure(panels: int, **settings: Any) -> tuple[Figure, list[Axes]]:
    picture = Figure(figsize=(7.2, 2.9), dpi=110, layout="constrained")
    axes = list(np.atleast_1d(picture.subplots(1, panels, **settings)))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.xaxis.label.set_fontsize(8)
    return picture, axes


def save(picture: Figure, name: str) -> None:
    picture.savefig(HERE / f"{name}.png")
    print(f"docs/images/{name}.png, {(HERE / f'{name}.png').stat().st_size / 1024:.0f} KB")


def stacked(
    table: TabularBenchmark, name: str, methods: dict[str, tuple[str, dict[str, Any]]], length: int, edge: int, x: str
) -> None:
    """Draw the policy on one edge over the search."""
    picture, axes = figure(len(methods), sharey=True)
    for ax, (title, (searcher, settings)) in zip(axes, methods.items(), strict=True):
        rows = [s.probabilities()[edge] for s, _ in run(table, searcher, length, **settings)]  # type: ignore[index]
        areas = ax.stackplot(range(1, length + 1), np.array(rows).T, colors=OPTIONS[:5])
        ax.set(title=title, xlabel=x, ylim=(0, 1), xlim=(1, length))
        ax.title.set_fontsize(9)
    axes[0].set_ylabel("probability on the last edge", fontsize=8)
    picture.legend(areas, NAMES, loc="outside right center", fontsize=8, frameon=False)
    save(picture, name)


def ddpnas(table: TabularBenchmark) -> None:
    picture, axes = figure(3, sharey=True)
    steps = []
    for searcher, _ in run(table, "ddpnas", 56, targets=1):
        assert isinstance(searcher, Ddpnas)
        steps.append(searcher.theta.numpy().copy())
    for ax, edge in zip(axes, (0, 2, 5), strict=True):
        shown = np.array([s[edge] for s in steps]).T
        image = ax.imshow(np.ma.masked_equal(shown, 0), aspect="auto", cmap="YlGnBu", vmin=0, vmax=0.6, interpolation="none")
        ax.set(title=f"edge {edge + 1} of 6", xlabel="epochs", yticks=range(5), yticklabels=NAMES)
        ax.axvline(35.5, color=FRONT, lw=1)
        ax.title.set_fontsize(9)
    axes[0].text(36.5, 4.4, "family", color=FRONT, fontsize=8)
    picture.colorbar(image, ax=axes, label="theta; white: pruned", shrink=0.8)
    save(picture, "ddpnas")


def nasp(table: TabularBenchmark) -> None:
    picture, axes = figure(2, sharey=True)
    values, projected = [], []
    for searcher, _ in run(table, "nasp", 200, edges=0, targets=1):
        assert isinstance(searcher, Nasp)
        values.append(searcher.copies[0].detach().numpy().copy())
        projected.append(searcher._projected(0))
    for ax, edge in zip(axes, (1, 5), strict=True):
        for option, name in enumerate(NAMES):
            line = np.array([v[edge, option] for v in values])
            if name != "none":
                ax.plot(line, color=OPTIONS[option], lw=1, label=name)
                on = np.array([p[edge] == option for p in projected])
                ax.plot(np.where(on, line, np.nan), color=OPTIONS[option], lw=4, solid_capstyle="butt")
        ax.set(title=f"edge {edge + 1} of 6", xlabel="steps")
        ax.title.set_fontsize(9)
    axes[0].set_ylabel("a, kept in [0, 1]; thick: what runs", fontsize=8)
    picture.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    save(picture, "nasp")


def against_front(table: TabularBenchmark, ax: Axes) -> None:
    front = np.array(sorted(table.front()))
    ax.plot(front[:, 1] / 1e6, front[:, 0], color=FAINT, drawstyle="steps-post", lw=2, label="true front", zorder=0)
    ax.set(xlabel="parameters, millions", ylim=(8, 40))


def nsga_net(table: TabularBenchmark) -> None:
    picture, axes = figure(2, sharey=True)
    costs_by: dict[bool, list[tuple[int, Any]]] = {False: [], True: []}
    for i, (searcher, evaluations) in enumerate(run(table, "nsga-net", 20, population=20)):
        assert isinstance(searcher, NsgaNet)
        costs_by[searcher.exploiting] += [(i + 1, e.costs) for e in evaluations]
    for ax, exploiting in zip(axes, (False, True), strict=True):
        costs = np.array([c for _, c in costs_by[exploiting]])
        shown = ax.scatter(
            costs[:, 1] / 1e6, costs[:, 0], c=[g for g, _ in costs_by[exploiting]], s=9, cmap="viridis", vmin=1, vmax=20, lw=0
        )
        against_front(table, ax)
        title = "the Bayesian network" if exploiting else "crossover and mutation"
        ax.set_title(f"{len(costs)} children of {title}", fontsize=9)
    axes[0].set_ylabel("validation error, %", fontsize=8)
    picture.colorbar(shown, ax=axes, label="generation", shrink=0.8)
    save(picture, "nsga-net")


def preference_policy(table: TabularBenchmark) -> None:
    picture, (ax,) = figure(1)
    *_, (searcher, _) = run(table, "preference-policy", 60)
    assert isinstance(searcher, PreferencePolicy)
    preferences = torch.from_numpy(_lattice(2, 21))
    modes = searcher.log_probabilities(preferences).argmax(dim=-1).tolist()
    costs = np.array([table.costs[tuple(a)] for a in modes])
    shown = ax.scatter(
        costs[:, 1] / 1e6, costs[:, 0], c=preferences[:, 0].numpy(), cmap="coolwarm", s=45, edgecolor="#222222", lw=0.5
    )
    tried = np.array([e.costs for e in searcher.history])
    ax.scatter(tried[:, 1] / 1e6, tried[:, 0], s=5, color="#8a8f98", lw=0, label="600 samples", zorder=0)
    against_front(table, ax)
    ax.legend(fontsize=8, frameon=False)
    ax.set_ylabel("validation error, %", fontsize=8)
    picture.colorbar(shown, ax=ax, label="weight of the error in the preference")
    save(picture, "preference-policy")


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).exists():
        sys.exit(f"{__doc__}\nThere is no table {' '.join(sys.argv[1:])}")
    space = NasBench201()
    table = TabularBenchmark.read(Path(sys.argv[1]), space, ["cifar10_val_accuracy", "params"])
    ddpnas(table)
    nasp(table)
    nsga_net(table)
    preference_policy(table)
    both: dict[str, tuple[str, dict[str, Any]]] = {
        "ProxylessNAS-R": ("proxyless-r", {"power": 0.02}),
        "ProxylessNAS-G": ("proxyless-g", {"every": 1}),
    }
    stacked(table, "proxylessnas", both, 100, 5, "architecture steps")
    stacked(table, "darts", {"first order": ("darts", {"order": 1})}, 100, 5, "architecture steps")


if __name__ == "__main__":
    main()
