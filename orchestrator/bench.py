"""Searchers on a table: what each proposes, evaluation by evaluation, within a budget of different architectures."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from orchestrator import names
from orchestrator.errors import InputError
from orchestrator.evaluators.table import Table
from orchestrator.rounds import rounds
from searchers import Architecture, Evaluation, Searcher


def play(table: Table, name: str, settings: dict[str, Any], budget: int, seed: int) -> list[Evaluation]:
    """The different architectures that a searcher asks for, in their order, up to `budget` of them.

    A method with a schedule is given one that fits the budget, without warm-up, as a table has no weights to train. One that
    has finished, or asks for nothing new any more, begins again with another seed.
    """
    found: dict[Architecture, Evaluation] = {}
    for attempt in range(budget):
        before = len(found)
        _once(table, name, settings, budget, seed + 1_000_003 * attempt, found)
        if len(found) >= budget or len(found) == before:
            break
    return list(found.values())


def _once(
    table: Table, name: str, settings: dict[str, Any], budget: int, seed: int, found: dict[Architecture, Evaluation]
) -> None:
    searcher = build(table, name, settings, budget, seed)  # how many rounds there are depends on how much a round asks for
    searcher = build(table, name, settings, math.ceil(budget / searcher.samples), seed)

    def assess(asked: Sequence[Architecture]) -> list[Evaluation]:
        told = []
        for a in asked:
            if a not in found and len(found) < budget:
                found[a] = Evaluation(a, tuple(table.measure([a], None)[0].values()))
            told.append(found.get(a) or Evaluation(a, tuple(table.measure([a], None)[0].values())))
        return told

    endless = rounds(searcher, table, assess, 1, lambda: budget)
    for _ in range(searcher.stage.rounds * searcher.stage.stages):
        next(endless)
        if len(found) >= budget:
            return
    assess(searcher.derive())


def build(table: Table, name: str, settings: dict[str, Any], length: int, seed: int) -> Searcher:
    """The searcher for `length` rounds on the table. Raises InputError for what it does not take."""
    cls = names.find("searcher", name)
    takes = inspect.signature(cls).parameters
    space = table.space
    costs: dict[str, Any] = {
        "parameters": lambda: space.additive("parameters"),
        "params": lambda: space.additive("parameters"),
        "macs": lambda: space.additive("macs"),
    }
    given: dict[str, Any] = {
        "rounds": length,
        "steps": length,
        "costs": len(table.columns) - 1,
        "additive": [costs.get(column, lambda: None)() for column in table.columns[1:]],
        "joins": space.joins,
        "absent": space.absent,
        "plain": space.plain,
        "phases": space.phases,
        "derive": space.derive,
        "canonical": space.canonical,
        "seed": seed,
    }
    if "warmup" in takes:
        settings = {"warmup": 0.0} | settings
    checked = names.keywords(cls, settings, "searcher", supplied=("sizes", "limits", *given))
    made = names.build(cls, checked, "searcher", space.sizes, **{k: v for k, v in given.items() if k in takes})
    if not isinstance(made, Searcher):
        raise InputError(f"{name} is no searcher")
    return made
