"""Workers that do not fit."""

import pytest

from orchestrator.cluster.connection import cluster
from orchestrator.config.settings import Workers
from orchestrator.errors import InputError


@pytest.mark.usefixtures("cluster")
def test_workers_that_do_not_fit_the_cluster_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 workers of 1 CPUs need 3; there are 2"), cluster(Workers(count=3)):
        raise AssertionError
