"""DARTS's family: notation, derivation, depth; NSGA-Net's micro cell."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from orchestrator.spaces.darts import OPERATIONS, Darts
from orchestrator.spaces.nasp import Nasp
from orchestrator.spaces.nsga_net_micro import NsgaNetMicro
from orchestrator.spaces.parts.cells import EDGES, reductions
from orchestrator.spaces.tnd_nas import TndNas
from tests.orchestrator.spaces.small import everything, small

V2 = Darts.published["DARTS_V2"].notation


def test_fourteen_edges_in_the_order_of_darts() -> None:
    assert EDGES[:5] == [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)] and len(EDGES) == 14
    assert reductions(20) == {6, 13} and reductions(8) == {2, 5}


@pytest.mark.parametrize(
    ("change", "position"),
    [
        (("Genotype(", "Genotyp("), 0),
        (("normal=[", "normal["), 15),
        (("'sep_conv_3x3', 0", "'sep_conv_9x9', 0"), 19),
        (("'sep_conv_3x3', 0", "'none', 0"), 19),
        (("('sep_conv_3x3', 1)", "('sep_conv_3x3', 2)"), 55),  # node 2 has two states before it
        (("('sep_conv_3x3', 1)", "('sep_conv_3x3', 0)"), 55),  # two edges from one state
        (("range(2, 6), reduce", "range(2, 5), reduce"), len(V2.split("normal_concat=")[0]) + 23),
    ],
)
def test_bad_genotypes_are_refused_at_their_position(change: tuple[str, str], position: int) -> None:
    with pytest.raises(ValueError, match=rf"position {position}\b"):
        Darts().parse(V2.replace(*change, 1))


def test_genotypes_of_other_hands() -> None:
    space = Darts()
    double = V2.replace("'", '"').replace("range(2, 6)", "[2, 3, 4, 5]")
    assert space.parse(double) == space.parse(V2) == space.parse(V2.replace(" ", ""))
    with pytest.raises(ValueError, match="position"):
        space.parse(V2[:-1])


def test_nodes_with_other_numbers_of_edges_get_a_list_each() -> None:
    space = TndNas()
    architecture = space.parse(TndNas.published["TND_NAS_C16"].notation)
    assert "[('conv_1x1', 0), ('conv_1x1', 1), ('sep_conv_3x3', 3)]" in space.format(architecture)
    nothing = (0,) * 28
    assert "normal=[[], [], [], []]" in space.format(nothing) and space.parse(space.format(nothing)) == nothing


def test_darts_keeps_two_edges_a_node_and_never_none() -> None:
    space = Darts()
    rows = [[0.05] * 8 for _ in range(28)]
    for row in rows:
        row[0] = 0.65  # `none` is most probable everywhere, and never taken
    rows[2][4], rows[4][5], rows[3][6] = 0.3, 0.2, 0.1  # node 3: from states 0, 2 and 1
    derived = space.derive(rows)
    assert derived[2] == 4 and derived[4] == 5 and derived[3] == 0
    for start in (0, 14):
        for target in range(2, 6):
            kept = [derived[start + i] for i, (_, t) in enumerate(EDGES) if t == target]
            assert sum(OPERATIONS[o] != "none" for o in kept) == 2
    assert "[[" not in space.format(derived)


def test_strength_of_an_edge_counts_the_share_of_none() -> None:
    """Leaving `none` out before comparing would rank the second edge first."""
    rows = [[0.0] * 8 for _ in range(28)]
    for row in rows:
        row[1] = 1.0
    rows[2] = [0.1, 0.5, 0.4, 0, 0, 0, 0, 0]
    rows[3] = [0.9, 0.1, 0, 0, 0, 0, 0, 0]
    rows[4] = [0.2, 0.4, 0.4, 0, 0, 0, 0, 0]
    derived = Darts().derive(rows)
    assert derived[3] == 0 and derived[2] == 1 and derived[4] == 1


def test_tnd_nas_keeps_every_edge_that_is_not_none() -> None:
    space = TndNas()
    rows = [[float(o == (i % size)) for o in range(size)] for i, size in enumerate(space.sizes)]
    assert space.derive(rows) == tuple(i % size for i, size in enumerate(space.sizes))


def test_depth_of_the_supernet_by_stage() -> None:
    space = small("tnd-nas", cells=20, channels=4)

    def cells(stages_left: int) -> int:
        options = [(1,)] * 28
        return len(space.supernet(stages_left, options).network.cells)  # type: ignore[arg-type,union-attr]

    assert [cells(2), cells(1), cells(0), cells(9)] == [5, 11, 17, 5]
    assert len(space.network((1,) * 28).cells) == 20  # type: ignore[arg-type]


def test_only_supernets_normalise_pools() -> None:
    space = small("darts")
    pools = (OPERATIONS.index("max_pool_3x3"),) * 28
    norms = [m for m in space.supernet(0, [(p,) for p in pools]).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    alone = [m for m in space.network(pools).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == len(alone) + 3 * 14
    assert sum(not m.affine for m in norms) == 3 * 14


def test_output_is_four_nodes_side_by_side_and_reductions_halve() -> None:
    space = Darts(channels=4, cells=5, image=(3, 32, 32))
    network = space.network(space.parse(V2))
    shapes: list[tuple[int, ...]] = []
    for cell in network.cells:  # type: ignore[union-attr]
        cell.register_forward_hook(lambda m, x, y: shapes.append(tuple(y.shape[1:])))
    network(torch.zeros(2, 3, 32, 32))
    assert shapes == [(16, 32, 32), (32, 16, 16), (32, 16, 16), (64, 8, 8), (64, 8, 8)]


def test_imagenet_stem() -> None:
    space = Darts(channels=8, cells=4, imagenet=True, image=(3, 64, 64), classes=7)
    network = space.network(space.parse(V2))
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    "bad",
    [{"channels": 1}, {"cells": 2}, {"supernet_cells": [2]}, {"supernet_cells": []}, {"image": (3, 3, 3)}, {"classes": 0}],
)
def test_impossible_cells_are_refused(bad: dict[str, Any]) -> None:
    for cls in (Darts, Nasp, TndNas):
        with pytest.raises(ValueError):
            cls(**bad)


def test_micro_concatenates_the_blocks_that_are_not_used() -> None:
    space = small("nsga-net-micro")
    text = NsgaNetMicro.published["NSGA_NET_MICRO"].notation
    architecture = space.parse(text)
    assert space.format(architecture) == text
    with pytest.raises(ValueError, match=rf"position {text.index('3, 4, 5, 6])')}\b"):
        space.parse(text.replace("reduce_concat=[3,", "reduce_concat=[2, 3,"))
    # Another input for one slot frees block 3 (state 3), whose map then enters the sum.
    freed = list(architecture)
    freed[11] = 0
    freed[15] = 0
    assert "normal_concat=[2, 3, 4, 5, 6]" in space.format(tuple(freed))
    assert space.parameters(tuple(freed)) > space.parameters(architecture)


def test_micro_mixture_counts_a_block_as_far_as_it_is_unused() -> None:
    from orchestrator.spaces.parts.choice import Weights

    space = small("nsga-net-micro")
    supernet = space.supernet(0, everything(space)).double().train()
    x = torch.randn(4, *space.image, dtype=torch.float64)
    rows = [[1 / size] * size for size in space.sizes]
    assert torch.isfinite(supernet(x, Weights(rows))).all()
