"""Report of a run: one HTML file that opens offline, and its figures as PNG."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis import drawing, front_table, members, plots, trust_section
from analysis.curves import hypervolume_curve
from analysis.files import replacing, write_text
from analysis.graphs import Graph
from analysis.pareto import violations
from analysis.plots import Picture
from analysis.records import (
    CONFIDENCE,
    MEMBER,
    RETRAINING_FAILED,
    SAMPLE,
    STANDING,
    TEST_ERROR,
    TIED_WITH,
    margins,
    measurements,
    reasons,
    samples_of,
    spreads_of,
)
from analysis.trust_section import Known

_PANELS = 28
"""Largest number of choices shown of a policy: those of a pair of cells."""


@dataclass(frozen=True)
class Run:
    """Tables of a finished or interrupted run.

    Args:
        title: Heading of the page.
        lead: Introductory paragraph.
        summary: Content of summary.json.
        evaluations: Rows of evaluations.csv.
        front: Rows of front.csv, as `records.read_front` returns them.
        retrained: Rows of retrained.csv, as `records.read_retrained` returns them, or None.
        policy: Rows of policy.csv, or None for a method without a policy.
        choices: Names of the options of each choice.
        drawings: For each architecture of the front its graphs, by title.
        known: Knowledge of the space about all architectures in these tables.
        experiment: Text of experiment.toml, for the appendix.
        trust: Rows of trust.csv, or None before `paretoray trust` has run.
        ranking_quality: Content of trust.json, likewise.
        references: Networks to compare with: `name`, `test_error_percent`, `parameters` and `macs`.
        failures: Rows of failures.csv, or None where there are none.
        undrawn: Architectures of the front without a drawing, and why.
    """

    title: str
    lead: str
    summary: dict[str, Any]
    evaluations: pd.DataFrame
    front: pd.DataFrame
    retrained: pd.DataFrame | None
    policy: pd.DataFrame | None
    choices: Mapping[str, Sequence[str]]
    drawings: Mapping[str, Mapping[str, Graph]]
    known: Known
    experiment: str
    trust: pd.DataFrame | None = None
    ranking_quality: dict[str, Any] | None = None
    references: Sequence[Mapping[str, float | str]] = ()
    failures: pd.DataFrame | None = None
    undrawn: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def members(self) -> pd.DataFrame:
        """The front, made anew from the members that were retrained."""
        return members.of_run(self.front, self.retrained, self.summary)

    @property
    def error(self) -> str:
        """Column of the error."""
        return str(next(iter(self.summary["objectives"])))


def write(run: Run, directory: Path) -> Path:
    """Write report.html and the PNG files in plots/ into `directory`, and return the path of the page."""
    with plots.style():
        return _write(run, directory)


def _write(run: Run, directory: Path) -> Path:
    fronts = _fronts(run)
    networks, undrawn = _networks(run)
    pictures = [p for p in (_hypervolume(run), _policy(run), *networks) if p is not None]
    trust = trust_section.section(
        run.summary, run.evaluations, run.front, run.retrained, run.policy, run.known, run.trust, run.ranking_quality
    )
    folder = directory / "plots"
    folder.mkdir(exist_ok=True)
    for picture in [*fronts, *pictures, *trust.pictures]:
        with replacing(folder / f"{picture.name}.png") as temporary:
            picture.figure.savefig(temporary, dpi=150)
        if picture.graph is not None:
            write_text(folder / f"{picture.name}.dot", picture.graph.dot(picture.name))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    summary = run.summary
    heads = front_table.heads(run.members, summary)
    page = environment.get_template("report.html").render(
        title=run.title,
        lead=run.lead,
        notes=[*_notes(run), *(f"Network {number} could not be drawn: {reason}" for number, reason in undrawn)],
        failures=_failures(run),
        searches=_searches(summary),
        facts=_facts(run),
        heads=heads,
        lefts=2 if "standing" in heads else 1,
        rows=front_table.rows(run.members, summary),
        table_note=_table_note(run),
        fronts=inline(fronts),
        figures=inline(pictures),
        trust=trust,
        trust_figures=inline(trust.pictures),
        protocol=_protocol(summary),
        experiment=run.experiment,
    )
    path = directory / "report.html"
    write_text(path, page)
    return path


def _facts(run: Run) -> list[tuple[str, str]]:
    summary, spent = run.summary, run.summary["spent"]
    facts = [(f"{summary['hypervolume']:.3f}", "hypervolume of the front"), (str(len(run.front)), "networks on the front")]
    trained = members.retrained(run.members)
    if len(trained):
        best = members.on_front(run.members)
        lowest = trained.nsmallest(1, TEST_ERROR).iloc[0]
        order = members.agreement(run.members, run.error)
        facts = [
            (front_table.test_error(lowest), f"lowest test error (%), of network {lowest[MEMBER]}"),
            (f"{len(best)} of {len(trained)}", "retrained networks stay on the front"),
            (f"{members.hypervolume(run.members, summary):.3f}", "hypervolume of the retrained front"),
            (f"{summary['hypervolume']:.3f}", "hypervolume of the search's front, by its own errors"),
            *([(f"{order.value:+.2f}", "tau of the search's order with the true one")] if order.known else []),
            (str(len(run.front)), "networks on the search's front"),
        ]
    return [
        *facts,
        (f"{spent['evaluations']:,}", "samples measured"),
        (f"{spent['architectures']:,}", "different architectures"),
        *([(f"{summary['failed']:,}", "networks failed")] if summary.get("failed") else []),
        *([(f"{skipped:,}", "weight steps left out")] if (skipped := spent.get("weight_steps_skipped", 0)) else []),
        (f"{spent['images_trained_on']:,}", "images trained on"),
        (f"{spent['seconds']:.0f} s", "of search"),
    ]


def _notes(run: Run) -> list[str]:
    notes = [] if run.summary["finished"] else ["This search was interrupted: what follows is its state at that moment."]
    if raised := run.summary.get("raised_after"):
        epochs = " and ".join(f"{leg['epochs']:g}" for leg in raised)
        notes.append(
            f"The budget was raised after {epochs} epochs, and the search went on from there; one that has the whole budget "
            "from the start is another search."
        )
    if run.summary["limits"]:
        limits = " and ".join(f"{c} at most {front_table.number(c, limit)}" for c, limit in run.summary["limits"].items())
        none = " No network that was measured keeps the limits." if run.front.empty else ""
        notes.append(f"Only networks with {limits} count.{none}")
    if proxy := run.summary.get("proxy"):
        notes.append(
            f"Weights were trained and errors measured at a proxy: {proxy['words']}. All other costs, and test errors from "
            "scratch, are those of the networks at full size."
        )
    warnings = [*run.summary.get("warnings", []), *members.noisy(run.members, spreads_of(run.summary))]
    notes += [f"{warning[0].upper()}{warning[1:]}." for warning in warnings]
    if "searches" in run.summary:
        notes.append(
            "Several searches, each with its own weights; the front is the non-dominated set of their fronts. Errors of "
            "different searches are comparable only if their weights are equally good: compare the test errors instead."
        )
    return notes


def _searches(summary: dict[str, Any]) -> list[list[str]]:
    """Rows of the table of searches in a sweep: settings and results of each."""
    rows = []
    for search in summary.get("searches", []):
        settings = ", ".join(f"{key} = {value}" for key, value in search["settings"].items())
        results = [f"{search['hypervolume']:.3f}", str(search["on_merged_front"])]
        rows.append([settings, *results, f"{search['evaluations']:,}", f"{search['seconds']:.0f}"])
    return rows


def _failures(run: Run) -> list[tuple[str, str, str]]:
    """Rows of the table of failures: the reason, the number of networks, and one of them."""
    rows = [] if run.failures is None else [(r, f"{n:,}", arch) for r, n, arch in reasons(run.failures)]
    retrained: Mapping[str, str] = run.summary.get(RETRAINING_FAILED, {})
    numbers = {str(arch): str(number) for arch, number in zip(run.front["arch"], run.front[MEMBER], strict=True)}
    return rows + [
        (f"training from scratch at the end: {reason}", "1", f"network {numbers.get(arch, '?')}: {arch}")
        for arch, reason in retrained.items()
    ]


def _table_note(run: Run) -> str:
    trained, summary = members.retrained(run.members), run.summary
    note = ""
    if len(trained):
        note = (
            f"{len(trained)} of {len(run.front)} members of the search's front were {members.protocol(run.members)}, which the "
            "search never used. The front was made anew from them, by test error and the other objectives. Test errors have "
            f"{CONFIDENCE:.0%} intervals, which follow from the number of test images (Wilson). "
        )
        if (trained[STANDING] == members.BEATEN).any():
            note += "A beaten network, in grey, is no better in anything than the one that is named. "
    note += (
        "The error in the search is an estimate with shared weights on the validation set, which the search used for its "
        "decisions. It ranks networks; it is not the error that they reach when trained alone."
        if summary["weights"] == "shared"
        else "In the search each network was trained from scratch. That error is on the validation set, which the search used "
        "for decisions."
    )
    counts = measurements(run.front)
    if len(counts):
        note += (
            f" It is a posterior mean with a {CONFIDENCE:.0%} interval, from {_range(counts)} measurements of each network and "
            "those of similar ones. The test error after full training is another quantity, and need not lie in it."
        )
    if summary["spreads"]:
        when = "again after the search, alone" if summary.get("timed_again") else "while the search ran"
        note += f" Members were timed {when}; ± there is the interquartile range of repeated timings."
        if TIED_WITH in run.members and run.members[TIED_WITH].notna().any():
            note += " A tie: another network is no worse, but for timings that differ by less than both ranges together."
    return note


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _protocol(summary: dict[str, Any]) -> list[str]:
    reference = ", ".join(f"{c} = {front_table.number(c, v)}" for c, v in summary["reference_point"].items())
    hardware, workers = summary["hardware"], summary["workers"]
    data, versions = summary["data"], summary["versions"]
    machines = [", ".join(f"{key} {value}" for key, value in m.items()) for m in summary.get("machines", [])]
    bits = ", whose numbers may differ in the last bits" if len(machines) > 1 else ""
    threads = f"{workers['cpus']} CPU thread{'s' * (workers['cpus'] > 1)} and {workers['gpus']:g} GPUs each"
    where = f"{workers['count']} Ray actor{'s' * (workers['count'] > 1)}" if workers["ray"] else "one process, without Ray"
    proxy = f" (at the proxy: {summary['proxy']['words']})" if "proxy" in summary else ""
    derived = [f"The method's own final choice: {' and '.join(summary['derived'])}."] if summary["derived"] else []
    return [
        *derived,
        f"Hypervolume: share of the box between 0 and the reference point ({reference}), computed by pymoo.",
        "The front is taken among architectures measured on the full validation set; samples on one batch only guide.",
        f"Images: {data['train']:,} for weights, {data['valid']:,} for architecture decisions{proxy}, "
        f"{data['test']:,} for testing.",
        f"Seed {summary['seed']}; {where}, {threads}.",
        f"{hardware['cpu']}, {hardware['cores']} cores; {hardware['system']}.",
        *([f"Machines that took part{bits}: {'; '.join(machines)}."] if machines else []),
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]


def _fronts(run: Run) -> list[Picture]:
    """Draw the retrained front, where there is one, and the search's."""
    titles, trained = run.summary["objectives"], members.retrained(run.members)
    pictures = []
    if len(trained):
        figure = _pairs(run, lambda ax, x, y: plots.draw_retrained(ax, trained, x, y, titles))
        caption = (
            f"Members after training from scratch by test error ({CONFIDENCE:.0%} intervals); lower left is better. Stars: "
            "the front made anew; the line joins those that are non-dominated in that pair. Grey crosses: beaten by another. "
            "Numbers are those of the table."
        )
        pictures.append(Picture("front", "The front after retraining, pair by pair", caption, figure))
    figure = _pairs(run, lambda ax, x, y: plots.draw_front(ax, run.evaluations, run.members, x, y, titles))
    caption = (
        "What the search measured, without far outliers; lower left is better. The line joins points that are non-dominated "
        "in that pair."
    )
    if len(trained):
        caption += " Dotted lines lead from the error in the search to the test error."
    if margins(run.front, run.error).notna().any():
        caption += (
            f" Bars: {CONFIDENCE:.0%} intervals of the search's estimate. The test error after full training is another "
            "quantity, and need not lie in them."
        )
    if run.references:
        caption += " Purple diamonds are networks trained separately, with their test errors."
    title, name = ("The search's front", "front-of-search") if len(trained) else ("The front", "front")
    return [*pictures, Picture(name, f"{title}, pair by pair", caption, figure)]


