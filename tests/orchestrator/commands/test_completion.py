"""Completion in shells: what is offered, without an import of anything heavy, and by the scripts of real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import registry
from orchestrator.cli import main
from orchestrator.commands import candidates, signatures
from orchestrator.commands.completion import _Bash
from orchestrator.config.experiment import EVALUATORS, SECTIONS, find_searcher
from orchestrator.config.problem import GOALS, objective_class, supplied_of
from orchestrator.config.settings import Budget, Front, Logging, Proxy, Retraining, Sweep, Workers
from orchestrator.config.spaces import FROM_DATA, find_space
from orchestrator.data import loaders
from orchestrator.data.dataset import Split
from orchestrator.evaluators.base import Evaluator
from orchestrator.objectives.predicted import ProfiledCost
from orchestrator.tasks import Task

BREAKS = " \t\n\"'@><=;|&(:"
"""Characters that bash splits words at, by default."""


def offered(line: str, breaks: str = "") -> list[str]:
    """Return the words that are offered at the end of `paretoray LINE`; of bash's word breaks, what follows the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMP_LINE", f"paretoray {line}")
        patch.setenv("COMP_WORDBREAKS", breaks)
        printed = _Bash(main, {}, "paretoray", "_PARETORAY_COMPLETE").complete()
    return [row.split("\t")[1] for row in printed.splitlines()]


def keys(section: str, **chosen: str) -> set[str]:
    return set(candidates.keys(section, chosen))


def user_keys(factory: object, supplied: tuple[str, ...] = ()) -> set[str]:
    return set(registry.user_parameters(factory, supplied))  # type: ignore[arg-type]


def test_keys_that_are_read_from_files_are_those_that_are_checked() -> None:
    sections = {
        "budget": Budget,
        "front": Front,
        "sweep": Sweep,
        "workers": Workers,
        "logging": Logging,
        "retrain": Retraining,
        "proxy": Proxy,
    }
    for section, cls in sections.items():
        assert keys(section) == user_keys(cls), section
    for name in registry.shipped("searcher"):
        method = find_searcher(name)
        expected = user_keys(method, ("sizes", *method.needs)) | {"name", "start_from"}
        assert keys("searcher", searcher=name) == expected, name
    for name in registry.shipped("space"):
        assert keys("space", space=name) == user_keys(find_space(name), FROM_DATA) | {"name"}, name
    for name in registry.shipped("task"):
        assert keys("task", task=name) == user_keys(registry.find("task", name, Task)) | {"name"}, name
    for name in [*registry.shipped("objective"), "latency@pixel3", "command@board"]:
        cls = objective_class(name)
        assert keys(f"objectives.{name}") == user_keys(cls, supplied_of(cls)) | {*GOALS}, name
    assert objective_class("latency@pixel3") is ProfiledCost
    for name, evaluator in EVALUATORS.items():
        assert keys("training", training=name) == user_keys(evaluator, Evaluator.SUPPLIED) | {"name"}, name
    for name, loader in loaders.LOADERS.items():
        assert keys("data", data=name) == user_keys(loader) | user_keys(Split) | {"name"}, name
    assert signatures.assigned("orchestrator.config.experiment", "SECTIONS") == SECTIONS


