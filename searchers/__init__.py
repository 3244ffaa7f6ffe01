"""How to search: one file per method, named after it, loaded by that name.

A searcher is built from `sizes` (how many options each choice has) and its own keywords. It never sees a search space, a
network or a device: architectures go out as tuples of option indices, costs or cotangents come back.
"""

from searchers.base import Architecture, Cotangents, Evaluation, GradientSearcher, Mixture, Searcher, Stage

__all__ = ["Architecture", "Cotangents", "Evaluation", "GradientSearcher", "Mixture", "Searcher", "Stage"]
