"""Keys instead of the mouse, names for screen readers, small screens, and the list of maps."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.browser import pixels
from tests.browser.driver import MapPage, until
from tests.browser.maps import STDLIB_ROWS
from tests.server.live import LiveServer

_NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, [role=slider], [tabindex='0']")]
  .filter((one) => one.offsetParent !== null)
  .filter((one) => !(one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || one.title
    || one.textContent.trim() || one.labels?.length))
  .map((one) => one.outerHTML.slice(0, 120))"""


def _focused(page: MapPage) -> str:
    told: str = page.page.evaluate(
        "() => { const one = document.activeElement;"
        " return one.getAttribute('aria-label') || one.textContent.trim() || one.id; }"
    )
    return told


def test_the_map_is_moved_by_keys(either: MapPage) -> None:
    before = either.linked("camera")
    either.canvas.focus()
    either.page.keyboard.press("ArrowRight")
    moved = either.linked("camera", lambda camera: camera != before)
    assert moved[0] > before[0]
    either.page.keyboard.press("+")
    zoomed = either.linked("camera", lambda camera: camera[2] > 1.1 * moved[2])
    either.page.keyboard.press("-")
    either.linked("camera", lambda camera: camera[2] < zoomed[2] / 1.1)
    either.page.keyboard.press("0")
    assert either.linked("camera", lambda camera: camera == pytest.approx(before, rel=1e-3, abs=0.05))


def test_a_search_without_a_mouse(stdlib: MapPage) -> None:
    stdlib.canvas.focus()
    stdlib.page.keyboard.press("/")
    assert _focused(stdlib) == "Search the map"
    stdlib.page.keyboard.type("copy a folder")
    stdlib.page.keyboard.press("Enter")
    stdlib.page.locator(".results-list > li").first.wait_for()
    for _ in range(30):
        if stdlib.page.evaluate("() => document.activeElement.classList.contains('hit')"):
            break
        stdlib.page.keyboard.press("Tab")
    first = _focused(stdlib)
    stdlib.page.keyboard.press("ArrowDown")
    assert _focused(stdlib) != first
    stdlib.page.keyboard.press("Enter")
    drawer = stdlib.page.get_by_label("Details of a row")
    drawer.locator(".detail-fields").wait_for()
    stdlib.page.keyboard.press("Escape")
    drawer.wait_for(state="hidden")


def test_tabs_and_tree_without_a_mouse(either: MapPage) -> None:
    either.page.locator("#tab-topics").focus()
    either.page.keyboard.press("ArrowRight")
    either.page.keyboard.press("Enter")
    until(lambda: either.page.locator("#panel-filters").is_visible(), "the filters")
    either.page.keyboard.press("ArrowLeft")
    either.page.keyboard.press("Enter")
    tree = either.page.get_by_role("tree", name="Topics")
    tree.focus()
    items = tree.get_by_role("treeitem")
    before = items.count()
    either.page.keyboard.press("ArrowRight")
    until(lambda: items.count() > before, "the first topic open")
    either.page.keyboard.press("ArrowDown")
    either.page.keyboard.press("Enter")
    until(either.selected, "a selection")


def test_tools_by_their_keys(stdlib: MapPage) -> None:
    stdlib.canvas.focus()
    for key, tool in (("l", "Lasso"), ("b", "Box"), ("v", "Move")):
        stdlib.page.keyboard.press(key)
        pressed = stdlib.page.locator(".tool-bar button[aria-pressed=true]")
        assert pressed.get_attribute("aria-label").startswith(tool)
    stdlib.page.keyboard.press("l")
    stdlib.page.keyboard.press("Escape")
    assert stdlib.page.locator(".tool-bar button[aria-pressed=true]").get_attribute("aria-label").startswith("Move")


def test_every_control_has_a_name(either: MapPage) -> None:
    assert either.page.evaluate(_NAMELESS) == []
    for panel in ("filters", "selection", "tags", "duplicates", "export", "info"):
        either.panel(panel)
        either.page.wait_for_timeout(200)
        assert either.page.evaluate(_NAMELESS) == [], panel


def test_the_focus_is_seen(stdlib: MapPage) -> None:
    for _ in range(6):
        stdlib.page.keyboard.press("Tab")
        style = stdlib.page.evaluate(
            "() => { const one = getComputedStyle(document.activeElement); return [one.outlineStyle, one.outlineWidth,"
            " one.boxShadow]; }"
        )
        ringed = stdlib.page.evaluate("() => document.activeElement.closest(':focus-within:not(body)') !== null")
        assert style[0] != "none" or style[2] != "none" or ringed, style


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_far_apart(open_page: Callable[..., MapPage], server: LiveServer, theme: str) -> None:
    """For those, too, who do not tell red from green."""
    page = open_page(f"{server.url}/map/local/stdlib", color_scheme=theme)
    page.page.locator(".legend-line").first.wait_for()
    colors = page.page.locator(".legend-line .chip").evaluate_all(
        "chips => chips.map(chip => getComputedStyle(chip).backgroundColor)"
    )
    near = [
        (sight, colors[i], colors[j])
        for sight in pixels.SIGHTS
        for i in range(len(colors[:6]))
        for j in range(i)
        if pixels.apart(colors[i], colors[j], sight) < 10
    ]
    assert near == []


@pytest.mark.parametrize("kind", ["server", "static"])
def test_a_phone(kind: str, open_page: Callable[..., MapPage], request: pytest.FixtureRequest) -> None:
    base = f"{request.getfixturevalue('static')}/stdlib/" if kind == "static" else None
    address = base or f"{request.getfixturevalue('server').url}/map/local/stdlib"
    page = open_page(
        address, viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True
    )
    assert page.page.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth")
    box = page.box
    assert box["width"] >= 380
    assert box["height"] >= 250
    assert pixels.colored(page.shot()) > 500
    assert f"{STDLIB_ROWS:,} rows" in page.status_text()
    page.panel("filters")
    page.page.get_by_label("Search the map").tap()
    hits = page.search("regular", "Words")
    hits.first.wait_for()
    hits.first.locator("button").tap()
    drawer = page.page.get_by_label("Details of a row")
    drawer.locator(".detail-fields").wait_for()
    bounds = drawer.bounding_box()
    assert bounds is not None
    assert bounds["width"] <= 391
    assert page.page.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth")


def test_the_list_of_maps_leads_to_them(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    page = open_page(f"{server.url}/", wait=False)
    link = page.page.locator("a[href^='/map/local/stdlib']")
    link.wait_for()
    assert re.search(rf"{STDLIB_ROWS:,}", page.page.locator("body").inner_text())
    link.click()
    page.ready()
    assert pixels.colored(page.shot()) > 500


def test_the_page_has_a_title_and_landmarks(either: MapPage) -> None:
    assert "stdlib" in either.page.title().lower()
    assert either.page.locator("html[lang=en]").count() == 1
    assert either.page.get_by_role("main").count() == 1
    assert either.page.get_by_role("search").count() == 1
    assert either.page.get_by_role("tablist").count() == 1
