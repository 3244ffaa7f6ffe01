"""Tables of single operations as ProxylessNAS and Once-for-all write them: the same sums, units, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config.spaces import make_space
from orchestrator.errors import InputError
from orchestrator.objectives.predicted import ProfiledCost
from orchestrator.profiling.lookup import from_operations, read
from tests.helpers import assert_refused, call

SETTINGS: dict[str, Any] = {"widths": [8, 4, 6, 6, 10, 10, 12, 12, 32], "strides": [2, 2, 1, 1, 1, 1, 1]}
SPACE = make_space("proxyless", SETTINGS, (3, 9, 9), 10)
"""Images of odd size: 9 -> 5 -> 3 pixels."""
STEM, FIRST = "Conv-input:9x9x3-output:5x5x8", "expanded_conv-input:5x5x8-output:5x5x4-expand:1-kernel:3-stride:1-idskip:0"
MIX, HEAD = "Conv_1-input:3x3x12-output:3x3x32", "Logits-input:3x3x32-output:10"
PLACES = (  # input, output, stride, idskip of every different place of the six stages
    ("5x5x4", "3x3x6", 2, 0), ("3x3x6", "3x3x6", 1, 1), ("3x3x6", "3x3x10", 1, 0), ("3x3x10", "3x3x10", 1, 1),
    ("3x3x10", "3x3x12", 1, 0), ("3x3x12", "3x3x12", 1, 1),
)  # fmt: skip


def block(place: tuple[str, str, int, int], kernel: int, expand: int) -> str:
    before, after, stride, skip = place
    return f"expanded_conv-input:{before}-output:{after}-expand:{expand}-kernel:{kernel}-stride:{stride}-idskip:{skip}"


def whole() -> dict[str, float]:
    """A latency in milliseconds for every operation, all of them different."""
    keys = [STEM, FIRST, MIX, HEAD, *(block(p, k, e) for p in PLACES for k in (3, 5, 7) for e in (3, 6))]
    return {key: 1.0 + 0.125 * i for i, key in enumerate(keys)}


def write(path: Path, table: Any) -> Path:
    dump = yaml.safe_dump if path.suffix in (".yaml", ".yml") else json.dumps
    path.write_text(table if isinstance(table, str) else dump(table))
    return path


def mean(table: dict[str, float], name: str = "mean", scale: float = 1.0) -> dict[str, dict[str, float]]:
    return {key: {name: scale * value, "count": 50} for key, value in table.items()}


def test_a_sum_is_the_one_that_the_authors_code_gives(tmp_path: Path) -> None:
    table = whole()
    path = write(tmp_path / "mobile_trim.yaml", mean(table))
    done = call(
        "profile", "--space", "proxyless", "widths=8,4,6,6,10,10,12,12,32", "strides=2,2,1,1,1,1,1",
        "image=3,9,9", "classes=10",
        "--from-table", path, "--hardware", "my phone", "--out", tmp_path / "phone.toml",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "use it as latency@phone" in done.output
    latency = ProfiledCost(SPACE, cost="latency", device="phone", file=str(tmp_path / "phone.toml"))
    arch = SPACE.parse("k5e3-k3e6-id-id:k7e3-k3e3-id-id:k3e6-id-id-k5e6:k3e3-id-id-id:k7e6-id-k5e3-id:k7e3")
    by_hand = (
        table[STEM] + table[FIRST]
        + table[block(PLACES[0], 5, 3)] + table[block(PLACES[1], 3, 6)]
        + table[block(PLACES[1], 7, 3)] + table[block(PLACES[1], 3, 3)]
        + table[block(PLACES[2], 3, 6)] + table[block(PLACES[3], 5, 6)]
        + table[block(PLACES[3], 3, 3)]
        + table[block(PLACES[4], 7, 6)] + table[block(PLACES[5], 5, 3)]
        + table[block(PLACES[5], 7, 3)]
        + table[MIX] + table[HEAD]
    )  # fmt: skip
    assert latency.cost(arch, {}) == pytest.approx(by_hand, rel=1e-12)
    fixed, rows = latency.additive() or (0.0, [])
    assert fixed + sum(row[o] for row, o in zip(rows, arch, strict=True)) == pytest.approx(by_hand, rel=1e-12)
    assert latency.warning is not None and "not compared with whole networks" in latency.warning
    assert "my phone" in call("devices", tmp_path / "phone.toml").output


def test_once_for_all_counts_channels_and_has_the_pooling_apart(tmp_path: Path) -> None:
    table = {}
    for key, value in whole().items():
        head, expand, tail = key.partition("-expand:")
        if expand:
            channels = int(head.partition("-output")[0].rpartition("x")[2])
            ratio, _, rest = tail.partition("-")
            key = f"{head}-expand:{channels * int(ratio)}-{rest}-se:0-hs:0"
        table[key] = value
    del table[HEAD]
    table |= {"AvgPool2D-input:3x3x32-output:1x1x32": 0.25, "Logits-input:1x1x32-output:10": 0.5}
    profile = from_operations(write(tmp_path / "160_lookup_table.json", mean(table)), SPACE, "note10", None)
    assert profile.protocol["format"] == "Once-for-all"
    assert profile.fixed == pytest.approx(sum(whole()[key] for key in (STEM, FIRST, MIX)) + 0.75)
    assert profile.costs["k7e6 4x5x5 -> 6x3x3"] == whole()[block(PLACES[0], 7, 6)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.yaml", mean({STEM: 2.5})),
        ("t.yml", mean({STEM: 2500.0}, "mean_us")),
        ("t.json", {STEM: 2.5}),
        ("t.json", mean({STEM: 0.0025}, "latency (s)")),
        ("t.json", mean({STEM: 2.5}, "latency_ms")),
        ("t.txt", f"# of a phone\n\n{STEM} 2.5\n"),
        ("t.txt", f"{STEM}: 2.5\n"),
        ("t.csv", f"operation,latency_us\n{STEM},2500\n"),
        ("t.tsv", f"{STEM}\t2.5\n"),
    ],
)
def test_formats_and_units_are_read(tmp_path: Path, name: str, content: Any) -> None:
    table, _ = read(write(tmp_path / name, content))
    assert table == {STEM: pytest.approx(2.5)}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.pkl", {}, "must end in .yaml"),
        ("t.yaml", "a: [", "cannot be read"),
        ("t.yaml", "- 1\n- 2\n", "has no operations"),
        ("t.yaml", "", "has no operations"),
        ("t.yaml", f"{STEM}: !!python/object/apply:os.system ['touch ran']\n", "cannot be read"),
        ("t.yaml", f"? {STEM}\n: 1\n? {STEM}\n: 2\n", f"{STEM} is written twice"),
        ("t.json", f'{{"{STEM}": 1, "{STEM}": 2}}', "is written twice"),
        ("t.json", "{", "cannot be read"),
        ("t.json", {"conv 3x3": 1.0}, "has no operations"),
        ("t.json", {STEM: 1.0, "conv 3x3": 1.0}, "'conv 3x3' is no operation"),
        ("t.json", {STEM: -1.0}, "= -1.0; a latency is a number of at least 0"),
        ("t.json", {STEM: True}, "= True"),
        ("t.json", {STEM: "3 ms"}, "= '3 ms'"),
        ("t.json", f'{{"{STEM}": NaN}}', "= nan"),
        ("t.json", {STEM: {"count": 3}}, "has count; write its latency as mean"),
        ("t.json", {STEM: {}}, "has nothing"),
        ("t.json", {STEM: {"mean_ms": 1.0, "mean_us": 1.0}}, "has mean_ms, mean_us"),
        ("t.json", {STEM: {"mean_us": 1.0}, MIX: {"mean": 1.0}}, "as mean and mean_us; write all of them in one way"),
        ("t.txt", f"{STEM}\n", "line 1 has no key and latency"),
        ("t.txt", f"{STEM} 2.5\n{MIX} fast\n", "line 2: 'fast' is no number"),
        ("t.txt", f"{STEM} 2.5\n{STEM} 2.5\n", "is written twice"),
        ("t.csv", "operation,latency_us\n", "has no operations"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: Any, words: str) -> None:
    with pytest.raises(InputError) as refused:
        read(write(tmp_path / name, content))
    assert words in str(refused.value), refused.value


def test_what_a_table_lacks_is_named(tmp_path: Path) -> None:
    table, out = whole(), tmp_path / "phone.toml"
    del table[block(PLACES[3], 7, 6)]
    path = write(tmp_path / "t.json", table)
    with pytest.raises(InputError, match="lacks 1 of the 40 operations") as refused:
        from_operations(path, SPACE, "phone", None)
    assert block(PLACES[3], 7, 6) in str(refused.value)
    with pytest.raises(InputError, match="is no chain of MBConv blocks"):
        from_operations(path, make_space("digits-tiny", {}, (1, 8, 8), 10), "phone", None)
    run = ("profile", "--space", "proxyless", "image=3,9,9", "--out", out)
    assert_refused(call(*run, "--from-table", tmp_path / "none.json"), "cannot read", "none.json")
    assert_refused(call(*run, "--from-table", path, "--rounds", 3), "--rounds means nothing with --from-table")
    assert_refused(call(*run, "--from-table", path, "--fit", path), "--fit means nothing with --from-table")
    assert not out.exists()
