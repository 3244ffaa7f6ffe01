"""The command line as its user meets it: exit codes, one clear message, nothing started, nothing overwritten."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

from analysis import pareto, records
from orchestrator.cli import main
from orchestrator.runs import edits
from tests.helpers import OTHER_KERNELS, chooses_kernels, tiny

ROOT = Path(__file__).resolve().parents[2]
IN_PROCESS = ["workers.ray=false", "workers.count=1"]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def toml(directory: Path, **sections: object) -> Path:
    path = directory / "run.toml"
    path.write_text(tiny(**sections).to_toml())
    return path


def refused(result: Result, *parts: str, code: int = 2) -> None:
    assert result.exit_code == code, result.output
    assert result.output.startswith("error: ") and result.output.count("\n") <= 2, result.output
    for part in parts:
        assert part in result.output


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run in process, with timed latency and two networks retrained."""
    folder = tmp_path_factory.mktemp("cli")
    objectives = {"latency": {"seconds": 0.001}}
    path = toml(folder, objectives=objectives, retrain={"members": 2, "epochs": 2})
    result = call("search", path, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    assert "The front: hypervolume" in result.output and "report:" in result.output
    assert "stage 1" in result.output and "best error" in result.output and "time left" in result.output
    return folder / "run"


def test_the_run_directory_holds_what_is_promised(done: Path) -> None:
    for name in ("experiment.toml", "evaluations.csv", "front.csv", "summary.json", "report.html", "checkpoints/latest.pt"):
        assert (done / name).is_file(), name
    pictures = {p.name for p in (done / "plots").iterdir()}
    assert pictures >= {"front.png", "course.png", "policy.png"}
    drawn = {name.removesuffix(".png") for name in pictures if name.startswith("network-") and name.endswith(".png")}
    assert drawn and {f"{name}.dot" for name in drawn} <= pictures
    summary = json.loads((done / "summary.json").read_text())
    reference = summary["reference_point"]
    # Zero is no fault: a busy machine may time every member again as slower than the reference, the largest network, was.
    costs = pd.read_csv(done / "front.csv")[list(reference)].to_numpy()
    assert summary["finished"] and summary["hypervolume_of_samples"] > 0
    assert summary["hypervolume"] == pytest.approx(pareto.hypervolume(costs, list(reference.values())))
    assert summary["versions"]["torch"] and summary["hardware"]["cpu"] and summary["spent"]["evaluations"] > 0
    assert "batch 1, 1 thread" in summary["objectives"]["latency_ms"]
    rows = pd.read_csv(done / "evaluations.csv")
    assert (rows["latency_ms"] > 0).all() and (rows["latency_iqr_ms"] >= 0).all()


def test_retrained_networks_are_tested_and_kept(done: Path) -> None:
    retrained = pd.read_csv(done / records.RETRAINED)
    front = pd.read_csv(done / records.FRONT)
    assert len(retrained) == min(2, len(front)) and set(retrained["arch"]) <= set(front["arch"])
    assert retrained["test_error_percent"].between(0, 100).all()
    assert front["standing"].tolist() == sorted(front["standing"], key=["front", "beaten", "not retrained"].index)
    low, high = (retrained["arch"].map(front.set_index("arch")[f"test_error_{b}_percent"]) for b in ("low", "high"))
    assert ((low <= retrained["test_error_percent"]) & (retrained["test_error_percent"] <= high)).all()
    assert (retrained["retrain_epochs"] == 2).all()
    page = (done / "report.html").read_text()
    for member in retrained["member"]:
        assert (done / "networks" / f"network-{member}.pt").is_file()
        assert f"Network {member} (" in page and list((done / "plots").glob(f"network-{member}-*.png"))
    summary = json.loads((done / "summary.json").read_text())
    assert 0 <= summary["hypervolume_retrained"] <= 1 and "hypervolume of the retrained front" in page


def test_the_report_opens_offline_and_shows_everything(done: Path) -> None:
    page = (done / "report.html").read_text()
    for absent in ("http://", "https://"):
        links = [part[:40] for part in page.split(absent)[1:] if "w3.org" not in part[:40] and "purl.org" not in part[:40]]
        assert not [link for link in links if not link.startswith(("matplotlib.org", "creativecommons"))], links
    assert "<script src" not in page and '<link rel="stylesheet"' not in page and page.count("<svg") > 3
    for arch in pd.read_csv(done / records.FRONT)["arch"]:
        assert arch in page
    assert "from scratch" in page and "What the search sampled" in page and "policy over time" in page


def test_report_can_be_made_anew(done: Path) -> None:
    (done / "report.html").unlink()
    result = call("report", done)
    assert result.exit_code == 0 and (done / "report.html").is_file()


def test_a_run_from_before_members_had_numbers_is_reported_and_not_trained_again(done: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(done, old)
    members = pd.read_csv(old / records.RETRAINED)["member"].tolist()
    for index, member in enumerate(members):
        for end in ("json", "pt"):
            (old / "networks" / f"network-{member}.{end}").rename(old / "networks" / f"{index}.{end}")
    front = records.read_front(old / records.FRONT, ["error_percent"]).drop(columns="member")
    front.to_csv(old / records.FRONT, index=False)
    added = ["member", "retrain_epochs", "retrain_seed", "test_images"]
    pd.read_csv(old / records.RETRAINED).drop(columns=added).to_csv(old / records.RETRAINED, index=False)
    assert call("report", old).exit_code == 0
    assert "for 2 epochs with 1 seed" in (old / "report.html").read_text()
    assert call("resume", old).exit_code == 0
    assert sorted(p.name for p in (old / "networks").glob("*.pt")) == ["0.pt", "1.pt"][: len(members)]


def test_resuming_a_finished_run_changes_no_record_and_starts_no_ray(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {n: (done / n).read_text() for n in ("evaluations.csv", "retrained.csv", "front.csv")}
    text = (done / "experiment.toml").read_text()
    assert "ray = false" in text
    (done / "experiment.toml").write_text(text.replace("ray = false", "ray = true"))
    monkeypatch.setattr("orchestrator.runs.run.cluster", None)
    assert call("resume", done, "--trust").exit_code == 0
    (done / "experiment.toml").write_text(text)
    edits.accept(done / "experiment.toml")
    assert before == {n: (done / n).read_text() for n in before}


def test_a_run_directory_that_exists_is_not_touched(done: Path, tmp_path: Path) -> None:
    before = (done / "evaluations.csv").read_text()
    refused(call("search", *IN_PROCESS, "--out", done), "exists already", f"paretoray resume {done}")
    assert (done / "evaluations.csv").read_text() == before
    refused(call("search", *IN_PROCESS, "--dry-run", "--out", done), "exists already")
    (tmp_path / "notes.txt").write_text("mine")
    refused(call("search", *IN_PROCESS, "--out", tmp_path), "it is not empty")
    refused(call("search", *IN_PROCESS, "--out", tmp_path / "notes.txt"), "exists already")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    # A file in the path stands for any refusal of the system; permissions do not bind root.
    (tmp_path / "file").write_text("")
    refused(call("search", *IN_PROCESS, "--out", tmp_path / "file" / "run"), "cannot write to --out", "may write to")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    refused(call("search", *IN_PROCESS, "--out", tmp_path / "run"), "Permission denied")


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["searcher.name=tdn-nas"], ["unknown searcher 'tdn-nas'", "'tnd-nas'"]),
        (["searcher.warmup=2"], ["[searcher] warmup = 2.0"]),
        (["space.cells=0"], ["[space]", "cells = 0"]),
        (["space.name=dart"], ["unknown space 'dart'", "'darts'"]),
        (["space.name=nowhere:build"], ["cannot import it"]),
        (["searcher.name=darts", "space.name=nsga-net-macro"], ["searcher.name = 'darts' mixes", "random-search"]),
        (["training.batch=none"], ["training.batch = 'none'"]),
        (["data.name=folder", "data.path=/nowhere"], ["data.path = '/nowhere' is not a folder"]),
        (["data.name=folder"], ["data.path has no value", "data.path=..."]),
        (["data.limit=0"], ["data.limit = 0"]),
        (["data.split_seed=-1"], ["data.split_seed = -1"]),
        (["data.name=:f"], ["write module:name"]),
        (["training.momentum=-1"], ["momentum = -1"]),
        (["retrain.weight_decay=-1"], ["weight_decay = -1"]),
        (["budget.epochs=inf"], ["budget.epochs = inf"]),
        (["searcher.exponents=nan"], ["searcher.exponents = nan"]),
        (["searcher.exponents=-0.1,-0.2,-0.3"], ["exponents has 3 numbers; the 2 objectives"]),
        (["searcher.clip=-5"], ["clip = -5"]),
        (["budget.epochs=0.01"], ["3 stages"]),
        (["training.lr=1e308"], ["training.lr = 1e+308", "write a smaller one"]),
        (["budget.interval=100000000000000000000"], ["budget.interval = 1e+20"]),
        (["budget.epochs=1e300"], ["budget.epochs = 1e+300"]),
        (["retrain.members=" + "9" * 400], ["retrain.members = a number of 1329 bits"]),
        (["searcher.samples=1e30"], ["searcher.samples = 1e+30"]),
        (["seed=99999999999999999999999"], ["seed = 1e+23"]),
        (["objectives.parameters.at_most=1e300"], ["at_most = 1e+300"]),
        (["searcher.samples=" + "9" * 6000], ["searcher.samples = '9999", "..."]),
        (["searcher.samples=" + "[" * 3000 + "]" * 3000], ["nested too deeply"]),
        (["searcher.name=" + "x" * 5000], ["unknown searcher", "..."]),
        (["nowhere.toml"], ["cannot read nowhere.toml"]),
        (["a.toml", "b.toml"], ["expected one RUN.toml"]),
    ],
)
def test_wrong_input_starts_nothing(tmp_path: Path, settings: list[str], parts: list[str]) -> None:
    files = [s for s in settings if "=" not in s]
    result = call("search", *files, *IN_PROCESS, *[s for s in settings if "=" in s], "--out", tmp_path / "run")
    refused(result, *parts)
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_into_memory_is_no_fault_of_ours(tmp_path: Path) -> None:
    result = call("search", *IN_PROCESS, "space.name=nas-bench-201", "space.channels=1000000000", "--out", tmp_path / "run")
    refused(result, "not enough memory", "fewer channels", code=1)