def test_names_are_those_that_are_listed() -> None:
    for kind in ("searcher", "space", "task"):
        assert list(candidates.named(kind)) == registry.known(kind)
    assert list(candidates.named("dataset")) == list(loaders.LOADERS)
    assert "digits-tiny" in candidates.named("table") and "darts" in candidates.named("recipe")
    assert {"pixel3", "fpga"} <= set(candidates.named("device"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sea", ["search"]),
        ("search sear", ["searcher."]),
        ("search searcher.name=tn", ["searcher.name=tnd-nas"]),
        ("search searcher.name=nsga2 searcher.pop", ["searcher.population="]),
        ("search searcher.pop", []),
        ("search retrain.schedule=co", ["retrain.schedule=cosine", "retrain.schedule=constant"]),
        ("search workers.ray=", ["workers.ray=true", "workers.ray=false"]),
        ("search objectives.latency@pixel3", ["objectives.latency@pixel3={}", "objectives.latency@pixel3."]),
        ("search objectives.macs.at", ["objectives.macs.at_most="]),
        ("search objectives.mine:cost.at", ["objectives.mine:cost.at_most="]),
        ("search searcher.name=mine:Method searcher.na", ["searcher.name="]),
        ("search serch.na", []),
        ("search objectives=error,par", ["objectives=error,parameters"]),
        ("search task=reg", ["task=regression"]),
        ("search --sweep sear", ["searcher."]),
        ("search --sweep bud", ["budget."]),
        ("search --sweep spa", []),
        ("resume x retrain.recipe=das", []),
        ("retrain x --recipe tnd", ["tnd-nas"]),
        ("retrain x cuto", ["cutout="]),
        ("train dar", ["darts"]),
        ("train darts DARTS_V2 space.supernet_ch", ["space.supernet_channels="]),
        ("describe proxyless-r", ["proxyless-r"]),
        ("describe darts imag", ["imagenet="]),
        ("bench --searchers nsga2,rand", ["nsga2,random-search"]),
        ("bench --space=nas-bench-2", ["--space=nas-bench-201"]),
        ("profile --space darts supernet_ce", ["supernet_cells="]),
        ("profile --device onnx", ["onnxruntime"]),
        ("devices pix", ["pixel3"]),
        ("data cifar", ["cifar10", "cifar100"]),
        ("list reci", ["recipes"]),
        ("export x --formats onnx,int", ["onnx,int8"]),
        ("search --dr", ["--dry-run"]),
    ],
)
def test_words_are_completed(line: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # which has no files to offer
    assert offered(line) == words


def test_a_word_of_bash_begins_after_its_breaks() -> None:
    assert offered("search searcher.name=tn", BREAKS) == ["tnd-nas"]
    assert offered("search objectives.latency@pix", BREAKS) == ["pixel3={}", "pixel3."]
    assert offered("bench --space=nas-bench-2", BREAKS) == ["nas-bench-201"]


def test_an_experiments_file_and_run_directories_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('[searcher]\nname = "proxyless-r"\n')
    for run in ("runs/one", "runs/two", "elsewhere/deep/three"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "experiment.toml").touch()
    assert offered("search mi") == ["mine.toml"]
    assert offered("search mine.toml searcher.pow") == ["searcher.power="]
    assert offered("resume ") == ["elsewhere/", "runs/one", "runs/two"]
    assert offered("report runs/one runs/t") == ["runs/two"]
    assert offered("trust elsewhere/") == ["elsewhere/deep/three"]


def completed(shell: str, script: str, cwd: Path) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    arguments = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[shell]
    done = subprocess.run(
        [shell, *arguments, script], capture_output=True, text=True, check=True, cwd=cwd, env=os.environ | {"PATH": path}
    )
    return done.stdout.splitlines()


def test_bash_completes_with_its_script(tmp_path: Path) -> None:
    script = """
    source <(_PARETORAY_COMPLETE=bash_source paretoray)
    compopt() { echo "compopt $*"; }
    COMP_LINE="paretoray search searcher.name=nsga2 searcher.pop"; COMP_POINT=${#COMP_LINE}; _paretoray_completion paretoray
    echo "${COMPREPLY[@]}"
    COMP_LINE="paretoray search searcher.name=tn and more"; COMP_POINT=33; _paretoray_completion paretoray
    echo "${COMPREPLY[@]}"
    """
    assert completed("bash", script, tmp_path) == ["compopt -o nospace", "searcher.population=", "tnd-nas"]


def test_zsh_completes_with_its_script(tmp_path: Path) -> None:
    script = """
    compdef() { }
    _describe() { print -rl -- ${(P)3} "${@[4,-1]}" }
    source <(_PARETORAY_COMPLETE=zsh_source paretoray)
    words=(paretoray search searcher.pow searcher.name=proxyless-r); CURRENT=3; _paretoray_completion
    words=(paretoray search searcher.na); CURRENT=3; _paretoray_completion
    """
    assert completed("zsh", script, tmp_path) == ["searcher.name=", "-U", "-S", ""]


def test_fish_completes_with_its_script(tmp_path: Path) -> None:
    script = """
    _PARETORAY_COMPLETE=fish_source paretoray | source
    complete -C "paretoray bench --searchers nsga2,rand"
    complete -C "paretoray search searcher.name=tn"
    """
    first, second = completed("fish", script, tmp_path)
    assert first == "nsga2,random-search" and second.startswith("searcher.name=tnd-nas\t")


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from orchestrator.cli import main\n"
        "try:\n"
        "    main(prog_name='paretoray')\n"
        "finally:\n"
        "    heavy = {'torch', 'numpy', 'pandas', 'ray'} & sys.modules.keys()\n"
        "    print(heavy, file=sys.stderr)\n"
    )
    line = {"COMP_LINE": "paretoray search searcher.name=nsga2 searcher.pop", "_PARETORAY_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | line
    )
    assert "searcher.population=" in done.stdout and done.stderr == "set()\n"
