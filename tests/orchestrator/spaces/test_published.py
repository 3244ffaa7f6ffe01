"""Published networks have the sizes that their authors published."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import registry as names
from orchestrator.spaces.base import SearchSpace

# Counted from the authors' code, or published to the digits that are given in millions.
PARAMETERS: list[tuple[str, str, dict[str, Any], int]] = [
    ("darts", "DARTS_V1", {}, 3_169_414),
    ("darts", "DARTS_V2", {}, 3_349_342),
    ("nasp", "NASP_12", {}, 7_363_486),
    ("tnd-nas", "TND_NAS_C16", {}, 1_099_034),
    ("tnd-nas", "TND_NAS_C24", {}, 2_433_634),
    ("tnd-nas", "TND_NAS_C36", {}, 5_416_894),
    ("tnd-nas", "TND_NAS_C48", {}, 9_577_786),
    ("tnd-nas", "TND_NAS_C24", {"classes": 100}, 2_468_284),
    ("nsga-net-macro", "NSGA_NET_MACRO", {}, 3_337_482),
]


def made(space: str, name: str, **settings: Any) -> tuple[SearchSpace, tuple[int, ...]]:
    cls = names.find("space", space)
    published = cls.published[name]  # type: ignore[attr-defined]
    found = cls(**{**published.settings, **settings})
    return found, found.parse(published.notation)


@pytest.mark.parametrize(("space", "name", "settings", "parameters"), PARAMETERS)
def test_parameters(space: str, name: str, settings: dict[str, Any], parameters: int) -> None:
    found, architecture = made(space, name, **settings)
    assert sum(p.numel() for p in found.network(architecture).parameters()) == parameters
    if name in ("DARTS_V2", "NSGA_NET_MACRO"):  # the others' sums take seconds each, and small ones are tested elsewhere
        assert found.parameters(architecture) == parameters


@pytest.mark.parametrize(("name", "millions"), [("PROXYLESS_MOBILE", 320), ("PROXYLESS_GPU", 465), ("PROXYLESS_CPU", 439)])
def test_macs_of_proxyless(name: str, millions: int) -> None:
    found, architecture = made("proxyless", name)
    assert round(found.macs(architecture) / 1e6) == millions


def test_macs_of_nsga_net_macro() -> None:
    found, architecture = made("nsga-net-macro", "NSGA_NET_MACRO")
    assert round(found.macs(architecture) / 1e6) == 1290


def test_nas_bench_macro() -> None:
    import itertools

    space = names.find("space", "nas-bench-macro")()
    everything = list(itertools.product(range(3), repeat=8))
    parameters = [space.parameters(a) for a in everything]
    assert (min(parameters), max(parameters)) == (387_882, 2_932_586)
    best = space.parse("22212220")
    assert space.parameters(best) == 1_985_514 and round(space.macs(best) / 1e5) == 852
    assert len({space.canonical(a) for a in everything}) == 9 * 21 * 21


def test_sizes_of_the_spaces() -> None:
    assert names.find("space", "proxyless")().architectures == 7**15 * 6**6
    assert names.find("space", "proxyless-cifar")().architectures == 7**648
    assert names.find("space", "ddpnas-mobile")().architectures == 9**14
    assert names.find("space", "darts")().architectures == 8**28
    assert names.find("space", "nsga-net-macro")().architectures == 2**48
    micro = names.find("space", "nsga-net-micro")()
    assert len(micro.sizes) == 40 and micro.sizes[:8] == (9, 2, 9, 2, 9, 3, 9, 3)
    tnd = names.find("space", "tnd-nas")()
    assert tnd.sizes == (10,) * 14 + (6,) * 14
    nasp = names.find("space", "nasp")
    # And one more for an edge that is left out.
    assert nasp().sizes == (9,) * 14 + (6,) * 14 and nasp(operation_set=7).sizes == (8,) * 28


@pytest.mark.parametrize("space", [s for s in names.known("space") if getattr(names.find("space", s), "published", None)])
def test_every_published_network_can_be_read_drawn_and_built(space: str) -> None:
    for name in names.find("space", space).published:  # type: ignore[attr-defined]
        found, architecture = made(space, name)
        assert found.parse(found.format(architecture)) == architecture
        assert found.drawing(architecture)
        assert sum(p.numel() for p in found.network(architecture).parameters()) > 500_000
