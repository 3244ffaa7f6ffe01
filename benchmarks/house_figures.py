"""Size and shape of the code: lines, files, long functions, circles of imports, arrows upwards, and times to start.

    python benchmarks/house_figures.py [REVISION]

Without REVISION the working tree. A room is a module or package directly below `orchestrator/`. A circle is a group of rooms,
or of modules, each of which imports the others, directly or through others of the group; imports inside functions and for type
checkers count, and what a package's `__init__.py` re-exports does not. An arrow is a pair of rooms of which one imports the
other; it points upwards against `FLOORS` of tests/test_star.py. Times are medians of five processes, after one to warm up.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import networkx  # type: ignore[import-untyped]

FOLDERS = ("paretoray", "searchers", "hw_profiles", "analysis", "orchestrator", "tests", "benchmarks")
HUB = "orchestrator"
LONG = 40
"""Lines, above which a function counts as long."""
REPEATS = 5


def sizes(root: Path) -> None:
    """Print lines, files and long functions of each folder."""
    print(f"{'':<14}{'lines':>8}{'files':>7}{f'functions over {LONG} lines':>29}")
    for folder in FOLDERS:
        texts = [path.read_text() for path in sorted((root / folder).rglob("*.py"))]
        nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
        functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        long = sum((node.end_lineno or node.lineno) - node.lineno >= LONG for node in functions)
        print(f"{folder:<14}{sum(text.count(chr(10)) for text in texts):>8,}{len(texts):>7}{long:>29}")


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere in it: modules, and what is imported from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(root: Path) -> dict[str, Path]:
    """Find the modules of the hub by their dotted names, packages left out."""
    paths = [path for path in sorted((root / HUB).rglob("*.py")) if path.name != "__init__.py"]
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in paths}


def graphs(root: Path) -> tuple[networkx.DiGraph, networkx.DiGraph]:
    """Build the graphs of imports between the hub's rooms, and between its modules."""
    listed = modules(root)
    between = networkx.DiGraph()
    between.add_nodes_from(listed)
    between.add_edges_from((name, other) for name, path in listed.items() for other in imports(path) if other in listed)
    rooms = networkx.DiGraph()
    for path in sorted((root / HUB).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[1] == "__init__":
            continue
        rooms.add_node(parts[1])
        used = {other.split(".")[1] for other in imports(path) if other.startswith(f"{HUB}.")}
        rooms.add_edges_from((parts[1], room) for room in used if _is_room(root, room))
    for graph in (rooms, between):
        graph.remove_edges_from(list(networkx.selfloop_edges(graph)))
    return rooms, between


def _is_room(root: Path, name: str) -> bool:
    return (root / HUB / f"{name}.py").exists() or (root / HUB / name / "__init__.py").exists()


def shape(root: Path) -> None:
    """Print the circles of imports inside the hub, and the arrows upwards."""
    rooms, between = graphs(root)
    print(f"{HUB}: {len(rooms)} rooms, {rooms.number_of_edges()} arrows; {len(between)} modules")
    for title, graph in (("rooms", rooms), ("modules", between)):
        circles = [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]
        print(f"circles of {title}: {len(circles)}")
        for circle in sorted(circles):
            print(f"    {', '.join(name.removeprefix(f'{HUB}.') for name in circle)}")
    floors = _floors(root)
    if not floors:
        print("arrows upwards: tests/test_star.py has no order of floors")
        return
    upwards = [f"{a} -> {b}" for a, b in sorted(rooms.edges) if floors.index(b) > floors.index(a)]
    print(f"arrows upwards: {len(upwards)}{': ' if upwards else ''}{', '.join(upwards)}")


def _floors(root: Path) -> list[str]:
    """Read the order of the rooms, from the ground up; empty where the revision has none."""
    for node in ast.parse((root / "tests" / "test_star.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FLOORS":
            return list(ast.literal_eval(node.value))
    return []


def times(root: Path) -> None:
    """Print how long the command line takes to answer, and the package to import."""
    for title, package, code in (
        ("paretoray --help", HUB, "from orchestrator.cli import main; main(['--help'])"),
        ("import paretoray", "paretoray", "import paretoray"),
    ):
        if not (root / package).is_dir():
            print(f"{title}: there is no such package")
            continue
        # With -c the current folder comes first, before a paretoray that is installed.
        check = f"import {package}; assert {package}.__file__.startswith({str(root)!r}), {package}.__file__; "
        _run(check + code, root)
        seconds = [_run(code, root) for _ in range(REPEATS)]
        each = ", ".join(f"{s:.2f}" for s in seconds)
        print(f"{title}: {statistics.median(seconds):.2f} s (of {each})")


def _run(code: str, root: Path) -> float:
    """Return the seconds that a new process takes for some code."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def report(root: Path) -> None:
    sizes(root)
    shape(root)
    times(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?")
    revision = parser.parse_args().revision
    tree = Path(__file__).resolve().parents[1]
    if revision is None:
        report(tree)
        return
    archive = subprocess.run(["git", "archive", revision], cwd=tree, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
        report(Path(folder).resolve())


if __name__ == "__main__":
    main()
