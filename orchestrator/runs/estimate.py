"""Estimate of what a run would do and for how long, from a few timed steps in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from orchestrator.cluster.connection import room_for, room_in_words
from orchestrator.config.plan import SearchPlan
from orchestrator.config.spaces import size
from orchestrator.data import inspection
from orchestrator.errors import InputError, attributed_to
from orchestrator.evaluators.base import Differentiable, Evaluator
from orchestrator.machine import threads
from orchestrator.runs.run import check
from orchestrator.spaces.parts.inputs import noun, sized
from searchers import GradientSearcher, Mixture


@dataclass(frozen=True)
class Estimate:
    """Estimate of what a run would do.

    Args:
        seconds: Time that it would take on this machine, without starting up.
        words: What it would do, for people, by title.
        facts: The same as plain values.
    """

    seconds: float
    words: dict[str, str]
    facts: dict[str, Any]


def estimate(plan: SearchPlan) -> Estimate:
    """Say what the run would do, and for how long. Starts no Ray, and writes no file. Raises InputError.

    At `workers.address` it asks the cluster what there is room for.
    """
    workers = plan.workers
    fitting = room_for(workers) if workers.ray else [1]
    room = room_in_words(workers, fitting) if workers.ray else None
    steps_of_search, search = search_time(plan)
    with threads(plan.workers.cpus), attributed_to(plan.plugins, InputError):
        step = _training_step(_here(plan), plan.retraining.parts.batch)
    search *= workers.count / min(workers.count, sum(fitting) or workers.count)
    if plan.budget.seconds is not None:
        search = min(search, plan.budget.seconds)
    problem, data, settings, parts = plan.problem, plan.problem.data, plan.retraining, plan.retraining.parts
    steps, trainings = parts.epochs * (len(data.train) + len(data.valid)) / parts.batch, settings.most * settings.seeds
    # Networks that have several workers each are trained one after the other.
    in_turn = trainings / settings.workers if settings.workers > 1 else math.ceil(trainings / plan.workers.count)
    retraining = in_turn * steps * step
    doubts = [*problem.warnings, *inspection.doubts_about(data)]
    images = {"train": len(data.train), "validation": len(data.valid), "test": len(data.test)}
    words = {
        "data": f"{problem.sources.data.name}: {images['train']} {noun(data.image)}s for weights, {images['validation']} for "
        f"architectures, {images['test']} for the final test; {len(data.classes)} {problem.task.named} of "
        f"{sized(data.image)}",
        **{title: data.notes[title] for title in ("parts", "memory") if title in data.notes},
        "space": f"{problem.sources.space.name}: {size(problem.space)} architectures",
        **({"proxy": "; then ".join(place.words for place in plan.places)} if plan.proxy else {}),
        "searcher": plan.experiment.searcher.name,
        "objectives": ", ".join(o.title for o in problem.objectives),
        "search": _in_words(steps_of_search),
        **({"alone": plan.alone.words(plan.places)} if plan.alone.epochs else {}),
        "workers": f"{plan.workers.count} "
        + ("Ray actors" if plan.workers.ray else "replica, in this process")
        + (f"; {room}" if room else ""),
        "retraining": f"{settings.most} networks of the front" + (f", {settings.words}" if settings.most else ""),
        **({"warning": "; ".join(doubts)} if doubts else {}),
    }
    facts = {
        "data": {"name": problem.sources.data.name, "images": images, "classes": len(data.classes),
            "image": inspection.shape(data)},
        "space": {"name": problem.sources.space.name, "architectures": problem.space.architectures},
        "proxy": plan.proxy.to_dict(),
        "places": [str(place) for place in plan.places],
        "searcher": plan.experiment.searcher.name,
        "objectives": {o.column: o.title for o in problem.objectives},
        "limits": {c: limit for c, limit in zip(problem.columns, problem.limits, strict=True) if limit is not None},
        "search": steps_of_search,
        "workers": {"count": plan.workers.count, "ray": plan.workers.ray, "room": room},
        "retraining": {
            "members": settings.most, "seeds": settings.seeds, "recipe": settings.recipe, "epochs": parts.epochs,
        },
        "warnings": doubts,
        "seconds_of_search": search,
        "seconds_of_retraining": retraining,
    }  # fmt: skip
    return Estimate(search + retraining, words, facts)


def _in_words(steps: Mapping[str, float]) -> str:
    if "rounds" in steps:
        step = 1000 * steps["seconds_per_weight_step"]
        return (
            f"{steps['rounds']} rounds of {steps['weight_steps_per_round']} weight steps, each of about {step:.3g} ms"
            + (f", as it trains {steps['networks_per_step']} networks," if steps["networks_per_step"] > 1 else "")
            + f" on one worker like this machine, about {steps['samples']} samples"
        )
    return f"{steps['networks']} networks, each trained for {steps['epochs']} epochs"


def search_time(plan: SearchPlan) -> tuple[dict[str, float], float]:
    """Count the steps of the search, and its seconds as if `budget.seconds` did not end it. Raises InputError."""
    check(plan)
    here = _here(plan)
    with threads(plan.workers.cpus), attributed_to(plan.plugins, InputError):
        what, search = _search_with_shared_weights(plan, here) if plan.shares_weights else _search_from_scratch(plan, here)
        # What teaches most is bought by its cost in passes of the search, and taken to be bought there.
        passes = {0: plan.alone.teaching}
        for source in plan.alone.sources:
            passes[source.place] = passes.get(source.place, 0) + source.epochs * (source.landmarks + source.finalists)
        for place, epochs in passes.items():
            if epochs:
                step = _training_step(here.at_proxy(plan.places[place]), plan.schedule.batch)
                search += epochs * plan.steps_of_an_epoch(place) * step
    return what, search / plan.workers.count


def _here(plan: SearchPlan) -> SearchPlan:
    """Return the same search in this process, without a GPU where there is none."""
    here = plan.in_process()
    return here if torch.cuda.is_available() else here.varied(workers=replace(here.workers, gpus=0.0))


def _timed(work: Callable[[], Any]) -> float:
    """Time a second pass, in seconds: allocations and kernel choices of the first one do not repeat."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _search_with_shared_weights(plan: SearchPlan, here: SearchPlan) -> tuple[dict[str, float], float]:
    """Count the steps of the search, and return its seconds on one worker."""
    rounds, interval, space = plan.schedule.rounds, plan.budget.interval, plan.problem.space
    evaluator, searcher = here.build_evaluator(), plan.build_searcher()
    samples = searcher.expected(rounds)
    seconds = samples * _timed(_running(plan, evaluator))
    stage, mixtures, mean_step = searcher.stage, searcher.train_on(2), 0.0
    for index, share in enumerate(searcher.plan()):
        # Later stages are deeper and hold fewer options; which ones survive hardly changes the time.
        options = tuple(tuple(range(n))[-max(1, math.floor(share * n + 0.5)) :] for n in space.sizes)
        evaluator.build(replace(stage, index=index, options=options), 1)
        left = [
            Mixture(tuple(tuple(w * (o in kept) for o, w in enumerate(r)) for r, kept in zip(m.weights, options, strict=True)))
            for m in mixtures
        ]
        step = _timed(lambda left=left: evaluator.train(left)) / len(left)  # type: ignore[misc]
        mean_step += step / stage.stages
        survivor = tuple(kept[-1] for kept in options)
        measuring = _timed(_measuring(evaluator, survivor, searcher.full_validation))
        seconds += (rounds * interval * step + samples * measuring) / stage.stages
    if isinstance(searcher, GradientSearcher) and isinstance(evaluator, Differentiable):
        while (mixture := searcher.relax()) is None:
            searcher.train_on(1)
        gradient = _timed(lambda: evaluator.differentiate(mixture, 0, searcher.unrolled))
        seconds += searcher.expected_gradients(rounds * interval) * gradient
    evaluator.rest()
    steps: dict[str, float] = {"rounds": rounds, "weight_steps_per_round": interval, "samples": round(samples)}
    return steps | {"networks_per_step": plan.networks_per_step, "seconds_per_weight_step": mean_step}, seconds


