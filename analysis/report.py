"""Report of a run: one HTML file that opens offline, and its figures as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import choosing, front_table, pictures, plots, prose, trust_section
from analysis.files import replacing, write_text
from analysis.page.cards import cards
from analysis.page.data import network_id, page_data
from analysis.page.render import embedded, inline, library, render
from analysis.plots import Picture
from analysis.records import MEMBER
from analysis.run import Run
from analysis.trust_section import Trust


@dataclass(frozen=True)
class _Figures:
    """Pictures of a page, and the section on trust, which has some; empty for a page of a search that is going on."""

    fronts: Sequence[Picture] = ()
    course: Sequence[Picture] = ()
    trust: Trust | None = None

    @classmethod
    def of(cls, run: Run) -> _Figures:
        course = [picture for picture in (pictures.course(run), *pictures.policy(run)) if picture is not None]
        return cls(pictures.fronts(run), course, _trust(run))

    @property
    def all(self) -> list[Picture]:
        return [*self.fronts, *self.course, *(self.trust.pictures if self.trust else ())]


def write(run: Run, directory: Path) -> Path:
    """Write report.html and the PNG files in plots/ into `directory`, and return the path of the page."""
    with plots.style():
        figures, (drawn, undrawn) = _Figures.of(run), pictures.networks(run)
        _keep([*figures.all, *pictures.kept(run, drawn)], directory / "plots")
        path = directory / "report.html"
        write_text(path, _page(run, figures, drawn, undrawn))
    return path


def live(run: Run, version: str, *, complete: bool) -> str:
    """Return the page with a script that follows the run, and write nothing.

    Args:
        run: The run.
        version: Changes with its results, by which the script tells whether there are new ones.
        complete: Draw the static figures as well, which takes some seconds.
    """
    with plots.style():
        return _page(run, _Figures.of(run) if complete else _Figures(), *pictures.networks(run), version)


def _page(
    run: Run, figures: _Figures, drawn: dict[str, list[Picture]], undrawn: list[tuple[int, str]], version: str | None = None
) -> str:
    summary = run.summary
    heads = front_table.heads(run.members, summary)
    of_runs = [(run, drawn), *((other, pictures.networks(other)[0]) for other in run.others)]
    return render(
        "report.html",
        title=run.title,
        lead=run.lead,
        version=version,
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
        fronts=inline(figures.fronts),
        figures=inline(figures.course),
        trust=figures.trust,
        trust_figures=inline(figures.trust.pictures) if figures.trust else [],
        protocol=[] if summary.get("running") else prose.protocol(summary),
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
        plots.lay_out(picture.figure)
        with replacing(folder / f"{picture.name}.png") as temporary:
            picture.figure.savefig(temporary, dpi=150)
        if picture.graph is not None:
            write_text(folder / f"{picture.name}.dot", picture.graph.dot(picture.name))
