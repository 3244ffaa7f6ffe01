"""Benchmarks over a table: counted evaluations, nothing played twice, and a word where a table or a budget will not do."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from orchestrator.bench import tables
from orchestrator.bench.entries import parse
from orchestrator.errors import InputError
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.registry import Component
from searchers import Evaluation
from tests.fakes import DIGITS_TINY, fake_table
from tests.helpers import call

OBJECTIVES = ["val_accuracy", "params"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "trained.csv"
    # The command line builds a space for colour images, whose parameters differ; a table may hold any numbers.
    fake_table().to_csv(path, index=False)
    return path


def run(path: Path, out: Path, searchers: str = "random-search,nsga2", **options: Any) -> Result:
    given = {"budget": 20, "seeds": 2, "workers": 1} | options
    objectives = given.pop("objectives", ",".join(OBJECTIVES))
    flags = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    arguments = ["--table", path, "--space", "digits-tiny", "--objectives", objectives, "--searchers", searchers, "--out", out]
    return call("bench", *arguments, *flags)


def test_what_is_written_and_counted(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(table, out, "random-search,nsga2:population=6,tnd-nas", seeds=3, budget=40)
    assert result.exit_code == 0, result.output
    assert "nsga2:pop" in result.output and "report.html" in result.output and "9 of 9 runs done" in result.output
    found = pd.read_csv(out / "evaluations.csv")
    assert list(found.columns) == ["searcher", "seed", "arch", *OBJECTIVES]
    assert set(found["searcher"]) == {"random-search", "nsga2:population=6", "tnd-nas"}
    for _, own in found.groupby(["searcher", "seed"]):
        assert len(own) == own["arch"].nunique() == 40
    known = fake_table().set_index("arch")
    for column in OBJECTIVES:  # as the table has them: an accuracy stays one
        np.testing.assert_allclose(found[column], known.loc[found["arch"], column])
    summary = pd.read_csv(out / "summary.csv")
    assert summary.columns.tolist() == [
        "searcher", "budget_evaluations", "seeds", "hypervolume", "hypervolume_low", "hypervolume_high", "igd_plus",
        "share_of_front_found",
    ]  # fmt: skip
    assert summary["budget_evaluations"].max() == 40 and (summary["seeds"] == 3).all()
    assert (summary["hypervolume_low"] <= summary["hypervolume"]).all() and summary["hypervolume"].between(0, 1 + 1e-9).all()
    page = (out / "report.html").read_text()
    for words in (
        "nsga2:population=6",
        "true front",
        "Hypervolume against cost",
        "Median attainment",
        "With fewer than five seeds",
    ):
        assert words in page, words
    assert {p.name for p in (out / "plots").iterdir()} == {"hypervolume.png", "attainment.png"}


def in_order(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "evaluations.csv").sort_values(["searcher", "seed"], kind="stable", ignore_index=True)


def test_a_benchmark_that_was_interrupted_or_grows_plays_only_what_is_missing(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, play = tmp_path / "out", tables.run_on_table
    played: list[tuple[str, int]] = []
    stop_after = 3

    def counted(
        table: TabularBenchmark, entry: Component, budget: float, seed: int, *, only: int | None = None
    ) -> list[Evaluation]:
        if only is None:  # the others merely try the searchers out
            if len(played) == stop_after:
                raise KeyboardInterrupt
            played.append((entry.name, seed))
        return play(table, entry, budget, seed, only=only)

    monkeypatch.setattr(tables, "run_on_table", counted)
    result = run(table, out)
    assert result.exit_code == 130 and "the same command with --out" in result.output and len(played) == 3
    with (out / "evaluations.csv").open("a") as file:
        file.write("nsga2,1,cut o")
    played.clear()
    assert run(table, out).exit_code == 0 and played == [("nsga2", 1)]
    played.clear()
    stop_after = 4
    assert run(table, tmp_path / "other").exit_code == 0
    pd.testing.assert_frame_equal(in_order(out), in_order(tmp_path / "other"))
    played.clear()
    stop_after = 99
    assert run(table, out, "random-search,nsga2,local-search", seeds=3).exit_code == 0
    assert sorted(played) == sorted([("local-search", s) for s in range(3)] + [("random-search", 2), ("nsga2", 2)])


@pytest.mark.usefixtures("cluster")
def test_ray_tasks_give_the_same_evaluations(table: Path, tmp_path: Path) -> None:
    for workers, out in ((1, tmp_path / "a"), (2, tmp_path / "b")):
        assert run(table, out, workers=workers).exit_code == 0
    pd.testing.assert_frame_equal(in_order(tmp_path / "a"), in_order(tmp_path / "b"))


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda f: f, {"searchers": "random-serch"}, "did you mean 'random-search'"),
        (lambda f: f, {"searchers": "nsga2,nsga2"}, "name each once"),
        (lambda f: f, {"searchers": "nsga2:population"}, "write settings as nsga2:key=value"),
        (lambda f: f, {"searchers": "nsga2:poplation=3"}, "unknown key searcher.poplation"),
        (lambda f: f, {"budget": 10**6}, "the table has"),
        (lambda f: f, {"budget": 1}, "budget = 1"),
        (lambda f: f, {"seeds": 0}, "seeds = 0"),
        (lambda f: f, {"workers": 0}, "--workers 0"),
        (lambda f: f, {"workers": 4096}, "--workers 4096: each has a CPU"),
        (lambda f: f, {"objectives": "val_accuracy"}, "name further columns"),
        (lambda f: f.iloc[:0], {}, "has no rows"),
        (lambda f: f.assign(params=["many", *f["params"][1:]]), {}, "not a finite number (many)"),
        (lambda f: f, {"objectives": "val_accuracy,latency"}, "no column latency"),
        (lambda f: f.assign(params=5), {}, "params is the same for all"),
        (lambda f: f.assign(params=range(len(f)), val_accuracy=range(len(f), 0, -1)), {}, "no trade-off"),
        (lambda f: f.assign(params=[np.nan, *f["params"][1:]]), {}, "row 1: params is missing"),
        (lambda f: f.assign(arch=["conv3", *f["arch"][1:]]), {}, "row 1"),
        (lambda f: pd.concat([f, f.iloc[4:5]]), {}, "twice"),
        (lambda f: f.iloc[:60], {"searchers": "darts"}, "gradients need all"),
    ],
)
def test_wrong_input_is_told_before_anything_is_played(
    change: Any, options: dict[str, Any], words: str, table: Path, tmp_path: Path
) -> None:
    change(fake_table()).to_csv(table, index=False)
    out = tmp_path / "out"
    result = run(table, out, **options)
    assert result.exit_code == 2 and result.output.startswith("error: ") and words in result.output, result.output
    assert not out.exists()


def test_a_budget_in_seconds_buys_as_many_as_take_so_long(table: Path, tmp_path: Path) -> None:
    frame = fake_table()
    frame["seconds"] = 1.0 + np.arange(len(frame)) % 7
    frame.to_csv(table, index=False)
    out = tmp_path / "out"
    result = run(table, out, "random-search,nsga2:population=6", budget=60, time="seconds")
    assert result.exit_code == 0, result.output
    found = pd.read_csv(out / "evaluations.csv")
    for _, own in found.groupby(["searcher", "seed"]):
        took = frame.set_index("arch").loc[own["arch"], "seconds"].to_numpy()
        assert took[:-1].sum() < 60 <= took.sum(), "until the last of it is spent"
    page, summary = (out / "report.html").read_text(), pd.read_csv(out / "summary.csv")
    assert "spent, by seconds" in page and summary["budget_seconds"].max() == 60
    assert run(table, out, "random-search,nsga2:population=6", budget=60, time="seconds").exit_code == 0
    assert len(pd.read_csv(out / "evaluations.csv")) == len(found), "nothing was missing"
    result = run(table, tmp_path / "other", budget=10**6, time="seconds")
    assert result.exit_code == 2 and "which take" in result.output


def test_a_file_is_what_its_checksum_says(table: Path, tmp_path: Path) -> None:
    right = hashlib.sha256(table.read_bytes()).hexdigest()
    assert run(table, tmp_path / "out", sha256=right.upper()).exit_code == 0
    assert right in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["sha256"] == [right]
    with table.open("a") as file:
        file.write("\n")
    result = run(table, tmp_path / "other", sha256=right)
    assert result.exit_code == 2 and "get the file again" in result.output and not (tmp_path / "other").exists()
    result = run(table, tmp_path / "out")
    assert result.exit_code == 1 and "another benchmark" in result.output


def test_a_partial_table_is_played_on_what_it_has(table: Path, tmp_path: Path) -> None:
    fake_table().iloc[::2].to_csv(table, index=False)
    result = run(table, tmp_path / "out", "random-search,nsga2,aging-evolution")
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    assert set(found["arch"]) <= set(fake_table().iloc[::2]["arch"]) and len(found) == 3 * 2 * 20


def test_a_folder_of_something_else_is_left_alone(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(table, out).exit_code == 0
    result = run(table, out, budget=21)
    assert result.exit_code == 1 and "another benchmark" in result.output
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("me")
    result = run(table, tmp_path / "letters")
    assert result.exit_code == 2 and "has other files" in result.output
    (out / "evaluations.csv").write_text("what is this\n1\n")
    result = run(table, out)
    assert result.exit_code == 1 and "damaged" in result.output


def test_a_schedule_that_ends_early_begins_again(tmp_path: Path) -> None:
    """TND-NAS on a table this small has asked for all it wants long before the budget is used up."""
    table = TabularBenchmark(DIGITS_TINY, fake_table(), OBJECTIVES)
    found = tables.run_on_table(table, parse("tnd-nas"), len(table.costs) - 5, 0)
    assert len({e.architecture for e in found}) == len(found) == len(table.costs) - 5


def test_settings_are_parsed_as_experiments_have_them() -> None:
    entry = parse("nsga2:population=40:crossover=0.5")
    assert entry.name == "nsga2" and entry.chosen == {"population", "crossover"}
    assert (entry.settings["population"], entry.settings["crossover"]) == (40, 0.5)
    with pytest.raises(InputError):
        parse("nsga3")


def test_a_searcher_from_outside_may_have_settings() -> None:
    entry = parse("searchers.nsga2:Nsga2:population=40")
    assert entry.name == "searchers.nsga2:Nsga2" and entry.settings["population"] == 40
    with pytest.raises(InputError, match="write settings as"):
        parse("searchers.nsga2:population")


def test_a_sparse_table_is_played_on_its_networks(table: Path, tmp_path: Path) -> None:
    few = fake_table().iloc[::13]
    few.to_csv(table, index=False)
    result = run(table, tmp_path / "out", "random-search,nsga2,surrogate-search", budget=10)
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    for _, own in found.groupby(["searcher", "seed"]):
        assert len(own) == own["arch"].nunique() == 10 and set(own["arch"]) <= set(few["arch"])
    assert "differs in fewest choices" in (tmp_path / "out" / "report.html").read_text()
    result = run(table, tmp_path / "more", budget=400)
    assert result.exit_code == 2 and f"the table has {len(few)} architectures" in result.output


def test_columns_are_asked_about_and_answered(table: Path, tmp_path: Path) -> None:
    fake_table().rename(columns={"val_accuracy": "quality, percent"}).to_csv(table, index=False)
    named = '"quality, percent",params'
    result = run(table, tmp_path / "out", objectives=named)
    assert result.exit_code == 2 and "--maximize 'quality, percent' or --minimize" in result.output
    result = run(table, tmp_path / "out", objectives=named, maximize="quality")
    assert result.exit_code == 2 and "none of the objectives" in result.output
    result = run(table, tmp_path / "out", objectives=named, maximize="quality, percent")
    assert result.exit_code == 0 and "100 - quality, percent" in (tmp_path / "out" / "report.html").read_text(), result.output
    result = run(table, tmp_path / "out", objectives=named, minimize="quality, percent")
    assert result.exit_code == 1 and "another benchmark" in result.output
