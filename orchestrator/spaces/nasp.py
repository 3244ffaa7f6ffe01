"""NASP's cells (Yao, Xu, Tu and Zhu, AAAI 2020, arXiv 1905.13577): DARTS's with one of two sets of operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from orchestrator.spaces.base import Published
from orchestrator.spaces.darts import OPERATIONS, Darts

# The "12-operation" setting: 8 for normal and 5 for reduction cells, 12 different ones (codes/genotypes.py of the authors).
NORMAL_12 = (
    "skip_connect",
    "conv_3x1_1x3",
    "dil_conv_3x3",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
REDUCE_12 = ("skip_connect", "avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7")


@dataclass(kw_only=True, eq=False)
class Nasp(Darts):
    """Space of `darts` with NASP's operations. `none`, the last option of every edge, is none of them: it stands for an edge
    that is left out, as two of a node's edges are kept, and NASP's searcher neither trains nor weighs it.

    Args:
        operation_set: 12, or 7 for the operations of DARTS. The other settings are those of `darts`.
    """

    published: ClassVar[Mapping[str, Published]] = {
        "NASP_12": Published(
            "Genotype(normal=[('conv_3x1_1x3', 0), ('conv_3x3', 1), ('dil_conv_3x3', 2), ('conv_3x3', 1), ('dil_conv_3x3', 2), "
            "('conv_3x3', 0), ('skip_connect', 0), ('dil_conv_3x3', 3)], normal_concat=range(2, 6), "
            "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_5x5', 1), ('skip_connect', 2), "
            "('skip_connect', 3), ('skip_connect', 0), ('skip_connect', 1)], reduce_concat=range(2, 6))",
            {"operation_set": 12, "channels": 36, "cells": 20},
            "NASP, the authors' code",
        )
    }

    operation_set: Literal[7, 12] = 12

    def __post_init__(self) -> None:
        seven = tuple(name for name in OPERATIONS if name != "none")
        normal, reduce = (seven, seven) if self.operation_set == 7 else (NORMAL_12, REDUCE_12)
        self.normal, self.reduce = (*normal, "none"), (*reduce, "none")  # type: ignore[misc]
        super().__post_init__()
