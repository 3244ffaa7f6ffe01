"""Facts of a machine, and the threads that a run takes wherever it is."""

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from orchestrator.machine import cap_gpu_memory, machine, set_threads, threads, unique


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_threads_are_those_of_the_experiment_and_then_what_they_were() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = torch.get_num_threads(), blas_threads()
        with threads(1):
            assert machine()["threads"] == 1 and set(blas_threads()) == {1}
        assert (torch.get_num_threads(), blas_threads()) == before and set(before[1]) == {2}


def test_threads_once_set_stay() -> None:
    with threads(1):
        set_threads(2)
        assert torch.get_num_threads() == 2 and set(blas_threads()) == {2}


def test_machines_are_told_apart_by_what_numbers_depend_on() -> None:
    with threads(1):
        one = machine()
    with threads(2):
        two = machine()
    assert unique([two, one, two, machine() | two, one]) == [two, one]
    assert all(one.values()) and one["torch"] == torch.__version__


@pytest.mark.parametrize(("gpus", "expected"), [(0.25, [0.25]), (1.0, []), (2.0, []), (0.0, [])])
def test_a_worker_keeps_to_its_fraction_of_a_gpu(gpus: float, expected: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    caps: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", caps.append)
    cap_gpu_memory(gpus)
    assert caps == expected
