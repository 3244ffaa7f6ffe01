"""`paretoray export`: which member it takes, what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import paretoray as pr
from analysis import records
from orchestrator.errors import InputError
from orchestrator.export import card, choice, formats
from orchestrator.export.choice import choose
from tests.helpers import assert_refused, call

CLASSIFIER = """
import json, sys
from PIL import Image
import network
model = network.load()
print(json.dumps([network.CLASSES[int(model(network.preprocess(Image.open(p))[None]).argmax())] for p in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def problem() -> pr.Problem:
    return pr.Problem("digits-tiny", "digits", ["error", "parameters", "macs"])


@pytest.fixture(scope="module")
def finished(problem: pr.Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three retrained members of several, trained for long enough to tell digits apart."""
    out = tmp_path_factory.mktemp("export") / "run"
    few: dict[str, Any] = {"budget": pr.Budget(epochs=4), "workers": pr.Workers(ray=False, count=1)}
    pr.search(problem, "random-search", retrain=pr.Retraining(members=3, epochs=8, batch=32, lr=0.1), out=out, **few)
    return out


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def front(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "front.csv").set_index("member")


def trained(run: Path) -> pd.DataFrame:
    rows = front(run)
    return rows[rows["standing"] != "not retrained"]


def test_the_usual_files_are_written(finished: Path, tmp_path: Path) -> None:
    member = int(trained(finished).index[0])
    result = call("export", finished, "--member", member, "--out", tmp_path / "new" / "digits")
    assert result.exit_code == 0, result.output
    files = ["card.md", "network.onnx", "network.pt2", "network.py", "network.safetensors", "preprocess.py"]
    assert names(tmp_path / "new/digits") == files and names(tmp_path / "new") == ["digits"]
    row = front(finished).loc[member]
    text = (tmp_path / "new/digits/card.md").read_text()
    assert f"# Network {member} of run" in text and f"{row['test_error_percent']:.2f} (" in text and "on 359 images" in text
    assert (
        "Optical Recognition of Handwritten Digits" in text
        and "ms for one image" in text
        and f"| torch | {version('torch')} |" in text
    )
    assert f"member {member}: {row['arch']}" in result.output and "scores differ by" in result.output
    source = (tmp_path / "new/digits/network.py").read_text()
    assert f"Architecture: {row['arch']}" in source and f"{int(row['parameters']):,} parameters" in source
    assert f"Test error (%): {row['test_error_percent']:.2f}" in source


def test_an_image_file_has_the_class_that_it_has_here(finished: Path, problem: pr.Problem, tmp_path: Path) -> None:
    member = int(trained(finished).index[0])
    pr.export(finished, member, tmp_path / "out", ["network"])
    network, test = pr.load(finished, member), problem.data.test
    paths = []
    for index in range(40):
        paths.append(tmp_path / f"{index}.png")
        grey = Image.fromarray(test.images[index, 0].numpy())
        (grey if index % 2 else grey.convert("RGB").resize((24, 24), Image.Resampling.NEAREST)).save(paths[-1])
    with torch.no_grad():
        here = [network.classes[int(network(network.preprocess(Image.open(p))[None]).argmax())] for p in paths]
        exact = problem.data.normalise(test.images[1:40:2])
        assert [problem.data.classes[int(i)] for i in network(exact).argmax(dim=1)] == here[1::2]
    elsewhere = [sys.executable, "-c", CLASSIFIER, *map(str, paths)]
    done = subprocess.run(elsewhere, cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == here


def test_eight_bits_cost_little_accuracy(finished: Path, tmp_path: Path) -> None:
    best = int(trained(finished)["test_error_percent"].idxmin())
    result = call("export", finished, "--member", best, "--formats", "int8", "--json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)["written"]["int8"]
    assert said["float_test_error_percent"] == pytest.approx(front(finished).loc[best, "test_error_percent"], abs=0.3)
    assert abs(said["test_error_percent"] - said["float_test_error_percent"]) <= 3 and said["test_images"] == 359
    assert names(tmp_path / "out") == ["card.md", "network.int8.onnx", "preprocess.py"]
    assert f"test error {said['test_error_percent']:.2f} % in place of" in (tmp_path / "out/card.md").read_text()


def test_images_that_are_gone_leave_out_eight_bits_alone(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    experiment = (run / "experiment.toml").read_text()
    gone = experiment.replace('name = "digits"', f'name = "folder"\npath = "{tmp_path}/gone"')
    (run / "experiment.toml").write_text(gone)
    member = int(trained(run).index[0])
    result = call("export", run, "--member", member, "--formats", "network,int8", "--out", tmp_path / "out")
    assert result.exit_code == 1 and re.search(r"not written: int8, as the images .* cannot be read: .*gone", result.output)
    assert names(tmp_path / "out") == ["card.md", "network.py", "network.safetensors", "preprocess.py"]


def test_the_knee_and_limits_choose_among_the_retrained(finished: Path) -> None:
    rows = trained(finished)
    assert choose(finished, None, True, ()) in rows.index[rows["standing"] == "front"]
    smallest = int(rows["parameters"].idxmin())
    assert choose(finished, None, False, (f"parameters={rows['parameters'].min()}",)) == smallest
    assert choose(finished, None, False, ("parameters=1e9", "macs=1e9")) == int(rows["test_error_percent"].idxmin())
    assert choose(finished, None, False, ("error=100",)) == smallest  # no limit on a cost: the cheapest within it
    largest = rows["macs"].max()
    assert choose(finished, None, False, (f"macs={largest}",)) == int(rows["test_error_percent"].idxmin())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ([], "write one of --member N, --knee, or --under OBJECTIVE=LIMIT"),
        (["--knee", "--member", "1"], "write one of --member N"),
        (["--under", "latency=5"], "--under latency=5: write OBJECTIVE=LIMIT with an objective of this search"),
        (["--under", "parameter=5"], "did you mean 'parameters'?"),
        (["--under", "parameters=few"], "'few' is no number"),
        (["--under", "parameters"], "write OBJECTIVE=LIMIT"),
        (["--under", "parameters=5"], "no retrained member keeps it; the least parameters is"),
        (["--member", "99"], "has no member 99; the members of its front are 1, 2"),
        (["--knee", "--formats", "onxx"], "--formats 'onxx'; did you mean 'onnx'?"),
    ],
)
def test_what_cannot_be_chosen_is_refused_before_anything_is_written(
    how: list[str], said: str, finished: Path, tmp_path: Path
) -> None:
    assert_refused(call("export", finished, *how, "--out", tmp_path / "out"), said)
    assert not names(tmp_path)


def test_a_member_that_was_not_retrained_names_the_way_out(finished: Path, tmp_path: Path) -> None:
    rows = front(finished)
    other = int(rows.index[rows["standing"] == "not retrained"][0])
    told = f"paretoray retrain {finished} --member {other}"
    assert_refused(call("export", finished, "--member", other, "--out", tmp_path / "out"), "was not retrained", told)
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(run / "networks")
    assert_refused(call("export", run, "--knee", "--out", tmp_path / "out"), "no member of", "was retrained", "resume")
    assert_refused(call("export", tmp_path, "--knee", "--out", tmp_path / "out"), "is not a run directory")
    assert names(tmp_path) == ["run"]


def test_nothing_is_overwritten(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    (tmp_path / "file").touch()
    for taken in ("full", "file"):
        assert_refused(call("export", finished, "--knee", "--out", tmp_path / taken), "exists already and is not empty")
    assert names(tmp_path / "full") == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert call("export", finished, "--knee", "--formats", "network", "--out", tmp_path / "empty").exit_code == 0
    assert (tmp_path / "empty/network.py").stat().st_mode & 0o777 == (
        tmp_path / "empty/network.safetensors"
    ).stat().st_mode & 0o777


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failure_leaves_nothing_behind(
    error: BaseException, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> str:
        raise error

    monkeypatch.setattr(card, "card", fail)
    result = call("export", finished, "--knee", "--formats", "network", "--out", tmp_path / "out")
    assert result.exit_code == {RuntimeError: 1, KeyboardInterrupt: 130, OSError: 2}[type(error)]
    assert not names(tmp_path)


def test_a_missing_package_is_named_before_anything_is_written(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    result = call("export", finished, "--knee", "--out", tmp_path / "out")
    assert_refused(result, "--formats network needs safetensors; pip install 'paretoray[export]'")
    assert not names(tmp_path)


def test_the_knee_is_where_error_and_mean_cost_add_up_to_least() -> None:
    from analysis.pareto import knee

    assert knee([[0, 100], [1, 20], [10, 0]]) == 1
    assert knee([[0, 10], [4, 7], [10, 0]]) == 1  # none is below the line between the extremes: the nearest to (0, 0)
    assert knee([[1, 5], [1, 5]]) == 0
    assert knee(np.array([[0, 0, 1], [0.2, 0.2, 0.2], [1, 0, 0], [0, 1, 0]])) == 1
    costs = [2, 2, 2]  # that rise together count once, and do not outweigh the error
    assert knee([[38, 1, 1, 1], [21, 1.4, 1.4, 1.4], [18, *costs]]) == 1


def test_a_summary_of_another_run_is_refused(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    summary = json.loads((run / records.SUMMARY).read_text())
    summary["objectives"].pop("macs")
    (run / records.SUMMARY).write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"summary\.json and experiment\.toml|does not belong"):
        choice.choose(run, None, True, ())
