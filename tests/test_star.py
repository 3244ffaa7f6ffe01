"""The architecture's rules: three leaves, one hub built in floors, and one name for users on top."""

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAVES = ("searchers", "hw_profiles", "analysis")
FLOORS = (
    "errors",
    "registry",
    "machine",
    "tasks",
    "spaces",
    "data",
    "training",
    "objectives",
    "evaluators",
    "config",
    "loggers",
    "judge",
    "search",
    "cluster",
    "runs",
    "describe",
    "profiling",
    "trust",
    "bench",
    "export",
    "api",
    "commands",
    "cli",
    "__main__",
)
"""The hub's rooms from the ground up: each may import what stands before it, and nothing that stands behind it."""


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, anywhere in it: inside functions and for type checkers, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_know_only_themselves(leaf: str) -> None:
    listed = modules(leaf)
    assert listed
    for path in listed.values():
        strangers = {name.partition(".")[0] for name in imports(path)} & (
            {"ray", "orchestrator", "paretoray", *LEAVES} - {leaf}
        )
        assert not strangers, f"{path} imports {strangers}"


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in (ROOT / "orchestrator").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(FLOORS)


def test_nothing_imports_upwards() -> None:
    for name, path in modules("orchestrator").items():
        if name == "orchestrator":
            continue
        room = name.split(".")[1]
        used = {other.split(".")[1] for other in imports(path) if other.startswith("orchestrator.")}
        upwards = [other for other in used if other in FLOORS and FLOORS.index(other) > FLOORS.index(room)]
        assert not upwards, f"{path} imports {', '.join(upwards)}, which stand above it"
        assert not any(other.startswith("paretoray") for other in imports(path)), f"{path} imports the users' package"


@pytest.mark.parametrize("package", ["orchestrator", *LEAVES])
def test_modules_import_each_other_in_no_circle(package: str) -> None:
    listed = modules(package)
    graph = networkx.DiGraph(
        (name, other)
        for name, path in listed.items()
        for other in imports(path)
        # A package's own page re-exports what stands in it, which is no import of one module by another.
        if other in listed and other != name and listed[other].name != "__init__.py" and path.name != "__init__.py"
    )
    assert not list(networkx.simple_cycles(graph))


def test_only_the_rooms_of_ray_know_ray() -> None:
    for name, path in modules("orchestrator").items():
        if any(other.partition(".")[0] == "ray" for other in imports(path)):
            assert name.split(".")[1] in ("cluster", "profiling", "bench", "api"), f"{path} imports ray"
