"""Layouts without overlaps, and graphs as text and in Graphviz's language."""

from __future__ import annotations

import itertools
from pathlib import Path

from analysis import drawing
from analysis.graphs import Graph, colour

CELL = Graph(
    {n: n for n in ("in", "0", "1", "out")} | {"a": "conv", "b": "pool", "c": "skip", "d": "sep_conv_3x3"},
    [
        ("in", "a"),
        ("a", "0"),
        ("in", "b"),
        ("b", "1"),
        ("0", "c"),
        ("c", "1"),
        ("in", "d"),
        ("d", "1"),
        ("0", "out"),
        ("1", "out"),
    ],
    {"a": "conv", "b": "max_pool_3x3", "c": "skip", "d": "sep_conv_3x3"},
)
CHAIN = Graph({"a": "conv", "b": "MB3\n5x5", "c": "pool"}, [("a", "b"), ("b", "c")], {"a": "", "b": "k5e3", "c": ""})


def test_arrows_point_right_and_boxes_do_not_touch() -> None:
    places = drawing.layout(CELL)
    assert all(places[a][0] < places[b][0] for a, b in CELL.arrows)
    for (x0, y0, wide0), (x1, y1, wide1) in itertools.combinations((places[n] for n in CELL.boxes), 2):
        assert abs(y0 - y1) >= 0.27 or abs(x0 - x1) >= (wide0 + wide1) / 2


def test_operations_precede_their_outputs() -> None:
    places = drawing.layout(CELL)
    assert places["b"][0] == places["c"][0] > places["0"][0] > places["a"][0]


def test_long_arrows_pass_beside_the_boxes_of_other_layers() -> None:
    places = drawing.layout(CELL)
    bends = [name for name in places if name.startswith("in>b#")]
    assert len(bends) == 2
    for name in bends:
        x, y, _ = places[name]
        assert all(abs(y - places[n][1]) > 0.135 for n in CELL.boxes if places[n][0] == x)


def test_graphs_as_text() -> None:
    assert CELL.lines() == ["0 = conv(in)", "1 = pool(in) + skip(0) + sep_conv_3x3(in)", "out = [0, 1]"]
    assert CHAIN.lines() == ["conv > MB3: 5x5 > pool"]


def test_dot_quotes_what_needs_quoting() -> None:
    text = Graph({'a"b': "x\ny", "c": "c"}, [('a"b', "c")], {"c": "conv"}).dot("t")
    assert '"a\\"b" [label="x\\ny", shape=ellipse];' in text and '"a\\"b" -> "c";' in text
    assert text.startswith('digraph "t" {') and text.rstrip().endswith("}") and 'fillcolor="#' in text


def test_families_share_a_colour() -> None:
    assert colour("sep_conv_3x3") == colour("sep_conv_7x7") != colour("dil_conv_3x3")
    assert colour("k5e3") == colour("k5e6") != colour("k7e6")
    assert colour("conv 3x3") == colour("nor_conv_1x1") and colour("something else").startswith("#")


def test_figures_are_saved_and_grow_with_the_graph(tmp_path: Path) -> None:
    for graph in (CELL, CHAIN):
        drawing.figure(graph, "a title").savefig(tmp_path / "g.png")
        assert (tmp_path / "g.png").stat().st_size > 1000
    longer = Graph(
        {str(i): str(i) for i in range(20)}, [(str(i), str(i + 1)) for i in range(19)], {str(i): "k3" for i in range(20)}
    )
    assert drawing.figure(longer).get_figwidth() > 3 * drawing.figure(CHAIN).get_figwidth()


def test_what_leads_nowhere_is_marked_and_dashed() -> None:
    whole = Graph(
        {"0": "0", "a": "skip", "b": "conv", "1": "1"}, [("0", "a"), ("0", "b"), ("b", "1")], {"a": "skip", "b": "conv"}
    )
    marked = whole.marked(Graph({"0": "0", "b": "conv", "1": "1"}, [("0", "b"), ("b", "1")], {"b": "conv"}))
    assert marked.dead == {"a"} and whole.marked(None).dead == set(whole.boxes)
    dot = marked.dot("cell").splitlines()
    assert sum("dashed" in line for line in dot) == 2 and '  "0" -> "a" [style=dashed, color=grey];' in dot
