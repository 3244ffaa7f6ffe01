"""Path encoding: counts over the paths through a network's graph, the same for the same network."""

import numpy as np
import pytest

from analysis.graphs import Graph
from orchestrator.config.spaces import make_space
from orchestrator.spaces.base import SKIPS, SearchSpace
from orchestrator.spaces.nas_bench_201 import NasBench201
from orchestrator.spaces.parts.path_encoding import encode_paths


def drawn(*arrows: str, **kinds: str) -> dict[str, Graph]:
    pairs = [(a[0], a[1]) for a in arrows]
    boxes = {name: name for pair in pairs for name in pair}
    return {"cell": Graph(boxes, pairs, kinds)}


def test_ways_are_counted_and_skips_on_them_are_not() -> None:
    # i - a - n - b - o: two ways, one of them past b over a skip; and i - n alone, where a is left out.
    one = drawn("ia", "an", "nb", "bo", "ns", "so", a="conv", b="pool", s="skip")
    other = drawn("ia", "ao", a="conv")
    values, groups = encode_paths([one, other, {}], {"skip"})
    # Ways, whether any, conv and pool on all, conv and pool at most on one; then the rows conv, conv-pool.
    assert values.shape == (3, 8) and len(groups) == 8
    # conv: one each, on two ways and on one. Whether there is a way without any operation is the same for all, never.
    counts = values[:, :6] / values[:, :6].max(axis=0)
    np.testing.assert_allclose(counts, [[1, 1, 1, 1, 1, 1], [0.5, 1, 0.5, 0, 1, 0], [0] * 6])
    np.testing.assert_array_equal(values[:, 6:], [[1, 1], [1, 0], [0, 0]])
    assert groups[:6] == [0, 1, 2, 3, 4, 5] and groups[6] != groups[7], "rows of one and of two operations are weighed apart"
    np.testing.assert_allclose(values[:, :6].std(axis=0), 0.5)


def test_what_is_the_same_for_all_says_nothing() -> None:
    values, groups = encode_paths([drawn("ia", "ao", a="conv")] * 4, SKIPS)
    assert values.shape == (4, 0) and groups == []


@pytest.fixture(scope="module")
def cells() -> dict[str, np.ndarray]:
    """Of some NAS-Bench-201 cells."""
    space = make_space("nas-bench-201", {}, (3, 32, 32), 10)
    assert space.path_encoding is not None
    values = space.path_encoding[0]
    assert len(values) == space.architectures == 15_625

    def of(text: str) -> np.ndarray:
        row: np.ndarray = values[np.ravel_multi_index(space.parse(text), space.sizes)]
        return row

    return {
        name: of(text)
        for name, text in {
            "conv": "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|",
            "conv elsewhere": "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
            "conv, and one that leads nowhere": "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|none~2|",
            "two": "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
            "no way": "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|",
            "nothing": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        }.items()
    }


def test_the_same_network_looks_the_same_and_another_does_not(cells: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(cells["conv"], cells["conv elsewhere"])
    np.testing.assert_array_equal(cells["conv"], cells["conv, and one that leads nowhere"])
    assert (cells["conv"] != cells["two"]).any()
    assert not cells["no way"].any() and not cells["nothing"].any()


def test_the_size_of_the_networks_does_not_matter() -> None:
    # Elsewhere in the tests spaces of all sizes share the encoding of the default one (conftest.py).
    shared, own = NasBench201().path_encoding, SearchSpace.path_encoding.func(NasBench201(channels=4, cells=1, classes=3))
    assert shared is not None and own is not None and shared[1] == own[1]
    np.testing.assert_array_equal(shared[0], own[0])


def test_what_graphs_have_in_common_counts_in_each_of_them() -> None:
    one = drawn("ia", "ab", "bo", a="conv", b="pool")
    longer = drawn("ia", "ab", "bc", "co", a="conv", b="pool", c="conv")
    values, _ = encode_paths([one, longer, one, {}], SKIPS)
    # Ways, whether any, conv and pool on all, conv and pool at most on one.
    counts = values[:, :6] / values[:, :6].max(axis=0)
    np.testing.assert_allclose(counts, [[1, 1, 0.5, 1, 0.5, 1], [1] * 6, [1, 1, 0.5, 1, 0.5, 1], [0] * 6])
    np.testing.assert_array_equal(values[:, 6:], [[1, 0], [0, 1], [1, 0], [0, 0]])  # conv-pool, conv-pool-conv


def test_equal_ways_side_by_side_count_each() -> None:
    values, _ = encode_paths([drawn("ia", "ao", a="conv"), drawn("ia", "ib", "ao", "bo", a="conv", b="conv")], SKIPS)
    counts = values / values.max(axis=0)
    # Ways, conv on all, and the row conv; both have a way, and one conv on it.
    np.testing.assert_allclose(counts, [[0.5] * 3, [1] * 3])


@pytest.mark.parametrize(("networks", "rows"), [(2000, 2), (3000, 1)])
def test_a_sequence_that_hardly_any_network_has_is_no_feature(networks: int, rows: int) -> None:
    often, rare = drawn("ia", "ao", a="conv"), drawn("ia", "ao", a="pool")
    values, _ = encode_paths([often] * (networks - 2) + [rare] * 2, SKIPS)
    assert values.shape == (networks, 4 + rows)  # conv and pool on all and on one way; then the rows


def test_pictures_do_not_enter_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_space("digits-tiny", {}, (1, 8, 8), 10).path_encoding
    space = make_space("digits-tiny", {}, (1, 8, 8), 10)
    monkeypatch.setattr(type(space), "drawing", lambda self, architecture: {"chain": Graph({"a": "a"}, [])})
    after = space.path_encoding
    assert before is not None and after is not None
    np.testing.assert_array_equal(before[0], after[0])
    assert space.drawing((0, 0, 0, 0))["chain"].boxes == {"a": "a"}


def test_large_spaces_and_those_that_have_to_be_run_are_not_looked_at() -> None:
    assert make_space("darts", {}, (3, 32, 32), 10).path_encoding is None
    tiny = make_space("digits-tiny", {}, (1, 8, 8), 10).path_encoding
    assert tiny is not None and tiny[0].shape == (625, len(tiny[1]))
