"""The page of a report in a headless Chromium: choosing, sorting, limits, and that nothing goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis import records, report
from tests.analysis.runs import FRONT, made_run
from tests.browser import Browser

CHOSEN = "document.querySelector('.network.chosen').id"
SHOWN = "[...document.querySelectorAll('#members tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, report_file: Path) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.open(report_file.as_uri())
        assert browser.evaluate(CHOSEN) == "network-0-2", "the knee is chosen first"
        yield browser


@pytest.fixture
def page(opened: Browser) -> Iterator[Browser]:
    """The page with nothing limited or filtered, as it was opened."""
    opened.evaluate("document.querySelectorAll('#limits button').forEach(button => button.click())")
    set_value(opened, "#words", "")
    set_value(opened, "#x", "parameters")
    opened.evaluate("document.querySelector('#members tr[data-id=network-0-2]').click()")
    opened.evaluate("scrollTo(0, 0)")
    yield opened
    assert not opened.problems


def set_value(page: Browser, selector: str, value: str) -> None:
    page.evaluate(
        f"(() => {{ const e = document.querySelector({selector!r}); e.value = {value!r}; e.dispatchEvent(new Event('input', "
        "{bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def marker(page: Browser, identity: str) -> tuple[float, float]:
    """Where a network's mark is in the window."""
    place = page.evaluate(
        "(() => { const plot = document.getElementById('plot'); const x = plot._fullLayout.xaxis, y = plot._fullLayout.yaxis;"
        f"for (const t of plot.data) {{ const i = (t.customdata ?? []).indexOf({identity!r}); if (i >= 0) {{"
        "const box = plot.getBoundingClientRect(); return [box.left + x._offset + x.d2p(t.x[i]), box.top + y._offset + "
        "y.d2p(t.y[i])]; } } })()"
    )
    return place[0], place[1]


def test_a_click_on_a_point_chooses_its_network(page: Browser) -> None:
    page.click(*marker(page, "network-0-4"))
    page.wait(f"{CHOSEN} === 'network-0-4'")
    page.click(*marker(page, "network-1-1"))
    page.wait(f"{CHOSEN} === 'network-1-1'")
    assert "of runs/other" in page.evaluate("document.querySelector('.network.chosen h3').textContent")


def test_names_of_users_are_text_in_plots_too(page: Browser) -> None:
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=marker(page, "network-0-1")[0], y=marker(page, "network-0-1")[1])
    page.wait("document.querySelector('#plot .hoverlayer').textContent.includes('<script>')")
    set_value(page, "#x", "latency_ms")
    page.wait("document.querySelector('#plot .xtitle').textContent.includes('<script>')")
    assert page.evaluate("document.title").startswith("<script>")


def test_the_table_is_walked_by_keys(page: Browser) -> None:
    page.evaluate("document.querySelector('#members tr[data-id=network-0-2]').focus()")
    page.press("ArrowDown")
    assert page.evaluate(CHOSEN) == "network-0-4" and page.evaluate("document.activeElement.dataset.id") == "network-0-4"
    page.press("Home")
    assert page.evaluate(CHOSEN) == "network-0-1"
    page.evaluate("document.querySelector('#members tr[data-id=network-0-5]').focus()")
    page.press("Enter")
    assert page.evaluate(CHOSEN) == "network-0-5"
    assert page.evaluate("document.querySelectorAll('#members tbody tr[tabindex=\"0\"]').length") == 1


def test_columns_are_sorted_and_words_filter(page: Browser) -> None:
    page.evaluate("document.querySelectorAll('#members th button')[3].click()")
    assert page.evaluate(SHOWN) == ["5", "4", "2", "3", "1"]
    page.evaluate("document.querySelectorAll('#members th button')[3].click()")
    assert page.evaluate(SHOWN) == ["1", "3", "2", "4", "5"]
    page.evaluate("document.querySelectorAll('#members th button')[2].click()")
    assert page.evaluate(SHOWN) == ["1", "2", "3", "4", "5"], "without a test error last"
    set_value(page, "#words", "front")
    assert page.evaluate(SHOWN) == ["1", "2", "4"]


def test_limits_are_typed_slid_and_dragged_and_plots_follow(page: Browser) -> None:
    set_value(page, "[id='limit-parameters']", "35000")
    assert page.evaluate(SHOWN) == ["2", "4", "5"]
    assert "3 of 5 networks" in page.evaluate("document.getElementById('shown').textContent")
    drawn = "document.getElementById('plot').data.find(t => t.customdata?.includes('network-0-1'))"
    assert page.evaluate(f"{drawn}.marker.opacity") == [0.2, 1, 1, 0.2] or page.evaluate(f"{drawn}.marker.opacity[0]") == 0.2
    kept = "document.getElementById('parallel').data[0].dimensions[1].constraintrange[1]"
    assert page.evaluate(f"Math.round(10 ** {kept})") == 35_000, "of the logarithmic axis"
    page.evaluate("document.querySelector('#limits button').click()")
    set_value(page, "[id='limit-parameters']", "")
    assert len(page.evaluate(SHOWN)) == 5
    set_value(page, "#limits input[type=range]", "1")
    assert page.evaluate(SHOWN) == ["1", "2"], "test errors up to the second lowest"
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    left, right = marker(page, "network-0-4"), marker(page, "network-0-2")
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=left[0] - 15, y=left[1] - 12, button="left", clickCount=1)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=right[0] + 12, y=right[1] + 12, button="left", buttons=1)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=right[0] + 12, y=right[1] + 12, button="left", clickCount=1)
    page.wait(f"{SHOWN}.join() === '2,4'")


