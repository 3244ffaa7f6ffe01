"""`make portability`: the numeric part of the tests, and a search, under the kernels that other processors would choose.

Sums come out differently in their last bits under each. Ends with a table of what differs, and with 1 where a test fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SETTINGS: tuple[dict[str, str], ...] = (
    {},
    *({"OPENBLAS_CORETYPE": kernel} for kernel in ("Haswell", "SkylakeX", "Zen", "Prescott")),
    *({"ATEN_CPU_CAPABILITY": capability} for capability in ("default", "avx2")),
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},  # torch's convolutions, which its own setting leaves alone
    *({"OMP_NUM_THREADS": threads} for threads in ("1", "4")),
)
SEARCH = (
    *("data.name=digits", "data.limit=400", "space.name=nas-bench-201", "space.channels=4", "space.cells=2"),
    *("space.supernet_cells=[1,1,2]", "searcher.samples=4", "training.batch=32", "budget.epochs=10"),
    "objectives={error={},parameters={},macs={}}",  # none that is measured by the clock
    *("budget.interval=2", "budget.validate=8", "retrain.members=0", "workers.ray=false", "workers.count=1", "seed=0"),
)
SEARCHERS = (("searcher.name=tnd-nas",), ("searcher.name=surrogate-search", "searcher.start=8"))
"""Which learn by torch's kernels alone, and by OpenBLAS's besides."""
PROBE = """
import json, numpy, scipy.linalg, torch
from threadpoolctl import threadpool_info
numpy.linalg.cholesky(numpy.eye(64) @ numpy.eye(64)), scipy.linalg.cho_solve((numpy.eye(64), True), numpy.ones(64))
kernels = sorted({i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"})
print(json.dumps([", ".join(kernels), torch.backends.cpu.get_cpu_capability()]))
"""


def run(arguments: list[str], setting: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Python in the project's folder, under `setting` and nothing else of its kind."""
    names = {name for other in SETTINGS for name in other}
    environment = {key: value for key, value in os.environ.items() if key not in names} | setting
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def chosen(setting: dict[str, str]) -> tuple[str, str] | str:
    """The kernels of OpenBLAS and of torch that `setting` leads to; or why it means nothing here."""
    probe = run(["-c", PROBE], setting)
    if probe.returncode < 0:  # SkylakeX on a processor without AVX-512, as it is taken at its word
        return "skipped: illegal instruction, this processor lacks what that kernel needs (SkylakeX: AVX-512)"
    if probe.returncode:
        return f"skipped: {probe.stderr.strip().splitlines()[-1]}"
    blas, torch = json.loads(
        probe.stdout
    )  # OpenBLAS has one kernel for several names: Haswell's for Zen, Katmai's for Prescott
    return blas, torch


def tests(setting: dict[str, str], folder: Path) -> tuple[int, list[str]]:
    """Count the tests that passed, and name those that did not."""
    result = folder / "tests.xml"
    done = run(["-m", "pytest", "-m", "numeric", "-p", "no:cacheprovider", f"--junit-xml={result}"], setting)
    if not result.exists():
        return 0, [f"no test ran:\n{done.stdout[-1000:]}{done.stderr[-1000:]}"]
    cases = list(ElementTree.parse(result).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(c.find("skipped") is not None for c in cases)
    names = [f"{c.get('classname', '').replace('.', '/')}.py::{c.get('name')}" for c in failed]
    if not failed and done.returncode:
        names = [f"pytest ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}"]
    return len(cases) - len(failed) - skipped, names


def search(setting: dict[str, str], searcher: tuple[str, ...], folder: Path) -> float | str:
    """The hypervolume of the front of a short search on digits, seed 0; or the last line that it said."""
    out = folder / searcher[0]
    done = run(["-m", "orchestrator", "search", *SEARCH, *searcher, "--out", str(out)], setting)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["nothing"])[-1]
    return float(json.loads((out / "summary.json").read_text())["hypervolume"])


def main() -> int:
    console = Console()
    console.width = max(console.width, 140)
    table = Table("setting", "OpenBLAS", "torch", "passed", "failed", *(name for name, *_ in SEARCHERS), "seconds")
    wrong: dict[str, list[str]] = {}
    volumes: dict[str, list[float]] = {}
    for setting in SETTINGS:
        title = " ".join(f"{key}={value}" for key, value in setting.items()) or "native"
        console.print(f"{title} ...", highlight=False)
        kernels = chosen(setting)
        if isinstance(kernels, str):
            table.add_row(title, kernels)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            passed, failed = tests(setting, Path(folder))
            found = {searcher[0]: search(setting, searcher, Path(folder)) for searcher in SEARCHERS}
        for name, volume in found.items():
            if isinstance(volume, str):
                failed.append(f"the search on digits, {name}: {volume}")
            else:
                volumes.setdefault(name, []).append(volume)
        wrong |= {title: failed} if failed else {}
        shown = [volume if isinstance(volume, str) else f"{volume:.9f}" for volume in found.values()]
        table.add_row(title, *kernels, str(passed), str(len(failed)), *shown, f"{time.monotonic() - began:.0f}")
    console.print(table)
    for title, failed in wrong.items():
        console.print(f"under {title}:", *failed, sep="\n  ", highlight=False, markup=False, soft_wrap=True)
    for name, of in volumes.items():
        apart = f"largest difference of the front's hypervolume, seed 0 of a search on digits, {name}:"
        console.print(apart, f"{max(of) - min(of):.2g}", highlight=False, soft_wrap=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
