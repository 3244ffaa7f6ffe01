"""Objectives of a user's own: functions and commands, what they measure, what is kept, and what is refused."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis import records
from orchestrator.config.problem import Goal, goals_of
from orchestrator.config.spaces import make_space
from orchestrator.errors import InputError, NetworkFailed, RunError
from orchestrator.evaluators.base import Failure, run_probes
from orchestrator.objectives.base import Probe
from orchestrator.objectives.command import Command
from orchestrator.objectives.measured import MeasuredObjective
from tests.helpers import assert_refused, call, write_toml

SPACE = make_space("digits-tiny", {}, (1, 8, 8), 10)
ARCHITECTURE = SPACE.largest()
MODULE = """
import torch
calls = []
def weights(network, example, factor: float = 1.0):
    calls.append(example.shape)
    assert not network.training and not torch.is_grad_enabled()
    assert network(example).shape == (len(example), 10)
    return torch.tensor(factor * sum(p.numel() for p in network.parameters()))
def choices(architecture):
    return len(architecture)
def skips(arch, space):
    return arch.count("skip") + 0 * len(space.choices)
def raises(network):
    raise KeyError("lid")
def says(network, what: str = ""):
    return what
def none(architecture):
    return None
def x(model):
    return 1
constant = 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A user's module in a folder of their own, where the commands run as well."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    import mine  # type: ignore[import-not-found]

    return mine


def built(name: str, **settings: Any) -> Any:
    return Goal.of(name, settings).build(SPACE)


def measured(objective: Any, digits: Any) -> Any:
    """The metrics of one network as a worker measures them, or a failure."""
    assert isinstance(objective, Probe)
    return run_probes(SPACE, digits, [objective], [ARCHITECTURE], "cpu", 0)[0]


def python(code: str) -> str:
    """A command that runs some Python and gets the notation."""
    return f"{sys.executable} -c '{code}' {{arch}}"


def test_a_function_of_the_network_gets_it_ready_to_run(digits: Any, mine: Any) -> None:
    power = built("mine:weights", unit="mW/image", arguments={"factor": 2.0}, batch=3)
    assert (power.column, power.title) == ("weights_mw_image", "weights (mW/image)")
    metrics = measured(power, digits)
    assert power.cost(ARCHITECTURE, metrics) == 2 * SPACE.parameters(ARCHITECTURE)
    assert mine.calls == [(3, 1, 8, 8)]


def test_a_function_of_the_architecture_is_told_at_once() -> None:
    assert built("mine:choices").cost(ARCHITECTURE, {}) == len(SPACE.choices)
    skips = built("mine:skips", maximize=True, best=10, unit="%")
    assert skips.column == "10_minus_skips_percent" and not isinstance(skips, Probe)
    arch = "skip-skip-conv1-sep3"
    assert skips.cost(SPACE.parse(arch), {}) == 8
    with pytest.raises(RunError, match="best = NUMBER"):
        built("mine:skips", maximize=True, best=1).cost(SPACE.parse(arch), {})


def test_a_command_gets_the_network_in_files_and_its_last_line_counts(digits: Any) -> None:
    Path("keep.sh").write_text('cp "$1" "$2" . && echo "loaded" && echo "${#3}"\n')
    arch = SPACE.format(ARCHITECTURE)
    board = built("command@board", command="sh keep.sh {weights} {pt2} {arch}", unit="mJ", batch=2)
    assert measured(board, digits) == {"board_mj": len(arch)}
    state = torch.load("weights.pt")
    assert sum(v.numel() for k, v in state.items() if "running" not in k and "batches" not in k) == SPACE.parameters(
        ARCHITECTURE
    )
    images = torch.rand(2, 1, 8, 8)
    network = SPACE.network(ARCHITECTURE)
    network.load_state_dict(state)
    torch.testing.assert_close(torch.export.load("network.pt2").module()(images), network.eval()(images))


def test_an_onnx_file_runs(digits: Any) -> None:
    pytest.importorskip("onnxruntime")
    code = "import onnxruntime, sys; print(len(onnxruntime.InferenceSession(sys.argv[1]).get_inputs()))"
    assert measured(built("command@inputs", command=f'{sys.executable} -c "{code}" {{onnx}}'), digits) == {"inputs": 1}


