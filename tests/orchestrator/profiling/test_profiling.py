"""Measuring a device for a space: a clock that is played where costs must be known, the real one where they need not."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from hw_profiles import energy, measure
from hw_profiles.profile import read
from orchestrator.cli import main
from orchestrator.config.spaces import make_space
from orchestrator.errors import Fault, InputError, RunError
from orchestrator.evaluators.tabular import TabularBenchmark
from orchestrator.profiling import worker
from orchestrator.profiling.fitting import conclude, from_table
from orchestrator.profiling.measurements import keep, measured
from orchestrator.profiling.operations import operations
from orchestrator.profiling.plan import MeasurementPlan
from orchestrator.profiling.worker import MeasurementWorker
from orchestrator.spaces import Choice
from tests.nodes import until
from tests.orchestrator.spaces.small import SPACES, small

NAS = {"space": "nas-bench-201", "settings": {"channels": 4, "cells": 1}, "image": (1, 8, 8), "classes": 10}
TINY = {**NAS, "networks": 20, "validation": 10, "rounds": 3, "seconds": 1e-4}
MACHINE = {"device": "a machine", "runtime": "torch", "software": "none"}


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def silent(*arguments: Any) -> None:
    pass


class Played:
    """A station whose costs are known: what an operation takes alone, more in a network, and a fixed part."""

    def __init__(self, plan: MeasurementPlan, noise: float = 0.0, stop_after: int | None = None) -> None:
        self.plan, self.noise, self.stop_after = plan, noise, stop_after
        self.space = plan.build()
        self.alone = {part: 0.01 * (1 + i) for i, part in enumerate(sorted(operations(self.space)))}
        self.asked: list[tuple[int, str]] = []
        self.rng = np.random.default_rng(0)

    def jobs(self) -> list[str]:
        return [f"op {p}" for p in self.alone] + [f"net {self.space.format(a)}" for a in self.plan.choose(self.space)]

    def hardware(self) -> dict[str, str]:
        return MACHINE

    def cost(self, architecture: Any) -> float:
        return 2.0 + sum(1.2 * self.alone[o.part] + 0.002 for o in self.space.operation_costs.varying(architecture))

    def round(self, index: int, done: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        for job in self.jobs():
            if job in done:
                continue
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append((index, job))
            kind, _, name = job.partition(" ")
            true = self.alone[name] if kind == "op" else self.cost(self.space.parse(name))
            value = true * float(np.exp(self.noise * self.rng.normal()))
            yield {
                "round": index,
                "job": job,
                "cost": "latency_ms",
                "value": value * float(np.exp(self.noise * self.rng.normal())),
            }


def test_a_device_of_known_costs_is_found_out(tmp_path: Path) -> None:
    plan = MeasurementPlan(**TINY)  # type: ignore[arg-type]
    station = Played(plan)
    profile, busy = conclude(plan, measured(plan, tmp_path / "m.csv", station, silent, silent), "latency", MACHINE)
    assert not busy and profile.leaves_out == "nothing"
    assert profile.fixed == pytest.approx(2.0, rel=0.02)
    for part, alone in station.alone.items():
        assert profile.alone[part] == pytest.approx(alone, rel=1e-5)
        assert profile.costs[part] == pytest.approx(1.2 * alone + 0.002, abs=0.005)
    assert profile.validation.networks == 10 and profile.validation.mape < 0.2 and profile.validation.spearman > 0.99
    assert profile.protocol | {"batch": 1, "threads": 1, "dtype": "float32", "networks": 20, "rounds": 3} == profile.protocol
    assert profile.settings == {"channels": 4, "cells": 1} and profile.image == (1, 8, 8) and profile.hardware == "a machine"


def test_validation_networks_have_no_part_in_the_fit(tmp_path: Path) -> None:
    plan = MeasurementPlan(**TINY)  # type: ignore[arg-type]
    rows = measured(plan, tmp_path / "m.csv", Played(plan), silent, silent)
    space = plan.build()
    held_out = [f"net {space.format(a)}" for a in plan.choose(space)[20:]]
    spoiled = rows.copy()
    spoiled.loc[rows["job"].isin(held_out), "value"] *= 3
    plain, other = (conclude(plan, r, "latency", MACHINE)[0] for r in (rows, spoiled))
    assert (plain.fixed, plain.costs) == (other.fixed, other.costs)
    assert other.validation.mape > 50 and other.validation.poor


def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    plan, path = MeasurementPlan(**TINY), tmp_path / "m.csv"  # type: ignore[arg-type]
    first = Played(plan, stop_after=50)
    with pytest.raises(KeyboardInterrupt):
        measured(plan, path, first, silent, silent)
    assert len(keep(path, plan)) == 50
    path.write_text(path.read_text() + '1,"op nor')  # cut off in the middle of a row
    second = Played(plan)
    rows = measured(plan, path, second, silent, silent)
    assert not set(first.asked) & set(second.asked)
    assert len(rows) == len(first.asked) + len(second.asked) == 3 * len(second.jobs())
    pd.testing.assert_frame_equal(keep(path, plan).sort_values(["round", "job"], ignore_index=True),
                                  rows.sort_values(["round", "job"], ignore_index=True), check_dtype=False)  # fmt: skip
    longer = MeasurementPlan(**TINY | {"rounds": 4})  # type: ignore[arg-type]
    third = Played(longer)
    measured(longer, path, third, silent, silent)
    assert {index for index, _ in third.asked} == {3}
    with pytest.raises(RunError, match="something else"):
        keep(path, MeasurementPlan(**TINY | {"threads": 2}))  # type: ignore[arg-type]
    path.write_text(path.read_text().replace("round,job", "rund,jb"))
    with pytest.raises(RunError, match="damaged"):
        keep(path, longer)


def test_a_busy_machine_is_told_and_measured_longer(tmp_path: Path) -> None:
    plan = MeasurementPlan(**TINY)  # type: ignore[arg-type]
    said: list[str] = []
    rows = measured(plan, tmp_path / "m.csv", Played(plan, noise=0.5), silent, said.append)
    assert len(said) == 1 and "busy" in said[0] and "3 times as long" in said[0]
    assert rows["round"].nunique() == 9
    profile, busy = conclude(plan, rows, "latency", MACHINE)
    assert busy and profile.protocol["rounds"] == 9 and profile.protocol["spread"] > 0.05
    quiet: list[str] = []
    assert measured(plan, tmp_path / "q.csv", Played(plan, noise=0.005), silent, quiet.append)["round"].nunique() == 3
    assert not quiet


def test_progress_ends_at_the_end_and_knows_how_long_is_left(tmp_path: Path) -> None:
    plan = MeasurementPlan(**TINY)  # type: ignore[arg-type]
    shown: list[tuple[int, int, int, int, float | None]] = []
    measured(plan, tmp_path / "m.csv", Played(plan), lambda *news: shown.append(news), silent)
    assert len(shown) == 3 * len(Played(plan).jobs())
    index, rounds, done, jobs, left = shown[-1]
    assert (index, rounds) == (2, 3) and done == jobs and left == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", SPACES)
def test_every_operation_that_is_priced_can_be_had_by_itself(name: str) -> None:
    space = small(name)
    # A numbered option of NSGA-Net's cells is which block to take, with the choice of an operation inside.
    listed = [p.operation for p in space.operation_costs.listed if p.conditions and not p.operation.name.isdigit()]
    wanted = {operation.part: operation for operation in listed}
    found = operations(space)
    assert set(found) == set(wanted) and (found or name == "nsga-net-macro")
    with torch.no_grad():
        for part, (module, shapes) in found.items():
            x = [torch.randn(2, *shape) for shape in shapes]
            y = module.eval()(x[0] if len(x) == 1 else tuple(x))
            assert tuple(y.shape) == (2, *wanted[part].output), part
            if wanted[part].parameters:
                assert sum(p.numel() for p in module.parameters()) == wanted[part].parameters


def nested(image: tuple[int, int, int], classes: int) -> nn.Module:
    inner = {"a": lambda: nn.Conv2d(4, 4, 1), "b": lambda: nn.Conv2d(4, 4, 3, padding=1)}
    outer = {"plain": lambda: nn.Conv2d(4, 4, 5, padding=2), "deep": lambda: nn.Sequential(nn.ReLU(), Choice("inner", inner))}
    body = nn.Sequential(nn.Conv2d(image[0], 4, 3), Choice("outer", outer), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(body, nn.Linear(4, classes))


def test_choices_inside_of_choices(tmp_path: Path) -> None:
    space = make_space(f"{__name__}:nested", {}, (1, 8, 8), 10)
    found = operations(space)
    assert {part.split(" ")[0] for part in found} == {"plain", "a", "b"}  # `deep` holds a choice, so it is not one thing
    plan = MeasurementPlan(f"{__name__}:nested", {}, (1, 8, 8), 10, networks=10, validation=2)
    with pytest.raises(InputError, match="hardly more than 4 networks"):
        plan.choose(space)


@pytest.mark.long
def test_the_real_thing_predicts_networks_it_has_not_seen(tmp_path: Path) -> None:
    """Convolutions of this size take so long that no noise hides them."""
    out = tmp_path / "me.toml"
    shape = ["channels=16", "cells=1", "image=3,24,24"]
    result = call("profile", "--space", "nas-bench-201", *shape, "--networks", "40", "--validation", "10", "--out", out)
    assert result.exit_code == 0, result.output
    (profile,) = read(out)
    assert profile.validation.spearman > 0.8, result.output
    assert profile.costs["nor_conv_3x3 16x24x24 -> 16x24x24"] > profile.costs["skip_connect 16x24x24 -> 16x24x24"]
    assert profile.protocol["runtime"].startswith("torch ") and profile.hardware
    assert (tmp_path / "me.latency.nas-bench-201.png").stat().st_size > 5000
    assert "latency@me" in result.output and "Spearman" in result.output and "time left" in result.output


def test_onnxruntime_and_energy_go_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    joules = iter(np.arange(1, 10**6) * 1e-3)
    monkeypatch.setattr(energy, "meter", lambda device: energy.Meter(lambda: float(next(joules)), 0.0, "a counter"))
    monkeypatch.setattr(worker, "JOULES", 1e-3)
    out = tmp_path / "me.toml"
    small_plan = ["--networks", "10", "--validation", "2", "--rounds", "1", "--seconds", "0.0001"]
    shape = ["channels=4", "cells=1", "image=1,8,8"]
    result = call(
        "profile", "--space", "nas-bench-201", *shape, "--device", "onnxruntime", "--energy", *small_plan, "--out", out
    )
    assert result.exit_code == 0, result.output
    found = {p.cost: p for p in read(out)}
    assert set(found) == {"latency", "energy"}
    assert all(p.protocol["runtime"].startswith("onnxruntime ") for p in found.values())


def test_energy_without_a_counter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    result = call("profile", "--space", "digits-tiny", "--energy", "--out", tmp_path / "me.toml")
    assert result.exit_code == 2 and "error: --energy: " in result.output and "RAPL" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "me.txt"], "ends in .toml"),
        (["--out", "a@b.toml"], "ends in .toml"),
        (["--device", "phone", "--out", "me.toml"], "known are cpu, cuda, onnxruntime"),
        (["--device", "cuda", "--out", "me.toml"], "sees no GPU"),
        (["--device", "onnxruntime", "--dtype", "bfloat16", "--out", "me.toml"], "float32 alone"),
        (["--networks", "3", "--out", "me.toml"], "at least 10"),
        (["--batch", "0", "--out", "me.toml"], "--batch 0"),
        (["--seconds", "0", "--out", "me.toml"], "above 0"),
        (["--fit", "t.csv", "--out", "me.toml"], "belong together"),
        (["--label", "a=b", "--out", "me.toml"], "--address"),
        (
            ["--fit", "t.csv", "--column", "x", "--threads", "2", "--energy", "--out", "me.toml"],
            "--energy, --threads means",
        ),
        (["--source", "a friend", "--out", "me.toml"], "--source means nothing without --fit"),
        (["chanels=3", "--out", "me.toml"], "channels"),
        (["image=3,8,8", "--resolution", "8", "--out", "me.toml"], "say the same"),
    ],
)
def test_wrong_input_is_told_before_anything_is_measured(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = call("profile", "--space", "digits-tiny", *arguments)
    assert result.exit_code == 2 and result.output.startswith("error: ") and words in result.output, result.output
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_take_the_profile_is_told_first(tmp_path: Path) -> None:
    out = tmp_path / "me.toml"
    out.write_text("format = 99\nprofile = []\n")
    result = call("profile", "--space", "digits-tiny", "--out", out)
    assert result.exit_code == 2 and "update paretoray" in result.output and list(tmp_path.iterdir()) == [out]


def played_table(leaves_out: str, noise: float = 0.02) -> pd.DataFrame:
    """Time of every network of NAS-Bench-201's cells on a device that leaves so much out."""
    import itertools

    space = make_space("nas-bench-201", {"channels": 4, "cells": 1}, (1, 8, 8), 10)
    rng = np.random.default_rng(0)
    cost = rng.uniform(0.5, 5.0, (6, 5))
    found = []
    for a in itertools.islice(itertools.product(range(5), repeat=6), 0, None, 17):
        kept = a if leaves_out == "nothing" else space.pruned(a, constants=leaves_out == "constants")
        value = 0.01 if kept is None else 1.0 + sum(cost[c, o] for c, o in enumerate(kept) if o)
        found.append({"arch": space.format(a), "latency_ms": value * np.exp(noise * rng.normal())})
    return pd.DataFrame(found)


