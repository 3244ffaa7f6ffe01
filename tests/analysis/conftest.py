"""A report that several tests look at, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import report
from tests.analysis.runs import made_run


@pytest.fixture(scope="session")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of 2,000 evaluations, with another run beside it."""
    other = made_run(place="runs/other", samples=5, tested={"a": 7.0, "b": 9.0, "d": 18.0})
    return report.write(made_run(samples=2000, others=[other]), tmp_path_factory.mktemp("report"))
