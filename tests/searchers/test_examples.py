"""Examples in the docstrings of searchers do what they say, and every method has one."""

import doctest
import importlib

import pytest

from orchestrator import registry as names
from orchestrator.config.experiment import find_searcher

METHODS = names.known("searcher")


@pytest.mark.parametrize("module", ["base", *METHODS])
def test_examples_run(module: str) -> None:
    if module == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    ran = doctest.testmod(importlib.import_module(f"searchers.{module.replace('-', '_')}"))
    assert ran.attempted and not ran.failed


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_is_documented(name: str) -> None:
    cls = find_searcher(name)
    doc = cls.__doc__ or ""
    for parameter in ("sizes", *cls.needs, *cls.settings()):
        assert f"    {parameter}: " in doc, f"{cls.__name__} says nothing of {parameter}"
