from pathlib import Path
from typing import Any

import pytest

from orchestrator import registry
from orchestrator.config.experiment import DEFAULT, Experiment
from orchestrator.config.overrides import parse_value, read
from orchestrator.errors import InputError
from tests.helpers import TINY, call


def test_the_resolved_experiment_runs_again_as_it_is(tmp_path: Path) -> None:
    first = read(None, ["seed=3", "searcher.lr=0.01", "objectives.latency.batch=8", "data.limit=300"])
    (tmp_path / "experiment.toml").write_text(first.to_toml())
    again = read(tmp_path / "experiment.toml", [])
    assert again == first and again.seed == 3 and again.objectives["latency"].objective.settings["batch"] == 8
    assert 'name = "tnd-nas"' in first.to_toml() and "samples = 10" in first.to_toml()


def test_overrides_win_over_the_file_and_lists_need_no_brackets(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    sections = {"data": "digits", "space": "nas-bench-201", "searcher": "tnd-nas"}
    assert list(read(None, ['objectives=["error", "macs"]']).objectives) == ["error", "macs"]
    path.write_text('objectives = ["error", "macs"]\n' + "".join(f'[{s}]\nname = "{n}"\n' for s, n in sections.items()))

    made = read(path, ["searcher.exponents=-0.1", "searcher.keep=0.8,0.6", "space.supernet_cells=[1, 2]"])
    assert list(made.objectives) == ["error", "macs"]
    assert made.searcher.settings["keep"] == (0.8, 0.6) and made.searcher.settings["exponents"] == -0.1
    assert made.space.settings["supernet_cells"] == [1, 2]
    limited = read(path, ["objectives=error,parameters", "objectives.parameters.at_most=20000"])
    assert {name: goal.at_most for name, goal in limited.objectives.items()} == {"error": None, "parameters": 20000}


def test_another_name_takes_its_own_keywords() -> None:
    made = read(None, ["searcher.name=random-search", "searcher.samples=3"])
    assert made.searcher.to_dict() == {"name": "random-search", "samples": 3, "warmup": 0.6}
    assert read(None, ["searcher.samples=3", "searcher.name=random-search"]) == made


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("searcher.name=tnd", r"unknown searcher 'tnd' \(your own is written module:Class\); did you mean 'tnd-nas'"),
        ("space.name=nasbench", "unknown space"),
        ("data.name=digit", "did you mean 'digits'"),
        (
            "objectives.latencyy={}",
            r"unknown objective 'latencyy' \(your own is written module:Class\); did you mean 'latency'",
        ),
        ("searcher.sample=3", "unknown key searcher.sample; did you mean 'samples'"),
        ("space.channel=3", r"unknown key space.channel; did you mean 'channels'"),
        ("trainin.lr=3", "unknown section or key 'trainin'; did you mean 'training'"),
        ("data.lim=3", "unknown key data.lim; did you mean 'limit'"),
        ("objectives.latency.bach=3", r"unknown key objectives.latency.bach; did you mean 'batch'"),
        ("training.lr=fast", r"training.lr = 'fast': must be a number"),
        ("searcher.samples=2.5", "searcher.samples = 2.5"),
        ("searcher.train=both", "searcher.train = 'both'"),
        ("space.channels=wide", "space.channels = 'wide'"),
        ("workers.ray=perhaps", "workers.ray = 'perhaps'"),
        ("seed=-1", "seed = -1"),
        ("seed=x", "experiment.seed = 'x'"),
        ("budget=3", "budget = 3; it is a section"),
        ("budget.epochs=0", r"budget\.epochs = 0: must be above 0"),
        ("budget.seconds=-1", "budget.seconds = -1"),
        ("workers.gpus=1.5", "workers.gpus = 1.5"),
        ("workers.count=0", r"workers\.count = 0: must be at least 1"),
        ("workers.ray=false", r"workers.ray = false runs one replica in this process; write workers.count=1"),
        ("retrain.epochs=0", r"retrain\.epochs = 0: must be at least 1"),
        ("data.valid=2", "data.valid = 2"),
        ("training.batch=1", "training.batch = 1: 2 workers need"),
        ("nonsense", "not of the form section.key=value"),
        ("searcher.name.first=3", "name is not a section"),
    ],
)
def test_wrong_settings_name_the_key_the_value_and_the_fix(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(None, [override])


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"macs": {}}, "must begin with error"),
        ({"error": {}}, "needs a second"),
        ({}, "must begin with error"),
        ({"error": 3}, "error = 3"),
    ],
)
def test_a_trade_off_needs_the_error_and_a_cost(objectives: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Experiment.from_dict({**TINY, "objectives": objectives})


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        read(tmp_path / "nowhere.toml", [])
    (tmp_path / "bad.toml").write_text("[searcher\n")
    with pytest.raises(InputError, match="not valid TOML"):
        read(tmp_path / "bad.toml", [])


def test_the_default_is_complete() -> None:
    made = Experiment.from_dict(DEFAULT)
    assert made.workers.count == 2 and list(made.objectives) == ["error", "parameters", "latency"]


@pytest.mark.parametrize("space", registry.known("space"))
def test_every_space_survives_the_file(space: str, tmp_path: Path) -> None:
    given = {"data": {"name": "digits"}, "space": {"name": space}, "searcher": {"name": "random-search"}}
    experiment = Experiment.from_dict({**given, "objectives": {"error": {}, "macs": {}}})
    (tmp_path / "run.toml").write_text(experiment.to_toml())
    again = read(tmp_path / "run.toml", [])
    assert again.to_dict() == experiment.to_dict()


@pytest.mark.parametrize("name", ["2024", "2024.10", "1e3", "007", "-5"])
def test_a_folder_may_be_called_by_a_number(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for label in ("a", "b"):
        (tmp_path / name / label).mkdir(parents=True)
    experiment = read(None, ["data.name=folder", f"data.path={name}", "data.size=8", "seed=3"])
    assert Path(experiment.data.settings["path"]) == tmp_path / name and experiment.data.settings["size"] == 8
    assert {type(experiment.seed), type(experiment.data.settings["size"])} == {int}  # plain, as a checkpoint wants it


def unannotated(anything=1):  # type: ignore[no-untyped-def]
    return anything


@pytest.mark.parametrize(("text", "kind"), [("4", int), ("4.5", float), ("true", bool), ("four", str)])
def test_a_setting_without_a_type_is_a_plain_value(text: str, kind: type) -> None:
    found = registry.keywords(unannotated, {"anything": parse_value(text)}, "data")["anything"]
    assert type(found) is kind


def test_the_notation_of_a_single_choice_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one_choice.py").write_text(
        "from torch import nn\nfrom paretoray import Choice\n"
        "def build(image, classes, width: int = 4):\n"
        "    block = Choice('block', {'a': lambda: nn.Linear(width, width), 'b': nn.Identity})\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), block, nn.Linear(width, classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    shape = ("image=1,8,8", "classes=3", "width=8")
    result = call("describe", "one_choice:build", "block=b", *shape)
    assert result.exit_code == 0 and "block: b(in)" in result.output
    result = call("describe", "one_choice:build", "wdith=8", *shape[:2])
    assert result.exit_code == 2 and "'wdith=8' is not an architecture" in result.output
    assert "unknown key space.chanels" in call("describe", "darts", "chanels=8").output


@pytest.mark.parametrize("section", ["space", "searcher", "data", "training", "task"])
@pytest.mark.parametrize("name", [{"a": 1}, ["x"], [[]], 1.5, True])
def test_a_name_that_is_no_word_is_refused(section: str, name: Any) -> None:
    given = {**TINY, section: {**TINY.get(section, {}), "name": name}}
    with pytest.raises(InputError, match=rf"{section}\.name"):
        Experiment.from_dict(given)
