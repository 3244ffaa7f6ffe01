"""The table that is shipped: whole, of the space it names, and what training gives."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.digits_tiny_table import TRAINING
from orchestrator.config.spaces import make_space
from orchestrator.data import loaders as data
from orchestrator.evaluators.tabular import SHIPPED, TabularBenchmark
from orchestrator.training.parts import Parts
from orchestrator.training.scoring import quality
from orchestrator.training.trainer import fit
from tests.helpers import call

COLUMNS = ["valid_accuracy", "test_accuracy", "valid_deviation", "parameters", "macs", "latency_ms", "train_seconds"]


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return pd.read_csv(SHIPPED / "digits-tiny.csv")


def test_it_has_every_network_with_the_counts_of_the_space(shipped: pd.DataFrame) -> None:
    space = make_space("digits-tiny", {}, (1, 8, 8), 10)
    assert list(shipped.columns) == ["arch", *COLUMNS]
    table = TabularBenchmark.read(Path("digits-tiny"), space, COLUMNS)
    assert table.complete and len(shipped) == 625
    for arch, parameters, macs in shipped[["arch", "parameters", "macs"]].itertuples(index=False):
        assert (parameters, macs) == (space.parameters(space.parse(arch)), space.macs(space.parse(arch)))
    assert shipped["valid_accuracy"].between(50, 100).all() and shipped["test_accuracy"].between(50, 100).all()
    assert (shipped[["latency_ms", "train_seconds"]] > 0).all(axis=None)
    # There is something to find: networks differ by more than chance, and what is best depends on what may be paid.
    assert shipped["valid_accuracy"].std() > 2 * shipped["valid_deviation"].median() / np.sqrt(3)
    assert len(TabularBenchmark.read(Path("digits-tiny"), space, ["valid_accuracy", "parameters"]).front()) > 10


@pytest.mark.parametrize("arch", ["conv3-skip-sep3-res3", "skip-skip-conv1-skip"])
def test_training_gives_what_it_says(arch: str, shipped: pd.DataFrame) -> None:
    digits = data.load(data.component("digits", {"valid": 0.5, "test": 0.25}))
    space = make_space("digits-tiny", {}, digits.image, len(digits.classes))
    architecture, found = space.parse(arch), []
    for seed in range(3):
        network = space.network(architecture)
        fit(network, architecture, digits, digits.train, Parts(**TRAINING), seed=seed)
        found.append(quality(network, digits, digits.valid))
    row = shipped.set_index("arch").loc[arch]
    # On another processor sums are rounded otherwise, and twenty epochs make something of that.
    assert np.mean(found) == pytest.approx(row["valid_accuracy"], abs=1.5)


def test_bench_plays_on_it_without_being_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["--searchers", "random-search,darts", "--budget", "30", "--seeds", "2", "--workers", "1", "--out", str(out)]
    result = call("bench", *given)
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(out / "evaluations.csv")) == 2 * 2 * 30
    page = (out / "report.html").read_text()
    assert "digits-tiny: 625 of the 625 architectures" in page
    given[3:4] = ["100", "--time", "train_seconds"]
    result = call("bench", *given[:-1], tmp_path / "seconds")
    assert result.exit_code == 0, result.output
    result = call("bench", "--space", "darts")
    assert result.exit_code == 2 and "the one that is shipped is of digits-tiny" in result.output
