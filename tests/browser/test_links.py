"""Addresses that others wrote, rows that are gone, and what is asked for again after an outage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import pixels
from tests.browser.driver import MapPage, Watch, until
from tests.server.live import LiveServer

_CRAFTED: list[Any] = [
    {"filters": {"fields": 7, "topics": {}, "tags": "a", "polygon": [[1]], "box": None}, "selection": []},
    {"filters": {"fields": [{"column": "__proto__", "codes": [1e300, -1, "x"]}]}, "panel": "constructor"},
    {
        "camera": [1e308, -1e308, -5],
        "focus": 1e15,
        "pointSize": 1e-9,
        "heatThreshold": "NaN",
        "heatQuery": {"query": {}},
    },
    {"selection": {"bits": "%%%"}, "selectionName": {"a": 1}, "theme": "<b>", "colorBy": "__proto__", "sizeBy": "x"},
    {"__proto__": {"filters": {"where": "1"}}, "filters": {"where": "no_such_column > 1"}},
]


@pytest.mark.parametrize("number", range(len(_CRAFTED)))
def test_a_crafted_link_breaks_nothing(
    open_page: Callable[..., MapPage], server: LiveServer, watch: Watch, number: int
) -> None:
    watch.allow("Failed to load resource")
    page = open_page(f"{server.url}/map/local/stdlib#{quote(json.dumps(_CRAFTED[number]))}")
    assert pixels.colored(page.shot()) > 500
    assert page.status_text().startswith("1,500 rows"), "no filter is in force"
    page.panel("filters").get_by_text("All 1,500 rows are shown").wait_for()


def test_a_link_to_another_map_leaves_out_its_rows(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    told = {"map": "another", "focus": 3, "colorBy": "kind", "filters": {"topics": [0], "tags": []}}
    page = open_page(f"{server.url}/map/local/stdlib#{quote(json.dumps(told))}")
    page.page.get_by_text("The link is to another map").wait_for()
    assert not page.page.get_by_label("Details of a row").is_visible()
    assert page.page.get_by_label("Colour by", exact=True).input_value() == "kind"
    assert page.status_text().startswith("1,500 rows")


def test_deleted_rows_are_not_drawn(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    page = open_page(f"{server.url}/map/local/empty")
    assert page.page.evaluate("() => window.mountedMap.renderer.stats().drawn") == 0
    shown = page.page.evaluate(
        "() => { const { renderer, manifest } = window.mountedMap;"
        " const found = [];"
        " for (let i = 0; i < manifest.count; i++) {"
        "   const place = renderer.placeOf(i);"
        "   if (place && renderer.pick(...renderer.toScreen(...place)) !== null) found.push(i);"
        " } return found; }"
    )
    assert shown == []


def test_counts_leave_out_deleted_rows(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    page = open_page(f"{server.url}/map/local/fewer")
    told = {one["name"]: one["count"] for one in page.api("GET", "/topics").json()["topics"] if one["depth"] == 1}
    page.page.get_by_label("Colour by", exact=True).select_option("kind")
    lines = page.page.locator(".legend-line")
    read = (
        "lines => lines.map(line => ['.legend-name', '.legend-count'].map(part => line.querySelector(part).innerText))"
    )

    def counts() -> dict[str, int]:
        return {name: int(count) for name, count in lines.evaluate_all(read)}

    until(lambda: counts() == {"a": 20, "b": 0}, f"the rows that are left, not {counts()}")
    assert 0 < sum(told.values()) <= 20


def test_what_failed_is_asked_for_again_when_the_server_answers(
    open_page: Callable[..., MapPage], server: LiveServer, watch: Watch
) -> None:
    watch.allow("Failed to load resource", "ERR_FAILED")
    page = open_page(f"{server.url}/map/local/stdlib", wait=False)
    page.page.goto("about:blank")
    gone = re.compile(r"/tiles/\d+/\d+/\d+\.bin|/columns/[^/]+/\d+/|/labels$")
    page.page.route(gone, lambda route: route.abort())
    page.open(wait=False)
    page.page.locator(".toast.error").first.wait_for()
    page.page.unroute_all()
    until(lambda: pixels.colored(page.shot()) > 500, "the points after all", seconds=60)
    page.page.locator(".labels button").first.wait_for()
