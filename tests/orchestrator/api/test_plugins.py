"""Methods and objectives from outside the repository that are wrong in some way: one clear error, and nothing lost."""

from pathlib import Path
from typing import Any

import pytest

import searchers
from orchestrator import registry
from tests.helpers import assert_refused, call, write_toml

pytestmark = pytest.mark.usefixtures("no_report")
GOOD = '''
import random
import paretoray as pr

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
        return [pr.Mixture.one_hot(self._any(), self.sizes)] * steps
    def ask(self, n):
        self.asked += 1
        return [self._any() for _ in range(self.samples)]
    def tell(self, evaluations):
        pass
    def state_dict(self):
        return {"random": self.random.getstate(), "asked": self.asked}
    def load_state_dict(self, state):
        self.random.setstate(state["random"])
        self.asked = state["asked"]

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
    ],
)
def test_a_method_that_cannot_be_used_is_refused_before_anything_starts(
    plugin: Any, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    assert_refused(run(tmp_path, f"searcher.name={plugin((old, new))}:Mine"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ('raise KeyError("lid")', ("raised KeyError in `ask`", "line 19")),
        ("return [(9,) * len(self.sizes)]", ("asked for what is not in the space", "must be in 0..4")),
        ("return [(0,)]", ("asked for what is not in the space", "makes 1 choices")),
        ('return ["abc"]', ("asked for what is not in the space",)),
    ],
)
def test_a_method_that_fails_in_the_middle_is_named_and_resumes_once_mended(
    plugin: Any, tmp_path: Path, new: str, words: tuple[str, ...]
) -> None:
    fails = f"if self.asked > 4:\n            {new}\n        return [self._any()"
    name = plugin(("return [self._any()", fails))
    result = run(tmp_path, f"searcher.name={name}:Mine", "budget.checkpoint=0.000001")
    assert result.exit_code == 1 and "Traceback" not in result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(part in last for part in words), last
    import importlib
    import sys

    (tmp_path / f"{name}.py").write_text(GOOD)
    importlib.reload(sys.modules[name])
    mended = call("resume", tmp_path / "run")
    assert mended.exit_code == 0, mended.output


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ('return float("nan")', ("gives nan", "must be a finite number")),
        ('return "many"', ("gives 'many'",)),
        ("return 1 / 0", ("raised ZeroDivisionError in `cost`",)),
    ],
)
def test_an_objective_whose_costs_are_no_numbers_is_named(
    plugin: Any, tmp_path: Path, new: str, words: tuple[str, ...]
) -> None:
    name = plugin(("return 1.0 + sum(architecture)", f"{new} if sum(architecture) else 1.0" if "/" not in new else new))
    objectives = f"objectives={{error={{}}, '{name}:Cost'={{}}}}"
    result = run(tmp_path, objectives)
    assert result.exit_code == 1 and "Traceback" not in result.output
    for part in words:
        assert part in result.output, result.output


def test_two_objectives_of_one_column_are_refused(plugin: Any, tmp_path: Path) -> None:
    name = plugin(('column, title = "cost"', 'column, title = "parameters"'))
    assert_refused(run(tmp_path, f"objectives={{error={{}}, parameters={{}}, '{name}:Cost'={{}}}}"), "the column parameters")


def test_a_helper_among_the_methods_is_no_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_helpers.py").write_text("def helped():\n    return 1\n")
    monkeypatch.setattr(searchers, "__path__", [*searchers.__path__, str(tmp_path)])
    assert "my-helpers" not in registry.known("searcher") and "tnd-nas" in registry.known("searcher")
    assert_refused(run(tmp_path, "searcher.name=my-helpers"), "unknown searcher 'my-helpers'")


def test_searchers_and_objectives_are_described(plugin: Any) -> None:
    shown = call("describe", "nsga2")
    assert shown.exit_code == 0 and "population: int, default 20" in shown.output and "Survivors" in shown.output
    both = call("describe", "darts")
    assert "paretoray describe darts --kind searcher" in both.output
    assert "order" in call("describe", "darts", "--kind", "searcher").output
    own = call("describe", f"{plugin()}:Mine", "--kind", "searcher", "--json")
    assert '"samples"' in own.output and '"rounds"' not in own.output
    assert_refused(call("describe", "nsga2", "x=1"), "is a searcher, which has no architectures")