def test_a_sweep_of_more_searches_than_anybody_means(tmp_path: Path) -> None:
    refused(call("search", "--seeds", "99999999999", "--out", tmp_path / "run"), "at most 1,000")
    many = ",".join(map(str, range(40)))
    sweep = ("--sweep", f"searcher.samples={many}", "--sweep", f"seed={many}")
    refused(call("search", *sweep, "--out", tmp_path / "run"), "1,600 searches")


@pytest.mark.parametrize(
    ("key", "word"), [("workers.cpus=9999", "2 workers of 9999 CPUs need 19998"), ("workers.gpus=99", "GPUs need")]
)
def test_more_workers_than_fit(tmp_path: Path, key: str, word: str) -> None:
    refused(call("search", key, "--out", tmp_path / "run"), word, "Lower workers.")
    assert not (tmp_path / "run").exists()


def test_dry_run_checks_all_says_how_long_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.chdir(tmp_path)
    before = ray.is_initialized()
    path = toml(tmp_path)
    result = call("search", path, "--dry-run")
    assert result.exit_code == 0, result.output
    for part in ("15,625 architectures", "tnd-nas", "rounds of 2 weight steps", "about", "nothing was started", "100 images"):
        assert part in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["run.toml"] and ray.is_initialized() == before
    refused(call("search", path, "--dry-run", "searcher.warmup=7"), "warmup = 7")