@pytest.mark.numeric
@pytest.mark.parametrize("leaves_out", ["nothing", "unused", "constants"])
def test_what_a_device_leaves_out_is_found_in_its_measurements(leaves_out: str) -> None:
    space = make_space("nas-bench-201", {"channels": 4, "cells": 1}, (1, 8, 8), 10)
    profile = from_table(
        TabularBenchmark(space, played_table(leaves_out), ["latency_ms"]), "latency", 300, {"source": "played"}, "a phone"
    )
    assert profile.leaves_out == leaves_out and profile.by == "option"
    assert profile.validation.spearman > 0.99 and profile.validation.mape < 4
    assert (profile.dead is None) == (leaves_out == "nothing")
    if profile.dead is not None:
        assert profile.dead == pytest.approx(0.01, rel=0.1)
    assert profile.protocol == profile.protocol | {"source": "played", "networks": 300}


@pytest.mark.numeric
def test_fitting_a_table_from_the_command_line(tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "phone.toml"
    frame = played_table("nothing")
    frame.to_csv(table, index=False)
    arguments = ["profile", "--space", "nas-bench-201", "channels=4", "cells=1", "image=1,8,8", "--fit", table, "--column"]
    result = call(*arguments, "latency_ms", "--hardware", "my phone", "--out", out)
    assert result.exit_code == 0, result.output
    (profile,) = read(out)
    assert profile.hardware == "my phone" and "t.csv, column latency_ms" in profile.protocol["source"]
    assert profile.validation.networks == len(frame) - 300
    frame.assign(**{"time (us)": 1000 * frame["latency_ms"]}).to_csv(table, index=False)
    assert call(*arguments, "time (us)", "--hardware", "my phone", "--out", tmp_path / "same.toml").exit_code == 0
    (same,) = read(tmp_path / "same.toml")
    assert same.costs == pytest.approx(profile.costs, rel=1e-3) and "to ms" in same.protocol["converted"]
    for column, words in (("pixel", "no column pixel"), ("arch", "not a finite number")):
        result = call(*arguments, column, "--out", out)
        assert result.exit_code == 2 and words in result.output, result.output
    frame.loc[3, "latency_ms"] = -1.0
    frame.to_csv(table, index=False)
    result = call(*arguments, "latency_ms", "--out", out)
    assert result.exit_code == 2 and "row 4" in result.output and "above 0" in result.output
    frame.head(60).assign(latency_ms=1.0).to_csv(table, index=False)
    result = call(*arguments, "latency_ms", "--out", out)
    assert result.exit_code == 2 and "fewer than 50" in result.output
    assert read(out) == [profile]


@pytest.mark.usefixtures("cluster")
def test_a_node_of_a_cluster_measures_the_same_way(tmp_path: Path) -> None:
    from orchestrator.profiling import remote

    plan = MeasurementPlan(**TINY)  # type: ignore[arg-type]
    with remote.station(asdict(plan), "auto", None, None) as there:
        here = MeasurementWorker(asdict(plan))
        assert there.jobs() == here.jobs() and there.hardware() == here.hardware()
        rows = list(there.round(0, here.jobs()[5:]))
        assert sorted(row["job"] for row in rows) == sorted(here.jobs()[:5])
        assert all(row["value"] > 0 and row["round"] == 0 for row in rows)
    for given, words in (
        ({"accelerator": "H100"}, "no node of the cluster has a H100"),
        ({"label": "zone=moon"}, "the label zone=moon"),
        ({"label": "moon"}, "write KEY=VALUE"),
    ):
        with (
            pytest.raises(InputError, match=words),
            remote.station(asdict(plan), "auto", **{"accelerator": None, "label": None} | given),
        ):
            pass


class Broken:
    """An actor's class whose answers end in errors of several kinds."""

    def jobs(self) -> list[str]:
        raise RunError("out of memory at batch 8")

    def hardware(self) -> dict[str, str]:
        np.linalg.cholesky(-np.eye(2))
        return {}

    def round(self) -> None:
        error = OSError("no such sensor")
        error.add_note("measuring a network")
        raise error


@pytest.mark.usefixtures("cluster")
def test_errors_of_a_node_are_told_apart() -> None:
    import ray

    from orchestrator.profiling import remote

    actor = ray.remote(Broken).remote()
    there = remote.RemoteWorker(actor)
    with pytest.raises(RunError, match=r"^out of memory at batch 8$"):
        there.jobs()
    with pytest.raises(Fault, match=r"did not pass a check of numpy(.|\n)*fault of paretoray"):
        there.hardware()
    with pytest.raises(RunError, match="measuring failed on the node: OSError: no such sensor; the same command goes on"):
        there._get(actor.round.remote())
    ray.kill(actor)

    def lost() -> bool:  # a call may overtake the kill
        with pytest.raises(RunError) as raised:
            there.jobs()
        return re.search(r"the node was lost: .*; the same command goes on", str(raised.value)) is not None

    until(lost, 30)


def test_measurements_are_those_of_the_operation_and_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is what the job says, with the batch and type that were asked for."""
    seen: dict[str, tuple[type, list[torch.Tensor]]] = {}

    def watched(module: nn.Module, inputs: Sequence[torch.Tensor]) -> measure.Run:
        seen[job] = type(module), list(inputs)
        return lambda: None

    monkeypatch.setattr(measure, "in_torch", watched)
    station = MeasurementWorker(asdict(MeasurementPlan(**TINY | {"batch": 3, "dtype": "bfloat16"})))  # type: ignore[arg-type]
    for job in station.jobs():
        station._run(job)
        kind, inputs = seen[job]
        assert inputs and all(x.shape[0] == 3 and x.dtype == torch.bfloat16 for x in inputs)
        if job.startswith("op avg_pool_3x3 8x4x4"):
            assert kind is nn.AvgPool2d and inputs[0].shape == (3, 8, 4, 4)
        if job.startswith("net"):
            assert inputs[0].shape == (3, 1, 8, 8)
    for start in ("op avg_pool_3x3 8x4x4", "net"):
        assert any(job.startswith(start) for job in seen)
    orders = [[row["job"] for row in station.round(index)] for index in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(station.jobs()) and orders[0] != orders[1]


def test_the_plan_is_kept_with_the_measurements(tmp_path: Path) -> None:
    plan = MeasurementPlan(**TINY)  # type: ignore[arg-type]
    keep(tmp_path / "m.csv", plan)
    about = json.loads((tmp_path / "m.csv").read_text().splitlines()[0][2:])
    assert about["space"] == "nas-bench-201" and about["seed"] == 0 and "rounds" not in about
