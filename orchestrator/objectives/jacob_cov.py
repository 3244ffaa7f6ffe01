"""The training-free score jacob_cov as an objective."""

from __future__ import annotations

from orchestrator.objectives.base import TrainingFreeScore
from orchestrator.spaces.base import SearchSpace


class JacobCov(TrainingFreeScore):
    """Dissimilarity of the gradients of the logits at different images (Mellor et al., arXiv 2006.04647v1), below 0.

    Higher is better; the cost is minus the score. `evaluators/training_free.py` has the definition.

    Args:
        space: Search space of the architectures.
        best: More than any network scores, which keeps costs positive.
        missing: Score of networks that have none; None to end the search with an error at the first of them.
    """

    score = "jacob_cov"

    def __init__(self, space: SearchSpace, *, best: float = 0.0, missing: float | None = None) -> None:
        super().__init__(space, best=best, missing=missing)
