"""Search contexts, and classes that declare what their constructors take of them."""

import inspect
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator import registry as names
from orchestrator.config.experiment import find_searcher
from searchers import SearchContext, Searcher
from searchers.base import CONTEXT_ATTRIBUTES
from searchers.darts import Darts
from searchers.ddpnas import Ddpnas
from searchers.parts.additive import Additive
from searchers.proxyless_g import ProxylessG
from searchers.proxyless_r import ProxylessR
from searchers.random_search import RandomSearch
from searchers.tnd_nas import TndNas

SIZES = (3, 4)
METHODS = names.known("searcher")


class Priced:
    """A cost that counts how often it is worked out."""

    def __init__(self) -> None:
        self.reads = 0

    def additive(self) -> Additive:
        self.reads += 1
        return 5.0, [[1.0] * size for size in SIZES]


class Expensive:
    """A space whose facts may not be read."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was read for a method that does not need it")


def test_plain_sizes_are_a_context() -> None:
    context = SearchContext(sizes=SIZES, rounds=10)
    assert (context.steps, context.costs, context.additive) == (10, 1, (None,))
    assert [getattr(context, name) for name in ("node_inputs", "phases")] == [(), ()]
    for name in ("none_option", "parameter_free", "derive", "canonical", "path_encoding"):
        assert getattr(context, name) is None
    assert SearchContext(SIZES, rounds=10, limits=(None, 3.0, None)).costs == 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sizes": ()}, "sizes"),
        ({"sizes": (3, 0)}, "sizes"),
        ({"rounds": 0}, "rounds"),
        ({"steps": -1}, "steps"),
        ({"targets": (1.0, 2.0)}, "targets has 2 entries; give one for each of the 1 costs"),
        ({"limits": (None, None), "cost_models": (Priced(),)}, "cost_models has 1 entries"),
    ],
)
def test_contexts_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SearchContext(**{"sizes": SIZES, "rounds": 10} | wrong)


def test_every_attribute_that_may_be_needed_exists() -> None:
    context = SearchContext(SIZES, rounds=10)
    assert all(hasattr(context, name) for name in CONTEXT_ATTRIBUTES)


def test_only_what_is_needed_is_worked_out() -> None:
    price = Priced()
    context = SearchContext(SIZES, rounds=10, space=Expensive(), cost_models=[price])  # type: ignore[arg-type]
    RandomSearch.build(SearchContext(SIZES, rounds=10, cost_models=[price]))
    assert price.reads == 0
    assert ProxylessG.build(context).targets == [7.0] and price.reads == 1
    with pytest.raises(AssertionError, match="derive was read"):
        Darts.build(context)


@pytest.mark.parametrize("name", METHODS)
def test_needs_and_settings_are_the_whole_constructor(name: str) -> None:
    cls = find_searcher(name)
    assert set(inspect.signature(cls).parameters) == {"sizes", *cls.needs, *cls.settings()}
    assert all(p.default is not p.empty for p in cls.settings().values())


def defined(needs: tuple[str, ...], *parameters: str, **attributes: Any) -> type[Searcher]:
    """A searcher class whose constructor takes `sizes` and these parameters."""
    scope: dict[str, Any] = {}
    exec(f"def __init__(self, sizes, {', '.join(parameters)}): self.parameters = dict(locals())", scope)
    return type("Mine", (Searcher,), {"needs": needs, "__init__": scope["__init__"], **attributes})


@pytest.mark.parametrize(
    ("needs", "parameters", "says"),
    [
        (
            ("rounds", "limts"),
            ["rounds", "limts=()"],
            r"Mine\.needs has 'limts', which no search context has.*limits",
        ),
        (
            ("rounds", "limits"),
            ["rounds", "limts=()"],
            r"'limits', which its constructor does not take.*'rounds',",
        ),
        (("rounds",), ["rounds", "limits=()"], r"takes 'limits' of the search context.*write needs = \('rounds', 'limits'\)"),
        (("rounds",), ["seed=0"], r"Mine\.needs has 'rounds'"),
        (("rounds",), ["**settings"], r"Mine\.needs has 'rounds'"),
    ],
)
def test_a_misspelt_or_undeclared_need_is_refused(needs: tuple[str, ...], parameters: Sequence[str], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        defined(needs, *parameters)


def test_sizes_come_first() -> None:
    with pytest.raises(TypeError, match="first parameter must be sizes"):

        class Mine(Searcher):
            def __init__(self, rounds: int, seed: int = 0) -> None: ...


@pytest.mark.parametrize("declared", ["target_setting", "warmup_setting"])
def test_a_setting_that_is_named_exists(declared: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine\.{declared} = 'aims', which is no setting.*or one of aim"):
        defined(("rounds",), "rounds", "aim=None", **{declared: "aims"})
    assert getattr(defined(("rounds",), "rounds", "aims=None", **{declared: "aims"}), declared) == "aims"


def test_a_subclass_keeps_what_it_inherits() -> None:
    class Sharper(Ddpnas):
        pass

    assert Sharper.full_validation and Sharper.needs == Ddpnas.needs

    with pytest.raises(TypeError, match=r"Other\.needs has 'additive', which its constructor does not take"):

        class Other(Ddpnas):
            def __init__(self, sizes: Sequence[int], *, rounds: int) -> None: ...


def test_targets_reach_the_setting_that_takes_them() -> None:
    context = SearchContext(SIZES, rounds=10, targets=(2.0,))
    assert ProxylessR.build(context).target == [2.0]
    assert TndNas.build(context).bases == [[2.0]] * 3
    with pytest.raises(ValueError, match="RandomSearch aims at none"):
        RandomSearch.build(context)
    with pytest.raises(ValueError, match="bases and the objectives' targets say the same"):
        TndNas.build(context, bases=3.0)


@pytest.mark.parametrize("name", [n for n in METHODS if find_searcher(n).warmup_setting])
def test_without_shared_weights_there_is_no_warm_up(name: str) -> None:
    if name == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    cls, context = find_searcher(name), SearchContext(SIZES, rounds=20, shared_weights=False, cost_models=[Priced()])
    assert cls.build(context).stage.warmup == cls.build(context, warmup=0.0).stage.warmup == 0
    with pytest.raises(ValueError, match=r"warmup: .* share nothing that could be warmed up"):
        cls.build(context, warmup=0.5)
    shared = SearchContext(SIZES, rounds=20, cost_models=[Priced()])
    assert cls.build(shared).stage.warmup > 0


def test_every_method_that_warms_up_says_so() -> None:
    warming = {name for name in METHODS if "warmup" in find_searcher(name).settings()}
    assert warming == {name for name in METHODS if find_searcher(name).warmup_setting == "warmup"}


def test_plans_and_gradients() -> None:
    context = SearchContext(SIZES, rounds=20, steps=100, cost_models=[Priced()])
    assert TndNas.build(context, keep=(0.5, 0.2)).plan() == (1.0, 0.5, 0.2)
    assert RandomSearch.build(context).plan() == (1.0,)
    assert Darts.build(context).expected_gradients(100) == 100
    assert ProxylessG.build(context, every=5, warmup=0.25).expected_gradients(100) == 15