def test_directories_that_are_no_runs(tmp_path: Path) -> None:
    refused(call("resume", tmp_path), "is not a run directory")
    refused(call("report", tmp_path), "is not a run directory")
    (tmp_path / "experiment.toml").write_text(tiny().to_toml())
    refused(call("report", tmp_path), "has no results yet", "paretoray resume")


def test_a_damaged_checkpoint_is_exit_1_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "experiment.toml").write_text(tiny().to_toml())
    (tmp_path / "checkpoints" / "latest.pt").write_bytes(b"damaged")
    refused(call("resume", tmp_path), "latest.pt is damaged", code=1)
    assert (tmp_path / "checkpoints" / "latest.pt").read_bytes() == b"damaged"


def test_a_damaged_table_of_results(done: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    (copy / "evaluations.csv").write_text((done / "evaluations.csv").read_text().replace("error_percent", "mistake"))
    refused(call("report", copy), "has no column error_percent", code=1)
    (copy / "evaluations.csv").write_text((done / "evaluations.csv").read_text())
    (copy / "summary.json").write_text("{}")
    refused(call("report", copy), "objectives", code=1)


def test_names_can_be_listed() -> None:
    assert set(call("list", "searchers").output.split()) >= {"random-search", "tnd-nas", "nasp"}
    assert "nas-bench-201" in call("list", "spaces").output
    costs = ["command", "energy", "error", "latency", "macs", "memory", "parameters"]
    scores = ["expressivity", "jacob-cov", "naswot", "progressivity", "synflow", "trainability", "zico"]
    assert call("list", "objectives").output.split() == sorted([*costs, *scores])
    assert "fashion-mnist" in call("list", "datasets").output


def spawn(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives it
    )


def wait_for_rows(directory: Path, rows: int, process: subprocess.Popen[str], checkpoint: bool = True) -> None:
    """Until the search has measured so much, and saved once."""
    table = directory / "evaluations.csv"
    for _ in range(3600):
        if process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()[0]}")
        saved = not checkpoint or (directory / "checkpoints" / "latest.pt").exists()
        if saved and table.exists() and table.read_text().count("\n") > rows:
            return
        time.sleep(0.05)
    raise AssertionError("no progress within three minutes")