def _pairs(run: Run, draw: Callable[[Axes, str, str], None]) -> Figure:
    """Make a figure with a panel for each pair of objectives, the error on the vertical axis."""
    pairs = [(b, a) for a, b in itertools.combinations(run.summary["objectives"], 2)]
    across = min(3, len(pairs))
    down = math.ceil(len(pairs) / across)
    figure = plots.new_figure(4.0 * across, 3.4 * down + (0.5 if across > 1 else 0.7))
    axes = list(figure.subplots(down, across, squeeze=False).ravel())
    for ax, (x, y) in zip(axes, pairs, strict=False):
        draw(ax, x, y)
        plots.draw_references(ax, run.references, x, y)
    for ax in axes[len(pairs) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    # A single panel is narrower than four legend entries side by side.
    figure.legend(handles, labels, loc="outside lower center", ncols=4 if across > 1 else 2, fontsize=8)
    return figure


def _hypervolume(run: Run) -> Picture | None:
    samples = samples_of(run.evaluations)
    if samples.empty:
        return None
    searched = run.summary.get("searched", run.summary)  # samples have no costs that were measured after the search
    columns = list(searched["objectives"])
    reference = [searched["reference_point"][c] for c in columns]
    limits = [searched["limits"].get(c) for c in columns]
    figure = plots.new_figure(8.4, 3.0)
    left, right = figure.subplots(1, 2, sharey=True)
    for _, rows in samples.groupby("search") if "search" in samples else [(0, samples)]:
        costs = rows[columns].to_numpy(dtype=float)
        costs[violations(costs, limits) > 0] = reference  # infeasible points must add no volume
        values = hypervolume_curve(costs, reference, rows["step"].to_numpy())
        plots.draw_hypervolume(left, rows["seconds"].to_numpy(), values, "seconds of search")
        plots.draw_hypervolume(right, np.arange(1, len(rows) + 1), values, "samples measured")
    right.set_ylabel("")
    per_search = ", a line per search" if "searches" in run.summary else ""
    final = f"the hypervolume of the search's front ({searched['hypervolume']:.3f})"
    proxy = f" Each was measured on one batch, so it need not agree with {final}." if (samples["kind"] == SAMPLE).any() else ""
    caption = f"Hypervolume of all samples so far{per_search}. It rises when the search finds something new.{proxy}"
    return Picture("hypervolume", "Hypervolume over the search", caption, figure)


def _policy(run: Run) -> Picture | None:
    if run.policy is None or run.policy.empty:
        return None
    choices = dict(list(run.choices.items())[:_PANELS])
    across = min(4 if len(choices) > 9 else 3, len(choices))
    down = math.ceil(len(choices) / across)
    colours = plots.option_colours(choices)
    figure = plots.new_figure(8.4, (1.7 if across < 4 else 1.3) * down + 0.5 + 0.2 * math.ceil(len(colours) / 5))
    axes = list(figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel())
    plots.draw_policy(axes[: len(choices)], run.policy, choices)
    for ax in axes[len(choices) :]:
        ax.set_axis_off()
    for ax in axes[max(0, len(choices) - across) : len(choices)]:
        ax.set_xlabel("weight steps")
    for ax in axes[::across]:
        ax.set_ylabel("probability")
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), fontsize=8)
    caption = "Probability of each option, a panel per choice. Dotted lines: a stage ends and its weakest options are dropped."
    if len(run.choices) > len(choices):
        caption += f" The first {len(choices)} of {len(run.choices)} choices; policy.csv has all."
    return Picture("policy", "The policy over time", caption, figure)