def test_no_shell_takes_part(digits: Any) -> None:
    printed = python("import sys; print(len(sys.argv[1:]))") + " ; touch ran $(touch ran) `touch ran` > out"
    assert measured(built("command@words", command=printed), digits) == {"words": 10}
    assert not Path("ran").exists() and not Path("out").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ('import sys; sys.stderr.write("no route to host"); sys.exit(255)', ("status 255: no route to host",)),
        ('print("nan")', ("the last line", "'nan'")),
        ('print("3 ms")', ("'3 ms', no finite number",)),
        ("pass", ("'', no finite number",)),
        ('print(float("inf"))', ("'inf'",)),
    ],
)
def test_a_command_that_gives_no_number_is_a_network_that_failed(digits: Any, code: str, words: tuple[str, ...]) -> None:
    failure = measured(built("command@x", command=python(code), retries=0), digits)
    assert isinstance(failure, Failure) and failure.reason.startswith("objectives.command@x: ")
    assert all(word in failure.reason for word in words), failure.reason


def test_a_command_that_hangs_is_ended_with_all_that_it_started(digits: Any) -> None:
    Path("hang.sh").write_text("echo waiting >&2\nsleep 60\n")
    began = time.monotonic()
    failure = measured(built("command@x", command="sh hang.sh {arch}", timeout=0.3, retries=0), digits)
    assert isinstance(failure, Failure) and "took more than 0.3 s, and was ended: waiting" in failure.reason
    assert time.monotonic() - began < 10


def test_what_fails_is_tried_again(digits: Any) -> None:
    code = 'import pathlib; p = pathlib.Path("n"); n = len(p.read_text()) if p.exists() else 0; '
    code += 'p.write_text("x" * (n + 1)); print(7 if n == 2 else "busy")'
    failure = measured(built("command@x", command=python(code), retries=1), digits)
    assert isinstance(failure, Failure) and "(the last of 2 attempts)" in failure.reason
    assert measured(built("command@x", command=python(code), retries=1), digits) == {"x": 7}


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("mine:raises", {}, "KeyError: 'lid' (mine.py, line 14)"),
        ("mine:says", {"arguments": {"what": "many"}}, "it gave 'many', which is no finite number"),
    ],
)
def test_a_function_that_gives_no_number_is_a_network_that_failed(
    digits: Any, name: str, settings: dict[str, Any], words: str
) -> None:
    failure = measured(built(name, **settings), digits)
    assert isinstance(failure, Failure) and words in failure.reason
    with pytest.raises(NetworkFailed, match="'None'"):
        built("mine:none").cost(ARCHITECTURE, {})