LONG = {"epochs": 26, "interval": 1, "checkpoint": 0.5}


def timeless(directory: Path) -> str:
    return pd.read_csv(directory / "evaluations.csv").drop(columns="seconds").to_csv()


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("straight")
    assert call("search", toml(folder, budget=LONG), "--out", folder / "run").exit_code == 0
    return timeless(folder / "run")


def test_a_cluster_that_does_not_answer_leaves_nothing_behind(tmp_path: Path) -> None:
    process = spawn("search", toml(tmp_path), "workers.ray=true", "workers.address=127.0.0.1:1", "--out", tmp_path / "run")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "no Ray cluster answers there" in output and "Traceback" not in output, output
    assert not (tmp_path / "run").exists()


@pytest.mark.faults
@pytest.mark.parametrize(("ray", "count"), [(False, 1), (True, 1), (True, 2)])
def test_killed_in_the_middle_and_resumed_gives_the_same_records(
    tmp_path: Path, never_killed: str, ray: bool, count: int
) -> None:
    path = toml(tmp_path, budget=LONG, workers={"ray": ray, "count": count})
    if count == 2:  # another number of replicas is another search
        straight = spawn("search", path, "--out", tmp_path / "straight")
        assert straight.wait(timeout=300) == 0
        never_killed = timeless(tmp_path / "straight")
    process = spawn("search", path, "--out", tmp_path / "run")
    wait_for_rows(tmp_path / "run", 30, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = (tmp_path / "run" / "evaluations.csv").read_text().count("\n")
    assert not (tmp_path / "run" / "summary.json").exists()
    resumed = spawn("resume", tmp_path / "run")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    assert timeless(tmp_path / "run") == never_killed
    assert killed_at < never_killed.count("\n")


@pytest.mark.parametrize("ray", [False, pytest.param(True, marks=pytest.mark.long)])
def test_ctrl_c_saves_says_how_to_go_on_and_exits_130(tmp_path: Path, never_killed: str, ray: bool) -> None:
    path = toml(tmp_path, budget=LONG | {"checkpoint": 1000.0}, workers={"ray": ray, "count": 1})
    process = spawn("search", path, "--out", tmp_path / "run")
    wait_for_rows(tmp_path / "run", 30, process, checkpoint=False)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert f"paretoray resume {tmp_path / 'run'}" in output and "Traceback" not in output
    assert (tmp_path / "run" / "checkpoints" / "latest.pt").is_file()
    assert not json.loads((tmp_path / "run" / "summary.json").read_text())["finished"]
    assert call("report", tmp_path / "run").exit_code == 0
    assert "interrupted" in (tmp_path / "run" / "report.html").read_text()
    resumed = spawn("resume", tmp_path / "run")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    assert timeless(tmp_path / "run") == never_killed


def named_in(directory: Path) -> list[str]:
    """Torch's kernels on each machine that took part, by summary.json and, in the same words, by the report."""
    machines = json.loads((directory / "summary.json").read_text())["machines"]
    words = "; ".join(", ".join(f"{key} {value}" for key, value in m.items()) for m in machines)
    assert (
        f"Machines that took part, whose numbers may differ in the last bits: {words}."
        in (directory / "report.html").read_text()
    )
    return [m["torch kernels"] for m in machines]


@chooses_kernels
def test_a_search_goes_on_elsewhere_and_names_both_machines(tmp_path: Path) -> None:
    process = spawn("search", toml(tmp_path, budget=LONG), "--out", tmp_path / "run", **OTHER_KERNELS)
    wait_for_rows(tmp_path / "run", 30, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = call("resume", tmp_path / "run")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.output.count("warning: 2 kinds of machines took part") == 1 and "openblas Nehalem" in resumed.output
    kernels = named_in(tmp_path / "run")
    assert kernels[1:] == [torch.backends.cpu.get_cpu_capability()] and len(set(kernels)) == 2


@chooses_kernels
def test_a_network_retrained_elsewhere_adds_that_machine(done: Path, tmp_path: Path) -> None:
    assert "Machines that took part: processor" in (done / "report.html").read_text()
    shutil.copytree(done, tmp_path / "run")
    next((tmp_path / "run" / "networks").glob("*.json")).unlink()
    resumed = spawn("resume", tmp_path / "run", **OTHER_KERNELS)
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and "warning: 2 kinds of machines took part" in output, output
    kernels = named_in(tmp_path / "run")
    assert kernels[:1] == [torch.backends.cpu.get_cpu_capability()] and len(set(kernels)) == 2
    assert list(pd.read_csv(tmp_path / "run" / records.RETRAINED)) == list(pd.read_csv(done / records.RETRAINED))


def test_describe_counts_darts_as_published() -> None:
    result = call("describe", "darts", "DARTS_V2", "channels=36", "cells=20", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["parameters"] == 3_349_342 and facts["macs"] == 528_359_040
    assert facts["notation"].startswith("Genotype(normal=[('sep_conv_3x3', 0)") and len(facts["architecture"]) == 28
    assert facts["drawings"]["normal cell"].startswith("digraph")


def test_describe_a_space_and_an_architecture_for_people(tmp_path: Path) -> None:
    told = call("describe", "proxyless").output
    assert "7^15" in told and "k7e6, id" in told and "PROXYLESS_GPU" in told
    told = call("describe", "nas-bench-macro", "22212220").output
    assert "1,985,514" in told and "85,164,544" in told and "MB6 5x5" in told
    result = call("describe", "digits-tiny", "conv3-skip-sep3-res3", "channels=4", "--out", tmp_path)
    assert result.exit_code == 0 and "conv 3x3 > conv3 > sep3 > res3" in result.output
    assert {p.name for p in tmp_path.iterdir()} == {"chain.png", "chain.dot"}


def test_a_published_network_takes_its_authors_settings_unless_others_are_given() -> None:
    facts = json.loads(call("describe", "proxyless", "proxyless-gpu", "--json").output)
    assert facts["settings"]["widths"][0] == 40 and facts["settings"]["image"] == [3, 224, 224]
    smaller = json.loads(call("describe", "proxyless", "PROXYLESS_GPU", "classes=10", "image=3,96,96", "--json").output)
    assert smaller["macs"] < 0.25 * facts["macs"] and smaller["settings"]["classes"] == 10


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["dart"], ["no space, searcher, objective or recipe 'dart'", "'darts'"]),
        (["darts", "DARTS_V3"], ["no network 'DARTS_V3'", "did you mean 'DARTS_V"]),
        (["digits-tiny", "conv3-skip-x-res3"], ["position 11", "conv1"]),
        (["digits-tiny", "chanels=3"], ["space.chanels", "'channels'"]),
        (["digits-tiny", "image=3,8"], ["space.image"]),
        (["digits-tiny", "skip-skip-skip-skip", "res3-res3-res3-res3"], ["expected one architecture"]),
        (["digits-tiny", "--out", "x"], ["name one"]),
        (["nothing:at_all"], ["cannot import it"]),
    ],
)
def test_describe_refuses_with_advice(arguments: list[str], parts: list[str]) -> None:
    refused(call("describe", *arguments), *parts)