def _networks(run: Run) -> tuple[list[Picture], list[tuple[int, str]]]:
    """Draw up to six networks, with up to three graphs each; the second result are numbers of others, and why these failed."""
    numbers = dict(zip(run.front["arch"], run.front[MEMBER], strict=True))
    undrawn = [(int(numbers[arch]), reason) for arch, reason in run.undrawn.items() if arch in numbers]
    shown = run.members if run.retrained is None else members.retrained(run.members)
    pictures: list[Picture] = []
    for _, row in shown[shown["arch"].isin(list(run.drawings))].head(6).iterrows():
        graphs = run.drawings[row["arch"]]
        standing = members.words(row)
        for title, graph in list(graphs.items())[:3]:
            name = f"network-{row[MEMBER]}-{title.replace(' ', '-')}"
            caption = f"Network {row[MEMBER]}{f' ({standing})' if standing else ''}, {title}; "
            tested = TEST_ERROR in row and not pd.isna(row[TEST_ERROR])
            caption += f"test error {front_table.test_error(row)} %." if tested else f"error {row[run.error]:.2f} %."
            if len(graphs) > 3:
                caption += f" One of {len(graphs)} graphs."
            try:
                pictures.append(Picture(name, "", caption, drawing.figure(graph), graph))
            except Exception as error:  # a graph of any user's network; the page must not fail over a picture
                undrawn.append((int(row[MEMBER]), f"{title}, {type(error).__name__}: {error}"))
    return [replace(p, title="The chosen networks" if i == 0 else "") for i, p in enumerate(pictures)], undrawn


def inline(pictures: Sequence[Picture]) -> list[dict[str, str]]:
    """Render pictures as SVG for the HTML templates."""
    return [{"title": p.title, "caption": p.caption, "svg": _svg(p.figure)} for p in pictures]


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
