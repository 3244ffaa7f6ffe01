"""A table as an evaluator, and every searcher on a real one."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.pareto import relative_hypervolume
from orchestrator import registry as names
from orchestrator.bench.tables import run_on_table
from orchestrator.config.experiment import searcher_component
from orchestrator.config.spaces import make_space
from orchestrator.errors import InputError
from orchestrator.evaluators.tabular import TabularBenchmark
from searchers import Evaluation, Mixture
from tests.conftest import SHARED

SPACE = make_space("digits-tiny", {}, (1, 8, 8), 10)


def small() -> pd.DataFrame:
    """Every architecture of a small space, with accuracies that interact and parameters."""
    rng = np.random.default_rng(0)
    found = list(itertools.product(*(range(n) for n in SPACE.sizes)))
    accuracy = 50 + 40 * rng.random(len(found))
    rows = {"arch": [SPACE.format(a) for a in found], "val_accuracy": accuracy, "params": [SPACE.parameters(a) for a in found]}
    return pd.DataFrame(rows)


def test_values_and_gradients_are_those_of_the_multilinear_extension() -> None:
    table = TabularBenchmark(SPACE, small(), ["val_accuracy", "params"])
    assert table.complete
    a = (1, 0, 2, 1)
    assert table.measure([a]) == [dict(zip(("val_accuracy", "params"), table.costs[a], strict=True))]
    assert table.costs[a][0] == 100 - small().set_index("arch").loc[SPACE.format(a), "val_accuracy"]
    rng = np.random.default_rng(1)
    rows = [rng.dirichlet(np.ones(n)) for n in SPACE.sizes]
    value, cotangents = table.differentiate(Mixture(tuple(tuple(map(float, r)) for r in rows)), 0)
    expected = sum(np.prod([r[o] for r, o in zip(rows, b, strict=True)]) * c[0] / 100 for b, c in table.costs.items())
    assert value == pytest.approx(expected)
    for choice, option in ((0, 1), (3, 2)):
        slope = sum(
            np.prod([r[o] for i, (r, o) in enumerate(zip(rows, b, strict=True)) if i != choice]) * c[0] / 100
            for b, c in table.costs.items()
            if b[choice] == option
        )
        assert cotangents[choice][option] == pytest.approx(slope - expected)
    value, cotangents = table.differentiate(Mixture.one_hot(a, SPACE.sizes), 0)
    assert value == pytest.approx(table.costs[a][0] / 100)
    assert cotangents[2][0] == pytest.approx((table.costs[(1, 0, 0, 1)][0] - table.costs[a][0]) / 100)
    # Weights need not sum to 1: the derivative is that of their share.
    twice = Mixture(tuple(tuple(2 * float(w) for w in r) for r in rows))
    value, halved = table.differentiate(twice, 0)
    assert value == pytest.approx(expected)
    assert halved[0][1] == pytest.approx(table.differentiate(Mixture(tuple(map(tuple, rows))), 0)[1][0][1] / 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="params"), "no column params"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "twice"),
        (lambda f: f.assign(params=[np.nan, *f["params"][1:]]), "row 1: params is missing"),
        (lambda f: f.assign(val_accuracy=[np.inf, *f["val_accuracy"][1:]]), "row 1: val_accuracy"),
        (lambda f: f.assign(arch=["nonsense", *f["arch"][1:]]), "row 1"),
    ],
)
def test_a_bad_table_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    change(small()).to_csv(path, index=False)
    with pytest.raises(InputError, match=says):
        TabularBenchmark.read(path, SPACE, ["val_accuracy", "params"])


def test_a_partial_table_has_no_gradients_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    small().iloc[1:].to_parquet(path)
    table = TabularBenchmark.read(path, SPACE, ["val_accuracy", "params"])
    with pytest.raises(InputError, match="gradients need all"):
        table.differentiate(Mixture.one_hot((0, 0, 0, 0), SPACE.sizes), 0)
    with pytest.raises(InputError, match="the table has no"):
        table.measure([(0, 0, 0, 0)])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(InputError, match=r"cannot read .*broken\.parquet"):
        TabularBenchmark.read(tmp_path / "broken.parquet", SPACE, ["val_accuracy"])


def test_json_as_nas_bench_macro_has_it_is_read_with_means_over_trainings(tmp_path: Path) -> None:
    space = make_space("nas-bench-macro", {}, (3, 32, 32), 10)
    found = {
        "00000000": {"test_acc": [80.0, 81.0, 82.0], "mean_acc": 81.0, "std": 0.8, "params": 1.5, "flops": 20.0},
        "01201210": {"test_acc": [90.0, 91.0, 95.0], "mean_acc": 92.0, "std": 2.2, "params": 2.5, "flops": 30.0},
    }
    path = tmp_path / "macro.json"
    path.write_text(json.dumps(found))
    for column in ("test_acc", "mean_acc"):
        table = TabularBenchmark.read(path, space, [column, "flops"])
        assert table.costs == {(0,) * 8: (pytest.approx(19.0), 20.0), (0, 1, 2, 0, 1, 2, 1, 0): (pytest.approx(8.0), 30.0)}
    path.write_text(json.dumps({"arch": list(found), "mean_acc": [81.0, 92.0], "flops": [20.0, 30.0]}))
    assert TabularBenchmark.read(path, space, ["mean_acc", "flops"]).costs == table.costs
    csv = tmp_path / "macro.csv"  # digits alone would be read as numbers
    csv.write_text("arch,mean_acc,flops\n00000000,81,20\n01201210,92,30\n")
    assert TabularBenchmark.read(csv, space, ["mean_acc", "flops"]).costs == table.costs
    for text, says in (("[1, 2]", "no object"), ('{"00000000": 3}', "write {architecture"), ("{", "cannot read")):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            TabularBenchmark.read(path, space, ["mean_acc"])


def test_accuracies_and_costs_of_two_files_are_joined(tmp_path: Path) -> None:
    trained, measured = tmp_path / "trained.csv", tmp_path / "measured.csv"
    small()[["arch", "val_accuracy"]].to_csv(trained, index=False)
    small()[["arch", "params"]].sample(frac=1, random_state=0).to_csv(measured, index=False)
    joined = TabularBenchmark.read([trained, measured], SPACE, ["val_accuracy", "params"])
    assert (
        joined.costs == TabularBenchmark(SPACE, small(), ["val_accuracy", "params"]).costs and "measured.csv" in joined.source
    )
    small()[["arch", "params"]].iloc[1:].to_csv(measured, index=False)
    with pytest.raises(InputError, match="params is missing"):
        TabularBenchmark.read([trained, measured], SPACE, ["val_accuracy", "params"])
    small().to_csv(measured, index=False)
    with pytest.raises(InputError, match="all have val_accuracy"):
        TabularBenchmark.read([trained, measured], SPACE, ["val_accuracy", "params"])


def test_what_would_be_unpickled_is_not(tmp_path: Path) -> None:
    path = tmp_path / "HW-NAS-Bench-v1_0.pickle"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match="runs whatever code is in it"):
        TabularBenchmark.read(path, SPACE, ["val_accuracy"])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_times_are_positive(bad: float) -> None:
    frame = small().assign(seconds=[bad, *[2.0] * (len(small()) - 1)])
    with pytest.raises(InputError, match="row 1: seconds is missing, or not a positive"):
        TabularBenchmark(SPACE, frame, ["val_accuracy", "params"], time="seconds")


@pytest.fixture(scope="module")
def benchmark() -> TabularBenchmark:
    path = SHARED / "nas-bench-201.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the project")
    space = make_space("nas-bench-201", {}, (3, 32, 32), 10)
    return TabularBenchmark.read(path, space, ["cifar10_val_accuracy", "params"])


def test_the_additive_costs_are_the_tables(benchmark: TabularBenchmark) -> None:
    fixed, rows = benchmark.additive(1) or (0.0, [])
    counted, priced = benchmark.space.additive("parameters") or (0.0, [])
    for a in list(benchmark.costs)[::997]:
        assert fixed + sum(row[o] for row, o in zip(rows, a, strict=True)) == pytest.approx(benchmark.costs[a][1])
        assert counted + sum(row[o] for row, o in zip(priced, a, strict=True)) == benchmark.costs[a][1]
    assert benchmark.additive(0) is None  # accuracy is no sum


SEEDS = 6
STATED: dict[str, tuple[int, dict[str, Any]]] = {
    "proxyless-r": (400, {"power": 0.02}),  # 0.1 is for costs within a factor of two; these span twenty
    "surrogate-search": (50, {}),  # these two take their time over each of many
    "optuna-sampler": (120, {}),
    "nasp": (50, {"samples": 1}),  # its projection passes good networks early; no cost is in its loss
}


@pytest.mark.parametrize("name", [n for n in names.known("searcher") if n != "random-search"])
def test_every_searcher_beats_random_search_on_a_table(name: str, benchmark: TabularBenchmark) -> None:
    """Mean hypervolume after 400 different architectures of CIFAR-10 error against parameters, unless stated otherwise."""
    if name == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    budget, settings = STATED.get(name, (400, {}))
    found = [run_on_table(benchmark, searcher_component(name, settings), budget, seed) for seed in range(SEEDS)]
    assert all(len({e.architecture for e in f}) == len(f) == budget for f in found)
    random = [run_on_table(benchmark, searcher_component("random-search", {}), budget, seed) for seed in range(SEEDS)]

    def mean(runs: list[list[Evaluation]]) -> float:
        return float(np.mean([relative_hypervolume([e.costs for e in found], benchmark.front()) for found in runs]))

    assert mean(found) > mean(random), (name, mean(random))


def test_same_seed_same_evaluations(benchmark: TabularBenchmark) -> None:
    for name in ("nsga-net", "preference-policy"):
        once, again, other = (run_on_table(benchmark, searcher_component(name, {}), 60, seed) for seed in (0, 0, 1))
        assert once == again != other
