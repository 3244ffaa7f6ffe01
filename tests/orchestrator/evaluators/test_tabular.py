"""A table as an evaluator: exact values and gradients, and a word where a table will not do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestrator.config.spaces import make_space
from orchestrator.errors import InputError
from orchestrator.evaluators.tabular import TabularBenchmark
from searchers import Mixture
from tests.fakes import DIGITS_TINY, fake_table


def test_values_and_gradients_are_those_of_the_multilinear_extension() -> None:
    table = TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"])
    assert table.complete
    a = (1, 0, 2, 1)
    assert table.measure([a]) == [dict(zip(("val_accuracy", "params"), table.costs[a], strict=True))]
    assert table.costs[a][0] == 100 - fake_table().set_index("arch").loc[DIGITS_TINY.format(a), "val_accuracy"]
    rng = np.random.default_rng(1)
    rows = [rng.dirichlet(np.ones(n)) for n in DIGITS_TINY.sizes]
    value, cotangents = table.differentiate(Mixture(tuple(tuple(map(float, r)) for r in rows)), 0)
    expected = sum(np.prod([r[o] for r, o in zip(rows, b, strict=True)]) * c[0] / 100 for b, c in table.costs.items())
    assert value == pytest.approx(expected)
    for choice, option in ((0, 1), (3, 2)):
        slope = sum(
            np.prod([r[o] for i, (r, o) in enumerate(zip(rows, b, strict=True)) if i != choice]) * c[0] / 100
            for b, c in table.costs.items()
            if b[choice] == option
        )
        assert cotangents[choice][option] == pytest.approx(slope - expected)
    value, cotangents = table.differentiate(Mixture.one_hot(a, DIGITS_TINY.sizes), 0)
    assert value == pytest.approx(table.costs[a][0] / 100)
    assert cotangents[2][0] == pytest.approx((table.costs[(1, 0, 0, 1)][0] - table.costs[a][0]) / 100)
    # Weights need not sum to 1: the derivative is that of their share.
    twice = Mixture(tuple(tuple(2 * float(w) for w in r) for r in rows))
    value, halved = table.differentiate(twice, 0)
    assert value == pytest.approx(expected)
    assert halved[0][1] == pytest.approx(table.differentiate(Mixture(tuple(map(tuple, rows))), 0)[1][0][1] / 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="params"), "no column params"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "twice"),
        (lambda f: f.assign(params=[np.nan, *f["params"][1:]]), "row 1: params is missing"),
        (lambda f: f.assign(val_accuracy=[np.inf, *f["val_accuracy"][1:]]), "row 1: val_accuracy"),
        (lambda f: f.assign(arch=["nonsense", *f["arch"][1:]]), "row 1"),
    ],
)
def test_a_bad_table_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    change(fake_table()).to_csv(path, index=False)
    with pytest.raises(InputError, match=says):
        TabularBenchmark.read(path, DIGITS_TINY, ["val_accuracy", "params"])


def test_a_partial_table_has_no_gradients_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    fake_table().iloc[1:].to_parquet(path)
    table = TabularBenchmark.read(path, DIGITS_TINY, ["val_accuracy", "params"])
    with pytest.raises(InputError, match="gradients need all"):
        table.differentiate(Mixture.one_hot((0, 0, 0, 0), DIGITS_TINY.sizes), 0)
    with pytest.raises(InputError, match="the table has no"):
        table.measure([(0, 0, 0, 0)])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(InputError, match=r"cannot read .*broken\.parquet"):
        TabularBenchmark.read(tmp_path / "broken.parquet", DIGITS_TINY, ["val_accuracy"])


def test_json_as_nas_bench_macro_has_it_is_read_with_means_over_trainings(tmp_path: Path) -> None:
    space = make_space("nas-bench-macro", {}, (3, 32, 32), 10)
    found = {
        "00000000": {"test_acc": [80.0, 81.0, 82.0], "mean_acc": 81.0, "std": 0.8, "params": 1.5, "flops": 20.0},
        "01201210": {"test_acc": [90.0, 91.0, 95.0], "mean_acc": 92.0, "std": 2.2, "params": 2.5, "flops": 30.0},
    }
    path = tmp_path / "macro.json"
    path.write_text(json.dumps(found))
    for column in ("test_acc", "mean_acc"):
        table = TabularBenchmark.read(path, space, [column, "flops"])
        assert table.costs == {(0,) * 8: (pytest.approx(19.0), 20.0), (0, 1, 2, 0, 1, 2, 1, 0): (pytest.approx(8.0), 30.0)}
    path.write_text(json.dumps({"arch": list(found), "mean_acc": [81.0, 92.0], "flops": [20.0, 30.0]}))
    assert TabularBenchmark.read(path, space, ["mean_acc", "flops"]).costs == table.costs
    csv = tmp_path / "macro.csv"  # digits alone would be read as numbers
    csv.write_text("arch,mean_acc,flops\n00000000,81,20\n01201210,92,30\n")
    assert TabularBenchmark.read(csv, space, ["mean_acc", "flops"]).costs == table.costs
    for text, says in (("[1, 2]", "no object"), ('{"00000000": 3}', "write {architecture"), ("{", "cannot read")):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            TabularBenchmark.read(path, space, ["mean_acc"])


def test_accuracies_and_costs_of_two_files_are_joined(tmp_path: Path) -> None:
    trained, measured = tmp_path / "trained.csv", tmp_path / "measured.csv"
    fake_table()[["arch", "val_accuracy"]].to_csv(trained, index=False)
    fake_table()[["arch", "params"]].sample(frac=1, random_state=0).to_csv(measured, index=False)
    joined = TabularBenchmark.read([trained, measured], DIGITS_TINY, ["val_accuracy", "params"])
    assert (
        joined.costs == TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"]).costs
        and "measured.csv" in joined.source
    )
    fake_table()[["arch", "params"]].iloc[1:].to_csv(measured, index=False)
    with pytest.raises(InputError, match="params is missing"):
        TabularBenchmark.read([trained, measured], DIGITS_TINY, ["val_accuracy", "params"])
    fake_table().to_csv(measured, index=False)
    with pytest.raises(InputError, match="all have val_accuracy"):
        TabularBenchmark.read([trained, measured], DIGITS_TINY, ["val_accuracy", "params"])


def test_what_would_be_unpickled_is_not(tmp_path: Path) -> None:
    path = tmp_path / "HW-NAS-Bench-v1_0.pickle"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match="runs whatever code is in it"):
        TabularBenchmark.read(path, DIGITS_TINY, ["val_accuracy"])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_times_are_positive(bad: float) -> None:
    frame = fake_table().assign(seconds=[bad, *[2.0] * (len(fake_table()) - 1)])
    with pytest.raises(InputError, match="row 1: seconds is missing, or not a positive"):
        TabularBenchmark(DIGITS_TINY, frame, ["val_accuracy", "params"], time="seconds")


def renamed(name: str, scale: float = 1.0) -> pd.DataFrame:
    frame = fake_table().rename(columns={"val_accuracy": name})
    return frame.assign(**{name: scale * frame[name]})


@pytest.mark.parametrize("name", ["acc", "Top-1 Acc (%)", "f1", "mIoU"])
@pytest.mark.parametrize("scale", [1.0, 0.01], ids=["percent", "fractions"])
def test_an_accuracy_under_another_name_or_as_fractions_gives_the_same_costs(name: str, scale: float) -> None:
    known = TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"])
    other = TabularBenchmark(DIGITS_TINY, renamed(name, scale), [name, "params"])
    np.testing.assert_allclose(list(other.costs.values()), list(known.costs.values()))
    assert other.titles == [f"100 - {name}", "params"] and other.maximised == (True, False)
    a = (1, 0, 2, 1)
    assert other.values(other.costs[a])[0] == pytest.approx(scale * known.values(known.costs[a])[0])


def test_a_name_that_does_not_say_which_way_is_better_is_asked_about() -> None:
    frame = renamed("score")
    with pytest.raises(InputError, match="--maximize score or --minimize score"):
        TabularBenchmark(DIGITS_TINY, frame, ["score", "params"])
    known = TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"])
    assert TabularBenchmark(DIGITS_TINY, frame, ["score", "params"], modes={"score": "max"}).costs == known.costs
    lowest = TabularBenchmark(DIGITS_TINY, frame, ["score", "params"], modes={"score": "min"})
    assert all(lowest.costs[a][0] == 100 - costs[0] for a, costs in known.costs.items())
    with pytest.raises(InputError, match="none of the objectives; did you mean 'score'"):
        TabularBenchmark(DIGITS_TINY, frame, ["score", "params"], modes={"scores": "max"})


def test_values_above_100_have_costs_that_are_not_negative() -> None:
    table = TabularBenchmark(DIGITS_TINY, renamed("throughput", 10.0), ["throughput", "params"])
    assert min(c[0] for c in table.costs.values()) == 0 and len(table.front()) > 1


def test_fractions_among_percents_are_refused() -> None:
    frame = fake_table()
    frame.loc[frame.index % 3 == 1, "val_accuracy"] /= 100
    with pytest.raises(InputError, match=r"row 2: val_accuracy .* fractions among percents"):
        TabularBenchmark(DIGITS_TINY, frame, ["val_accuracy", "params"])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_signs_and_spaces_are_found(separator: str, tmp_path: Path) -> None:
    decimal = "," if separator == ";" else "."
    lines = [separator.join(["\ufeffarch", " val_accuracy ", "params"])]
    for arch, accuracy, params in fake_table()[["arch", "val_accuracy", "params"]].itertuples(index=False):
        lines.append(separator.join([arch, f"{accuracy:.4f}".replace(".", decimal) + "%" * (separator == "\t"), str(params)]))
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    found = TabularBenchmark.read(tmp_path / "t.csv", DIGITS_TINY, ["val_accuracy", "params"])
    known = TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"])
    np.testing.assert_allclose([found.costs[a] for a in known.costs], list(known.costs.values()), atol=1e-4)


def test_the_nearest_network_of_a_sparse_table_favours_no_row() -> None:
    table = TabularBenchmark(DIGITS_TINY, fake_table().iloc[::13], ["val_accuracy", "params"])
    assert table.sparse and not TabularBenchmark(DIGITS_TINY, fake_table().iloc[::2], ["val_accuracy", "params"]).sparse
    every = [tuple(map(int, a)) for a in np.ndindex(*DIGITS_TINY.sizes)]
    chosen = [table.nearest(a) for a in every]
    assert set(chosen) == set(table.costs) and all(table.nearest(a) == a for a in table.costs)
    for a, nearest in zip(every, chosen, strict=True):
        apart = {b: sum(x != y for x, y in zip(a, b, strict=True)) for b in table.costs}
        assert apart[nearest] == min(apart.values())
    counts = [chosen.count(b) for b in table.costs]
    assert max(counts) < 3 * len(every) / len(table.costs)


def as_text(frame: pd.DataFrame, **how: Any) -> bytes:
    return frame.to_csv(index=False, **how).encode()


FORMS: dict[str, Any] = {
    "records.json": lambda f: f.to_json(orient="records").encode(),
    "columns.json": lambda f: f.to_json().encode(),
    "lines.jsonl": lambda f: f.to_json(orient="records", lines=True).encode(),
    "utf16.csv": lambda f: f.to_csv(index=False, sep="\t").encode("utf-16"),
    "excel.csv": lambda f: b"sep=;\r\n" + as_text(f, sep=";", decimal=","),
    "capital.csv": lambda f: as_text(f.rename(columns={"arch": "Arch"})),
    "signs.csv": lambda f: as_text(f.assign(val_accuracy=[f"{v} %".replace(".", ",") for v in f["val_accuracy"]]), sep=";"),
    "german.csv": lambda f: as_text(
        f.assign(params=[f"{10**6 + v:,}".replace(",", ".") for v in f["params"]]), sep=";", decimal=","
    ),
    "millions.csv": lambda f: as_text(f.assign(params=[f"{10**6 + v:,}" for v in f["params"]]), sep="\t"),
}


@pytest.mark.parametrize("name", FORMS)
def test_tables_are_read_as_other_tools_write_them(name: str, tmp_path: Path) -> None:
    frame = fake_table()[["arch", "val_accuracy", "params"]].round({"val_accuracy": 4})
    (tmp_path / name).write_bytes(FORMS[name](frame))
    found = TabularBenchmark.read(tmp_path / name, DIGITS_TINY, ["val_accuracy", "params"])
    more = np.array([0, 10**6 if name in ("millions.csv", "german.csv") else 0])
    known = TabularBenchmark(DIGITS_TINY, frame, ["val_accuracy", "params"])
    np.testing.assert_allclose([found.costs[a] for a in known.costs], np.array(list(known.costs.values())) + more)


def test_an_index_of_notations_is_a_column(tmp_path: Path) -> None:
    fake_table().set_index("arch").to_parquet(tmp_path / "T.PARQUET")
    found = TabularBenchmark.read(tmp_path / "T.PARQUET", DIGITS_TINY, ["val_accuracy", "params"])
    assert found.costs == TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"]).costs


def in_thousands(frame: pd.DataFrame, sign: str) -> list[str]:
    return [f"{1000 + value:,}".replace(",", sign) for value in frame["params"]]


@pytest.mark.parametrize(
    ("change", "how", "says"),
    [
        (lambda f: f.assign(params=in_thousands(f, ",")), {"sep": ";"}, "params has .* thousands or have decimals"),
        (lambda f: f.assign(params=in_thousands(f, ",")), {"sep": "\t"}, "params has .* thousands or have decimals"),
        (
            lambda f: f.assign(
                params=in_thousands(f, "."), val_accuracy=[f"{v:.2f}".replace(".", ",") for v in f["val_accuracy"]]
            ),
            {"sep": ";"},
            "params has points and val_accuracy has decimal commas",
        ),
        (lambda f: f.assign(params=in_thousands(f, ",")), {"sep": ","}, "params has .* thousands or have decimals"),
        (
            lambda f: f.assign(params=["2.170" if i else "980" for i in range(len(f))]),
            {"sep": ","},
            "params has 2.170 beside 980, as numbers with points between thousands are written; write 2170, or 980.000",
        ),
        (
            lambda f: f.assign(
                params=[f"2.{100 + i}.000" for i in range(len(f))], val_accuracy=[f"93.{100 + i}" for i in range(len(f))]
            ),
            {"sep": ","},
            "params has points between thousands, so 93.100 of val_accuracy may be 93100",
        ),
        (lambda f: f.assign(params=in_thousands(f, "'")), {"sep": ","}, "a finite number .*without separators of thousands"),
        (lambda f: f.assign(**{"params ": 1.0}), {}, "two columns 'params'"),
        (lambda f: f.assign(val_accuracy=-f["val_accuracy"]), {}, "below 0 in all rows.*--minimize val_accuracy"),
        (lambda f: f, {"sep": "|"}, "separate columns by commas, semicolons or tabs"),
    ],
)  # fmt: skip
def test_numbers_that_may_mean_two_things_are_refused(change: Any, how: dict[str, str], says: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(as_text(change(fake_table()[["arch", "val_accuracy", "params"]]), **how))
    with pytest.raises(InputError, match=says):
        TabularBenchmark.read(tmp_path / "t.csv", DIGITS_TINY, ["val_accuracy", "params"])


def test_minus_an_accuracy_is_taken_where_it_is_said(tmp_path: Path) -> None:
    frame = fake_table().assign(val_accuracy=lambda f: -f["val_accuracy"])
    found = TabularBenchmark(DIGITS_TINY, frame, ["val_accuracy", "params"], modes={"val_accuracy": "min"})
    known = TabularBenchmark(DIGITS_TINY, fake_table(), ["val_accuracy", "params"])
    assert all(found.costs[a][0] == pytest.approx(costs[0] - 100) for a, costs in known.costs.items())