def test_a_measurement_is_kept_by_network_and_by_what_measures_it(digits: Any, mine: Any, tmp_path: Path) -> None:
    def measure(run: str, **settings: Any) -> float:
        objective = built("mine:weights", cache=str(tmp_path / "shared"), **settings)
        assert isinstance(objective, MeasuredObjective)
        objective.keep_in(tmp_path / run)
        return float(measured(objective, digits)[objective.column])

    assert measure("a") == measure("a") == measure("b") and len(mine.calls) == 1
    assert measure("a", arguments={"factor": 3.0}) == 3 * measure("a") and len(mine.calls) == 2
    for path in (tmp_path / "a").iterdir():
        path.write_text("{")
    for path in (tmp_path / "shared").iterdir():
        path.write_text(json.dumps({"arch": SPACE.format(ARCHITECTURE), "metrics": {"weights": float("nan")}}))
    assert measure("a") == SPACE.parameters(ARCHITECTURE) and len(mine.calls) == 3, "what is damaged is measured again"


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("command", {"command": "true {arch}"}, "write command@NAME"),
        ("command@x", {}, "objectives.command@x.command has no value"),
        ("command@x", {"command": ""}, "command is empty"),
        ("command@x", {"command": "measure"}, "names no network"),
        ("command@x", {"command": "measure {onx}"}, "{onx} is not known; there are {arch}, {onnx}, {pt2}, {weights}"),
        ("command@x", {"command": "measure {}"}, "{} is not known"),
        ("command@x", {"command": "measure {arch!r}"}, "{arch!r} is not known"),
        ("command@x", {"command": "measure {arch:>9}"}, "is not known"),
        ("command@x", {"command": "measure {arch.x}"}, "is not known"),
        ("command@x", {"command": "measure 'arch"}, "No closing quotation"),
        ("command@x", {"command": "awk '{print $1}' {onnx}"}, "a brace that is meant is written twice"),
        ("command@x", {"command": "awk '{' {onnx}"}, "a brace that is meant"),
        ("command@x", {"command": "m {arch}", "timeout": 0}, "must be positive"),
        ("command@x", {"command": "m {arch}", "retries": -1}, "retries = -1"),
        ("command@x", {"command": "m {arch}", "maximize": True}, "needs best = NUMBER"),
        ("command@x", {"command": "m {arch}", "best": 3}, "best belongs to maximize"),
        ("command@x", {"command": "m {arch}", "unit": "m\nW"}, "in one line"),
        ("command@x", {"command": "m {arch}", "column": "a b"}, "write a word"),
        ("command@x", {"comand": "m {arch}"}, "did you mean 'command'"),
        ("mine:nothing", {}, "cannot import it"),
        ("mine:constant", {}, "write a function" ),
        ("mine:x", {}, "write def x(network, example) or (architecture)"),
        ("mine:weights", {"arguments": {"factr": 1}}, "did you mean 'factor'"),
        ("mine:weights", {"arguments": {"factor": "much"}}, "arguments.factor = 'much'"),
        ("mine:weights", {"arguments": {"network": 1}}, "are filled in"),
        ("mine:weights", {"timeout": 3}, "timeout needs resources"),
        ("mine:weights", {"resources": {"phone": 0}}, "resources: 'phone' = 0"),
        ("mine:weights", {"dear": "yes"}, "dear = 'yes': write true or false"),
        ("mine:weights", {"dear": True, "target": 3}, "the method does not know of a dear objective"),
        ("mine:choices", {"retries": 2}, "retries and cache are for what is measured"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        built(name, **settings)
    assert words in str(refused.value), refused.value


def test_dear_objectives_alone_are_no_search() -> None:
    with pytest.raises(InputError, match="the search itself needs a cost besides the error"):
        goals_of({"error": {}, "mine:weights": {"dear": True}})
    with pytest.raises(InputError, match=r"objectives\.error\.dear"):
        goals_of({"error": {"dear": True}, "macs": {}})


def test_a_missing_program_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no program 'no-such-program'"):
        Command(SPACE, objective="command@x", command="no-such-program {arch}").check("cpu")
    refused = call("search", write_toml(tmp_path), "objectives.mine:weights.resources={phone=1}", "--out", tmp_path / "run")
    assert_refused(refused, "objectives.mine:weights.resources are Ray's, and workers.ray is false")


def test_the_front_is_measured_after_the_search_and_once(tmp_path: Path) -> None:
    """Dear objectives, one that fails for a member, and one that is added to the finished run and limited."""
    Path("board.py").write_text(
        "import sys, pathlib\n"
        "with open('asked', 'a') as file: file.write(sys.argv[1] + '\\n')\n"
        "first = open('asked').readline().strip()\n"
        "sys.exit('burnt') if sys.argv[1] == first else print(len(sys.argv[1]))\n"
    )
    run, board = tmp_path / "run", f"command='{sys.executable} board.py {{arch}}', dear=true, retries=0"
    settings = ["searcher.name=random-search", "space.name=digits-tiny", "budget.epochs=4", "budget.evaluations=6"]
    objectives = f"objectives={{error={{}}, parameters={{}}, 'mine:choices'={{}}, 'command@length'={{{board}}}}}"
    done = call("search", write_toml(tmp_path), *settings, objectives, "front.judge=false", "--out", run)
    assert done.exit_code == 0, done.output
    before = records.read(run / records.SEARCHED_FRONT)
    asked = Path("asked").read_text().split()
    assert sorted(asked) == sorted(before["arch"]), "each member once, and nothing else"
    front = records.read(run / records.FRONT, ["error_percent", "parameters", "choices", "length"])
    kept = [arch for arch in before["arch"] if arch != asked[0]]
    assert len(kept) > 1
    assert list(front["arch"]) == kept and list(front["length"]) == [len(arch) for arch in kept]
    failures = records.read_failures(run / records.FAILURES)
    assert list(failures["kind"]) == [records.PRICED] and "burnt" in failures["reason"][0]
    page = (run / "report.html").read_text()
    assert "length" in page and "burnt" in page

    again = call("resume", run)
    assert again.exit_code == 0 and "is finished" in again.output
    limit = int(front["parameters"].median())
    added = call("resume", run, f"objectives.mine:weights={{at_most={limit}}}")
    assert added.exit_code == 0, added.output
    assert Path("asked").read_text().split().count(kept[0]) == 1, "what is kept is not measured again"
    front = records.read(run / records.FRONT, ["length", "weights"])
    assert len(front) < len(kept) and (front["weights"] == front["parameters"]).all() and (front["weights"] <= limit).all()
    summary = json.loads((run / records.SUMMARY).read_text())
    assert list(summary["objectives"]) == ["error_percent", "parameters", "choices", "length", "weights"]
    largest = max(SPACE.parameters(SPACE.parse(arch)) for arch in kept)
    assert summary["limits"] == {"weights": limit} and summary["reference_point"]["weights"] == pytest.approx(1.1 * largest)
    fewer = call("resume", run, "objectives=error,parameters,mine:choices")
    assert fewer.exit_code == 0, fewer.output
    assert list(records.read(run / records.FRONT)["arch"]) == list(before["arch"])
    assert "objectives.parameters was searched for" in call("resume", run, "objectives.parameters.at_most=5").output
