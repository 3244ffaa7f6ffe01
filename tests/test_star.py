"""The architecture's one rule: three leaves that import nothing of ours and nothing of Ray, and one hub."""

import ast
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


def test_evaluators_and_coordinator_know_no_ray() -> None:
    for path in [*(ROOT / "orchestrator" / "evaluators").glob("*.py"), ROOT / "orchestrator" / "coordinator.py"]:
        assert "ray" not in imported(path), path
