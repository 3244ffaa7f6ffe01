"""The space against published counts and the real table, on odd sizes, and in stages."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.spaces.nas_bench_201 import OPERATIONS, NasBench201

SMALL = NasBench201(channels=4, cells=2, supernet_cells=[2], image=(1, 8, 8))
ALL = [list(range(5))] * 6


def random_architectures(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.random.default_rng(seed).integers(0, 5, (count, 6)).tolist()]


def test_published_anchors() -> None:
    space = NasBench201()
    assert space.architectures == 15625
    conv = (OPERATIONS.index("nor_conv_3x3"),) * 6
    assert sum(p.numel() for p in space.network(conv).parameters()) == 1_531_546
    assert sum(o.parameters for o in space.operations(conv)) == 1_531_546
    assert sum(o.macs for o in space.operations(conv)) == 220_119_680
    assert space.largest() == conv


def test_counts_of_the_real_table(table: Any) -> None:
    space = NasBench201()
    for _, row in table.sample(200, random_state=0).iterrows():
        operations = space.operations(space.parse(row["arch"]))
        assert sum(o.parameters for o in operations) == row["params"]
        assert sum(o.macs for o in operations) == row["macs"]


def test_the_table_is_the_whole_space(table: Any) -> None:
    space = NasBench201()
    parsed = {space.parse(arch) for arch in table["arch"]}
    assert len(parsed) == 15625 and all(space.format(space.parse(arch)) == arch for arch in table["arch"][:500])


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 32, 32), (3, 30, 30), (3, 9, 13)])
def test_arithmetic_equals_counting_over_modules(image: tuple[int, int, int]) -> None:
    space = NasBench201(channels=4, cells=2, image=image, classes=7)
    for architecture in random_architectures(8):
        network = space.network(architecture).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            assert network(torch.zeros(1, *image)).shape == (1, 7)
        operations = space.operations(architecture)
        assert sum(p.numel() for p in network.parameters()) == sum(o.parameters for o in operations)
        # torch counts two FLOPs a MAC, and a cell that computes nothing in vain is all it sees
        assert counter.get_total_flops() == 2 * sum(o.macs for o in operations)


GOOD = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"


@pytest.mark.parametrize(
    ("bad", "position"),
    [
        ("", 0),
        ("x" + GOOD, 0),
        (GOOD[:-1], 76),
        (GOOD + "|", 79),
        (GOOD.replace("none~2", "none~1"), 76),
        (GOOD.replace("nor_conv_1x1", "nor_conv_5x5"), 25),
        (GOOD.replace("+", "", 1), 8),
        (GOOD.replace("none~0", "none"), 5),
    ],
)
def test_bad_strings_are_refused_at_their_position(bad: str, position: int) -> None:
    with pytest.raises(ValueError, match=rf"position {position}\b"):
        SMALL.parse(bad)


def test_dropped_options_hold_no_parameters_and_stages_deepen() -> None:
    space = NasBench201(channels=4, cells=5)
    assert space.supernet_cells == [1, 3, 5]

    def convolutions(stages_left: int, options: list[list[int]]) -> int:
        return sum(isinstance(m, torch.nn.Conv2d) for m in space.supernet(stages_left, options).modules())

    fixed = 1 + 2 * 3
    assert convolutions(7, ALL) == convolutions(2, ALL) == fixed + 3 * 1 * 6 * 2
    assert convolutions(1, [[0, 3]] * 6) == fixed + 3 * 3 * 6
    assert convolutions(0, [[3]] * 6) == fixed + 3 * 5 * 6


@pytest.mark.parametrize("bad", [{"channels": 0}, {"cells": 0}, {"image": (3, 2, 2)}, {"supernet_cells": [0]}, {"classes": 0}])
def test_impossible_spaces_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        NasBench201(**bad)


def test_drawing_leaves_out_none() -> None:
    graph = SMALL.drawing(SMALL.parse(GOOD))["cell"]
    assert sorted(graph.kinds.values()) == ["avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3", "skip_connect"]
    assert graph.lines() == [
        "2 = skip_connect(0) + nor_conv_1x1(1)",
        "3 = nor_conv_3x3(0) + avg_pool_3x3(1)",
    ]


def test_dead_parts_of_a_cell_are_marked_in_its_drawing() -> None:
    nothing, conv = "none~{}", "nor_conv_3x3~{}"
    # Node 1 is fed and leads nowhere, node 2 leads to the output and is not fed.
    text = (
        f"|{conv.format(0)}|+|{nothing.format(0)}|{nothing.format(1)}|+|{conv.format(0)}|{nothing.format(1)}|{conv.format(2)}|"
    )
    graph = SMALL.drawing(SMALL.parse(text))["cell"]
    assert graph.dead == {"0->1", "1", "2->3", "2"}
    assert not SMALL.drawing((1,) * 6)["cell"].dead
    cut = SMALL.drawing(SMALL.parse(text.replace("nor_conv_3x3~0|nor", "none~0|nor").replace("+|nor_conv_3x3~0", "+|none~0")))
    assert cut["cell"].dead == set(cut["cell"].boxes), "the output does not depend on the image"
