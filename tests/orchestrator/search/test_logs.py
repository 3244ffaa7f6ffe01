"""Log of a run on a disk that is full."""

import logging
import sys
from pathlib import Path

import pytest

from orchestrator.search.logs import LOG, logging_to


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_loses_messages_and_prints_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / LOG).symlink_to("/dev/full")
    with logging_to(tmp_path):
        logging.getLogger("orchestrator.search").info("round %d", 1)
    assert "Traceback" not in capsys.readouterr().err
