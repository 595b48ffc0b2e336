"""Odd maps, files that are missing, broken or slow, and a server that goes away."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import pixels
from tests.browser.driver import MapPage, Watch, until
from tests.browser.maps import SCRIPTS
from tests.server.live import LiveServer, running

if TYPE_CHECKING:
    from playwright.sync_api import Locator

_BROKEN = "Failed to load resource"


@pytest.fixture
def odd(open_page: Callable[..., MapPage], server: LiveServer) -> Callable[..., MapPage]:
    """Return `open(name)` for the maps of maps.py."""
    return lambda name, **options: open_page(f"{server.url}/map/local/{name}", **options)


def _walk(page: MapPage) -> None:
    """Look at every panel, zoom and select."""
    for panel in ("topics", "filters", "selection", "tags", "duplicates", "export", "info"):
        page.panel(panel)
        page.page.wait_for_timeout(120)
    page.page.mouse.move(*page.at(0.5, 0.5))
    page.page.mouse.wheel(0, -300)
    page.page.mouse.wheel(0, 600)
    page.drag_box()
    page.page.keyboard.press("0")
    page.page.wait_for_timeout(200)


def test_an_empty_map(odd: Callable[..., MapPage]) -> None:
    page = odd("empty")
    assert "0 rows" in page.status_text()
    _walk(page)
    assert page.selected() == 0


def test_one_row(odd: Callable[..., MapPage]) -> None:
    page = odd("one")
    assert "1 row" in page.status_text()
    _walk(page)
    until(lambda: page.selected() == 1, "the row")


def test_rows_on_one_spot(odd: Callable[..., MapPage]) -> None:
    page = odd("equal")
    assert "50 rows" in page.status_text()
    assert pixels.colored(page.shot()) > 10
    _walk(page)
    until(lambda: page.selected() == 50, "all rows")


def test_identical_labels(odd: Callable[..., MapPage]) -> None:
    page = odd("same-labels")
    assert "20,000 rows" in page.status_text()
    assert pixels.colored(page.shot()) > 500
    _walk(page)
    until(lambda: page.selected() > 10_000, "rows")


def test_scripts_of_all_directions(odd: Callable[..., MapPage]) -> None:
    page = odd("scripts")
    _walk(page)
    fields = page.page.get_by_label("Details of a row").locator(".detail-fields")
    for row in page.api("POST", "/rows-at", {"positions": list(range(len(SCRIPTS)))}).json()["rows"]:
        page.search(str(row["id"]), "Id").first.locator("button").click()
        wanted = row["values"]["text"][:12]
        until(lambda wanted=wanted: wanted in fields.inner_text(), "the text as it is")
    assert page.page.locator("body").evaluate("body => body.scrollWidth <= innerWidth")


def test_a_text_of_ten_megabytes(odd: Callable[..., MapPage]) -> None:
    page = odd("long")
    rows = page.api("POST", "/rows-at", {"positions": list(range(20)), "columns": ["text"], "longest": 10}).json()[
        "rows"
    ]
    long = next(row for row in rows if row["values"]["text"].startswith("xx"))
    began = time.monotonic()
    page.search(str(long["id"]), "Id").first.locator("button").click()
    drawer = page.page.get_by_label("Details of a row")
    drawer.locator(".detail-fields").wait_for()
    assert len(drawer.inner_text()) < 20_000
    drawer.get_by_role("button", name="Show all").first.click()
    until(lambda: drawer.get_by_role("button", name="Show all").count() == 0, "the long text")
    assert page.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done(true)))")
    assert drawer.evaluate("drawer => drawer.scrollWidth <= drawer.clientWidth + 2")
    assert time.monotonic() - began < 60


def test_a_column_without_its_files(
    open_page: Callable[..., MapPage], data: Path, tmp_path: Path, watch: Watch
) -> None:
    """The file of one column is gone from the disk: the map shows, and says so when the column is wanted."""
    watch.allow(_BROKEN)
    copy = tmp_path / "data"
    shutil.copytree(data / "datasets" / "local" / "stdlib", copy / "datasets" / "local" / "stdlib")
    (columns,) = copy.glob("datasets/local/stdlib/maps/*/tiles/columns.json")
    told = json.loads(columns.read_text(encoding="utf-8"))["columns"]
    gone = next(one["id"] for one in told if one["name"] == "length")
    shutil.rmtree(columns.parent / "columns" / gone)
    with running("--no-access-log", "--offline", "--data-dir", copy) as live:
        page = open_page(f"{live.url}/map/local/stdlib")
        assert pixels.colored(page.shot()) > 500
        page.page.get_by_label("Colour by", exact=True).select_option("length")
        page.page.locator(".toast.error").first.wait_for()
        page.page.get_by_label("Colour by", exact=True).select_option("kind")
        page.page.locator(".legend-line").first.wait_for()
        page.settle()
        assert pixels.colored(page.shot()) > 500


_TILE = re.compile(r"/tiles/\d+/\d+/\d+\.bin")


@pytest.mark.parametrize("fault", ["absent", "refused", "corrupt"])
def test_a_tile_that_cannot_be_had(
    open_page: Callable[..., MapPage], server: LiveServer, watch: Watch, fault: str
) -> None:
    watch.allow(_BROKEN)
    page = open_page(f"{server.url}/map/local/stdlib", wait=False)
    page.page.goto("about:blank")
    answers = {"absent": {"status": 404}, "refused": {"status": 500}, "corrupt": {"status": 200, "body": "xyz"}}
    page.page.route(_TILE, lambda route: route.fulfill(**answers[fault]))
    page.open(wait=False)
    page.page.wait_for_selector('#app[data-ready="all"]')
    toast = page.page.locator(".toast.error, [role=alert]").filter(has_text=re.compile("tile|map|read|load", re.I))
    toast.first.wait_for()
    page.panel("filters")
    page.page.unroute_all()
    page.page.reload()
    page.ready()
    assert pixels.colored(page.shot()) > 500


def test_a_style_sheet_that_cannot_be_had(open_page: Callable[..., MapPage], server: LiveServer, watch: Watch) -> None:
    watch.allow(_BROKEN)
    page = open_page(f"{server.url}/map/local/stdlib", wait=False)
    page.page.goto("about:blank")
    page.page.route(re.compile(r"/style/panels\.css"), lambda route: route.fulfill(status=404))
    page.open()
    page.page.locator("#tab-filters").wait_for()
    assert pixels.colored(page.shot()) > 500


def test_a_slow_tile_comes_later(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    page = open_page(f"{server.url}/map/local/stdlib", wait=False)
    page.page.goto("about:blank")

    def later(route: object) -> None:
        page.page.wait_for_timeout(1500)
        route.continue_()  # type: ignore[attr-defined]

    page.page.route(_TILE, later)
    page.open(wait=False)
    page.page.locator("#tab-filters").wait_for()
    until(lambda: pixels.colored(page.shot()) > 500, "points, late")
    page.page.unroute_all(behavior="wait")


def test_a_map_that_is_not_there(open_page: Callable[..., MapPage], server: LiveServer, watch: Watch) -> None:
    watch.allow(_BROKEN)
    page = open_page(f"{server.url}/map/local/there-is-none", wait=False)
    alert = page.page.get_by_role("alert")
    alert.wait_for()
    assert "there-is-none" in alert.inner_text()
    assert page.button("Try again").is_visible()


def _clicked(banner: Locator) -> bool:
    # Not by the mouse: the button is off while the page itself asks, and may be gone before the mouse is there.
    banner.evaluate("banner => banner.querySelector('button').click()")
    return not banner.is_visible()


@pytest.fixture
def own(data: Path) -> Iterator[list[LiveServer]]:
    """A server of its own that a test may end, and start again."""
    with running("--no-access-log", "--offline", "--data-dir", data) as live:
        servers = [live]
        yield servers
        for one in servers[1:]:
            one.stop()


def test_the_server_goes_away_and_comes_back(
    open_page: Callable[..., MapPage], own: list[LiveServer], data: Path, watch: Watch
) -> None:
    watch.allow(_BROKEN, "ERR_CONNECTION_REFUSED")
    page = open_page(f"{own[0].url}/map/local/stdlib")
    port = own[0].port
    own[0].process.kill()
    own[0].process.wait(20)
    page.drag_box(0.2, 0.2, 0.7, 0.7)
    banner = page.page.locator(".offline")
    banner.wait_for()
    assert "does not answer" in banner.inner_text()
    assert pixels.colored(page.shot()) > 500, "what is on the screen stays"
    own.append(LiveServer("--no-access-log", "--offline", "--data-dir", data, "--port", port))
    # It asks by itself from time to time; whoever does not want to wait clicks.
    until(lambda: not banner.is_visible() or _clicked(banner), "the end of the banner", seconds=40)
    banner.wait_for(state="hidden", timeout=40_000)
    page.drag_box(0.2, 0.2, 0.7, 0.7)
    until(page.selected, "a selection")
