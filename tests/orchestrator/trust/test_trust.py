"""Judgement of random networks by a finished search's weights: the right weights, the right networks, nothing done twice."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from scipy.stats import kendalltau

from analysis import records
from analysis import trust as statistics
from analysis.trust import statistics_of
from orchestrator.config.plan import SearchPlan
from orchestrator.config.spaces import make_space
from orchestrator.data.dataset import Dataset
from orchestrator.errors import Interrupted, RunError
from orchestrator.evaluators.supernet import Supernet
from orchestrator.evaluators.tabular import SHIPPED
from orchestrator.runs import edits, retraining
from orchestrator.runs import run as runs
from orchestrator.runs.directory import open_run
from orchestrator.runs.report import write_report
from orchestrator.search import sums
from orchestrator.search.checkpoint import Checkpoints
from orchestrator.search.control import stop_file
from orchestrator.search.retraining import Member
from orchestrator.spaces.base import SearchSpace
from orchestrator.training.parts import Parts
from orchestrator.training.trainer import retrain
from orchestrator.trust import command as trust
from orchestrator.trust.assessment import Truth, assess
from orchestrator.trust.weights import SharedWeights, sample
from searchers import Stage
from tests import helpers
from tests.fakes import FAKE
from tests.helpers import assert_refused, tiny, write_toml

SECTIONS: dict[str, Any] = {
    "space": {"name": "digits-tiny", "channels": 8},
    "training": {"batch": 20, "lr": 0.1},
    "budget": {"epochs": 8, "interval": 2, "validate": 6},
    "retrain": {"members": 0, "epochs": 1, "batch": 20, "lr": 0.1},
}
RANDOM = {"name": "random-search"}
TABLE = ("--table", "digits-tiny", "--column", "test_accuracy")


def search(directory: Path, **sections: Any) -> Path:
    path = write_toml(directory, **SECTIONS | sections)
    result = helpers.call("search", path, "--out", directory / "run")
    assert result.exit_code == 0, result.output
    return directory / "run"


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Any:
    """They take longer than what is tested here; one test has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "write_report", lambda plan, directory: (directory / "report.html").touch())
        patch.setattr(trust, "write_report", lambda plan, directory: (directory / "report.html").touch())
        patch.setattr(statistics, "RESAMPLES", 50)
        yield patch


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, no_pictures: Any) -> Path:
    """A search of a single stage that keeps all options; three members of its front are retrained."""
    retraining = SECTIONS["retrain"] | {"members": 3}
    return search(tmp_path_factory.mktemp("whole"), searcher=RANDOM, retrain=retraining)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, no_pictures: Any) -> Path:
    """A search that has dropped options on its way."""
    return search(tmp_path_factory.mktemp("staged"), searcher={"name": "tnd-nas", "samples": 4})


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """The first of them, to write into."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def call(directory: Path, *arguments: str | int | Path) -> Result:
    each = () if "--each" in arguments else ("--each", 0)
    return helpers.call("trust", directory, *arguments, *each)


def space_of(directory: Path) -> SearchSpace:
    return plan_of(directory).problem.space


def plan_of(directory: Path) -> SearchPlan:
    return SearchPlan.of(open_run(directory))


def latest(directory: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(directory / "checkpoints" / "latest.pt", weights_only=True)["evaluator"]
    return state


def test_what_is_inherited_is_what_the_final_weights_say(run: Path, digits: Dataset) -> None:
    result = call(run, *TABLE, "--networks", 12)
    assert result.exit_code == 0, result.output
    found = pd.read_csv(run / records.TRUST)
    front = pd.read_csv(run / records.FRONT)["arch"].tolist()
    assert found["arch"].tolist()[12:] == front and found["kind"].tolist() == ["random"] * 12 + ["front"] * len(front)
    space = space_of(run)
    places = [space.parse(a) for a in found["arch"]]
    assert len(set(places[:12])) == 12
    as_searched = Supernet(space, digits, batch=20)
    as_searched.load_state_dict(latest(run))
    assert found["batch_accuracy_percent"].tolist() == [m["accuracy"] for m in as_searched.measure(places)]
    anew = Supernet(space, digits, batch=20, statistics="recalibrated")
    anew.build(as_searched.stage, 1)
    with torch.no_grad():
        for name, parameter in anew.model.named_parameters():
            parameter.copy_(dict(as_searched.model.named_parameters())[name])
    assert found["recalibrated_accuracy_percent"].tolist() == [m["accuracy"] for m in anew.measure(places)]
    assert found["recalibrated_accuracy_percent"].tolist() != found["batch_accuracy_percent"].tolist()
    true = pd.read_csv(SHIPPED / "digits-tiny.csv").set_index("arch")["test_accuracy"]
    assert found["true_test_accuracy"].tolist() == true[found["arch"]].tolist()
    said = json.loads((run / records.RANKING_QUALITY).read_text())
    taus = {a["statistics"]: a["tau"] for a in said["agreements"] if (a["kind"], a["among"]) == ("random", "all")}
    for name in ("batch", "recalibrated"):
        assert taus[name] == pytest.approx(
            kendalltau(found[f"{name}_accuracy_percent"][:12], found["true_test_accuracy"][:12]).statistic
        )
    assert said["surviving"] == 625 and said["images"] == len(digits.valid) and said["truth"] == "test_accuracy of digits-tiny"
    assert f"{taus['batch']:.2f}" in result.output and "report: " in result.output


@pytest.mark.parametrize(
    ("own", "names"), [("running", ["running", "batch", "recalibrated"]), ("recalibrated", ["recalibrated", "batch"])]
)
def test_a_search_by_averages_is_judged_by_them_and_by_batches(
    own: Any, names: list[str], digits: Dataset, tmp_path: Path
) -> None:
    directory = search(tmp_path, searcher=RANDOM, training=SECTIONS["training"] | {"statistics": own})
    assert call(directory, *TABLE, "--networks", 6).exit_code == 0
    found = pd.read_csv(directory / records.TRUST)
    assert list(statistics_of(found)) == names
    space = space_of(directory)
    places = [space.parse(a) for a in found["arch"]]
    as_searched = Supernet(space, digits, batch=20, statistics=own)
    as_searched.load_state_dict(latest(directory))
    assert found[f"{own}_accuracy_percent"].tolist() == [m["accuracy"] for m in as_searched.measure(places)]
    assert json.loads((directory / records.RANKING_QUALITY).read_text())["own"] == own


def test_the_statistics_of_a_search_are_those_that_its_method_asked_for(tmp_path: Path) -> None:
    directory = search(tmp_path, searcher={"name": "ddpnas", "targets": 3})
    assert SharedWeights(plan_of(directory), directory).own == "recalibrated"


def test_where_nothing_is_normalised_there_is_one_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare.py").write_text(
        "from torch import nn\nfrom orchestrator.spaces import Choice\n"
        "def build(image, classes):\n"
        "    def choice(name):\n"
        "        return Choice(name, {'plain': nn.Identity, 'conv': lambda: nn.Conv2d(1, 1, 3, padding=1), 'tanh': nn.Tanh})\n"
        "    return nn.Sequential(choice('a'), choice('b'), nn.Flatten(), nn.Linear(image[1] * image[2], classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    directory = search(tmp_path, searcher=RANDOM, space={"name": "bare:build"})
    result = call(directory, "--networks", 5, "--retrain", 3)
    assert result.exit_code == 0, result.output
    found = pd.read_csv(directory / records.TRUST)
    assert statistics_of(found) == {"batch": "batch_accuracy_percent"} and found["true_accuracy_percent"].notna().sum() >= 3
    said = json.loads((directory / records.RANKING_QUALITY).read_text())
    assert said["statistics"] == ["batch"] and said["gains"] == {} and said["surviving"] == 9
    assert said["overrated_skips"] is not None, "its identities are known for what they are"


def test_dropped_options_are_not_drawn_and_members_that_have_them_are_left_out(staged: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(staged, tmp_path / "run"))
    weights = SharedWeights(plan_of(run), run)
    assert weights.surviving < 625
    front = pd.read_csv(run / records.FRONT)
    dropped = next(o for o in range(5) if o not in weights.options[0])
    stranger = weights.space.format((dropped, *(kept[0] for kept in weights.options[1:])))
    pd.concat([front, front.head(1).assign(arch=stranger)]).to_csv(run / records.FRONT, index=False)
    sums.note(run, records.FRONT)
    result = call(run, *TABLE, "--networks", 10)
    assert result.exit_code == 0 and "have options that were dropped later" in result.output, result.output
    found = pd.read_csv(run / records.TRUST)
    assert stranger not in found["arch"].tolist()
    assert all(weights.has(weights.space.parse(a)) for a in found["arch"])
    assert (found["kind"] == "random").sum() == min(10, weights.surviving)


def test_samples_are_different_networks_and_the_first_stay_the_first(digits: Dataset) -> None:
    space = make_space("digits-tiny", {}, (1, 8, 8), 10)
    every = [range(5)] * 4
    few, many = sample(space, every, 20, 0), sample(space, every, 80, 0)
    assert many[:20] == few and len(set(many)) == 80 and sample(space, every, 20, 1) != few
    counts = np.array([np.bincount([a[i] for a in sample(space, every, 400, 0)], minlength=5) for i in range(4)])
    assert counts.min() > 60, "every option has about a fifth of 400"
    assert sorted(sample(space, [(1, 3), (0,), (4,), (2,)], 9, 0)) == [(1, 0, 4, 2), (3, 0, 4, 2)]
    large = make_space("darts", {}, (1, 8, 8), 10)
    drawn = sample(large, [range(n) for n in large.sizes], 30, 0)
    assert len(set(drawn)) == 30 and drawn[:7] == sample(large, [range(n) for n in large.sizes], 7, 0)
    macro = make_space("nas-bench-macro", {}, (3, 32, 32), 10)  # an identity does nothing wherever it stands
    networks = sample(macro, [range(n) for n in macro.sizes], 10_000, 0)
    assert len({macro.canonical(a) for a in networks}) == len(networks) < macro.architectures


def test_nothing_is_measured_twice_and_ctrl_c_keeps_what_is_done(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, asked = Supernet.measure, []

    def interrupted(self: Supernet, architectures: Any) -> Any:
        asked.extend((self.statistics, a) for a in architectures)
        if len(asked) == 8:
            stop_file(run).touch()  # as Ctrl-C does
        return measure(self, architectures)

    monkeypatch.setattr(Supernet, "measure", interrupted)
    result = call(run, *TABLE, "--networks", 14)
    assert result.exit_code == 130 and "the same command goes on" in result.output and len(asked) == 8
    assert not (run / records.TRUST).exists()
    with (run / "trust" / "measured.csv").open("a") as file:
        file.write("28a1e7af31,100,batch,sk")  # the machine went down in the middle of a line
    whole = call(run, *TABLE, "--networks", 14)
    assert whole.exit_code == 0, whole.output
    assert len(set(asked)) == len(asked) == 2 * len(set(pd.read_csv(run / records.TRUST)["arch"]))
    again = len(asked)
    scored = (run / "trust" / "scores.csv").read_text()
    assert call(run, "--table", "digits-tiny", "--column", "valid_accuracy", "--networks", 14).exit_code == 0
    assert len(asked) == again, "another truth, the same inheritance"
    assert (run / "trust" / "scores.csv").read_text() == scored, "and the same training-free scores"
    assert call(run, *TABLE, "--networks", 14, "--images", 50).exit_code == 0
    assert len(asked) == 2 * again
    assert json.loads((run / records.RANKING_QUALITY).read_text())["images"] == 50


def test_the_truth_may_be_training_from_scratch_which_goes_on(
    run: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_member, trained = retraining.try_member, []
    stop_after = 2

    def counted(plan: SearchPlan, member: Member, progress: Any) -> None:
        if len(trained) == stop_after:
            raise Interrupted
        trained.append(member.arch)
        try_member(plan, member, progress)

    monkeypatch.setattr(retraining, "try_member", counted)
    result = call(run, "--networks", 12, "--retrain", 4)
    assert result.exit_code == 130, result.output
    stop_after = 99
    result = call(run, "--networks", 12, "--retrain", 4)
    assert result.exit_code == 0, result.output
    known = pd.read_csv(run / records.RETRAINED).set_index("arch")["test_error_percent"]
    found = pd.read_csv(run / records.TRUST)
    random, front = found[found["kind"] == "random"], found[found["kind"] == "front"].set_index("arch")["true_accuracy_percent"]
    assert sorted(trained) == sorted(set(random["arch"][:4]) - set(known.index)), "each once, the front's not again"
    assert random["true_accuracy_percent"].notna().tolist() == [True] * 4 + [False] * 8
    assert random["synflow"].notna().tolist() == [True] * 4 + [False] * 8, "scores are compared with the truth alone"
    assert front[known.index].tolist() == pytest.approx((100 - known).tolist())
    space = space_of(run)
    a = space.parse(trained[0])
    alone = retrain(space.network(a), a, digits, Parts(epochs=1, batch=20, lr=0.1))["test_error_percent"]
    assert random.set_index("arch")["true_accuracy_percent"][trained[0]] == pytest.approx(100 - alone)
    assert "too few to tell" in result.output
    only_front = call(run, "--networks", 12, "--retrain", 0)
    assert only_front.exit_code == 0 and "fewer than two random networks" in only_front.output, only_front.output
    assert not pd.read_csv(run / records.TRUST).query("kind == 'random'")["true_accuracy_percent"].notna().any()
    assert "this replaces" not in only_front.output
    replaced = call(run, *TABLE, "--networks", 12)
    assert (
        replaced.exit_code == 0 and "this replaces what trust.csv and the report say against test accuracy" in replaced.output
    )
    assert not list((run / "trust").glob("*.pt")), "nobody needs the weights of random networks"


def test_networks_that_the_search_found_good_are_compared_within_levels_of_one_cost(run: Path) -> None:
    result = call(run, *TABLE, "--networks", 12, "--levels", 2, "--each", 4)
    assert result.exit_code == 0, result.output
    good = json.loads((run / records.RANKING_QUALITY).read_text())["good"]
    assert [p["proxy"] for p in good["proxies"]] == ["shared weights"] and good["levels"] == 2
    table = pd.read_csv(run / "proxies/proxies.csv")
    shared, target = (
        table[table["proxy"] == name].set_index("arch")["accuracy_percent"] for name in ("shared weights", "target")
    )
    assert len(shared) == 8 and table.groupby(["proxy", "level"]).size().tolist() == [4] * 4
    levels = table.drop_duplicates("arch").set_index("arch")["level"]
    pairs = [(a, b) for a, b in itertools.combinations(sorted(shared.index), 2) if levels[a] == levels[b]]
    signs = [(np.sign(shared[a] - shared[b]), np.sign(target[a] - target[b])) for a, b in pairs]
    expected = sum(x * y for x, y in signs) / sum(abs(y) for _, y in signs)
    assert good["proxies"][0]["within"] == pytest.approx(expected)
    assert good["advice"] in " ".join(result.output.split()) and "shared weights" in result.output
    assert_refused(call(run, *TABLE, "--networks", 12, "--each", 400), "no cost level has 400 networks")


def test_networks_whose_truth_is_known_for_being_good_are_no_random_sample(run: Path) -> None:
    weights = SharedWeights(plan_of(run), run)
    random = weights.random(6)
    known = {a: float(sum(a)) for a in random}
    for first, counted in ((None, 6), (4, 4), (0, 0)):
        truth = Truth("sum", "sum", "sum", True, known, first)
        found = assess(weights, random, random[5:], truth, 20, lambda *progress: None, lambda: False)
        assert found["true_sum"].notna().tolist() == [i < counted for i in range(6)] + [True]


def test_the_report_has_it_and_its_pictures(run: Path, no_pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "write_report", write_report)
    assert call(run, *TABLE, "--networks", 12).exit_code == 0
    page = (run / "report.html").read_text()
    for words in (
        "Can it be trusted?",
        "repeated samples",
        "skips among samples",
        "tau, 12 random networks",
        "digits-tiny",
        "within levels",
    ):
        assert words in page, words
    assert {"trust.png", "skips.png", "training-free.png"} <= {p.name for p in (run / "plots").iterdir()}
    (run / records.RANKING_QUALITY).unlink()
    (run / records.TRUST).unlink()
    write_report(plan_of(run), run)
    page = (run / "report.html").read_text()
    assert "repeated samples" in page and "retrained members of the front" in page and "random networks, batch" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--table", "digits-tiny"], "--table and --column say together"),
        (["--column", "test_accuracy"], "--table and --column say together"),
        ([*TABLE, "--retrain", "3"], "--retrain means nothing with --table"),
        (["--networks", "2"], "at least 3"),
        (["--networks", "9", "--retrain", "10"], "--retrain 10"),
        ([*TABLE, "--images", "0"], "--images 0: the validation set has"),
        ([*TABLE, "--images", "99999"], "--images 99999"),
        (["--table", "nothing.csv", "--column", "a"], "there is no table nothing.csv"),
        (["--table", "digits-tiny", "--column", "accuracy"], "has no column accuracy; it has"),
        (["--table", "{constant}", "--column", "accuracy"], "accuracy is the same for all"),
        (["--table", "{partial}", "--column", "accuracy"], "lacks"),
    ],
)
def test_wrong_input_is_told_before_anything_starts(arguments: list[str], words: str, run: Path, tmp_path: Path) -> None:
    space = space_of(run)
    every = [space.format(tuple(int(d) for d in np.base_repr(i, 5).zfill(4))) for i in range(625)]
    constant, partial = tmp_path / "constant.csv", tmp_path / "partial.csv"
    pd.DataFrame({"arch": every, "accuracy": 90.0}).to_csv(constant, index=False)
    pd.DataFrame({"arch": every[::2], "accuracy": range(313)}).to_csv(partial, index=False)
    assert_refused(call(run, *(a.format(constant=constant, partial=partial) for a in arguments)), words)
    assert not (run / "trust").exists()


def test_runs_without_final_shared_weights_are_refused(run: Path, tmp_path: Path) -> None:
    assert_refused(call(tmp_path / "nowhere"), "is not a run directory")
    summary = (run / records.SUMMARY).read_text()
    (run / records.SUMMARY).write_text(json.dumps(json.loads(summary) | {"finished": False}))
    assert_refused(call(run, *TABLE), f"paretoray resume {run}")
    (run / records.SUMMARY).write_text(summary)
    checkpoint = run / "checkpoints" / "latest.pt"
    good = checkpoint.read_bytes()
    (run / "checkpoints" / "previous.pt").unlink(missing_ok=True)
    checkpoint.write_bytes(good[: len(good) // 2])
    assert_refused(call(run, *TABLE), "is damaged")
    Checkpoints(checkpoint.parent).save({})
    assert_refused(call(run, *TABLE), "is damaged")
    for path in checkpoint.parent.glob("*.pt"):
        path.unlink()
    assert_refused(call(run, *TABLE), "has no checkpoint any more")
    checkpoint.write_bytes(good)
    toml = (run / "experiment.toml").read_text()
    (run / "experiment.toml").write_text(toml.replace("channels = 8", "channels = 4"))
    (run / "checkpoints" / edits.NOTE).unlink()
    assert_refused(call(run, *TABLE), "made with another space")
    (run / "experiment.toml").write_text(toml)
    (run / "sweep.toml").write_text("searches = [{seed = 0}]\n")
    shutil.copytree(run, run / "searches" / "0-0")
    assert_refused(call(run, *TABLE), "holds several searches", "searches/0-0")
    (run / "sweep.toml").unlink()
    (run / records.RETRAINED).unlink()
    sums.note(run, records.RETRAINED)
    assert_refused(call(run, "--retrain", 0), "write --retrain 8")


def test_networks_that_inherited_nothing_are_refused(tmp_path: Path) -> None:
    training = {"name": "from-scratch", "epochs": 1, "batch": 20}
    (tmp_path / "experiment.toml").write_text(tiny(searcher=RANDOM, training=training).to_toml())
    assert_refused(call(tmp_path), "trained from scratch one by one")


def test_weights_of_somebody_elses_evaluator_are_refused(tmp_path: Path) -> None:
    directory = search(tmp_path, **FAKE, searcher=RANDOM)
    assert_refused(call(directory), "FakeEvaluator", "only weights of the evaluator supernet")


def test_few_survivors_are_nothing_to_rank(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedWeights, "random", lambda self, count: [(0, 0, 0, 0), (1, 0, 0, 0)])
    assert_refused(call(run, *TABLE), "only 2 networks survive")


def test_weights_of_another_supernet_are_not_inherited(digits: Dataset) -> None:
    narrow, wide = (make_space("digits-tiny", {"channels": c}, (1, 8, 8), 10) for c in (4, 8))
    stage = Stage(0, ((0, 1, 2, 3, 4),) * 4, rounds=1)
    first, second = Supernet(narrow, digits), Supernet(wide, digits, statistics="recalibrated")
    first.build(stage, 1)
    with pytest.raises(RunError, match="of another network"):
        second.inherit(first.state_dict())
