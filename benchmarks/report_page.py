"""Size of a run's report, the time to write it, and the time until a browser has drawn it.

    python benchmarks/report_page.py RUN

Chromium has to be installed. The time is that from the start of the navigation, of a file on this machine, to the last plot.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from analysis import records
from orchestrator.config.plan import SearchPlan
from orchestrator.runs.directory import open_run
from orchestrator.runs.report import write_report

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.browser import Browser

LOADS = 7


def processor_time(browser: Browser) -> float:
    """Seconds of processor time that the process of the page has taken, which other programs do not lengthen much."""
    metrics = browser.call("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    directory = parser.parse_args().run
    plan = SearchPlan.of(open_run(directory))
    began = time.perf_counter()
    path = write_report(plan, directory)
    writing = time.perf_counter() - began
    evaluations = len(records.read(directory / records.EVALUATIONS))
    with tempfile.TemporaryDirectory() as folder, Browser(Path(folder)) as browser:
        loads, busy = [], []
        browser.call("Performance.enable")
        for _ in range(LOADS):
            before = processor_time(browser)
            browser.open(path.resolve().as_uri())
            loads.append(browser.evaluate("performance.getEntriesByName('ready')[0].startTime") / 1000)
            busy.append(processor_time(browser) - before)
    print(f"evaluations  {evaluations:,}")
    print(f"size         {path.stat().st_size / 1e6:.2f} MB")
    print(f"writing      {writing:.1f} s")
    print(f"loading      {statistics.median(loads):.2f} s, median of {LOADS}; {min(loads):.2f} to {max(loads):.2f} s")
    # The first load also begins the process of the page, so it is left out.
    print(f"processor    {statistics.median(busy[1:]):.2f} s of the page's process, median")


if __name__ == "__main__":
    main()
