"""The proxy that `proxy = "auto"` stands for: as little given up as the time allowed needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from orchestrator.config.plan import SearchPlan
from orchestrator.config.problem import Problem
from orchestrator.config.settings import Proxy
from orchestrator.errors import InputError
from orchestrator.runs.display import duration
from orchestrator.runs.estimate import search_time

PIXELS, CHANNELS = 8, 8
"""Pixels and channels below which the rule does not go: there is no measurement in which fewer told good networks apart."""
SAVED = 0.25
"""Share of the target's time that a proxy has to save at least."""
LEAST = 0.05
"""Share of the images below which the rule does not go."""


def settled(plan: SearchPlan) -> tuple[SearchPlan, str | None]:
    """Return the plan with the proxy that `proxy = "auto"` stands for, and the reason in words; any other plan as it is.

    The search is timed at the target, then at ever smaller proxies, until it fits into `budget.seconds`. Resolution is given up
    first, then width, then depth, and the length of training last, as a share of the images: a short schedule that comes to its
    end ranks better than a long one that is cut off.

    Raises:
        InputError: Without a time, and for what cannot run at all.
    """
    if isinstance(plan.experiment.proxy, Proxy):
        return plan, None
    allowed = plan.budget.seconds
    if allowed is None:
        raise InputError('proxy = "auto" is chosen by the time allowed; write budget.seconds=..., or one such as proxy.size=8')

    def seconds(proxy: Proxy) -> float:
        return search_time(plan.varied(proxy=proxy))[1]

    chosen, whole = Proxy(), seconds(Proxy())
    limit, at_target = f"the {duration(allowed)} allowed", f"at the target it takes about {duration(whole)}"
    if whole <= allowed:
        return plan.varied(proxy=chosen), f"none: {at_target} of {limit}"
    took = whole
    for chosen in _smaller(plan.problem):
        took = seconds(chosen)
        if took <= allowed:
            break
    if took > (1 - SAVED) * whole:
        tried = f"with {chosen.words} about {duration(took)}" if chosen else "nothing can be smaller"
        return plan.varied(proxy=Proxy()), f"none, as it would not help: {at_target}, {tried}; the search ends after {limit}"
    if took > allowed:
        shorter = replace(chosen, share=max(LEAST, math.floor(100 * allowed / took) / 100))
        with suppress(InputError):  # a class would have no image left
            plan.problem.at(shorter)
            chosen, took = shorter, took * shorter.share
    end = "" if took <= allowed else f" and ends after {limit}"
    lost = _given_up(plan.problem, chosen)
    return plan.varied(proxy=chosen), f"given up: {lost}; the search takes about {duration(took)}{end}, {at_target}"


def _smaller(problem: Problem) -> Iterator[Proxy]:
    """Yield ever smaller proxies: fewer pixels, then fewer channels, then fewer cells, each halved."""
    own = _extent(problem)
    proxy = Proxy()
    for key, least in (("size", PIXELS), ("channels", CHANNELS), ("cells", 1)):
        value = own.get(key, 0)
        while (value := math.ceil(value / 2) if value > 1 else 0) >= least:
            smaller = Proxy(**{**proxy.numbers, key: value})  # type: ignore[arg-type]
            try:
                problem.at(smaller)
            except InputError:
                break  # it cannot be as small
            proxy = smaller
            yield proxy


def _extent(problem: Problem) -> dict[str, int]:
    """Return what a proxy could have less of, by key; only images can be smaller."""
    size = {"size": min(problem.data.image[1:])} if problem.data.has_images and not problem.task.maps else {}
    return {**size, **problem.space.extent}


def _given_up(problem: Problem, proxy: Proxy) -> str:
    """Say in words what a proxy has less of."""
    own = _extent(problem)
    names = {"size": "pixels"}
    lost = [f"{names.get(key, key)} {own[key]} -> {value}" for key, value in proxy.numbers.items()]
    lost += (
        [f"training {'images' if problem.data.has_images else 'examples'} -> {100 * proxy.share:.3g} %"]
        if proxy.share < 1
        else []
    )
    return ", ".join(lost)
