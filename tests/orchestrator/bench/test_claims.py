"""Claims of searchers on tables of trained networks: the one that is shipped, and larger ones where there are any."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.pareto import relative_hypervolume
from orchestrator import registry
from orchestrator.bench.tables import run_on_table
from orchestrator.config.experiment import searcher_component
from orchestrator.config.spaces import make_space
from orchestrator.evaluators.tabular import TabularBenchmark
from searchers import Evaluation
from tests.helpers import larger_table

METHODS = [name for name in registry.known("searcher") if name != "random-search"]


@pytest.fixture(scope="module")
def shipped() -> TabularBenchmark:
    space = make_space("digits-tiny", {}, (1, 8, 8), 10)
    return TabularBenchmark.read(Path("digits-tiny"), space, ["valid_accuracy", "parameters"])


@pytest.fixture(scope="module")
def large() -> TabularBenchmark:
    space = make_space("nas-bench-201", {}, (3, 32, 32), 10)
    return TabularBenchmark.read(larger_table("nas-bench-201.parquet"), space, ["cifar10_val_accuracy", "params"])


def play(table: TabularBenchmark, name: str, settings: dict[str, Any], budget: int, seed: int) -> list[Evaluation]:
    return run_on_table(table, searcher_component(name, settings), budget, seed)


def mean_hypervolume(table: TabularBenchmark, runs: Sequence[Sequence[Evaluation]]) -> float:
    return float(np.mean([relative_hypervolume([e.costs for e in run], table.front()) for run in runs]))


def against_random(
    table: TabularBenchmark, name: str, settings: dict[str, Any], budget: int, seeds: int
) -> tuple[float, float]:
    """Return the mean hypervolume of a method and of random search, after so many different architectures each."""
    if name == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    own = [play(table, name, settings, budget, seed) for seed in range(seeds)]
    assert all(len({e.architecture for e in run}) == len(run) == budget for run in own)
    random = [play(table, "random-search", {}, budget, seed) for seed in range(seeds)]
    return mean_hypervolume(table, own), mean_hypervolume(table, random)
