"""The page of a report: its data, what it recommends, what it escapes, and how large it is."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import choosing, front_plots, pareto, pictures, plots, prose
from analysis.page import cards
from analysis.page.data import page_data
from analysis.page.render import embedded
from tests.analysis.runs import EVIL, FRONT, TESTED, made_run

ROOT = Path(__file__).parents[2]


def data_of(page: str) -> dict:  # type: ignore[type-arg]
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found.group(1)))


@pytest.fixture(scope="module")
def page(report_file: Path) -> str:
    return report_file.read_text()


def test_figures_are_kept_as_pictures(report_file: Path) -> None:
    kept = {path.name for path in (report_file.parent / "plots").iterdir()}
    assert {"front.png", "front-of-search.png", "attainment.png", "course.png", "network-2-cell.png"} <= kept


def test_the_data_is_that_of_the_tables() -> None:
    run = made_run(tested=TESTED)
    data = page_data(run)
    networks = {n["arch"]: n for n in data["runs"][0]["networks"]}
    assert {arch: n["number"] for arch, n in networks.items()} == {arch: i for i, arch in enumerate(FRONT["arch"], 1)}
    assert networks["b"]["values"]["test_error_percent"] == 6.0 and networks["b"]["values"]["parameters"] == 30_000
    assert networks[EVIL]["values"]["test_error_percent"] is None and networks[EVIL]["kind"] == "open"
    assert networks["c"]["kind"] == "beaten" and networks["c"]["standing"] == "beaten by 2"
    assert 0 < networks["b"]["below"]["test_error_percent"] < networks["b"]["above"]["test_error_percent"], "Wilson's interval"
    axes = {axis["key"]: axis for axis in data["axes"]}
    assert list(axes)[:3] == ["test_error_percent", "parameters", "latency_ms"] and axes["latency_ms"]["limit"] == 5.0
    assert axes["parameters"]["log"] and not axes["latency_ms"]["log"], "1,000 to 100,000 would pile up at one end"
    assert not axes["energy on phone (mJ, predicted)"]["objective"]
    assert networks["a"]["values"]["energy on phone (mJ, predicted)"] == 1.0
    assert len(data["runs"][0]["samples"]["arch"]) == 45


@pytest.mark.parametrize(("x", "y"), [("latency_ms", "error_percent"), ("parameters", "latency_ms")])
def test_a_disturbed_timing_squeezes_no_axis(x: str, y: str) -> None:
    run = made_run()
    disturbed = run.evaluations.assign(latency_ms=[500.0, *run.evaluations["latency_ms"][1:]])
    ax = plots.new_figure(3, 3).subplots()
    front_plots.draw_front(ax, disturbed, run.front, x, y, run.summary["objectives"])
    low, high = ax.get_xlim() if x == "latency_ms" else ax.get_ylim()
    known = run.front["latency_ms"]
    assert 0 < low < known.min() and known.max() < high < 20


def test_of_very_many_evaluations_every_kth_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.page.data.MOST_POINTS", 20)
    samples = page_data(made_run(samples=40))["runs"][0]["samples"]
    assert samples["every"] == 3 and samples["of"] == 45 and len(samples["arch"]) == 15


def test_the_knee_is_recommended_and_what_others_would_change() -> None:
    run = made_run()
    assert choosing.knee(run) == 2
    first, *rest = choosing.advice(run)
    assert first.startswith("Take network 2: test error 6.00 (") and "30,000 parameters and 2.00 ms" in first
    said = " ".join(rest)
    assert "Network 1 is the most accurate: 1.00 points less error, at 3.3 times the parameters and 2 times the latency" in said
    assert "though their intervals overlap" in said
    assert (
        "Network 4 has the least parameters and latency: 0.13 times the parameters and 0.5 times the latency, at 14.00" in said
    )
    untrained = choosing.advice(made_run(tested=None))
    assert (
        "its error in the search is" in untrained[0] and "paretoray resume 'runs/it'\"'\"'s' retrain.members=5" in untrained[-1]
    )


def test_contributions_are_what_the_front_loses() -> None:
    run = made_run()
    costs = np.array([[5.0, 100_000, 4.0], [6.0, 30_000, 2.0], [20.0, 4_000, 1.0]])
    reference = [100.0, 110_000.0, 5.0]
    whole = pareto.hypervolume(costs, reference)
    lost = [1 - pareto.hypervolume(np.delete(costs, i, axis=0), reference) / whole for i in range(3)]
    assert choosing.contributions(run) == pytest.approx(dict(zip((1, 2, 4), lost, strict=True)))


def test_what_users_named_is_text(page: str) -> None:
    assert EVIL not in page and "&lt;script&gt;document" in page
    assert embedded({"name": "</script><!--"}) == '{"name":"\\u003c/script>\\u003c!--"}'
    assert data_of(page)["runs"][0]["networks"][4]["arch"] == EVIL
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded({"x": float("nan")})


def test_commands_have_the_number_of_the_table(page: str) -> None:
    card = re.search(r'<article id="network-0-2".*?</article>', page, re.DOTALL)
    assert card
    assert "pr.load(&#34;runs/it&#39;s&#34;, 2)" in card.group()
    assert "--member 2 --out network-2" in card.group() and "knee of the front" in card.group()
    assert "energy on phone" in card.group() and "(4.1\N{EN DASH}8.7)" in card.group()
    untrained = re.search(r'<article id="network-0-5".*?</article>', page, re.DOTALL)
    assert untrained and "pr.load" not in untrained.group() and "retrain.members" in untrained.group()
    assert 'id="network-1-2"' in page and "of runs/other" in page


def test_the_page_needs_nothing_else_and_is_small(page: str) -> None:
    assert len(page.encode()) < 4_000_000
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert data_of(page)["knee"] == "network-0-2"


def test_drawings_stop_before_the_page_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run()
    with plots.style():
        drawn, _ = pictures.networks(run)
        monkeypatch.setattr(cards, "MOST_DRAWN", 1)
        assert [len(card.drawings) for card in cards.cards(run, 0, drawn)] == [1, 0, 0, 0, 0]


def test_wheels_have_what_pages_are_made_of() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["analysis"]
    for path in (ROOT / "analysis" / "page").iterdir():
        if path.suffix != ".py" and path.is_file():
            assert any(fnmatch.fnmatch(f"page/{path.name}", pattern) for pattern in patterns), path


def test_numbers_cover_neither_each_other_nor_leave_their_panel() -> None:
    with plots.style():
        figure = plots.new_figure(3, 2)
        ax = figure.subplots()
        points = np.array([[0.0, y / 50] for y in range(8)] + [[1.0, 1.0], [1.0, 1.0]])  # all but two share a cost
        ax.scatter(points[:, 0], points[:, 1])
        front_plots.write_labels(figure, [(ax, points, [str(i) for i in range(10)])])
        figure.draw_without_rendering()
        boxes = {text.get_text(): Text.get_window_extent(text) for text in ax.texts}  # without the lines that lead to them
    assert set(boxes) == {*map(str, range(8)), "8, 9"}, "those at one place share a text"
    panel = ax.bbox.padded(1)
    assert all(panel.x0 <= b.x0 and b.x1 <= panel.x1 and panel.y0 <= b.y0 and b.y1 <= panel.y1 for b in boxes.values())
    listed = list(boxes.values())
    assert not any(a.padded(-1).overlaps(b.padded(-1)) for i, a in enumerate(listed) for b in listed[:i])


def test_limits_and_searches_are_drawn_and_named() -> None:
    run = made_run(tested=None)
    halves = [run.evaluations.assign(search=i) for i in (0, 1)]
    searches = [
        {"settings": {"seed": i}, "hypervolume": 0.1, "on_merged_front": 2, "evaluations": 9, "seconds": 1} for i in (0, 1)
    ]
    swept = made_run(
        tested=None,
        evaluations=pd.concat(halves, ignore_index=True),
        front=run.front.assign(search=[0, 0, 1, 1, 1]),
        summary={"searches": searches, "limits": {"parameters": 50_000.0}},
    )
    with plots.style():
        front, attainment = pictures.fronts(swept)
        course = pictures.course(swept)
    labels = {text.get_text() for text in front.figure.legends[0].get_texts()}
    assert {"seed 0", "seed 1", "limit", "knee"} <= labels
    dashed = [line for line in front.figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert [set(np.asarray(line.get_xdata())) for line in dashed] == [{50_000.0}]
    assert "in half of the searches" in attainment.caption
    assert course is not None and len(course.figure.axes[0].get_lines()) == 2, "a line for each search"


def test_samples_on_one_batch_are_no_curve_of_the_best_so_far() -> None:
    run = made_run(samples=200)
    with plots.style():
        sampled = pictures.course(run)
        full = pictures.course(made_run(evaluations=run.evaluations.assign(kind="validation")))
    assert sampled is not None and sampled.title == "What the search sampled"
    (line,) = sampled.figure.axes[0].get_lines()
    errors = run.evaluations["error_percent"].to_numpy()[:200]
    assert np.asarray(line.get_ydata())[0] == pytest.approx(np.median(errors[:10]))
    assert full is not None and full.title == "Hypervolume over the search"


def test_numbers_on_logarithmic_axes_are_no_formulas(tmp_path: Path) -> None:
    figure = plots.new_figure(4, 3)
    with plots.style():
        ax = figure.subplots()
        plots.draw_sampled(ax, np.geomspace(3, 90, 200), "error", plots.INK, "search")
        figure.savefig(tmp_path / "sampled.svg")
    written = (tmp_path / "sampled.svg").read_text()
    assert "mathdefault" not in written and all(f">{number}</text>" in written for number in (5, 10, 20, 50))


def test_choices_with_other_options_have_other_colours() -> None:
    policy = pd.DataFrame({"step": [0, 1], "stage": 0, "a/x": 0.5, "a/y": 0.5, "b/x": 0.5, "b/y": 0.5, "c/3": 1.0})
    run = made_run(policy=policy, choices={"a": ("x", "y"), "b": ("x", "y"), "c": ("3",)})
    with plots.style():
        first, second = pictures.policy(run)
    legends = [[text.get_text() for text in p.figure.legends[0].get_texts()] for p in (first, second)]
    assert legends == [["x", "y"], ["3"]] and [p.name for p in (first, second)] == ["policy", "policy-2"]


def test_what_is_attained_within_two_costs() -> None:
    costs = [[5.0, 3.0, 1.0], [7.0, 1.0, 2.0]]
    assert np.array_equal(pareto.attained(costs, [1, 3], [1, 2]), [[np.nan, 5.0], [7.0, 5.0]], equal_nan=True)


def test_the_note_below_the_table_says_what_the_error_of_the_search_is() -> None:
    values = {"forecast_error_percent": 5.0, "forecast_error_low_percent": 3.0, "forecast_error_high_percent": 8.0}
    own = made_run(summary={"weights": "own"})
    plain = made_run()
    forecast = made_run(front=plain.front.assign(**values))
    assert "is an estimate with shared weights" in prose.table_note(plain)
    assert "each network was trained from scratch" in prose.table_note(own)
    said = prose.table_note(forecast)
    assert "expected after a short training of the network alone" in said and "shared weights" not in said
    assert "The forecast is of that" in said and "forecast" not in prose.table_note(plain)
    assert ("3 of 4", "retrained networks are within the search's forecast") in prose.facts(forecast)
    (card,) = (c for c in cards.cards(forecast, 0, {}) if c.arch == "a")
    assert ("test error (%), forecast by the search", "5.00", "(3.0\N{EN DASH}8.0)") in card.costs
