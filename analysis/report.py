"""Report of a run: one HTML file that opens offline, and its figures as PNG."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis import drawing, plots, trust_section
from analysis.curves import hypervolume_curve
from analysis.graphs import Graph
from analysis.pareto import violations
from analysis.plots import Picture
from analysis.records import COUNTS, SAMPLE, samples_of
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
        front: Rows of front.csv.
        retrained: Rows of retrained.csv, or None.
        policy: Rows of policy.csv, or None for a method without a policy.
        choices: Names of the options of each choice.
        drawings: For each architecture of the front its graphs, by title.
        known: Knowledge of the space about all architectures in these tables.
        experiment: Text of experiment.toml, for the appendix.
        trust: Rows of trust.csv, or None before `paretoray trust` has run.
        ranking_quality: Content of trust.json, likewise.
        references: Networks to compare with: `name`, `test_error_percent`, `parameters` and `macs`.
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


def write(run: Run, directory: Path) -> Path:
    """Write report.html and the PNG files in plots/ into `directory`, and return the path of the page."""
    with plots.style():
        return _write(run, directory)


def _write(run: Run, directory: Path) -> Path:
    pictures = [p for p in (_fronts(run), _hypervolume(run), _policy(run), *_networks(run)) if p is not None]
    trust = trust_section.section(
        run.summary, run.evaluations, run.front, run.retrained, run.policy, run.known, run.trust, run.ranking_quality
    )
    folder = directory / "plots"
    folder.mkdir(exist_ok=True)
    for picture in [*pictures, *trust.pictures]:
        picture.figure.savefig(folder / f"{picture.name}.png", dpi=150)
        if picture.graph is not None:
            (folder / f"{picture.name}.dot").write_text(picture.graph.dot(picture.name))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    summary, spent = run.summary, run.summary["spent"]
    page = environment.get_template("report.html").render(
        title=run.title,
        lead=run.lead,
        notes=_notes(run),
        searches=_searches(summary),
        facts=[
            (f"{summary['hypervolume']:.3f}", "hypervolume of the front"),
            (str(len(run.front)), "networks on the front"),
            (f"{spent['evaluations']:,}", "samples measured"),
            (f"{spent['architectures']:,}", "different architectures"),
            (f"{spent['images_trained_on']:,}", "images trained on"),
            (f"{spent['seconds']:.0f} s", "of search"),
        ],
        heads=[*summary["objectives"].values()] + ([] if run.retrained is None else ["test error (%), from scratch"]),
        rows=_rows(run),
        table_note=_table_note(run),
        figures=inline(pictures),
        trust=trust,
        trust_figures=inline(trust.pictures),
        protocol=_protocol(summary),
        experiment=run.experiment,
    )
    path = directory / "report.html"
    path.write_text(page)
    return path


def _notes(run: Run) -> list[str]:
    notes = [] if run.summary["finished"] else ["This search was interrupted: what follows is its state at that moment."]
    if run.summary["limits"]:
        limits = " and ".join(f"{c} at most {number(c, limit)}" for c, limit in run.summary["limits"].items())
        none = " No network that was measured keeps the limits." if run.front.empty else ""
        notes.append(f"Only networks with {limits} count.{none}")
    if proxy := run.summary.get("proxy"):
        notes.append(
            f"Weights were trained and errors measured at a proxy: {proxy['words']}. All other costs, and test errors from "
            "scratch, are those of the networks at full size."
        )
    notes += [f"{warning[0].upper()}{warning[1:]}." for warning in run.summary.get("warnings", [])]
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


def number(column: str, value: float) -> str:
    """Format a cost for reading: counts in full, percentages and measurements with their significant digits.

    Args:
        column: Name of the cost, which tells counts and percentages.
        value: The cost in the column's unit.
    """
    if column in COUNTS or (value >= 100 and not column.endswith("_percent")):
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def _rows(run: Run) -> list[dict[str, Any]]:
    columns = list(run.summary["objectives"])
    spreads = {c: c.replace("_ms", "_iqr_ms") for c in columns if c.replace("_ms", "_iqr_ms") in run.summary["spreads"]}
    tested = {} if run.retrained is None else dict(zip(run.retrained["arch"], run.retrained["test_error_percent"], strict=True))
    rows = []
    for _, point in run.front.iterrows():
        cells = [(number(c, point[c]), number(c, point[spreads[c]]) if c in spreads else "") for c in columns]
        if run.retrained is not None:
            cells.append((f"{tested[point['arch']]:.2f}" if point["arch"] in tested else "", ""))
        rows.append({"arch": point["arch"], "cells": cells, "retrained": point["arch"] in tested})
    return rows


def _table_note(run: Run) -> str:
    note = (
        "The error is an estimate with shared weights on the validation set, which the search used for its decisions. It ranks "
        "networks; it is not the error that they reach when trained alone."
        if run.summary["weights"] == "shared"
        else "Each network was trained from scratch. The error is on the validation set, which the search used for decisions."
    )
    if run.summary["spreads"]:
        note += " ± is the interquartile range of repeated timings."
    if run.retrained is not None:
        note += (
            " Shaded networks were trained from scratch on the training and validation sets; their test error is on images "
            "that the search never used."
        )
    return note


def _protocol(summary: dict[str, Any]) -> list[str]:
    reference = ", ".join(f"{c} = {number(c, v)}" for c, v in summary["reference_point"].items())
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


def _fronts(run: Run) -> Picture:
    titles = run.summary["objectives"]
    pairs = [(b, a) for a, b in itertools.combinations(titles, 2)]
    across = min(3, len(pairs))
    down = math.ceil(len(pairs) / across)
    figure = plots.new_figure(4.0 * across, 3.4 * down + (0.5 if across > 1 else 0.7))
    axes = list(figure.subplots(down, across, squeeze=False).ravel())
    for ax, (x, y) in zip(axes, pairs, strict=False):
        plots.draw_front(ax, run.evaluations, run.front, run.retrained, x, y, titles)
        plots.draw_references(ax, run.references, x, y)
    for ax in axes[len(pairs) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    # A single panel is narrower than four legend entries side by side.
    figure.legend(handles, labels, loc="outside lower center", ncols=4 if across > 1 else 1, fontsize=8)
    caption = "Each pair of objectives; lower left is better. The line joins the points that are non-dominated in that pair"
    if run.references:
        caption += "; diamonds are networks trained separately, with their test errors"
    caption += "; dotted lines lead from the estimate with shared weights to the test error after training from scratch."
    return Picture("front", "The front, pair by pair", caption, figure)


def _hypervolume(run: Run) -> Picture | None:
    samples = samples_of(run.evaluations)
    if samples.empty:
        return None
    columns = list(run.summary["objectives"])
    reference = [run.summary["reference_point"][c] for c in columns]
    limits = [run.summary["limits"].get(c) for c in columns]
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
    final = f"the hypervolume of the front ({run.summary['hypervolume']:.3f})"
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


def _networks(run: Run) -> list[Picture]:
    """Draw up to six networks, with up to three graphs each."""
    shown = [a for a in (run.front if run.retrained is None else run.retrained)["arch"] if a in run.drawings][:6]
    rank = {arch: i + 1 for i, arch in enumerate(run.front["arch"])}
    errors = dict(zip(run.front["arch"], run.front[next(iter(run.summary["objectives"]))], strict=True))
    pictures = []
    for arch in shown:
        graphs = run.drawings[arch]
        for title, graph in list(graphs.items())[:3]:
            name = f"network-{rank[arch]}-{title.replace(' ', '-')}"
            caption = f"Network {rank[arch]} of the front, {title}; error {errors[arch]:.2f} %."
            if len(graphs) > 3:
                caption += f" One of {len(graphs)} graphs."
            pictures.append(Picture(name, "", caption, drawing.figure(graph), graph))
    return [replace(p, title="The chosen networks" if i == 0 else "") for i, p in enumerate(pictures)]


def inline(pictures: Sequence[Picture]) -> list[dict[str, str]]:
    """Render pictures as SVG for the HTML templates."""
    return [{"title": p.title, "caption": p.caption, "svg": _svg(p.figure)} for p in pictures]


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
