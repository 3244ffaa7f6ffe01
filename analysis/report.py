"""Report of a run: one HTML file that opens offline, and its figures as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import choosing, front_table, pictures, plots, prose, trust_section
from analysis.files import replacing, write_text
from analysis.page.cards import cards
from analysis.page.data import network_id, page_data
from analysis.page.render import embedded, inline, library, render
from analysis.plots import Picture
from analysis.records import MEMBER
from analysis.run import Run
from analysis.trust_section import Trust


def write(run: Run, directory: Path) -> Path:
    """Write report.html and the PNG files in plots/ into `directory`, and return the path of the page."""
    with plots.style():
        fronts, trust = pictures.fronts(run), _trust(run)
        others = [picture for picture in (pictures.course(run), *pictures.policy(run)) if picture is not None]
        drawn, undrawn = pictures.networks(run)
        _keep([*fronts, *others, *trust.pictures, *pictures.kept(run, drawn)], directory / "plots")
        path = directory / "report.html"
        write_text(path, _page(run, trust, drawn, undrawn, fronts=inline(fronts), figures=inline(others)))
    return path


def live(run: Run) -> str:
    """Return the page of a run that is still going on, without the static figures, and with a script that follows it."""
    with plots.style():
        drawn, undrawn = pictures.networks(run)
        return _page(run, None, drawn, undrawn, fronts=[], figures=[])


def _page(
    run: Run,
    trust: Trust | None,
    drawn: dict[str, list[Picture]],
    undrawn: list[tuple[int, str]],
    *,
    fronts: Sequence[dict[str, Any]],
    figures: Sequence[dict[str, Any]],
) -> str:
    summary = run.summary
    heads = front_table.heads(run.members, summary)
    of_runs = [(run, drawn), *((other, pictures.networks(other)[0]) for other in run.others)]
    return render(
        "report.html",
        title=run.title,
        lead=run.lead,
        live=trust is None,
        notes=[*prose.notes(run), *(f"Network {number} could not be drawn: {reason}" for number, reason in undrawn)],
        failures=prose.failures(run),
        searches=prose.searches(summary),
        facts=prose.facts(run),
        advice=choosing.advice(run),
        heads=heads,
        lefts=2 if "standing" in heads else 1,
        rows=list(zip(_ids(run), front_table.rows(run.members, summary), strict=True)),
        table_note=prose.table_note(run),
        cards=[card for i, (known, drawings) in enumerate(of_runs) for card in cards(known, i, drawings)],
        data=embedded(page_data(run)),
        library=library(),
        fronts=fronts,
        figures=figures,
        trust=trust,
        trust_figures=inline(trust.pictures) if trust else [],
        protocol=prose.protocol(summary),
        experiment=run.experiment,
    )


def _ids(run: Run) -> list[str]:
    return [network_id(0, int(number)) for number in run.members[MEMBER]]


def _trust(run: Run) -> Trust:
    return trust_section.section(
        run.summary,
        run.evaluations,
        run.front,
        run.retrained,
        run.policy,
        run.known,
        run.trust,
        run.ranking_quality,
        run.searches,
    )


def _keep(shown: Sequence[Picture], folder: Path) -> None:
    """Write pictures as PNG, and graphs in Graphviz's language as well."""
    folder.mkdir(exist_ok=True)
    for picture in shown:
        with replacing(folder / f"{picture.name}.png") as temporary:
            picture.figure.savefig(temporary, dpi=150)
        if picture.graph is not None:
            write_text(folder / f"{picture.name}.dot", picture.graph.dot(picture.name))
