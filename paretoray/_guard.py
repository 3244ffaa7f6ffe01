"""A check that the packages which belong together come from one folder: names such as `analysis` are anybody's, too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("searchers", "hw_profiles", "analysis", "orchestrator")


def check_packages() -> None:
    """Raise ImportError where another folder or module of the same name would be imported instead of one of ours."""
    root = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = find_spec(name)
        origin = spec.origin or next(iter(spec.submodule_search_locations or ()), None) if spec else None
        if origin is None:
            raise ImportError(f"paretoray is not whole: {root} has no package {name}; install it again")
        found = Path(origin).resolve()
        if root not in found.parents:
            raise ImportError(
                f"{found} shadows paretoray's own package {name!r} ({root / name}); rename yours, or start from another folder"
            )
