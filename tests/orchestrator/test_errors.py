"""Messages for a fault of the program, without any library's words."""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import PositiveInt, TypeAdapter
from ray.exceptions import RayTaskError
from sklearn.preprocessing import StandardScaler

from hw_profiles.fit import Fitted
from orchestrator.cli import main
from orchestrator.cluster import trials
from orchestrator.commands.base import Command
from orchestrator.errors import doing
from orchestrator.profiling import fitting
from tests.orchestrator.profiling.test_profiling import played_table


def told(error: Exception) -> str:
    """Return what the command line prints when a command raises an error while it writes a file."""

    @click.command(cls=Command)
    def broken() -> None:
        with doing("mending files"), doing("opening lid.toml"):
            raise error

    result = CliRunner().invoke(broken)
    assert result.exit_code == 1
    return result.output


def test_a_bug_shows_its_traceback_and_what_was_being_done() -> None:
    said = told(KeyError("lid"))
    assert "Traceback" in said and "KeyError: 'lid'" in said and "test_errors.py" in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("internal error while opening lid.toml, mending files, running broken: ")
    assert "not of what you wrote" in last


@pytest.mark.parametrize(("number", "words"), [(0, "positive definite"), (1, "contains infinity")])
def test_what_a_library_says_of_our_own_values_is_not_shown(number: int, words: str) -> None:
    raising = (lambda: np.linalg.cholesky(-np.eye(2)), lambda: StandardScaler().fit(np.full((2, 2), np.inf)))[number]
    with pytest.raises(ValueError) as error:
        raising()
    assert words in str(error.value)
    said = told(error.value)
    assert words not in said and "did not pass a check of" in said and "test_errors.py" in said


@pytest.mark.parametrize("in_actor", [False, True])
@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: TypeAdapter(PositiveInt).validate_python(-3), "must be above 0"),
        (lambda: np.linalg.cholesky(-np.eye(2)), "did not pass a check of numpy"),
    ],
)
def test_a_check_that_fails_in_a_trial_is_our_fault_too(check: Callable[[], object], words: str, in_actor: bool) -> None:
    with pytest.raises(ValueError) as found:
        check()
    wrapped = RayTaskError("call", "Traceback", found.value, "actor", 1, "here").as_instanceof_cause()
    with pytest.raises((ValueError, RayTaskError)) as caught, doing("searching, in runs/tiny"):
        raise wrapped if in_actor else found.value
    failure = trials._failure(caught.value)
    assert failure["kind"] == "fault" and words in failure["failed"]
    assert "internal error while searching, in runs/tiny, running a trial: " in failure["failed"]
    assert not any(foreign in failure["failed"] for foreign in ("Input should", "pydantic.dev", "positive definite"))


def test_other_faults_of_a_trial_are_left_to_tune_which_tries_again() -> None:
    with pytest.raises(KeyError):
        trials._failure(KeyError("lid"))


def test_a_profile_that_is_computed_wrong_is_our_fault_and_names_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "fit", lambda counts, *rest: Fitted(-8e-17, np.full(counts.shape[1], 2.0), 0.1))
    table, out = tmp_path / "t.csv", tmp_path / "phone.toml"
    played_table("nothing").to_csv(table, index=False)
    shape = ["channels=4", "cells=1", "image=1,8,8"]
    arguments = [
        "profile",
        "--space",
        "nas-bench-201",
        *shape,
        "--fit",
        str(table),
        "--column",
        "latency_ms",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and not out.exists()
    assert "Profile.fixed = -8e-17 must be at least 0" in result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith(f"internal error while fitting costs to {table}, column latency_ms, for {out}, running main profile")
    for foreign in ("Input should", "pydantic.dev", "validation error"):
        assert foreign not in result.output
