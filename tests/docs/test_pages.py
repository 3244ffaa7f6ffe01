"""The pages' own code and commands, run from a folder outside of the repository."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAM = Path(sys.executable).with_name("paretoray")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def run(arguments: list[str], folder: Path) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


RUNNER = """
import json, runpy, sys
from orchestrator.cli import main
for step in json.loads(sys.argv[1]):
    if isinstance(step, str):
        runpy.run_path(step, run_name="__main__")
        continue
    try:
        main(step)
    except SystemExit as end:
        if end.code:
            raise
"""


def run_here(steps: list[str | list[str]], folder: Path) -> str:
    """Run scripts and commands, which are lists of arguments, in one other process, which imports torch and Ray once."""
    return run([sys.executable, "-c", RUNNER, json.dumps(steps)], folder)


def write_modules(page: str, folder: Path) -> None:
    for block in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (folder / name[1]).write_text(block)


def follow(page: str, folder: Path) -> str:
    """Writes the modules of a page, and runs its commands and scripts in their order; returns what they print."""
    write_modules(page, folder)
    commands = [line for block in blocks(page, "console") for line in block.splitlines()]
    scripts = [block for block in blocks(page, "python") if not re.match(r"# \w+\.py\n", block)]
    for number, block in enumerate(scripts):
        (folder / f"script{number}.py").write_text(block)
    steps = [shlex.split(command.removeprefix("paretoray ")) for command in commands]
    return run_here([*steps, *(f"script{number}.py" for number in range(len(scripts)))], folder)


def test_a_searcher_in_forty_lines(tmp_path: Path) -> None:
    assert "The front: hypervolume" in follow("tutorial-searcher.md", tmp_path)
    assert "my_methods:Paes:samples=2" in (tmp_path / "runs/paes-bench/evaluations.csv").read_text()
    source = (tmp_path / "my_methods.py").read_text()
    code = [line for line in source.splitlines() if line.strip() and not line.startswith("# ")]
    assert len(code) <= 40
    assert (tmp_path / "runs/paes-python/report.html").exists()


def test_a_searcher_of_ones_own_resumes_to_the_same_records(tmp_path: Path) -> None:
    write_modules("tutorial-searcher.md", tmp_path)
    (tmp_path / "script.py").write_text(
        "import paretoray as pr\n"
        "from my_methods import Paes\n"
        "class Stop(pr.Callback):\n"
        "    def on_progress(self, progress):\n"
        "        if progress.round == 5:\n"
        "            raise pr.StopSearch\n"
        "problem = pr.Problem('digits-tiny', pr.data.digits(limit=200), ['error', 'parameters'])\n"
        "few = dict(budget=pr.Budget(epochs=8, interval=1), workers=pr.Workers(ray=False, count=1),\n"
        "           retrain=pr.Retraining(members=0))\n"
        "straight = pr.search(problem, Paes, out='straight', **few)\n"
        "assert not pr.search(problem, Paes, out='stopped', callbacks=[Stop()], **few).finished\n"
    )
    run([sys.executable, "script.py"], tmp_path)
    run([str(PROGRAM), "resume", "stopped"], tmp_path)  # a command in another process finds the class again
    import pandas as pd

    tables = [pd.read_csv(tmp_path / name / "evaluations.csv").drop(columns="seconds") for name in ("straight", "stopped")]
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0]) > 10


@pytest.mark.long
def test_a_trained_model_that_shrinks(tmp_path: Path) -> None:
    said = follow("elastic.md", tmp_path)
    assert "The smaller networks inside a MobileNetV3" in said and "features.1.block.0.0/width" in said
    networks = tmp_path / "runs/shrunk/networks"
    assert (networks / "shared.pt").exists() and (networks / "network-1.pt").exists()
    assert "class Network(nn.Module)" in (tmp_path / "shrunk/network.py").read_text()


def test_an_objective_of_ones_own(tmp_path: Path) -> None:
    import pandas as pd

    follow("tutorial-objective.md", tmp_path)
    rows = pd.read_csv(tmp_path / "runs/board/evaluations.csv")
    assert rows["convolutions"].isin(range(5)).all() and (rows[["activations", "depth"]] > 0).all(axis=None)
    front = pd.read_csv(tmp_path / "runs/board/front.csv")
    assert (front["convolutions"] <= 3).all() and (front["board_ms"] > 0).all()
    assert "board (ms)" in (tmp_path / "runs/board/report.html").read_text()


def test_an_entry_point_gives_a_short_name(tmp_path: Path) -> None:
    write_modules("tutorial-searcher.md", tmp_path)
    (group,) = blocks("tutorial-searcher.md", "toml")
    installed = tmp_path / "paes-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: paes\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        group.replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "") + "broken = nowhere:Nothing\n"
    )
    bench = ["bench", "--searchers", "paes:samples=2", "--budget", "20", "--seeds", "1", "--workers", "1", "--out", "bench"]
    said = run_here([["list", "searchers"], bench], tmp_path)
    assert {"paes", "broken", "tnd-nas"} <= set(said.split()) and "paes:samples=2" in said
    with pytest.raises(AssertionError, match=r"searcher 'broken': the entry point nowhere:Nothing of paes cannot be imported"):
        run_here([[part.replace("paes:samples=2", "broken") for part in bench]], tmp_path)


def test_the_library_page(tmp_path: Path) -> None:
    follow("python.md", tmp_path)
    assert (tmp_path / "runs/tiny/report.html").exists() and (tmp_path / "runs/enough/front.csv").exists()


@pytest.mark.long
def test_the_page_on_export(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    commands = [line for block in blocks("export.md", "console") for line in block.splitlines()]
    run_here([shlex.split(command.removeprefix("paretoray ")) for command in commands], tmp_path)
    Image.fromarray(np.full((30, 20), 200, np.uint8)).save(tmp_path / "digits/image.png")
    uses = blocks("export.md", "python")
    said = [run([sys.executable, "-c", block], tmp_path / "digits") for block in uses]
    assert len(said) == 2 and said[0] == said[1] and said[0].strip() in map(str, range(10))
    assert all(sum(bool(line.strip()) for line in block.splitlines()) <= 5 for block in uses)


@pytest.mark.long
def test_the_page_on_tasks(tmp_path: Path) -> None:
    import pandas as pd

    (tmp_path / "short.toml").write_text(blocks("tasks.md", "toml")[0])
    said = follow("tasks.md", tmp_path)
    value = float(said.rsplit("below", 1)[1])
    assert 75 < value < 346  # of the progressions of the 442 patients, the lowest and the highest quarter's ends
    columns = {
        "diabetes": "rmse", "strokes": "balanced_error_percent", "sequences": "error_percent", "quantile": "pinball",
        "readings": "error_percent", "halves": "error_percent",
        "properties": "one_minus_f1_percent", "photos": "one_minus_miou_percent",
    }  # fmt: skip
    for name, column in columns.items():
        front = pd.read_csv(tmp_path / f"runs/{name}/front.csv")
        stem, unit = column.removesuffix("_percent"), "_percent" * column.endswith("_percent")
        trained = front[front[f"test_{column}"].notna()].iloc[0]
        low, high = (trained[f"test_{stem}_{end}{unit}"] for end in ("low", "high"))
        assert low < trained[f"test_{column}"] < high, name
    assert {path.name for path in (tmp_path / "halves").iterdir()} > {"network.onnx", "network.torchscript"}
    assert pd.read_csv(tmp_path / "runs/diabetes/front.csv")["test_rmse"].min() < 70  # 77 for the mean of all
