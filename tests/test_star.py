"""The architecture's rules: three leaves that import nothing of ours and nothing of Ray, and one hub without circles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAVES = ("searchers", "hw_profiles", "analysis")


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_know_only_themselves(leaf: str) -> None:
    files = list((ROOT / leaf).rglob("*.py"))
    assert files
    for path in files:
        strangers = imported(path) & ({"ray", "orchestrator", *LEAVES} - {leaf})
        assert not strangers, f"{path} imports {strangers}"


def test_evaluators_and_the_search_know_no_ray() -> None:
    files = [path for room in ("evaluators", "search") for path in (ROOT / "orchestrator" / room).glob("*.py")]
    assert {"coordinator.py", "supernet.py"} <= {path.name for path in files}
    for path in files:
        assert "ray" not in imported(path), path


def rooms_of(path: Path) -> set[str]:
    """Return the rooms of the hub that a file imports from, at its head or inside of functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("orchestrator.")}
    return found


def test_no_two_rooms_of_the_hub_import_each_other() -> None:
    hub = ROOT / "orchestrator"
    rooms: dict[str, set[str]] = {}
    for path in hub.rglob("*.py"):
        room = path.relative_to(hub).parts[0].removesuffix(".py")
        rooms.setdefault(room, set()).update(rooms_of(path) - {room})
    assert rooms["cluster"] >= {"search", "config"}
    order = list(TopologicalSorter(rooms).static_order())  # raises CycleError, which names the rooms
    assert order.index("registry") < order.index("config") < order.index("search") < order.index("cli")
