"""Objectives of devices that are elsewhere: right sums, exact derivatives, and a word where a profile does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

from hw_profiles import profile as profiles
from hw_profiles.profile import Profile, Validation, read, write
from orchestrator.config.experiment import Experiment
from orchestrator.config.overrides import read as read_experiment
from orchestrator.config.plan import SearchPlan
from orchestrator.config.spaces import make_space
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.objectives import predicted as devices
from orchestrator.objectives.predicted import ProfiledCost, parts_of
from orchestrator.spaces.base import SearchSpace
from tests.helpers import call, tiny
from tests.orchestrator.spaces.small import SPACES, drawn, small

SPACE = make_space("nas-bench-201", {"channels": 4, "cells": 2}, (1, 8, 8), 10)
GOOD = Validation.of(np.arange(1.0, 11.0), np.arange(1.0, 11.0) * 1.01)


def experiment(objectives: dict[str, Any], searcher: dict[str, Any] | None = None) -> Experiment:
    """A search of a few seconds."""
    budget = {"epochs": 2, "interval": 2, "validate": 4}
    return tiny(objectives=objectives, searcher=searcher or {"name": "random-search"}, budget=budget)


def of(space: SearchSpace, by: str = "operation", **changes: object) -> Profile:
    """A profile with a cost of its own for every part."""
    if by == "option":
        parts = devices.options(space)
    else:
        parts = space.operation_costs.varying_parts
        parts = parts or sorted({part for a in drawn(space, 300) for part in parts_of(space, by, a)})
    made = Profile(
        cost="latency",
        space=space.name,
        settings=space.settings,
        image=space.image,
        by=by,  # type: ignore[arg-type]
        hardware="a machine",
        protocol={"batch": 4},
        fixed=3.0,
        costs={part: 0.1 + 0.01 * i for i, part in enumerate(parts)},
        validation=GOOD,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device in the current folder, of the built-in space and of another cost."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "me.toml"
    write(path, of(SPACE))
    write(path, replace(of(SPACE), cost="energy", fixed=50.0))
    return path


@pytest.mark.parametrize("by", ["operation", "option"])
@pytest.mark.parametrize("name", SPACES)
def test_costs_are_the_sum_of_the_parts(name: str, by: str, tmp_path: Path) -> None:
    space, path = small(name), tmp_path / "d.toml"
    profile = of(space, by)
    write(path, profile)
    predicted = ProfiledCost(space, cost="latency", device="d", file=str(path))
    additive = predicted.additive()
    for architecture in drawn(space, 20, seed=1):
        parts = parts_of(space, by, architecture)
        if not set(parts) <= set(profile.costs):
            assert name == "nsga-net-macro"  # which does not list its operations
            continue
        wanted = profile.fixed + sum(profile.costs[p] * n for p, n in parts.items())
        assert predicted.cost(architecture, {}) == pytest.approx(wanted)
        if additive is not None:
            fixed, rows = additive
            assert fixed + sum(row[o] for row, o in zip(rows, architecture, strict=True)) == pytest.approx(wanted)
    nested = name in ("nsga-net-macro", "nsga-net-micro")
    assert (additive is None) == (nested and by == "operation")


def test_what_a_device_leaves_out_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    profile = of(SPACE, "option", leaves_out="constants", dead=0.2)
    profile = replace(profile, costs=profile.costs | {"constant": 7.0})
    write(path, profile)
    device = ProfiledCost(SPACE, cost="latency", device="d", file=str(path))
    assert device.additive() is None

    def cost(text: str) -> float:
        return device.cost(SPACE.parse(text), {})

    none = cost("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    # The edge into node 2 goes nowhere; the one out of it is of zeros, a constant.
    assert cost("|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|") == none
    assert cost("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|") == pytest.approx(none + 7.0)
    assert cost("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|") == 0.2


@pytest.mark.parametrize("constants", [False, True])
def test_pruned_networks_compute_the_same(constants: bool) -> None:
    """What is left of a network gives the same scores, of the same weights; less would not."""
    import torch

    torch.manual_seed(0)
    space = make_space("nas-bench-201", {"channels": 4, "cells": 1}, (1, 8, 8), 10)
    x = torch.randn(3, 1, 8, 8)
    fewer = 0
    for architecture in drawn(space, 60, seed=2):
        network = space.network(architecture).eval()
        kept = space.pruned(architecture, constants)
        with torch.no_grad():
            y = network(x)
            if kept is None:
                assert torch.equal(y[0], y[1])
                continue
            assert not torch.equal(y[0], y[1])
            other = space.network(kept).eval()
            # Convolutions of zeros give what their normalisation adds, which in a fresh network is zero.
            other.load_state_dict(network.state_dict(), strict=False)
            assert torch.allclose(other(x), y, atol=1e-6)
        fewer += kept != architecture
        assert space.pruned(kept, constants) == kept
    assert fewer > 10


def test_a_search_on_devices_that_are_elsewhere(me: Path, tmp_path: Path) -> None:
    objectives = {"error": {}, "latency@me": {}, "energy@me": {"at_most": 1000}, "memory": {}}
    run = tmp_path / "run.toml"
    run.write_text(experiment(objectives).to_toml())
    assert f'file = "{me}"' in run.read_text()
    result = call("search", run, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    import pandas as pd

    found = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    assert {"error_percent", "latency_ms@me", "energy_mj@me", "memory_mb"} <= set(found.columns)
    (device,) = (ProfiledCost(SPACE, cost="latency", device="me", file=str(me)),)
    for _, row in found.iterrows():
        assert row["latency_ms@me"] == pytest.approx(device.cost(SPACE.parse(row["arch"]), {}))
    assert (found["memory_mb"] > 0.02).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "latency on me (ms, batch 4, predicted)" in page
    # The run has a copy of its own, wherever it is moved and whatever becomes of the device's file.
    me.unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    result = call("resume", tmp_path / "moved")
    assert result.exit_code == 0, result.output
    assert pd.read_csv(tmp_path / "moved" / "evaluations.csv").equals(found)


def test_gradient_searchers_get_the_exact_expectation(me: Path, digits: Dataset) -> None:
    chosen = experiment({"error": {}, "latency@me": {}}, searcher={"name": "proxyless-g"})
    plan = SearchPlan.of(chosen, digits)
    (additive,) = [objective.additive() for objective in plan.problem.objectives[1:]]
    assert additive is not None
    profile, part = read(me)[0], "nor_conv_3x3 4x8x8 -> 4x8x8"
    counted = parts_of(SPACE, "operation", (3, 0, 0, 0, 0, 0))
    assert additive[0] == profile.fixed and counted[part] == 2
    assert additive[1][0][3] == pytest.approx(sum(profile.costs[p] * n for p, n in counted.items()))
    plan.build_searcher()
    write(me, of(SPACE, "option", leaves_out="unused", dead=0.1))
    with pytest.raises(InputError, match="must be a sum over operations"):
        SearchPlan.of(chosen, digits).build_searcher()


def test_a_worker_needs_no_device_file(me: Path, digits: Dataset) -> None:
    chosen = experiment({"error": {}, "latency@me": {}, "memory": {}})
    sent = cloudpickle.dumps(SearchPlan.of(chosen, digits))
    me.unlink()
    there = cloudpickle.loads(sent)  # as an actor gets it
    assert there.experiment == chosen
    assert [type(probe).__name__ for probe in there.build_evaluator().probes] == ["Memory"]
    again = Experiment.from_dict(chosen.to_dict())
    assert again == chosen
    with pytest.raises(InputError, match="cannot read the device file"):
        SearchPlan.of(again, digits)


def test_names_of_devices(me: Path, tmp_path: Path) -> None:
    assert devices.resolve("latency@me") == ("latency@me", {"file": str(me)})
    assert devices.resolve(f"latency@{me}") == ("latency@me", {"file": str(me)})
    shipped = next(iter(profiles.devices()))
    assert devices.resolve(f"latency@{shipped}") == (f"latency@{shipped}", {})
    for name, words in (
        ("beauty@me", "latency, energy are"),
        ("latency@you", "there is no device 'you'"),
        (f"latency@{shipped[:-1]}", f"did you mean '{shipped}'"),
    ):
        with pytest.raises(InputError, match=words):
            devices.resolve(name)
    with pytest.raises(InputError, match="no file"):
        devices.resolve("latency@me", file=str(tmp_path / "gone.toml"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "me.toml").write_bytes(me.read_bytes())
    with pytest.raises(InputError, match="twice"):
        experiment({"error": {}, "latency@me": {}, "latency@other/me.toml": {}})


def test_overrides_name_devices_as_the_shell_allows(me: Path) -> None:
    for key in ("objectives.latency@me", f'objectives."latency@{me}"', f"objectives.latency@{me}"):
        assert list(read_experiment(None, [f"{key}.at_most=5"]).objectives)[-1] == "latency@me"
        assert read_experiment(None, [f"{key}.at_most=5"]).objectives["latency@me"].to_dict() == {
            "at_most": 5.0,
            "file": str(me),
        }


def test_a_profile_of_something_else_is_refused_with_the_command_that_helps(me: Path) -> None:
    other = make_space("nas-bench-201", {"channels": 8, "cells": 2}, (3, 16, 16), 100)
    with pytest.raises(InputError) as error:
        ProfiledCost(other, cost="latency", device="me", file=str(me))
    told = str(error.value)
    assert "channels = 8" in told and "channels = 4" in told
    assert "paretoray profile --space nas-bench-201 channels=8 cells=2 image=3,16,16 classes=100 --out me.toml" in told
    write(me, replace(of(make_space("digits-tiny", {}, (1, 8, 8), 10)), fixed=1.0))
    with pytest.raises(InputError, match="has no energy of digits-tiny"):
        ProfiledCost(make_space("digits-tiny", {}, (1, 8, 8), 10), cost="energy", device="me", file=str(me))
    # The number of classes changes the classifier alone, which is in the fixed part.
    ProfiledCost(
        make_space("nas-bench-201", {"channels": 4, "cells": 2}, (1, 8, 8), 3), cost="latency", device="me", file=str(me)
    )


@pytest.mark.parametrize("by", ["operation", "option"])
def test_missing_parts_are_named(by: str, tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    profile = of(SPACE, by)
    gone = sorted(profile.costs)[0]
    write(path, replace(profile, costs={k: v for k, v in profile.costs.items() if k != gone}))
    with pytest.raises(InputError) as error:
        ProfiledCost(SPACE, cost="latency", device="d", file=str(path))
    assert gone in str(error.value) and "measure it again" in str(error.value)


def test_poor_predictions_warn_wherever_they_are_used(me: Path, tmp_path: Path) -> None:
    assert ProfiledCost(SPACE, cost="latency", device="me", file=str(me)).warning is None
    bad = Validation.of(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
    write(me, replace(of(SPACE), validation=bad))
    path = tmp_path / "run.toml"
    path.write_text(experiment({"error": {}, "latency@me": {}}).to_toml())
    for arguments in (["--dry-run"], ["--out", tmp_path / "out"]):
        result = call("search", path, *arguments)
        assert result.exit_code == 0 and "latency@me: the profile predicts poorly" in result.output, result.output
    assert "predicts poorly" in (tmp_path / "out" / "report.html").read_text()


def test_a_damaged_file_stops_the_search_before_it_starts(me: Path, tmp_path: Path) -> None:
    me.write_text(me.read_text().replace("fixed = 3.0", "fixed = -3.0"))
    result = call("search", "space.cells=2", "objectives.latency@me={}", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "fixed = -3.0" in result.output and not (tmp_path / "out").exists()


def test_what_is_shipped_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shipped profile reads, prices its space, and says how it was made and how well it predicts."""
    shipped = profiles.devices()
    assert len(shipped) >= 11
    for path in shipped.values():
        for profile in read(path):
            space = make_space(profile.space, dict(profile.settings), profile.image, 10)
            device = ProfiledCost(space, cost=profile.cost, device=path.stem)
            assert all(device.cost(a, {}) > 0 for a in drawn(space, 5))
            assert profile.validation.networks >= 50
            assert profile.protocol.get("source") or profile.protocol["date"]


