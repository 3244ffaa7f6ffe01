import pytest

from orchestrator.search.archive import Archive
from searchers import Evaluation


def test_it_keeps_the_front_of_all_there_was_and_one_of_equals() -> None:
    archive = Archive((10.0, 10.0))
    archive.add([Evaluation((0,), (5.0, 5.0)), Evaluation((1,), (6.0, 6.0))])
    assert archive.hypervolume == pytest.approx(0.25)
    archive.add([Evaluation((2,), (5.0, 5.0)), Evaluation((0,), (5.0, 5.0))])
    assert [e.architecture for e in archive.front] == [(0,)]
    archive.add([Evaluation((3,), (2.0, 8.0)), Evaluation((4,), (20.0, 1.0))])
    assert {e.costs for e in archive.front} == {(5.0, 5.0), (2.0, 8.0), (20.0, 1.0)}
    assert archive.hypervolume == pytest.approx(0.25 + 0.3 * 0.2)
    archive.add([])
    assert len(archive.front) == 3
