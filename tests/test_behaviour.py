"""benchmarks/behaviour.py, by which a refactoring is held to the same bytes, notices when they are not the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import behaviour


def test_every_searcher_has_a_case_and_an_altered_record_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "before.json"
    assert behaviour.main(["record", str(file), "--only", "list"]) == 0
    recorded = tmp_path / "before" / "list" / "output-0.txt"
    assert set(recorded.read_text().split()) == {*behaviour.SAMPLED.split(","), *behaviour.TRAINED.split(",")}
    assert behaviour.main(["check", str(file)]) == 0
    assert "same       list" in capsys.readouterr().out
    recorded.write_text(recorded.read_text().replace("n", "m", 1))
    assert behaviour.main(["check", str(file)]) == 1
    assert "has been altered since" in capsys.readouterr().out


def test_a_difference_is_shown_by_its_first_line() -> None:
    before = {"a.csv": "x\n1\n2\n", "b.csv": "x\n", "c.csv": "y\n"}
    now = {"a.csv": "x\n1\n3\n4\n", "b.csv": "x\n", "d.csv": "y\n"}
    shown = dict(behaviour.differences(before, now))
    assert shown.pop("a.csv") == "a.csv, line 3\n  before: 2\n  now:    3"
    assert shown == {"c.csv": "c.csv: only before", "d.csv": "d.csv: only now"}
    shorter = dict(behaviour.differences({"a.csv": "x\n1\n"}, {"a.csv": "x\n"}))
    assert shorter["a.csv"] == "a.csv, line 2\n  before: 1\n  now:    (no line)"


def test_nothing_but_time_and_place_is_left_out(tmp_path: Path) -> None:
    table = tmp_path / "evaluations.csv"
    table.write_text('arch,error_percent,seconds,retrain_seconds\n"a,b",90.10,1.5,2.5\n')
    assert behaviour.timeless(table) == 'arch,error_percent\n"a,b",90.10\n'
    summary = tmp_path / "summary.json"
    summary.write_text('{"spent": {"rounds": 3, "seconds": 1.5}, "hardware": {"cores": 2}, "versions": {"torch": "2"}}')
    assert "".join(behaviour.timeless(summary).split()) == '{"spent":{"rounds":3}}'
