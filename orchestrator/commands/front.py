"""Last step of search, resume and retrain: run what is not done yet, and answer with the front."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.commands.base import Answer, interruptible


def go(plan: Any, directory: Path, new: bool = False, searches: Any = ()) -> Answer:
    """Do what is not done yet of the run in `directory`, and answer with its front.

    Args:
        plan: The SearchPlan.
        directory: The run directory.
        new: Make the directory; it must not exist.
        searches: What differs and the SearchPlan of each of several searches.
    """
    from orchestrator.runs import run
    from orchestrator.runs.display import Display
    from orchestrator.runs.process import heeding_ctrl_c
    from orchestrator.runs.staging import shown
    from orchestrator.search.control import stop_file

    console = Console()
    how = f"interrupted; continue with: paretoray resume {shlex.quote(shown(directory))}"
    with interruptible(how), heeding_ctrl_c(stop_file(directory), console.print):
        run.go(plan, directory, Display(console), new=new, searches=searches)
    return answer(plan, directory)


def answer(plan: Any, directory: Path) -> Answer:
    """Answer with the front of a run that is finished."""
    from analysis import choosing, front_table, members, records
    from orchestrator.runs.retraining import read_retrained
    from orchestrator.runs.staging import shown

    summary = json.loads((directory / records.SUMMARY).read_text())
    searched = records.read_front(directory / records.FRONT, list(summary["objectives"]))
    front = members.of_run(searched, read_retrained(plan, directory), summary)
    failures = records.reasons(records.read_failures(directory / records.FAILURES))
    warnings = members.noisy(front, summary)
    report, recommended = directory / "report.html", choosing.knee_of(front, summary)
    facts = {
        "run": shown(directory),
        "report": report,
        "finished": summary["finished"],
        "objectives": summary["objectives"],
        "limits": summary["limits"],
        "hypervolume": summary["hypervolume"],
        "hypervolume_retrained": members.hypervolume(front, summary),
        "recommended": recommended,
        "members": front,
        "failures": [{"reason": reason, "networks": count, "example": arch} for reason, count, arch in failures],
        "retraining_failed": summary.get(records.RETRAINING_FAILED, {}),
        "warnings": warnings,
        "spent": summary["spent"],
    }
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in front_table.heads(front, summary, short=True):
        # Numbers are never cut; what is too wide for the console is folded elsewhere.
        words = head == "standing"
        table.add_column(escape(head), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    rows = front_table.rows(front, summary)
    for row in rows:
        table.add_row(*(" ".join(filter(None, cell)) for cell in row.cells), style="dim" if row.faint else None)
    text: list[str | Table] = []
    if front.empty:
        text.append(
            f"no network that was measured keeps the limits ({front_table.limits(summary)}); loosen one, or search longer"
        )
    text += [*front_table.lead(front, summary), table]
    text += [f"{row.cells[0][0]:>3}  {row.arch}" for row in rows]
    if len(members.retrained(front)):
        export = shlex.join(
            ["paretoray", "export", shown(directory), "--member", str(recommended), "--out", f"network-{recommended}"]
        )
        text.append(f"the knee of the front is {recommended}; take it with you: {export}")
    if failures:
        count = sum(count for _, count, _ in failures)
        text.append(f"{count} networks failed, and count for nothing ({records.FAILURES}):")
        text += [f"{count:>5}  {reason}" for reason, count, _ in failures[:5]]
    for arch, reason in summary.get(records.RETRAINING_FAILED, {}).items():
        text.append(f"warning: {arch} could not be {records.trained(summary)}: {reason}")
    text += [f"warning: {warning}" for warning in warnings]
    stored = [f"in the store: {shown(directory)}"] if shown(directory) != str(directory) else []
    return Answer(facts, [*text, f"report: {report}", *stored])
