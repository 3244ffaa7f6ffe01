"""Functions of a user's in tasks of Ray: what comes back, and what ends them."""

import time
from typing import Any

import pytest

from orchestrator.cluster.tasks import in_task
from orchestrator.errors import InputError
from orchestrator.objectives.measured import NoMeasurement


def doubled(value: float) -> float:
    return 2 * value


def raises() -> float:
    raise KeyError("lid")


def sleeps() -> float:
    time.sleep(60)
    return 1.0


def test_a_task_returns_a_number_or_says_why_there_is_none(cluster: None) -> None:
    def call(function: Any, timeout: float | None = None, **given: Any) -> object:
        return in_task(function, given, {"CPU": 0.5}, timeout)

    assert call(doubled, value=1.5) == 3
    with pytest.raises(NoMeasurement, match=r"KeyError: 'lid' \(test_tasks\.py, line 18\)"):
        call(raises)
    with pytest.raises(NoMeasurement, match="no finite number"):
        call(doubled, value="many")
    with pytest.raises(NoMeasurement, match=r"took more than 0\.2 s"):
        call(sleeps, 0.2)
    with pytest.raises(InputError, match="not enough phone"):
        in_task(doubled, {"value": 1}, {"phone": 1}, None)
