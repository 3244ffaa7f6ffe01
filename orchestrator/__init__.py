"""Hub of the search: spaces, objectives, evaluators, Ray and the command line. The one package that knows all others.

Importing it makes sure that its sister packages are found beside it. Ray puts the driver's folder before everything else on the
path of its workers, and a module called `analysis` is anybody's.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

SISTERS = ("searchers", "hw_profiles", "analysis")


class SisterFinder:
    """Finds the packages that belong to this one in the folder that it lies in."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where a sister package is; None for every other module."""
        return PathFinder.find_spec(name, [str(Path(__file__).resolve().parents[1])]) if name in SISTERS else None


if SisterFinder not in sys.meta_path:
    sys.meta_path.insert(0, SisterFinder)
