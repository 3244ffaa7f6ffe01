"""TND-NAS's cells (arXiv 2111.03892): P-DARTS's skeleton, and separate operations for normal and reduction cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from orchestrator.spaces.base import Published, SearchSpace
from orchestrator.spaces.darts import Darts

# No official code was released; lists and cell are from the author's development repository, blyucs/pdarts.
_SOURCE = "TND-NAS, the author's development repository blyucs/pdarts; published as 1.09, 2.4 and 9.57 M parameters"
_CELL = (
    "Genotype(normal=[[('sep_conv_3x3', 0), ('conv_1x1', 1)], [('skip_connect', 0), ('conv_3x3', 1)], "
    "[('conv_1x1', 0), ('conv_1x1', 1), ('sep_conv_3x3', 3)], [('conv_1x1', 0), ('conv_3x1_1x3', 1), ('dil_conv_3x3', 3)]], "
    "normal_concat=range(2, 6), "
    "reduce=[[('max_pool_3x3', 0), ('max_pool_5x5', 1)], [('max_pool_5x5', 0), ('max_pool_3x3', 1), ('max_pool_5x5', 2)], "
    "[('max_pool_5x5', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_5x5', 3)], "
    "[('max_pool_3x3', 0), ('skip_connect', 1), ('avg_pool_3x3', 2), ('max_pool_3x3', 3)]], reduce_concat=range(2, 6))"
)


@dataclass(kw_only=True, eq=False)
class TndNas(Darts):
    """Space of `darts` with ten operations in normal and six in reduction cells, and a supernet of 5, 11 and 17 cells in turn.

    All edges that are not `none` are kept, so nodes differ in the number of their inputs: `derive` takes the most probable
    option of every edge.
    """

    normal: ClassVar[tuple[str, ...]] = (
        "none",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "sep_conv_7x7",
        "dil_conv_3x3",
        "dil_conv_5x5",
        "conv_1x1",
        "conv_3x3",
        "conv_3x1_1x3",
    )
    reduce: ClassVar[tuple[str, ...]] = ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "max_pool_5x5", "max_pool_7x7")
    stages: ClassVar[tuple[int, ...]] = (5, 11, 17)
    published: ClassVar[Mapping[str, Published]] = {
        f"TND_NAS_C{channels}": Published(_CELL, {"channels": channels, "cells": 20}, _SOURCE) for channels in (16, 24, 36, 48)
    }
    derive = SearchSpace.derive

    def __post_init__(self) -> None:
        super().__post_init__()
        self.node_inputs = ()
