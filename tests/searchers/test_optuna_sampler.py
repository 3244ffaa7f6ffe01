"""Optuna's samplers by name; they are an extra, so that most of this is skipped without them."""

import sys
from typing import Any

import pytest

from searchers.optuna_sampler import OptunaSampler
from tests.searchers.evolution import SIZES, costs, generations


def made(rounds: int = 40, **settings: Any) -> OptunaSampler:
    return OptunaSampler(SIZES, **{"rounds": rounds, "warmup": 0.0} | settings)


@pytest.fixture
def optuna() -> Any:
    return pytest.importorskip("optuna", reason="Optuna is not installed")


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'paretoray\[optuna\]'"):
        made()


def test_the_sampler_learns_and_keeps_a_limit(optuna: Any) -> None:
    asked = [a for generation in generations(made(), 60, limit=20.0) for a in generation]
    assert len(asked) == len(set(asked)) == 60
    assert sum(costs(a)[1] <= 20 for a in asked[30:]) > 1.5 * sum(costs(a)[1] <= 20 for a in asked[:10]) * 3 > 0


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler", "NSGAIIISampler", "RandomSampler"])
@pytest.mark.parametrize("samples", [1, 5])
def test_a_saved_one_goes_on_identically(optuna: Any, sampler: str, samples: int) -> None:
    straight, restored = (made(sampler=sampler, samples=samples, seed=s) for s in (0, 7))
    for _ in generations(straight, 60 // samples):
        pass
    straight.train_on(0)
    asked = straight.ask(samples)  # in the middle of a generation
    restored.load_state_dict(straight.state_dict())
    from tests.searchers.evolution import evaluated

    for searcher in (straight, restored):
        searcher.tell(evaluated(asked))
    assert list(generations(restored, 5)) == list(generations(straight, 5))


def test_the_study_knows_all_that_was_told_and_a_used_up_space_ends_in_silence(optuna: Any) -> None:
    searcher = OptunaSampler((3, 3), rounds=30, warmup=0.0, samples=2, canonical=lambda a: tuple(sorted(a)))
    asked = [a for _ in range(8) for a in _round(searcher)]
    assert len(asked) == len({tuple(sorted(a)) for a in asked}) == 6
    assert {tuple(sorted(t.params.values())) for t in searcher._study.trials if t.values} == {tuple(sorted(a)) for a in asked}
    assert all(t.values == [float(sum(t.params.values())), 1.0] for t in searcher._study.trials if t.values)


def _round(searcher: OptunaSampler) -> list[Any]:
    from searchers import Evaluation

    searcher.train_on(0)
    asked = searcher.ask(2)
    searcher.tell([Evaluation(a, (float(sum(a)), 1.0)) for a in asked])
    return asked


@pytest.mark.parametrize("settings", [{"sampler": "NoSampler"}, {"sampler": "TPESample"}, {"samples": 0}, {"warmup": 1.0}])
def test_settings_that_make_no_sense_are_refused(optuna: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        made(**settings)