def test_train_a_published_network_as_a_point_to_compare_with(tmp_path: Path) -> None:
    settings = ["space.channels=4", "space.cells=3", "data.limit=200", "retrain.epochs=1", "seed=3"]
    result = call("train", "darts", "DARTS_V2", *settings, "--out", tmp_path / "v2")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "v2" / "result.json").read_text())
    assert told["name"] == "DARTS_V2" and told["parameters"] > 1000
    assert "seed = 3\n" in (tmp_path / "v2" / "experiment.toml").read_text()
    assert told["arch"].startswith("Genotype(") and 0 <= told["test_error_percent"] <= 100
    assert "test error" in result.output and (tmp_path / "v2" / "network.pt").exists()
    refused(call("train", "darts", "DARTS_V2", *settings, "--out", tmp_path / "v2"), "choose another name")
    refused(
        call("train", "darts", "DARTS_V2", "searcher.samples=3", "--out", tmp_path / "x"), "data, space, retrain and logging"
    )
    refused(call("train", "darts", "nonsense", "--out", tmp_path / "x"), "no network 'nonsense'")


def test_a_report_shows_networks_from_elsewhere(done: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(
        json.dumps(
            {
                "name": "ELSEWHERE_1",
                "parameters": 2000,
                "macs": 5000,
                "test_error_percent": 33.0,
                "arch": "x",
                "retrain_epochs": 7,
            }
        )
    )
    result = call("report", done, "--with", tmp_path)
    assert result.exit_code == 0, result.output
    page = (done / "report.html").read_text()
    assert "diamonds are networks" in page and '"name":"ELSEWHERE_1, 7 epochs"' in page
    refused(call("report", done, "--with", tmp_path / "nowhere"), "--with", "paretoray train")
    other = tmp_path / "other"
    shutil.copytree(done, other)
    assert call("report", done, "--with", other).exit_code == 0
    assert 'id="network-1-1"' in (done / "report.html").read_text()
    summary = json.loads((other / "summary.json").read_text())
    del summary["objectives"]["latency_ms"]
    (other / "summary.json").write_text(json.dumps(summary))
    refused(call("report", done, "--with", other), "it has the objectives", "only like compares with like")
    assert call("report", done).exit_code == 0
