"""The proxy that the time allowed leaves, by costs that are known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config.plan import SearchPlan
from orchestrator.config.settings import Proxy
from orchestrator.data.dataset import Dataset, Raw, Split
from orchestrator.errors import InputError
from orchestrator.runs import proxy
from tests.helpers import assert_refused, call, tiny_plan, write_toml

WHOLE = 1000.0


@pytest.fixture
def images() -> Dataset:
    labels = np.repeat(np.arange(4), 40)
    return Split().apply(Raw(np.zeros((160, 3, 32, 32), np.uint8), labels, None, tuple("abcd"), False, 4))


def plan_of(images: Dataset, seconds: float | None) -> SearchPlan:
    space = {"channels": 16, "cells": 5, "supernet_cells": [5]}
    return tiny_plan(images, space=space, budget={"seconds": seconds} if seconds else {}, proxy="auto")


def timed(monkeypatch: pytest.MonkeyPatch, fixed: float = 0.0) -> list[str]:
    """Let a search take 1,000 s at the target, of which a share is fixed and the rest follows MACs and images."""
    asked: list[str] = []

    def search_time(plan: SearchPlan) -> tuple[str, float]:
        asked.append(str(plan.proxy))
        here, target = plan.trained, plan.problem
        macs = [problem.space.macs(problem.space.largest()) * len(problem.data.train) for problem in (here, target)]
        return "", WHOLE * (fixed + (1 - fixed) * macs[0] / macs[1])

    monkeypatch.setattr(proxy, "search_time", search_time)
    return asked


@pytest.mark.parametrize(
    ("seconds", "chosen", "said"),
    [
        (1000, Proxy(), "none: at the target it takes about 16 min 40 s of the 16 min 40 s allowed"),
        (400, Proxy(size=16), "given up: pixels 32 -> 16; the search takes about 4 min 10 s, at the target"),
        (100, Proxy(size=8), "given up: pixels 32 -> 8; the search takes about 1 min 03 s"),
        (30, Proxy(size=8, channels=8), "pixels 32 -> 8, channels 16 -> 8"),
        (10, Proxy(size=8, channels=8, cells=3), "pixels 32 -> 8, channels 16 -> 8, cells 5 -> 3"),
        (2, Proxy(size=8, channels=8, cells=1, share=0.55), "cells 5 -> 1, training images -> 55 %; .* about 2 s"),
        (0.1, Proxy(size=8, channels=8, cells=1, share=0.05), "training images -> 5 %; .* ends after the 0 s allowed"),
    ],
)  # fmt: skip
def test_pixels_go_before_channels_before_cells_before_images(
    monkeypatch: pytest.MonkeyPatch, images: Dataset, seconds: float, chosen: Proxy, said: str
) -> None:
    asked = timed(monkeypatch)
    plan, why = proxy.settled(plan_of(images, seconds))
    assert (plan.proxy, bool(re.search(said, why or ""))) == (chosen, True), why
    assert asked[0] == "target" and len(asked) == len(set(asked))
    assert proxy.settled(plan) == (plan, None)
    assert ("proxy" in plan.experiment.to_dict()) == bool(chosen)


def test_where_it_saves_too_little_there_is_none(monkeypatch: pytest.MonkeyPatch, images: Dataset, digits: Dataset) -> None:
    timed(monkeypatch, fixed=0.9)
    plan, why = proxy.settled(plan_of(images, 500))
    assert not plan.proxy and "none, as it would not help: " in str(why) and "with images of 8 pixels" in str(why)
    keys = {"space": {"name": "digits-tiny"}, "searcher": {"name": "random-search"}, "budget": {"seconds": 5}}
    tiny = tiny_plan(digits, **keys, proxy="auto")
    plan, why = proxy.settled(tiny)
    assert not plan.proxy and "nothing can be smaller; the search ends after the 5 s allowed" in str(why)


def test_it_needs_a_time_and_is_settled_when_a_search_begins(digits: Dataset, images: Dataset) -> None:
    with pytest.raises(InputError, match=r"write budget\.seconds="):
        proxy.settled(plan_of(images, None))
    with pytest.raises(InputError, match=r"is chosen when .* --dry-run. shows"):
        plan_of(images, 5).build_evaluator()
    assert plan_of(images, 5).experiment.to_dict()["proxy"] == "auto"


def test_a_dry_run_shows_it_and_the_run_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_toml(tmp_path, searcher={"name": "random-search"}, budget={"epochs": 2, "seconds": 900})
    timed(monkeypatch)
    shown = call("search", path, "proxy=auto", "--dry-run")
    assert "proxy       auto: given up: cells 2 -> 1; the search takes about " in shown.output, shown.output
    done = call("search", path, "proxy=auto", "--out", tmp_path / "run")
    assert done.exit_code == 0 and "proxy = auto: given up: cells 2 -> 1" in done.output, done.output
    assert "[proxy]\ncells = 1\n" in (tmp_path / "run/experiment.toml").read_text()
    assert_refused(call("search", path, "proxy=small"), "proxy = 'small'; it is a section, write for example proxy.size=")
