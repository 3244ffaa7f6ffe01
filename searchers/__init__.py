"""Search methods, one file each, named after it, loaded by that name.

A searcher is built from a `SearchContext` and its own settings. It never sees a search space, a network or a device:
architectures go out as tuples of option indices, costs or cotangents come back.
"""

from searchers.base import (
    Architecture,
    CostModel,
    Cotangents,
    Evaluation,
    GradientSearcher,
    Mixture,
    SearchContext,
    Searcher,
    SpaceFacts,
    Stage,
)

__all__ = [
    "Architecture",
    "CostModel",
    "Cotangents",
    "Evaluation",
    "GradientSearcher",
    "Mixture",
    "SearchContext",
    "Searcher",
    "SpaceFacts",
    "Stage",
]