def test_what_is_copied_is_the_command(page: Browser) -> None:
    page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.evaluate("document.querySelector('.network.chosen .command:last-of-type button').click()")
    page.wait(
        "['copied', 'selected'].includes(document.querySelector('.network.chosen .command:last-of-type button').textContent)"
    )


def test_light_and_dark_follow_the_system_until_the_switch_is_used(page: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.resize(scheme="dark")
    page.wait(f"{background} === 'rgb(22, 24, 29)'")
    ink = page.evaluate("document.getElementById('plot')._fullLayout.font.color")
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.evaluate("document.getElementById('plot')._fullLayout.font.color") != ink, "plots change with the page"
    page.evaluate("localStorage.removeItem('paretoray-theme')")


def test_a_telephone_shows_number_and_error_of_every_network(page: Browser) -> None:
    page.resize(width=400)
    page.wait("document.documentElement.scrollWidth === 400")  # nothing sticks out of the window
    page.evaluate("document.querySelector('#members').parentElement.scrollLeft = 10000")
    boxes = page.evaluate(
        "[...document.querySelectorAll('#members tbody tr:first-child td')].slice(0, 3).map(c => c.getBoundingClientRect().x)"
    )
    assert 0 <= boxes[0] < 40 and boxes[0] < boxes[2] < 200, "number and test error stay where they are"


def test_without_javascript_everything_is_there(page: Browser, report_file: Path) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.navigate", url=report_file.as_uri())
    while page.evaluate("document.readyState") != "complete":
        pass
    heights = page.evaluate("[...document.querySelectorAll('.network')].map(card => card.offsetHeight)")
    assert len(heights) == 10 and min(heights) > 100, "a card of each network is shown"
    assert page.evaluate("document.getElementById('plot').offsetHeight") == 0


def test_networks_at_one_place_are_drawn_side_by_side(tmp_path: Path) -> None:
    same = FRONT | {"parameters": [100_000, 30_000, 30_000, 30_000, 1_000]}
    run = made_run(front=records.numbered(pd.DataFrame(same)), tested={"a": 5.0, "b": 6.0, "c": 6.0, "d": 20.0})
    cloud = pd.DataFrame({"arch": ["a", "b", "c"], "error_percent": 50.0, "parameters": 50_000, "latency_ms": [1.0, 2.0, 3.0]})
    run = replace(run, evaluations=pd.concat([run.evaluations, cloud.assign(kind=records.SAMPLE)], ignore_index=True))
    with Browser(tmp_path / "browser") as page:
        page.open(report.write(run, tmp_path).as_uri())
        set_value(page, "#x", "parameters")
        left, right = marker(page, "network-0-2"), marker(page, "network-0-3")
        assert 10 < right[0] - left[0] < 20 and abs(right[1] - left[1]) < 1
        for place, identity in ((left, "network-0-2"), (right, "network-0-3")):
            page.click(*place)
            page.wait(f"{CHOSEN} === '{identity}'")
        middle = (left[0] + right[0]) / 2
        assert abs(marker(page, "network-0-4")[0] - middle) < 1, "others stay where they are"
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=left[0], y=left[1])
        page.wait("document.querySelector('#plot .hoverlayer').textContent.includes('30,000')")  # hovering tells the truth
        # However far one zooms in, they are as far from each other, and choosing one leaves the zoom as it is.
        page.evaluate("Plotly.relayout('plot', {'xaxis.range': [4.4, 4.6], 'yaxis.range': [5, 7]}).then(() => true)")
        page.wait("Math.abs(document.getElementById('plot').layout.xaxis.range[0] - 4.4) < 0.01")
        left, right = marker(page, "network-0-2"), marker(page, "network-0-3")
        assert 10 < right[0] - left[0] < 20
        page.click(*left)
        page.wait(f"{CHOSEN} === 'network-0-2'")
        assert page.evaluate("document.getElementById('plot').layout.xaxis.range") == [4.4, 4.6]
        page.evaluate("Plotly.relayout('plot', {'xaxis.autorange': true, 'yaxis.autorange': true}).then(() => true)")
        page.wait("document.getElementById('plot').layout.xaxis.range[1] > 5")
        # Three evaluations that measured the same are one mark, larger than the others.
        set_value(page, "#y", "error_percent")
        sizes = "document.getElementById('plot').data.find(t => t.name === 'sample, one batch').marker.size"
        page.wait(f"Math.max(...{sizes}) > 1.5 * Math.min(...{sizes})")
        assert not page.problems