def _measuring(evaluator: Evaluator, architecture: tuple[int, ...], full: bool) -> Callable[[], Any]:
    return lambda: evaluator.measure([architecture]) if full else evaluator.measure_on_batch([architecture], 0)


def _running(plan: SearchPlan, evaluator: Evaluator) -> Callable[[], Any]:
    """Return what runs the largest network for the objectives that need it."""
    largest, scores = [plan.problem.space.largest()], plan.problem.scores
    return lambda: (evaluator.measure_on_device(largest), evaluator.score(largest, scores))


def _search_from_scratch(plan: SearchPlan, here: SearchPlan) -> tuple[dict[str, float], float]:
    """Count the steps of the search, and return its seconds on one worker."""
    data, largest = plan.trained.data, plan.problem.space.largest()
    settings = plan.experiment.training.settings
    each, samples = settings["epochs"], plan.schedule.rounds * plan.workers.count
    # A few steps of the largest network tell what an epoch takes.
    images = min(len(data.train), 4 * settings["batch"])
    few = replace(data, train=data.train.select(np.arange(images)), source=None)
    short = replace(here.experiment.training, settings={**settings, "epochs": 1})
    one_epoch = here.at_proxy().varied(training=short).on(few).build_evaluator()
    evaluator = here.build_evaluator()
    seconds = _timed(lambda: one_epoch.measure([largest])) * each * len(data.train) / images
    seconds += _timed(_running(plan, evaluator))
    return {"networks": samples, "epochs": each}, samples * seconds


def _training_step(here: SearchPlan, batch: int) -> float:
    """Time a training step of the largest network, trained alone, in seconds."""
    data, device = here.problem.data, here.workers.device
    network = here.problem.space.network(here.problem.space.largest()).to(device)
    x = data.normalise(data.train.images[:batch].to(device))
    return _timed(lambda: network(x).sum().backward())
