"""Misspelt names and keys: the error at every border says which right one is similar."""

from pathlib import Path

import pytest

import paretoray as pr
from tests.helpers import call


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("search --dry-run serch.name=nsga2", "searcher"),
        ("search --dry-run searcher.nam=nsga2", "name"),
        ("search --dry-run searcher.name=nsga3", "nsga2"),
        ("search --dry-run searcher.samplez=3", "samples"),
        ("search --dry-run space.name=dart", "darts"),
        ("search --dry-run space.chanels=3", "channels"),
        ("search --dry-run data.name=digitz", "digits"),
        ("search --dry-run data.nam=digits", "name"),
        ("search --dry-run data.limt=3", "limit"),
        ("search --dry-run task.name=regresion", "regression"),
        ("search --dry-run task.metrc=x", "metric"),
        ("search --dry-run objectives.paramters={}", "parameters"),
        ("search --dry-run objectives.latency.at_mots=3", "at_most"),
        ("search --dry-run objectives.latency@pixl3={}", "pixel3"),
        ("search --dry-run objectives.latancy@pixel3={}", "latency"),
        ("search --dry-run training.name=supernett", "supernet"),
        ("search --dry-run training.momentun=0.5", "momentum"),
        ("search --dry-run training.statistics=runing", "running"),
        ("search --dry-run budget.epoch=3", "epochs"),
        ("search --dry-run front.scores=naswott", "naswot"),
        ("search --dry-run retrain.recipe=dartss", "darts"),
        ("search --dry-run retrain.schedule=cosin", "cosine"),
        ("search --dry-run retrain.cutot=3", "cutout"),
        ("search --dry-run logging.mlfow=true", "mlflow"),
        ("search --dry-run proxy=autto", "auto"),
        ("search --dry-run proxy.sise=4", "size"),
        ("search --dry-run --sweep searchr.samples=1,2", "searcher"),
        ("search --dry-run data.name=my_module:loader_of_mine", "loader_of_min"),
        ("search --dry-run data.name=my_modul:loader", "my_module"),
        ("describe nsga3", "nsga2"),
        ("describe latency@pixl3", "pixel3"),
        ("describe darts DARTS_V3", "DARTS_V2"),
        ("describe darts chanels=3", "channels"),
        ("train darts DARTS_V2 sapce.channels=3 --out x", "space"),
        ("data digitz", "digits"),
        ("data digits limt=3", "limit"),
        ("devices pixl3", "pixel3"),
        ("devices --cost latancy", "latency"),
        ("devices --space nas-bench-200", "nas-bench-201"),
        ("profile --space darts --device cudaa --out x.toml", "cuda"),
        ("profile --space darts --dtype float61 --out x.toml", "float16"),
        ("profile --space digits-tiny --fit digits-tiny --column test_acuracy --out x.toml", "test_accuracy"),
        ("bench --searchers nsga2:populaton=3 --out x", "population"),
        ("bench --objectives valid_acuracy,parameters --out x", "valid_accuracy"),
        ("bench --table digits-tny --space digits-tiny --objectives valid_accuracy,parameters --out x", "digits-tiny"),
        ("bench --time train_second --budget 3 --out x", "train_seconds"),
        ("resume rns", "runs"),
        ("export rns --member 1 --out x", "runs"),
    ],
)
def test_a_similar_word_is_suggested(line: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_module.py").write_text("def loader_of_min():\n    return None\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "experiment.toml").touch()
    result = call(*line.split())
    assert result.exit_code == 2 and result.output.startswith("error: "), result.output
    assert f"did you mean {meant!r}?" in result.output


@pytest.mark.parametrize(("line", "meant"), [("serch", "search"), ("search --dryrun", "--dry-run"), ("list spces", "spaces")])
def test_commands_options_and_their_words_too(line: str, meant: str) -> None:
    result = call(*line.split())
    assert result.exit_code == 2 and "id you mean" in result.output.splitlines()[-1]
    assert f"{meant!r}" in result.output.splitlines()[-1].partition("id you mean")[2]


def test_names_in_python() -> None:
    with pytest.raises(AttributeError, match="did you mean 'Darts'"):
        pr.spaces.Dartss  # noqa: B018
    with pytest.raises(AttributeError) as error:
        pr.serch  # noqa: B018
    assert error.value.name == "serch" and error.value.obj is pr  # from which Python suggests `search`
