"""A small problem with a known front, and how a searcher is played on it."""

from collections.abc import Iterator, Sequence

from searchers import Architecture, Evaluation, Searcher

SIZES = (3,) * 6


def costs(architecture: Architecture) -> tuple[float, float]:
    """Both fall with other options; the front has the architectures that waste nothing, which options 0 and 2 do not."""
    first = sum(o * (i + 1) for i, o in enumerate(architecture))
    second = sum((2 - o) * (i + 1) + (o == 1) * 4 for i, o in enumerate(architecture))
    return float(first), float(second)


def evaluated(architectures: Sequence[Architecture], limit: float = float("inf")) -> list[Evaluation]:
    """limit: of the second cost."""
    return [Evaluation(a, costs(a), max(0.0, costs(a)[1] / limit - 1)) for a in architectures]


def generations(searcher: Searcher, count: int, limit: float = float("inf")) -> Iterator[list[Architecture]]:
    """Return what is asked in each of so many rounds, told at once."""
    for _ in range(count):
        searcher.train_on(1)
        asked = searcher.ask(10**6)
        searcher.tell(evaluated(asked, limit))
        yield asked
