from pathlib import Path

import pandas as pd
import pytest

from analysis import records
from analysis.records import SAMPLE, VALIDATION, Table, front_of, read


def filled(path: Path) -> Table:
    table = Table(path, ["arch", "cost"])
    table.append([{"arch": "|a~0|,x", "cost": 0.1 + 0.2}, {"arch": "b", "cost": 2.0}])
    table.append([{"arch": "c", "cost": 3.0}])
    return table


def test_numbers_round_trip_exactly(tmp_path: Path) -> None:
    rows = list(filled(tmp_path / "t.csv").read())
    assert float(rows[0]["cost"]) == 0.1 + 0.2 and rows[0]["arch"] == "|a~0|,x"


def test_a_resumed_table_is_truncated_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    filled(path)
    with path.open("a") as file:
        file.write("half a ro")  # killed while writing
    table = Table(path, ["arch", "cost"], rows=2)
    table.append([{"arch": "d", "cost": 4.0}])
    assert [row["arch"] for row in table.read()] == ["|a~0|,x", "b", "d"]


def test_a_table_that_does_not_match_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    filled(path)
    before = path.read_text()
    with pytest.raises(ValueError, match="3 rows; the checkpoint knows of 4"):
        Table(path, ["arch", "cost"], rows=4)
    with pytest.raises(ValueError, match="other columns"):
        Table(path, ["arch", "price"], rows=1)
    assert path.read_text() == before


def test_a_changed_table_is_told_from_the_one_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    digest = filled(path).digest
    assert Table(path, ["arch", "cost"], rows=3, digest=digest).digest == digest and records.holds(path, 3, digest)
    path.write_text(path.read_text().replace("2.0", "2.5") + "killed while wr")
    assert not records.holds(path, 3, digest)
    with pytest.raises(ValueError, match="has other content than was written to it"):
        Table(path, ["arch", "cost"], rows=3, digest=digest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable"),
        ("arch\nx\n", "no column cost"),
        ("arch,cost\nx,1\ny,\n", "line 3"),
        ("arch,cost\nx,abc\n", "line 2"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path, ["arch", "cost"])


def test_the_front_is_taken_among_validated_architectures_and_last_measurements() -> None:
    rows = [
        ("lucky", SAMPLE, 1.0, 1.0),
        ("a", VALIDATION, 9.0, 2.0),
        ("a", VALIDATION, 5.0, 2.0),
        ("b", VALIDATION, 6.0, 1.0),
        ("b in another notation", VALIDATION, 6.0, 1.0),
        ("c", VALIDATION, 7.0, 3.0),
    ]
    front = front_of(pd.DataFrame(rows, columns=["arch", "kind", "error_percent", "macs"]), ["error_percent", "macs"])
    assert list(front["arch"]) == ["a", "b"]


def test_seeds_of_a_network_count_as_one_with_their_mean() -> None:
    table = pd.DataFrame({"arch": ["a", "b", "a"], "parameters": [1, 2, 1], records.TEST_ERROR: [3.0, 4.0, 5.0]})
    assert records.mean_of_seeds(table).to_dict("list") == {
        "arch": ["a", "b"],
        "parameters": [1, 2],
        records.TEST_ERROR: [4.0, 4.0],
    }
