"""Sentences and small tables of a report, made from the tables of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis import front_table, members
from analysis.records import (
    CONFIDENCE,
    MEMBER,
    RETRAINING_FAILED,
    STANDING,
    TIED_WITH,
    forecast_of,
    measurements,
    reasons,
    tested,
    training,
)
from analysis.run import Run


def facts(run: Run) -> list[tuple[str, str]]:
    """Values for the top of the page, each with its label."""
    summary, spent = run.summary, run.summary["spent"]
    facts = [(f"{summary['hypervolume']:.3f}", "hypervolume of the front"), (str(len(run.front)), "networks on the front")]
    trained = members.retrained(run.members)
    if len(trained):
        best = members.on_front(run.members)
        lowest = trained.nsmallest(1, tested(run.error).value).iloc[0]
        order, foretold = members.agreement(run.members, run.error), members.foretold(run.members, summary)
        facts = [
            (
                front_table.test_error(lowest),
                f"lowest {front_table.test_title(summary['objectives'][run.error])}, of network {lowest[MEMBER]}",
            ),
            (f"{len(best)} of {len(trained)}", "retrained networks stay on the front"),
            (f"{members.hypervolume(run.members, summary):.3f}", "hypervolume of the retrained front"),
            (f"{summary['hypervolume']:.3f}", "hypervolume of the search's front, by its own errors"),
            *([(f"{order.value:+.2f}", "tau of the search's order with the true one")] if order.known else []),
            *([(f"{foretold[0]} of {foretold[1]}", "retrained networks are within the search's forecast")] if foretold else []),
            (str(len(run.front)), "networks on the search's front"),
        ]
    return [
        *facts,
        (f"{spent['evaluations']:,}", "samples measured"),
        (f"{spent['architectures']:,}", "different architectures"),
        *([(f"{summary['failed']:,}", "networks failed")] if summary.get("failed") else []),
        *([(f"{skipped:,}", "weight steps left out")] if (skipped := spent.get("weight_steps_skipped", 0)) else []),
        *([(f"{images:,}", "images trained on")] if (images := spent.get("images_trained_on")) else []),
        (f"{spent['seconds']:.0f} s", "of search"),
    ]


def notes(run: Run) -> list[str]:
    """Warn of what limits the results."""
    interrupted = not run.summary["finished"] and not run.summary.get("running")
    said = ["This search was interrupted: what follows is its state at that moment."] if interrupted else []
    if raised := run.summary.get("raised_after"):
        epochs = " and ".join(f"{leg['epochs']:g}" for leg in raised)
        said.append(
            f"The budget was raised after {epochs} epochs, and the search went on from there; one that has the whole budget "
            "from the start is another search."
        )
    if run.summary["limits"]:
        none = " No network that was measured keeps the limits." if run.front.empty else ""
        said.append(f"Only networks with {front_table.limits(run.summary)} count.{none}")
    if proxy := run.summary.get("proxy"):
        said.append(
            f"Weights were trained and errors measured at a proxy: {proxy['words']}. All other costs, and test errors from "
            "scratch, are those of the networks at full size."
        )
    if places := run.summary.get("trained_alone"):
        counts = [f"{p['landmarks'] + p['finalists']} for {p['epochs']} epochs at {p['words']}" for p in places]
        said.append(
            f"Besides, networks were trained alone: {', '.join(counts)}. The error of the front is the one expected at "
            f"{places[-1]['words']}; the column `proxy` of evaluations.csv says where each one was measured."
        )
    warnings = [*run.summary.get("warnings", []), *members.noisy(run.members, run.summary)]
    said += [f"{warning[0].upper()}{warning[1:]}." for warning in warnings]
    if halving := run.summary.get("halving"):
        said.append(
            "Searches were compared by the hypervolume of what they had found, with one reference point; those that were best "
            f"together went on, and the others were stopped (successive halving): {'; '.join(halving)}. What the stopped ones "
            "had found counts in the front."
        )
    if "searches" in run.summary:
        said.append(
            "Several searches, each with its own weights; the front is the non-dominated set of their fronts. Errors of "
            "different searches are comparable only if their weights are equally good: compare the test errors instead."
        )
    return said


def searches(summary: dict[str, Any]) -> list[list[str]]:
    """Rows of the table of searches in a sweep: settings and results of each, and why it was stopped where some were."""
    rows = []
    halved = any("stopped" in search for search in summary.get("searches", []))
    for search in summary.get("searches", []):
        settings = ", ".join(f"{key} = {value}" for key, value in search["settings"].items())
        results = [f"{search['hypervolume']:.3f}", str(search["on_merged_front"])]
        spent = [f"{search['evaluations']:,}", f"{search['seconds']:.0f}"]
        rows.append([settings, *results, *spent, *([search.get("stopped", "")] if halved else [])])
    return rows


def failures(run: Run) -> list[tuple[str, str, str]]:
    """Rows of the table of failures: the reason, the number of networks, and one of them."""
    rows = [] if run.failures is None else [(r, f"{n:,}", arch) for r, n, arch in reasons(run.failures)]
    retrained: Mapping[str, str] = run.summary.get(RETRAINING_FAILED, {})
    numbers = {str(arch): str(number) for arch, number in zip(run.front["arch"], run.front[MEMBER], strict=True)}
    return rows + [
        (f"{training(run.summary)} at the end: {reason}", "1", f"network {numbers.get(arch, '?')}: {arch}")
        for arch, reason in retrained.items()
    ]


def table_note(run: Run) -> str:
    """Explain the table of the front."""
    trained, summary = members.retrained(run.members), run.summary
    name, note = front_table.name_of(summary["objectives"][run.error]), ""
    intervals = "which follow from the number of test images (Wilson)"
    if name != "error":
        intervals = "by a percentile bootstrap over the test examples"
    if len(trained):
        note = (
            f"{len(trained)} of {len(run.front)} members of the search's front were "
            f"{members.protocol(run.members, summary)}, which the search never used. The front was made anew from them, by "
            f"test {name} and the other objectives. "
            f"{'Test errors have' if name == 'error' else f'The test {name} has'} {CONFIDENCE:.0%} intervals, {intervals}. "
        )
        if (trained[STANDING] == members.BEATEN).any():
            note += "A beaten network, in grey, is no better in anything than the one that is named. "
    foretold = forecast_of(run.error)[0] in run.members
    if summary["weights"] != "shared":
        note += (
            f"In the search each network was trained from scratch. That {name} is on the validation set, which the search used "
            "for decisions."
        )
    elif foretold:
        note += (
            f"The {name} in the search is the one expected after a short training of the network alone, on the validation set, "
            "which the search used for its decisions."
        )
    else:
        note += (
            f"The {name} in the search is an estimate with shared weights on the validation set, which the search used for its "
            f"decisions. It ranks networks; it is not the {name} that they reach when trained alone."
        )
    counts = measurements(run.front)
    if len(counts):
        note += (
            f" It is a posterior mean with a {CONFIDENCE:.0%} interval, from {_range(counts)} of each network and those of "
            f"similar ones. The test {name} after full training is another quantity, and need not lie in it."
        )
    if foretold:
        note += f" The forecast is of that: it extrapolates what a longer training takes off, with a {CONFIDENCE:.0%} interval."
    if summary["spreads"]:
        when = "again after the search, alone" if summary.get("timed_again") else "while the search ran"
        note += f" Members were timed {when}; ± there is the interquartile range of repeated timings."
        if TIED_WITH in run.members and run.members[TIED_WITH].notna().any():
            note += " A tie: another network is no worse, but for timings that differ by less than both ranges together."
    return note


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,} measurement{'s' * (low != 1)}" if low == high else f"{low:,} to {high:,} measurements"


def protocol(summary: dict[str, Any]) -> list[str]:
    """Say how it was measured."""
    titles = summary["objectives"]
    reference = ", ".join(
        f"{front_table.name_of(titles[c])} {front_table.with_unit(titles[c], c, v)}"
        for c, v in summary["reference_point"].items()
    )
    hardware, workers = summary["hardware"], summary["workers"]
    data, versions = summary["data"], summary["versions"]
    machines = [", ".join(f"{key} {value}" for key, value in m.items()) for m in summary.get("machines", [])]
    bits = ", whose numbers may differ in the last bits" if len(machines) > 1 else ""
    threads = f"{workers['cpus']} CPU thread{'s' * (workers['cpus'] > 1)} and {workers['gpus']:g} GPUs each"
    where = f"{workers['count']} Ray actor{'s' * (workers['count'] > 1)}" if workers["ray"] else "one process, without Ray"
    proxy = f" (at the proxy: {summary['proxy']['words']})" if "proxy" in summary else ""
    derived = [f"The method's own final choice: {', '.join(summary['derived'])}."] if summary["derived"] else []
    return [
        *derived,
        f"Hypervolume: share of the box between 0 and the reference point ({reference}), computed by pymoo.",
        "The front is taken among architectures measured on the full validation set; samples on one batch only guide.",
        f"{summary.get('examples', 'images').capitalize()}: {data['train']:,} for weights, {data['valid']:,} for architecture "
        f"decisions{proxy}, {data['test']:,} for testing.",
        f"Seed {summary['seed']}; {where}, {threads}.",
        f"{hardware['cpu']}, {hardware['cores']} cores; {hardware['system']}.",
        *([f"Machines that took part{bits}: {'; '.join(machines)}."] if machines else []),
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
