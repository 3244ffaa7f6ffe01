"""The pages about Ray Tune do what they say: their code runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"


def run(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}  # of which Ray sends functions by value, as from a script
    for block in re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_our_methods_in_your_own_tuner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run("own-tuner.md")
    assert len(names["results"]) == 8 and not names["results"].errors and not names["sampled"].errors
    pd.testing.assert_frame_equal(names["again"].front, names["algorithm"].front)
    assert 1 <= len(names["again"].front) <= 8


@pytest.mark.usefixtures("cluster")
def test_a_whole_search_as_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run("search-in-tuner.md")
    assert not names["results"].errors
    assert all(result.metrics["finished"] for result in names["results"])
    assert len(names["results"]) == 2 and len(names["result"].problem.columns) == 2
    assert names["network"] is not None
