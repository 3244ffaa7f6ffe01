"""Networks that a search begins with: where they are read from, what is refused, and that the search begins with them."""

from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

from analysis import records
from orchestrator.config.start import MOST, notations
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.search.coordinator import Coordinator
from tests.fakes import FAKE
from tests.helpers import timeless, tiny_plan

FIRST = ["large-skip-small-small", "medium-medium-skip-large", "skip-skip-skip-small"]


def test_a_list_a_run_and_a_table_say_the_same(tmp_path: Path) -> None:
    frame = pd.DataFrame({"member": [1, 2, 3], "arch": FIRST})
    (tmp_path / "run").mkdir()
    frame.to_csv(tmp_path / "run" / records.FRONT, index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    for source in ([*FIRST, FIRST[0]], tmp_path / "run", str(tmp_path / "table.parquet")):
        assert notations(source) == tuple(FIRST)


def test_a_run_and_a_table_are_read_from_a_store(tmp_path: Path) -> None:
    frame = pd.DataFrame({"arch": FIRST})
    store, front = fsspec.filesystem("memory"), tmp_path / records.FRONT
    frame.to_csv(front, index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    store.put_file(str(front), f"/start/run/{records.FRONT}")
    store.put_file(str(tmp_path / "table.parquet"), "/start/table.parquet")
    store.pipe_file("/start/no.csv", b"network\na\n")
    assert notations("memory://start/run") == notations("memory://start/table.parquet") == tuple(FIRST)
    for source, message in [
        ("memory://start/none", "there is no run with a front and no table at memory://start/none"),
        ("memory://start/no.csv", "^memory://start/no.csv has no column"),
        ("nowhere://start", "cannot read nowhere://start"),
    ]:
        with pytest.raises(InputError, match=message):
            notations(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "write a list of notations"),
        ([1, 2], "write a list of notations"),
        ("runs/none", r"no run directory or table runs/none; a notation is written in a list, as \['runs/none'\]"),
        (".", "has no front.csv"),
        ([str(i) for i in range(MOST + 1)], "1,001 networks are too many"),
    ],
)
def test_what_is_no_source_is_refused(source: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        notations(source)


def coordinator(digits: Dataset, directory: Path, name: str) -> Coordinator:
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    plan = tiny_plan(
        digits, **FAKE, budget={"epochs": 12, "interval": 2}, searcher={"name": name, "warmup": 0.3, "start_from": FIRST}
    )
    return Coordinator(plan, directory, plan.build_evaluator())


@pytest.mark.parametrize("name", ["nsga2", "surrogate-search", "random-search"])
def test_a_search_begins_with_them_and_goes_on_to_the_same_records(digits: Dataset, tmp_path: Path, name: str) -> None:
    assert coordinator(digits, tmp_path / "whole", name).run(lambda: False, lambda happened: None)
    rows = pd.read_csv(tmp_path / "whole" / records.EVALUATIONS)
    assert rows["arch"][: len(FIRST)].tolist() == FIRST and len(rows) > 2 * len(FIRST)
    assert not coordinator(digits, tmp_path / "parts", name).run(lambda: True, lambda happened: None)
    assert coordinator(digits, tmp_path / "parts", name).run(lambda: False, lambda happened: None)
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")


def test_what_cannot_begin_with_them_is_refused_before_the_search(digits: Dataset) -> None:
    for name, first, message in [
        ("tnd-nas", FIRST, "tnd-nas learns from its own samples alone; take a method"),
        ("nsga2", ["huge"], "'huge' is no network of fakes; one is written 'large-large-large-large'"),
    ]:
        with pytest.raises(InputError) as refused:
            tiny_plan(digits, **FAKE, searcher={"name": name, "start_from": first}).build_searcher()
        assert message in str(refused.value) and "searcher.start_from" in str(refused.value)
    plan = tiny_plan(digits, **FAKE, searcher={"name": "nsga2", "start_from": FIRST})
    assert plan.experiment.to_dict()["searcher"]["start_from"] == FIRST
