"""What search, resume and retrain do in the end: run what is not done yet, and print the front."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.commands.base import PLAIN, interruptible


def go(plan: Any, directory: Path, new: bool = False, searches: Any = ()) -> None:
    """Do what is not done yet of the run in `directory`, and print its front.

    Args:
        plan: The SearchPlan.
        directory: The run directory.
        new: Make the directory; it must not exist.
        searches: What differs and the SearchPlan of each of several searches.
    """
    from orchestrator.runs import run
    from orchestrator.runs.display import Display
    from orchestrator.runs.process import heeding_ctrl_c
    from orchestrator.search.control import stop_file

    console = Console()
    how = f"interrupted; continue with: paretoray resume {shlex.quote(str(directory))}"
    with interruptible(how), heeding_ctrl_c(stop_file(directory), console.print):
        run.go(plan, directory, Display(console), new=new, searches=searches)
    _print_front(console, plan, directory)


def _print_front(console: Console, plan: Any, directory: Path) -> None:
    import json

    from analysis import front_table, members, records
    from orchestrator.runs.retraining import read_retrained

    summary = json.loads((directory / records.SUMMARY).read_text())
    searched = records.read_front(directory / records.FRONT, list(summary["objectives"]))
    front = members.of_run(searched, read_retrained(plan, directory), summary)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in front_table.heads(front, summary, short=True):
        # Numbers are never cut; what is too wide for the console is folded elsewhere.
        words = head == "standing"
        title = head.replace("_percent", " (%)").replace("test_", "test ")
        table.add_column(escape(title), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    if front.empty:
        limits = front_table.limits(summary)
        console.print(f"no network that was measured keeps the limits ({limits}); loosen one, or search longer", **PLAIN)
    rows = front_table.rows(front, summary)
    for row in rows:
        table.add_row(*(" ".join(filter(None, cell)) for cell in row.cells), style="dim" if row.faint else None)
    for line in front_table.lead(front, summary):
        console.print(line, **PLAIN)
    console.print(table)
    for row in rows:
        console.print(f"{row.cells[0][0]:>3}  {row.arch}", **PLAIN)
    _print_failures(console, directory, summary)
    for warning in members.noisy(front, summary):
        console.print(f"warning: {warning}", **PLAIN)
    console.print(f"report: {directory / 'report.html'}", **PLAIN)


def _print_failures(console: Console, directory: Path, summary: dict[str, Any]) -> None:
    from analysis import records

    failures = records.read_failures(directory / records.FAILURES)
    if len(failures):
        console.print(f"{len(failures)} networks failed, and count for nothing ({records.FAILURES}):", **PLAIN)
    for reason, count, _ in records.reasons(failures)[:5]:
        console.print(f"{count:>5}  {reason}", **PLAIN)
    for arch, reason in summary.get(records.RETRAINING_FAILED, {}).items():
        console.print(f"warning: {arch} could not be trained from scratch: {reason}", **PLAIN)
