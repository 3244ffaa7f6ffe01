"""Ends of a command: by signals, and not by a reader that leaves."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestrator.runs.process import ENDING, ending_like_ctrl_c, heeding_ctrl_c


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_asks_to_save_and_the_handlers_come_back(tmp_path: Path, number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in ENDING]
    said: list[str] = []
    with heeding_ctrl_c(tmp_path / "stop", said.append):
        os.kill(os.getpid(), number)
        assert (tmp_path / "stop").exists() and "saving the state" in said[0]
    assert [signal.getsignal(n) for n in ENDING] == before


@pytest.mark.parametrize("number", ENDING)
def test_a_command_without_a_state_to_save_ends_as_by_ctrl_c(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), ending_like_ctrl_c():
        os.kill(os.getpid(), number)


def test_what_was_to_be_ignored_is_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with heeding_ctrl_c(tmp_path / "stop", print), ending_like_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)
        assert not (tmp_path / "stop").exists()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_handles_no_signals() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with ending_like_ctrl_c():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures


def test_a_reader_that_leaves_is_no_reason_to_stop(tmp_path: Path) -> None:
    code = (
        "import sys; from orchestrator.runs.process import outlive_readers; outlive_readers()\n"
        "for i in range(20000): print(i, flush=True); print(i, file=sys.stderr)\n"
        f"open({str(tmp_path / 'done')!r}, 'w')"
    )
    command = f'{sys.executable} -c "$CODE" 2>&1 | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "CODE": code}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and done.stdout == "0\n" and not done.stderr
    assert (tmp_path / "done").exists()