def test_devices_are_compared(me: Path, tmp_path: Path) -> None:
    reverse = of(SPACE)
    highest = max(reverse.costs.values())
    write(tmp_path / "you.toml", replace(reverse, costs={k: highest - v for k, v in reverse.costs.items()}))
    result = call("devices", "me", "you", "--out", tmp_path / "pictures")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if line.startswith("│ 2") and line.count("│") == 4)
    assert -1 <= float(row.split("│")[2]) < 0.9 and float(row.split("│")[3]) == 1.0
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.stat().st_size > 5000
    for arguments, words in (
        (["nobody"], "there is no device 'nobody'"),
        (["me", "--cost", "beauty"], "known are latency, energy"),
        (["me", "--space", "darts"], "no profile of latency of darts"),
    ):
        result = call("devices", *arguments)
        assert result.exit_code == 2 and words in result.output, result.output
    assert "me" not in call("list", "devices").output.split()
    assert set(call("list", "devices").output.split()) == set(profiles.devices())


def test_energy_measured_here_needs_a_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hw_profiles import energy

    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    path = tmp_path / "run.toml"
    path.write_text(experiment({"error": {}, "energy": {}}).to_toml())
    result = call("search", path, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "objectives.energy" in result.output and "energy@DEVICE" in result.output, result.output
    assert not (tmp_path / "out").exists()
    ticks = iter(range(10**9))
    monkeypatch.setattr(energy, "meter", lambda device: energy.Meter(lambda: next(ticks) * 1e-3, 0.0, "a clock"))
    path.write_text(experiment({"error": {}, "energy": {"seconds": 1e-4}}).to_toml())
    result = call("search", path, "--out", tmp_path / "out2")
    assert result.exit_code == 0, result.output
