"""A run from end to end in its directory: search, retraining of the front, report. Each step resumes where it stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from analysis import records
from orchestrator.cluster import trials
from orchestrator.cluster.connection import check_fit, cluster, local_resources
from orchestrator.cluster.storage import blind_nodes
from orchestrator.cluster.tasks import held, in_task
from orchestrator.config.plan import SearchPlan
from orchestrator.errors import InputError, Interrupted, RunError, attributed_to, doing
from orchestrator.machine import threads
from orchestrator.objectives.base import Probe
from orchestrator.objectives.measured import MeasuredObjective
from orchestrator.objectives.own import NetworkFunction
from orchestrator.runs import sweep, tracking
from orchestrator.runs.directory import create, is_finished, reopen, share_spent, timing_is_due
from orchestrator.runs.halving import Halving, found_by
from orchestrator.runs.mirror import mirrored
from orchestrator.runs.pricing import is_priced, price_front
from orchestrator.runs.report import write_report
from orchestrator.runs.retraining import front_members, retrain_front
from orchestrator.runs.status import Recording
from orchestrator.runs.watcher import Watcher
from orchestrator.search import retraining, sums
from orchestrator.search.checkpoint import alone_in
from orchestrator.search.control import stop_file
from orchestrator.search.coordinator import Coordinator, is_complete
from orchestrator.search.logs import logging_to
from orchestrator.search.progress import Round
from orchestrator.search.rehearsal import rehearse


class _Paused(Interrupted):
    """End of a run where it was to pause."""


def check(plan: SearchPlan) -> None:
    """Check all that depends on the data and on this machine, before anything starts. Raises InputError."""
    tracking.check(plan.experiment.logging)
    if plan.retraining.most:
        retraining.check(plan)
    if plan.workers.address is None:
        check_fit(plan.workers, local_resources(), _trainers(plan))
        for probe in (*plan.problem.probes, *(o for o in plan.problem.later if isinstance(o, Probe))):
            probe.check(plan.workers.device)
    for objective in (*plan.problem.objectives, *plan.problem.later):
        if isinstance(objective, NetworkFunction) and objective.resources and not plan.workers.ray:
            section = objective.direction.section
            raise InputError(f"{section}.resources are Ray's, and workers.ray is false; leave one of them out")
    with attributed_to(plan.plugins, InputError):
        plan.build_searcher()
        rehearse(plan)
        plan.in_process().build_evaluator()


def go(
    plan: SearchPlan,
    directory: Path,
    watcher: Watcher,
    *,
    new: bool = False,
    searches: Sequence[tuple[dict[str, Any], SearchPlan]] = (),
    until: float = math.inf,
) -> None:
    """Do what is left of the run.

    Args:
        plan: The search, or the first one of a sweep.
        directory: The run directory.
        watcher: Notified of everything.
        new: Make the directory first, once the workers are known to have a place.
        searches: Searches of a new sweep, with the settings in which they differ.
        until: Share of the budget after which a single search pauses, and with it the run.

    Raises:
        Interrupted: Where the stop file ended the run, with its state saved.
    """
    directory = directory.resolve()  # trials change their working directory
    count = len(searches) or len(sweep.settings_of(directory)) or 1
    _equip(plan, directory)
    for warning in (*plan.problem.warnings, *plan.problem.data.warnings):
        watcher.warning(warning)
    searched = not new and is_searched(plan, directory)
    idle = searched and is_priced(plan, directory) and all(member.done for member in front_members(plan, directory))
    connected = plan.workers.ray and not idle
    resources = held((*plan.problem.objectives, *plan.problem.later))
    told = watcher
    with (
        suppress(_Paused),
        mirrored(directory, lambda text: told.warning(text)),
        attributed_to(plan.plugins),
        cluster(plan.workers, count, plan.retraining.workers, resources, lambda text: told.waiting(text))
        if connected
        else nullcontext(),
    ):
        if new and searches:
            sweep.create(directory, [(settings, chosen.experiment) for settings, chosen in searches])
        elif new:
            create(plan.experiment, directory)
        kind = tracking.SWEEP if sweep.settings_of(directory) else tracking.SEARCH
        with (
            alone_in(directory, "run.lock"),
            logging_to(directory),
            tracking.tracked(directory, plan.experiment.logging, watcher, kind, plan.problem.columns) as watching,
        ):
            told = recording = Recording(watching, directory, plan.workers.words)
            with recording.until_the_end():
                if connected and (blind := blind_nodes(directory)):
                    watcher.warning(
                        f"{', '.join(blind)} cannot see {directory}: replicas run there, but networks are trained from scratch "
                        "on this node alone; write --out=DIR on storage that all nodes share to have them trained everywhere"
                    )
                _steps(plan, directory, recording, searched, until)


def _steps(plan: SearchPlan, directory: Path, watcher: Watcher, searched: bool, until: float) -> None:
    """Search, retrain the front and write the report, each as far as it is not done yet; arguments as for `go`."""
    stop_file(directory).unlink(missing_ok=True)
    swept = bool(sweep.settings_of(directory))
    with watcher.phase(), doing(f"searching, in {directory}"):
        finished = searched or (_sweep(plan, directory, watcher) if swept else _search(plan, directory, watcher, until))
    if swept:
        sweep.merge(directory)
    if not finished:
        raise Interrupted
    if until < 1:
        raise _Paused
    with watcher.phase(), doing(f"measuring the dear objectives of the front, in {directory}"):
        price_front(plan, directory, watcher)
    with watcher.phase(), doing(f"retraining the front, in {directory}"):
        failed = retrain_front(plan, directory, watcher)
    with doing(f"writing the report, in {directory}"):
        write_report(plan, directory)
    if failed and all(member.failed for member in front_members(plan, directory)):
        raise RunError(
            f"the search is finished, and its report is written, but not one of {len(failed)} networks of the front "
            f"could be trained, the last: {list(failed.values())[-1]}"
        )


def _equip(plan: SearchPlan, directory: Path) -> None:
    """Tell objectives that measure where to keep that, and how a task is run."""
    for objective in (*plan.problem.objectives, *plan.problem.later):
        if isinstance(objective, MeasuredObjective):
            objective.keep_in(directory / records.MEASURED)
        if isinstance(objective, NetworkFunction) and plan.workers.ray:
            objective.elsewhere = in_task


def _trainers(plan: SearchPlan) -> int:
    return plan.retraining.workers if plan.retraining.most else 1


def is_done(plan: SearchPlan, directory: Path) -> bool:
    """Tell whether nothing is left to do in a run directory: its search, the retraining of the front, the report."""
    report, summary = directory / "report.html", directory / records.SUMMARY
    if not is_searched(plan, directory) or not report.exists() or report.stat().st_mtime_ns < summary.stat().st_mtime_ns:
        return False
    if not is_priced(plan, directory):
        return False
    members = front_members(plan, directory)
    # A run without any member that could be trained says so each time.
    return all(member.done for member in members) and not (members and all(member.failed for member in members))


def is_searched(plan: SearchPlan, directory: Path) -> bool:
    """Tell whether the search, or each search of a sweep, is finished, of this very experiment, and has its results."""
    folders = sweep.folders(directory) if sweep.settings_of(directory) else [directory]
    if not sums.intact(directory):
        return False
    try:
        front_members(plan, directory)
    except (OSError, ValueError):  # missing or damaged, and written again from the records
        return False
    plans = [plan if folder == directory else reopen(folder, plan.problem) for folder in folders]
    return all(map(is_finished, folders)) and all(map(is_complete, plans, folders))


def _search(plan: SearchPlan, directory: Path, watcher: Watcher, until: float) -> bool:
    if plan.workers.ray:
        return trials.search(plan, directory, watcher.search, detailed=watcher.detailed, until=until, waiting=watcher.waiting)
    with threads(plan.workers.cpus):
        return Coordinator(plan, directory, plan.build_evaluator()).run(stop_file(directory).exists, watcher.search, until)


def _sweep(plan: SearchPlan, directory: Path, watcher: Watcher) -> bool:
    """Run the unfinished searches of a sweep: in parallel with Ray, one after the other without.

    With halving, all of them come as far as the next comparison before any goes on, so that who is stopped depends neither on
    their order nor on the moments of a resume, and a search that goes on has the records that it would have alone.
    """
    # They agree in their data, space and objectives.
    points = [(reopen(folder, plan.problem), folder) for folder in sweep.folders(directory)]
    halving = Halving(directory, plan.experiment.sweep)
    numbers = {folder.name: i for i, (_, folder) in enumerate(points)}

    def over(index: int) -> bool:
        own, folder = points[index]
        return is_finished(folder) and is_complete(own, folder)

    fractions = [float(over(i)) for i in range(len(points))]

    def show(index: int, happened: Round) -> None:
        fractions[index] = happened.progress.fraction
        watcher.sweep(index, fractions, happened)

    def search(indices: Sequence[int], *, until: float = math.inf, conclude: bool = False, timing: bool) -> bool:
        """Search as far as `until`, and pause or conclude there; tells whether nobody asked to stop before."""
        if plan.workers.ray and indices:
            chosen = [points[i] for i in indices]
            observe = lambda i, happened: show(indices[i], happened)  # noqa: E731
            told: dict[str, Any] = {"until": until, "conclude": conclude, "timing": timing, "detailed": watcher.detailed}
            return all(trials.searches(chosen, directory, observe, waiting=watcher.waiting, **told))
        with threads(plan.workers.cpus):
            for i in indices:
                own, folder = points[i]
                coordinator = Coordinator(own, folder, own.build_evaluator(), timing=timing)
                heard = lambda happened, i=i: show(i, happened)  # noqa: E731
                if not coordinator.run(stop_file(directory).exists, heard, until, conclude=conclude):
                    return False
        return True

    # Side by side they would disturb each other's timings, which are made one after the other instead.
    side_by_side = plan.workers.ray and len(points) > 1
    timing = not side_by_side or not any(objective.spread for objective in plan.problem.objectives)
    while True:
        left = [i for i in range(len(points)) if not over(i)]
        stopped = {i: halving.stopped[points[i][1].name].share for i in left if points[i][1].name in halving.stopped}
        for share in dict.fromkeys(stopped.values()):
            if not search([i for i in stopped if stopped[i] == share], until=share, conclude=True, timing=timing):
                return False
        fractions = [1.0 if i in stopped else fraction for i, fraction in enumerate(fractions)]
        going = [i for i in left if i not in stopped]
        if (due := halving.next(list(numbers))) is None:
            break
        if not search([i for i in going if share_spent(points[i][1]) < due], until=due, timing=timing):
            return False
        found = {name: found_by(*points[numbers[name]]) for name in halving.going(list(numbers))}
        compared = halving.compare(due, found, [name for name in found if over(numbers[name])], together=True)
        watcher.news(compared.words)
    if not search(going, timing=timing):
        return False
    untimed = [i for i, (_, folder) in enumerate(points) if timing_is_due(folder)] if plan.workers.ray else []
    return all(search([i], timing=True) for i in untimed)
