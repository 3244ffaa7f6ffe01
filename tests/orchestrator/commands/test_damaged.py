"""Files of a run that were damaged, which whatever command reads them names in one line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from analysis import records
from analysis.files import Damaged
from orchestrator.commands.base import Command
from orchestrator.spaces.digits_tiny import DigitsTiny

PARSE = DigitsTiny(image=(1, 8, 8), classes=10).parse


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "not a readable CSV"),
        (b"\x00\xff\xfe", "front.csv"),
        (b"error_percent\n1\n", "no column arch"),
        (b"arch,error_percent\nskip,x\n", "line 2: a value is missing or not a number"),
        (b"arch,error_percent\nskip-nowhere,3\n", "has a network that is not in the space"),
    ],
)
def test_a_command_that_reads_a_damaged_table_names_it_in_one_line(tmp_path: Path, content: bytes, wrong: str) -> None:
    path = tmp_path / records.FRONT
    path.write_bytes(content)

    @click.command(cls=Command)
    def read() -> None:
        records.parsed(path, records.read(path, ["arch", "error_percent"])["arch"], PARSE)

    result = CliRunner().invoke(read)
    assert result.exit_code == 1
    assert result.output.startswith("error: ") and result.output.count("\n") == 1
    assert wrong in result.output and "front.csv" in result.output and "paretoray resume" in result.output


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=r"summary\.json is missing or damaged"):
        records.objectives_of(tmp_path / records.SUMMARY)
