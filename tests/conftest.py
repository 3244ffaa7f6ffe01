"""One Ray for the whole session, and small real data."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cache

import pandas as pd
import pytest
import torch

from orchestrator.data import loaders
from orchestrator.data.dataset import Dataset
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.nas_bench_201 import NasBench201
from tests.helpers import TINY, larger_table


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The images of TINY, read once."""
    given = dict(TINY["data"])
    return loaders.load(loaders.component(given.pop("name"), given))


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """The whole of NAS-Bench-201, where there is one."""
    return pd.read_parquet(larger_table("nas-bench-201.parquet"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    import ray

    from orchestrator.cluster.connection import NICENESS

    os.environ[NICENESS] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the key that run directories are signed with out of the user's home."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Use one thread, as a worker of the tests' experiments: the order of a sum depends on their number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def encoded_once() -> Iterator[None]:
    """Encode the graphs of NAS-Bench-201 once, which takes seconds and is the same for all its sizes."""
    encoded = cache(lambda: SearchSpace.path_encoding.func(NasBench201()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NasBench201, "path_encoding", property(lambda space: encoded()), raising=False)
        yield


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures at the end of a run, which takes longer than a short search does."""
    from orchestrator.runs import run

    monkeypatch.setattr(run, "write_report", lambda plan, directory: (directory / "report.html").touch())
