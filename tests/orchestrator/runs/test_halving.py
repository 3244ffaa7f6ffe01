"""Successive halving of a sweep: who goes on, equal records whatever interrupts it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import records
from analysis.pareto import best_together, hypervolume
from orchestrator.config.settings import Sweep
from orchestrator.errors import RunError
from orchestrator.runs import sweep
from orchestrator.runs.halving import HALVING, Found, Halving
from orchestrator.search.coordinator import Coordinator
from tests.helpers import assert_refused, call, timeless, write_toml

ONE = (1.0, 1.0)
SECTIONS: dict[str, Any] = {
    "space": {"name": "digits-tiny"},
    "searcher": {"name": "random-search", "samples": 4, "warmup": 0.0},
    "objectives": {"error": {}, "parameters": {}},
}


def found(*points: tuple[float, float]) -> Found:
    return Found(pd.DataFrame(points).to_numpy(dtype=float).reshape(len(points), 2), {"a": 1.0, "b": 1.0})


def test_sets_that_are_best_together_are_not_the_best_ones_alone() -> None:
    broad, alike, corner = [(0.3, 0.3)], [(0.31, 0.31)], [(0.9, 0.05)]
    assert hypervolume(alike, ONE) > hypervolume(corner, ONE)
    chosen, added = best_together([corner, alike, broad], ONE, 2)
    assert chosen == [2, 0]
    assert added == pytest.approx([0.1 * 0.25, 0.0, 0.49])
    assert best_together([corner, alike, broad], ONE, 2, kept=[1])[0] == [1, 0], "one that is over counts first"
    assert best_together([alike, alike, broad], ONE, 2)[0] == [2, 0], "a tie goes to the first"


def test_shares_grow_up_to_one_part_of_the_budget() -> None:
    assert Sweep(halving=2).comparisons == pytest.approx([0.1, 0.2, 0.4])
    assert Sweep(halving=3, first=0.5).comparisons == [0.5]
    assert Sweep().comparisons == [] and Sweep().remaining(9) == 9
    assert [Sweep(halving=3).remaining(n) for n in (9, 8, 3, 2)] == [3, 3, 1, 1]


def test_a_comparison_is_kept_and_decides_once(tmp_path: Path) -> None:
    halving = Halving(tmp_path, Sweep(halving=2))
    parts = {"a": [found((0.5, 0.5))], "b": [found((0.6, 0.6))], "c": [found((0.9, 0.1))], "d": [found((0.7, 0.7))]}
    compared = halving.compare(0.1, parts, together=True)
    assert halving.going(list(parts)) == ["a", "c"] and compared.words == "after 10% of the budget: a, c go on, 2 are stopped"
    assert "a hypervolume of 0.1600, which adds 0.0000 to that of the 2 of 4 that went on" in compared.why("b")
    again = Halving(tmp_path, Sweep(halving=2))
    assert again.comparisons == halving.comparisons and again.next(list(parts)) == pytest.approx(0.2)
    again.compare(0.2, {"a": [], "c": parts["c"]}, together=True)
    assert again.going(list(parts)) == ["a", "c"], "what has measured nothing yet goes on, and one other at least"
    (tmp_path / HALVING).write_text('{"comparisons": [{"share": 0.1}]}')
    with pytest.raises(RunError, match=r"halving\.json is damaged"):
        Halving(tmp_path, Sweep(halving=2))


def test_methods_are_compared_by_their_means_over_seeds(tmp_path: Path) -> None:
    halving = Halving(tmp_path, Sweep(halving=2))
    parts = {"a": [found((0.2, 0.2)), found((0.9, 0.9))], "b": [found((0.5, 0.3))] * 2, "c": [found((0.6, 0.6))] * 2}
    halving.compare(0.1, parts, together=False)
    assert halving.going(list(parts)) == ["a", "b"]
    assert "a hypervolume of 0.1600, less than that of the 2 of 3 that went on" in halving.stopped["c"].why("c")


def halved(folder: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> Path:
    """Run a sweep of three with halving, interrupted again and again after so many rounds where that is given."""
    folder.mkdir()
    path = write_toml(folder, **SECTIONS, sweep={"halving": 2, "first": 0.25})
    began = Coordinator.run

    def run(self: Coordinator, stop: Callable[[], bool], observe: Any, *more: Any, **others: Any) -> bool:
        rounds = iter(range(1, 10**6))
        return began(self, lambda: stop_after is not None and next(rounds) >= stop_after, observe, *more, **others)

    with monkeypatch.context() as patch:
        patch.setattr(Coordinator, "run", run)
        result = call("search", path, "--seeds", "3", "--out", folder / "run")
        while stop_after is not None and result.exit_code == 130:
            result = call("resume", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_a_halved_sweep_is_the_same_after_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    whole = halved(tmp_path / "whole", monkeypatch)
    broken = halved(tmp_path / "broken", monkeypatch, stop_after=9)
    assert (whole / HALVING).read_text() == (broken / HALVING).read_text()
    folders = sweep.folders(whole)
    summary = json.loads((whole / records.SUMMARY).read_text())
    stopped = [search["folder"] for search in summary["searches"] if "stopped" in search]
    assert summary["finished"] and len(stopped) == 2 and len(summary["halving"]) == 2
    for folder in folders:
        assert timeless(folder) == timeless(broken / "searches" / folder.name), folder.name
        rows = pd.read_csv(folder / records.EVALUATIONS)
        assert (rows["kind"] == records.VALIDATION).any(), "a stopped search, too, returns what it measured on all images"
    sizes = {folder.name: len(pd.read_csv(folder / records.EVALUATIONS)) for folder in folders}
    (survivor,) = set(sizes) - set(stopped)
    assert sizes[survivor] == max(sizes.values()) > 2 * min(sizes.values())
    alone = tmp_path / "alone"
    number = survivor.partition("-")[0]
    assert call("search", write_toml(tmp_path, **SECTIONS), f"seed={number}", "--out", alone).exit_code == 0
    assert timeless(alone) == timeless(whole / "searches" / survivor), "one that goes on has the records that it has alone"
    assert call("report", whole).exit_code == 0
    page = (whole / "report.html").read_text()
    assert "those that were best together went on, and the others were stopped (successive halving)" in page
    assert "after 25% of the budget: a hypervolume of" in page
    assert "is finished" in call("resume", whole).output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep.halving=3"], "compares the searches of a sweep, and this is one; add --seeds 9"),
        (["sweep.halving=3", "--sweep", "budget.epochs=4,8"], "--sweep budget.epochs gives them budgets of their own"),
        (["sweep.halving=1", "--seeds", "3"], "sweep.halving = 1"),
        (["sweep.first=1.0", "sweep.halving=2", "--seeds", "3"], "sweep.first = 1.0"),
    ],
)
def test_halving_that_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str], says: str) -> None:
    assert_refused(call("search", write_toml(tmp_path), *arguments, "--out", tmp_path / "run"), says)
    assert not (tmp_path / "run").exists()
