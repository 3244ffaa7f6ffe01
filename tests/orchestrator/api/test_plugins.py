"""Methods and objectives from outside the repository that are wrong in some way: one clear error, and nothing lost."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import paretoray as pr
import searchers
from orchestrator import registry
from searchers.random_search import RandomSearch
from tests.helpers import assert_refused, call, timeless, write_toml

pytestmark = pytest.mark.usefixtures("no_report")
GOOD = '''
import random
import paretoray as pr
from tests.fakes import FakeEvaluator

class Judge(FakeEvaluator):
    """Judges."""
    def measure_on_batch(self, architectures, batch):
        return [{"accuracy": float("nan")} for _ in architectures]

class Mine(pr.Searcher):
    """Draws networks."""
    def __init__(self, sizes, *, rounds, samples: int = 2, seed=0):
        self.sizes, self.samples, self.random = tuple(sizes), samples, random.Random(seed)
        self._stage = pr.Stage(0, tuple(tuple(range(n)) for n in sizes), rounds)
        self.asked = 0
    stage = property(lambda self: self._stage)
    def _any(self):
        return tuple(self.random.randrange(n) for n in self.sizes)
    def train_on(self, steps):
        return [self._mixture()] * steps
    def _mixture(self):
        return pr.Mixture.one_hot(self._any(), self.sizes)
    def ask(self, n):
        self.asked += 1
        return [self._any() for _ in range(min(n, self.samples))]
    def tell(self, evaluations):
        pass
    def state_dict(self):
        return {"random": self.random.getstate(), "asked": self.asked}
    def load_state_dict(self, state):
        self.random.setstate(state["random"])
        self.asked = state["asked"]

class Weights(pr.Objective, pr.Probe):
    """Measures."""
    column, title = "weights", "weights (count)"
    def measure_on_device(self, network, image):
        return {"weights": sum(p.numel() for p in network.parameters())}
    def cost(self, architecture, metrics):
        return metrics["weights"]

class Cost(pr.Objective):
    """Counts."""
    column, title = "cost", "cost (count)"
    def cost(self, architecture, metrics):
        return 1.0 + sum(architecture)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module from GOOD with some of it replaced, under a name that no other test has."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(*replacements: tuple[str, str]) -> str:
        source = GOOD
        for old, new in replacements:
            assert old in source
            source = source.replace(old, new)
        name = f"plugin_{abs(hash((str(tmp_path), source)))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


def assert_failed(result: Any, *parts: str) -> None:
    """Fail unless a search failed with one clear message after its progress."""
    assert result.exit_code == 1 and "Traceback" not in result.output, result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(part in last for part in parts), last


def run(tmp_path: Path, *overrides: str) -> Any:
    return call("search", write_toml(tmp_path), *overrides, "--out", tmp_path / "run")


def test_a_method_of_ones_own_takes_its_settings_and_is_recorded_by_name(plugin: Any, tmp_path: Path) -> None:
    name = plugin()
    result = run(tmp_path, f"searcher.name={name}:Mine", "searcher.samples=3")
    assert result.exit_code == 0, result.output
    assert f'name = "{name}:Mine"' in (tmp_path / "run/experiment.toml").read_text()
    assert_refused(run(tmp_path / "..", f"searcher.name={name}:Mine", "searcher.smaples=3"), "did you mean 'samples'")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("import random", "import randon", ("cannot import it", "randon")),
        ("import random", "1 / 0", ("cannot import it", "ZeroDivisionError")),
        ("class Mine(pr.Searcher)", "class Mine", ("it is no Searcher", "extends paretoray.Searcher")),
        ("    def tell(self, evaluations):\n        pass\n", "", ("the class lacks tell",)),
        ("*, rounds, samples", "*, roundz=1, samples", ("needs has 'rounds'", "add the parameter")),
        ("self.asked = 0", 'raise ValueError("samples = 2; odd numbers only")', ("[searcher] samples = 2; odd numbers only",)),
        ("self.asked = 0", 'raise RuntimeError("not today")', (":Mine.__init__ raised RuntimeError: not today (", "line 16)")),
        ("self.asked += 1", 'raise KeyError("lid")', (":Mine.ask raised KeyError: 'lid' (plugin_", ".py, line 25)")),
        (
            "self.asked += 1",
            "return [(9,) * len(self.sizes)]",
            (":Mine.ask returned what is not in the space", "must be in 0..4"),
        ),
        ("self.asked += 1", "return [(0,)]", (":Mine.ask returned what is not in the space", "makes 1 choices")),
        ("self.asked += 1", "return [(0.0,) * len(self.sizes)]", ("each a tuple with the index of an option",)),
        ("self.asked += 1", "return None", (":Mine.ask returned None; it must return a list of architectures",)),
        ("min(n, self.samples)", "n + 1", (":Mine.ask returned 9 architectures; at most 8 were asked for",)),
        ("self._mixture()] * steps", "self._any()] * steps", (":Mine.train_on returned", "it must return Mixtures")),
        (
            "self._mixture()] * steps",
            "pr.Mixture(((1.0,),))] * steps",
            ("a mixture of [1] options; the space has [5, 5, 5, 5, 5, 5]",),
        ),
        (
            "        pass\n",
            "        self.seen.extend(evaluations)\n    seen = []\n",
            (":Mine.seen belongs to the class and changes",),
        ),
        ("self.random.getstate()", "self.random", (":Mine.state_dict returns what no checkpoint can hold",)),
        ("stage = property(lambda self: self._stage)", "stage = None", (":Mine.stage is None; it must be a Stage",)),
    ],
)
def test_a_method_that_cannot_be_used_is_refused_before_anything_starts(
    plugin: Any, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    assert_refused(run(tmp_path, f"searcher.name={plugin((old, new))}:Mine"), *words)
    assert not (tmp_path / "run").exists()


def test_lists_of_options_are_as_good_as_tuples(plugin: Any, tmp_path: Path) -> None:
    name = plugin(("return tuple(self", "return list(self"))
    assert run(tmp_path, f"searcher.name={name}:Mine").exit_code == 0


LATER = "if self.asked > 4:\n            raise KeyError('lid')\n        return [self._any()"
FAILURE = ".ask raised KeyError: 'lid' ("


def mend(tmp_path: Path, name: str) -> Any:
    """Replace a module by the right one, and resume."""
    (tmp_path / f"{name}.py").write_text(GOOD)
    importlib.reload(sys.modules[name])
    return call("resume", tmp_path / "run")


def test_a_method_that_fails_in_the_middle_is_named_and_resumes_once_mended(plugin: Any, tmp_path: Path) -> None:
    name = plugin(("return [self._any()", LATER))
    result = run(tmp_path, f"searcher.name={name}:Mine", "budget.checkpoint=0.000001")
    assert_failed(result, FAILURE, "line 27)")
    before = timeless(tmp_path / "run")
    assert mend(tmp_path, name).exit_code == 0
    assert timeless(tmp_path / "run").startswith(before) and len(timeless(tmp_path / "run")) > len(before)


class FailsLater(RandomSearch):
    """Random search that fails in its fourth round, where the workers of Ray find it."""

    def ask(self, n: int) -> list[pr.Architecture]:
        if self.rounds_asked == 3:
            raise KeyError("lid")
        self.rounds_asked += 1
        return super().ask(n)

    rounds_asked = 0


def test_a_method_that_fails_in_a_trial_is_named(tmp_path: Path, cluster: None) -> None:
    workers = ("workers.ray=true", "workers.count=1")
    result = run(tmp_path, f"searcher.name={__name__}:FailsLater", "searcher.warmup=0", *workers)
    assert_failed(result, f"{__name__}:FailsLater{FAILURE}", "test_plugins.py, line ")


def test_a_method_that_fails_on_a_table_is_named(plugin: Any, tmp_path: Path) -> None:
    table = ("--budget", 20, "--seeds", 1, "--workers", 1, "--out", tmp_path / "bench")
    at_once = plugin(("self.asked += 1", "raise KeyError('lid')"))
    assert_refused(call("bench", "--searchers", f"{at_once}:Mine", *table), FAILURE)
    assert not (tmp_path / "bench").exists()
    assert_failed(call("bench", "--searchers", f"{plugin(('return [self._any()', LATER))}:Mine", *table), FAILURE)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return 1.0 + sum", 'return float("nan") + sum', ("gives nan", "must be a finite number")),
        ("return 1.0 + sum(architecture)", 'return "many"', ("gives 'many'",)),
        ("return 1.0 + sum(architecture)", "return True", ("gives True",)),
        ("return 1.0 + sum(architecture)", "return 1 / 0", (":Cost.cost raised ZeroDivisionError: division by zero (", "line")),
        ('column, title = "cost"', 'column, title = "parameters"', ("its column 'parameters' is one of parameters already",)),
        ('column, title = "cost"', 'column, title = "seed"', ("its column 'seed' is one of every run already",)),
        ('    column, title = "cost", "cost (count)"\n', "", ("its column is None; write its name and unit",)),
    ],
)
def test_an_objective_that_cannot_be_used_is_refused_before_anything_starts(
    plugin: Any, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    objectives = f"objectives={{error={{}}, parameters={{}}, '{plugin((old, new))}:Cost'={{}}}}"
    assert_refused(run(tmp_path, objectives), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (
            'raise OSError("the meter is unplugged")',
            "cannot be run on the device, and its costs bound the hypervolume: OSError: the meter is unplugged (plugin_",
        ),
        ("return None", ":Weights.measure_on_device returned None; it must return a dict"),
    ],
)
def test_what_fails_on_the_device_leaves_a_run_that_resumes(plugin: Any, tmp_path: Path, new: str, words: str) -> None:
    name = plugin(('return {"weights"', f'{new}\n        return {{"weights"'))
    result = run(tmp_path, f"objectives={{error={{}}, '{name}:Weights'={{}}}}")
    assert_failed(result, words)
    assert mend(tmp_path, name).exit_code == 0


def test_an_evaluator_whose_accuracies_are_no_numbers_is_named(plugin: Any, tmp_path: Path) -> None:
    assert_failed(
        run(tmp_path, f"training={{name='{plugin()}:Judge'}}"), "Judge measured [{'accuracy': nan}", "finite `accuracy`"
    )


def test_titles_and_columns_of_objectives_are_no_markup(plugin: Any, tmp_path: Path) -> None:
    name = plugin(('column, title = "cost", "cost (count)"', 'column, title = "a, <b>&$x_eur", "$\\\\frac$ [red] <script>"'))
    result = run(tmp_path, f"objectives={{error={{}}, '{name}:Cost'={{}}}}")
    assert result.exit_code == 0 and "$\\frac$ [red] <script>" in result.output, result.output
    assert "a, <b>&$x_eur" in pd.read_csv(tmp_path / "run/front.csv")
    assert call("report", tmp_path / "run").exit_code == 0
    page = (tmp_path / "run/report.html").read_text()
    assert "$\\frac$ [red] &lt;script&gt;" in page and "[red] <script>" not in page


def test_a_file_among_the_methods_that_is_none_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"helper": "class Helper:\n    pass\n", "notes": "x = 1\n", "draft": "class Draft(Searcher)\n", "latin": "# \xe9\n"}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_bytes(text.encode("latin-1"))
    before = registry.known("searcher")
    monkeypatch.setattr(searchers, "__path__", [*searchers.__path__, str(tmp_path)])
    monkeypatch.setattr(searchers.__spec__, "submodule_search_locations", searchers.__path__)
    assert registry.known("searcher") == before and "tnd-nas" in before
    assert_refused(run(tmp_path, "searcher.name=helper"), "unknown searcher 'helper'")


def test_an_installed_package_does_not_replace_ours(plugin: Any, tmp_path: Path) -> None:
    (info := tmp_path / "methods-2.5.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: methods\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[paretoray.searchers]\nnsga2 = {plugin()}:Mine\nmine = {plugin()}:Mine\n")
    assert registry.find("searcher", "nsga2").__module__ == "searchers.nsga2"
    assert registry.find("searcher", "mine").__name__ == "Mine"
    assert registry.summaries("searcher")["mine"] == "from methods 2.5"


def test_names_are_listed_with_a_sentence_and_without_torch() -> None:
    for kind in ("searcher", "space", "objective"):
        described = registry.summaries(kind)
        assert list(described) == registry.known(kind) and all(described.values())
    look = "import sys; from orchestrator import registry; registry.summaries('space'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_searchers_and_objectives_are_described(plugin: Any) -> None:
    shown = call("describe", "nsga2")
    assert shown.exit_code == 0 and "population: int, default 20" in shown.output and "Survivors" in shown.output
    both = call("describe", "darts")
    assert "paretoray describe darts --kind searcher" in both.output
    assert "order" in call("describe", "darts", "--kind", "searcher").output
    own = call("describe", f"{plugin()}:Mine", "--kind", "searcher", "--json")
    assert '"samples"' in own.output and '"rounds"' not in own.output
    assert_refused(call("describe", "nsga2", "x=1"), "is a searcher, which has no architectures")
