"""Progress display: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from orchestrator.machine import Machine, unique
from orchestrator.runs.watcher import Watcher
from orchestrator.search.progress import Progress, Round

LINE_EVERY = 10.0


class Display(Watcher):
    """Shows one kind of progress at a time, each in its own `with` block.

    Args:
        console: A terminal or a notebook gets a live panel, anything else a line now and then.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._last, self._line = 0.0, ""
        self._members: dict[str, float] = {}
        self._machines: list[Machine] = []

    def phase(self) -> AbstractContextManager[object]:
        return self

    def warning(self, text: str) -> None:
        self.console.print(f"warning: {text}", soft_wrap=True, highlight=False, markup=False)

    def news(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def __enter__(self) -> Display:
        if self.console.is_terminal or self.console.is_jupyter:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._last, self._members = 0.0, {}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
        self._live = None

    def profile(self, index: int, rounds: int, done: int, jobs: int, left: float | None) -> None:
        """Show round `index` of so many, `done` of its measurements, and the seconds that are left in all."""
        facts = {
            "round": f"{index + 1} of {rounds}",
            "measured": f"{done} of {jobs}",
            # Networks are built, and perhaps exported, in the first round alone.
            "time left": "?" if left is None else f"{'at most ' if index == 0 else ''}{duration(left)}",
        }
        self._show("profile", facts, (index + done / jobs) / rounds, final=index + 1 == rounds and done == jobs)

    def trust(self, done: int, whole: int, left: float | None) -> None:
        """Show how many inherited accuracies of so many are measured, and the seconds that are left."""
        facts = {"networks measured": f"{done} of {whole}", "time left": "?" if left is None else duration(left)}
        self._show("trust", facts, done / whole, final=done == whole)

    def scores(self, done: int, whole: int, left: float | None) -> None:
        """Networks with training-free scores so far, of so many, and the seconds that are left."""
        facts = {"training-free scores": f"{done} of {whole}", "time left": "?" if left is None else duration(left)}
        self._show("trust", facts, done / whole, final=done == whole)

    def search(self, happened: Round) -> None:
        p = happened.progress
        self.machines(p.machines)
        left = "?" if p.seconds_left is None else duration(p.seconds_left)
        facts = {
            "stage": f"{p.stage + 1} ({p.phase})",
            "budget": f"{100 * p.fraction:.0f} %, round {p.round} of {p.rounds}",
            "measured": f"{p.evaluations} samples" + (f", {p.failed} networks failed" if p.failed else ""),
            f"best {p.quantity}": f"{p.best} on {p.judged_on}",
            "hypervolume": f"{p.hypervolume:.3f}",
            "time left": f"{left} (spent {duration(p.seconds)})",
        }
        self._show("search", facts, p.fraction, final=p.fraction >= 1)

    def waiting(self, text: str) -> None:
        self._show("waiting", {"for": text}, 0.0, final=False)

    def sweep(self, index: int, fractions: Sequence[float], happened: Round) -> None:
        p: Progress = happened.progress
        self.machines(p.machines)
        share = sum(fractions) / len(fractions)
        done = sum(f >= 1 for f in fractions)
        facts = {
            "searches": f"{done} of {len(fractions)} done, {sum(0 < f < 1 for f in fractions)} running",
            "budget": f"{100 * share:.0f} %",
            "last news": f"{p.evaluations} samples, hypervolume {p.hypervolume:.3f}",
        }
        self._show("sweep", facts, share, final=share >= 1)

    def retrain(self, arch: str, fraction: float, members: int) -> None:
        self._members[arch] = fraction
        done = sum(f >= 1 for f in self._members.values())
        share = sum(self._members.values()) / members
        self._show("retrain", {"retrained": f"{done} of {members}"}, share, final=fraction >= 1)

    def measure(self, done: int, members: int) -> None:
        self._show("measure", {"measured after the search": f"{done} of {members}"}, done / members, final=done == members)

    def machines(self, found: Sequence[Machine]) -> None:
        """Warn once about each further machine that takes part."""
        known, self._machines = self._machines, unique([*self._machines, *found])
        if len(self._machines) > max(1, len(known)):
            listed = "; ".join(", ".join(f"{k} {v}" for k, v in m.items()) for m in self._machines)
            self.console.print(
                f"warning: {len(self._machines)} kinds of machines took part, so numbers may differ in the last bits from "
                f"those that one of them would give: {listed}",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )

    def _show(self, title: str, facts: dict[str, str], fraction: float, final: bool) -> None:
        if self._live:
            table = Table.grid(padding=(0, 2))
            table.add_row(f"[dim]{title}[/dim]", ProgressBar(total=1.0, completed=fraction, width=50))
            for key, value in facts.items():
                table.add_row(f"[dim]{key}[/dim]", value)
            self._live.update(table, refresh=True)
        elif final or time.monotonic() - self._last > LINE_EVERY:
            line = f"{title}: " + ", ".join(f"{k} {v}" for k, v in facts.items())
            if line != self._line:
                self.console.print(line, highlight=False, soft_wrap=True)
            self._last, self._line = time.monotonic(), line


def duration(seconds: float) -> str:
    """Format seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
