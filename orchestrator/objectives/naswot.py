"""The training-free score naswot as an objective."""

from __future__ import annotations

from orchestrator.objectives.base import TrainingFreeScore
from orchestrator.spaces.base import SearchSpace


class Naswot(TrainingFreeScore):
    """Log determinant of the kernel of ReLU states at different images (Mellor et al., arXiv 2006.04647).

    Higher is better; the cost is `best` minus the score. `evaluators/training_free.py` has the definition.

    Args:
        space: Search space of the architectures.
        best: More than any network scores, which keeps costs positive.
        missing: Score of networks that have none; None to end the search with an error at the first of them.
    """

    score = "naswot"

    def __init__(self, space: SearchSpace, *, best: float = 500.0, missing: float | None = None) -> None:
        super().__init__(space, best=best, missing=missing)
