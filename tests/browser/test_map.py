"""The map itself: points, colours, names, moving about, the view in the address, and pictures of it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import pixels
from tests.browser.driver import MapPage, until
from tests.browser.maps import STDLIB_ROWS
from tests.server.live import LiveServer


def _legend(page: MapPage) -> list[tuple[str, str, int]]:
    """Return name, colour and count of the legend's lines."""
    page.page.locator(".legend-line").first.wait_for()
    told = page.page.locator(".legend-line").evaluate_all(
        "lines => lines.map(line => [line.querySelector('.legend-name').textContent,"
        " getComputedStyle(line.querySelector('.chip')).backgroundColor,"
        " Number(line.querySelector('.legend-count').textContent.replaceAll(',', ''))])"
    )
    return [(name, color, count) for name, color, count in told]


def _color_by(page: MapPage, column: str) -> None:
    page.page.get_by_label("Colour by", exact=True).select_option(column)


def test_the_page_shows_points_names_and_counts(either: MapPage) -> None:
    assert f"{STDLIB_ROWS:,} rows" in either.status_text()
    assert either.canvas.get_attribute("aria-label", timeout=1000).startswith(f"Map of {STDLIB_ROWS}")
    labels = either.page.locator(".labels button")
    labels.first.wait_for()
    assert labels.count() >= 3
    shot = either.shot()
    drawn = [count for _, color, count in _legend(either) if pixels.count_of(shot, color) < 20]
    assert drawn == [], "colours of the legend that are hardly on the map"


def test_hiding_names_leaves_points(stdlib: MapPage) -> None:
    stdlib.page.locator(".labels button").first.wait_for()
    before = stdlib.shot()
    stdlib.button("Display settings").click()
    stdlib.page.get_by_role("checkbox", name="Labels").uncheck()
    until(lambda: stdlib.page.locator(".labels button:visible").count() == 0, "no names")
    stdlib.page.get_by_role("checkbox", name="Labels").check()
    until(lambda: stdlib.page.locator(".labels button:visible").count() > 0, "names again")
    assert pixels.colored(before) > 500


def test_colours_follow_a_column(either: MapPage) -> None:
    topics = either.shot()
    _color_by(either, "kind")
    until(lambda: {name for name, *_ in _legend(either)} == {"class", "function", "method", "module"}, "the kinds")
    either.settle()
    shot = either.shot()
    assert pixels.changed(topics, shot) > 500
    assert all(pixels.count_of(shot, color) > 20 for _, color, count in _legend(either) if count > 50)
    assert sum(count for *_, count in _legend(either)) == STDLIB_ROWS
    _color_by(either, "length")
    either.page.locator(".ramp").wait_for()
    either.settle()
    assert pixels.changed(shot, either.shot()) > 500
    _color_by(either, "added")
    until(lambda: "20" in either.page.locator(".ramp-ends").inner_text(), "years below the ramp")


def test_sizes_density_and_contours(stdlib: MapPage) -> None:
    before = stdlib.shot()
    stdlib.button("Display settings").click()
    slider = stdlib.page.get_by_label("Point size")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
    stdlib.settle()
    large = stdlib.shot()
    assert pixels.colored(large) > 1.2 * pixels.colored(before)
    stdlib.page.get_by_label("Size by").select_option("length")
    stdlib.settle()
    assert pixels.changed(large, stdlib.shot()) > 300
    for name in ("Density", "Contours"):
        plain = stdlib.shot()
        stdlib.page.get_by_role("checkbox", name=name).check()
        stdlib.settle()
        assert pixels.changed(plain, stdlib.shot()) > 500, name


def test_the_mouse_moves_and_zooms(either: MapPage) -> None:
    before = either.linked("camera")
    shot = either.shot()
    either.drag([(0.5, 0.5), (0.6, 0.65)])
    box = either.box
    # What was in the middle is now where the mouse let go: left and up on the plane's axes. The address may keep a
    # place on the way too.
    there = [before[0] - 0.1 * box["width"] / before[2], before[1] + 0.15 * box["height"] / before[2]]
    either.linked("camera", lambda camera: bool(camera) and camera[:2] == pytest.approx(there, rel=0.05, abs=0.2))
    assert pixels.changed(shot, either.shot()) > 500
    either.page.mouse.move(*either.at(0.5, 0.5))
    either.page.mouse.wheel(0, -400)
    zoomed = either.linked("camera", lambda camera: camera[2] > 1.3 * before[2])
    either.button("Show everything").click()
    back = either.linked("camera", lambda camera: camera[2] < zoomed[2] / 1.2)
    assert back == pytest.approx(before, rel=1e-3, abs=0.05)


def test_names_change_with_the_zoom(stdlib: MapPage) -> None:
    labels = stdlib.page.locator(".labels button:visible")
    labels.first.wait_for()
    coarse = set(labels.all_inner_texts())
    label = labels.first
    label.hover()
    box = label.bounding_box()
    assert box is not None
    stdlib.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] + 4)
    stdlib.page.mouse.wheel(0, -350)
    until(lambda: set(labels.all_inner_texts()) - coarse, "other names than from afar")


def test_names_never_lie_over_each_other(stdlib: MapPage) -> None:
    stdlib.page.locator(".labels button").first.wait_for()
    stdlib.settle()
    boxes = stdlib.page.locator(".labels button:visible").evaluate_all(
        "nodes => nodes.map(node => { const { x, y, right, bottom } = node.getBoundingClientRect();"
        " return [x, y, right, bottom]; })"
    )
    over = [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a[0] < b[2] - 1 and b[0] < a[2] - 1 and a[1] < b[3] - 1 and b[1] < a[3] - 1
    ]
    assert over == []


def test_dark_and_light(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    page = open_page(f"{server.url}/map/local/stdlib", color_scheme="dark")
    dark = page.shot()
    assert np.median(dark) < 60
    assert pixels.colored(dark) > 500
    page.button("Display settings").click()
    page.page.get_by_label("Theme").select_option("light")
    page.settle()
    assert np.median(page.shot()) > 200
    assert page.linked("theme") == "light"
    page.page.reload()
    page.ready()
    assert np.median(page.shot()) > 200


def test_a_link_restores_the_view(either: MapPage) -> None:
    _color_by(either, "kind")
    either.search("regular expression", "Words")
    panel = either.panel("filters")
    panel.get_by_label("Values of kind").get_by_text("function", exact=True).click()
    until(lambda: " of " in either.page.locator(".status-rows").inner_text(), "a filter")
    either.page.mouse.move(*either.at(0.5, 0.5))
    either.page.mouse.wheel(0, -300)
    either.page.keyboard.press("Escape")
    either.drag_box(0.3, 0.3, 0.7, 0.7)
    until(either.selected, "a selection")
    either.settle()
    link, selected, rows = _until_linked(either), either.selected(), either.page.locator(".status-rows").inner_text()
    before = either.shot()
    either.page.goto("about:blank")
    either.open(link)
    assert either.selected() == selected
    assert either.page.locator(".status-rows").inner_text() == rows
    assert either.page.get_by_label("Colour by", exact=True).input_value() == "kind"
    until(lambda: pixels.changed(before, either.shot()) < 0.02 * before.shape[0] * before.shape[1], "the same picture")


def _until_linked(page: MapPage) -> str:
    """Return the address once it says everything."""
    page.linked("selection")
    page.page.wait_for_timeout(500)
    return page.page.url


def test_nonsense_in_the_address_is_passed_over(stdlib: MapPage) -> None:
    for nonsense in ("#%7Bbroken", "#%7B%22camera%22%3A%5B1%2C%22x%22%2Cnull%5D%2C%22filters%22%3A7%7D", "#[]"):
        stdlib.page.goto("about:blank")
        stdlib.open(stdlib.address + nonsense)
        assert pixels.colored(stdlib.shot()) > 500


def test_a_picture_of_the_view(either: MapPage, tmp_path: Path) -> None:
    panel = either.panel("export")
    with either.page.expect_download() as waiting:
        panel.get_by_role("button", name="Download the picture").click()
    path = tmp_path / "view.png"
    waiting.value.save_as(path)
    image = Image.open(io.BytesIO(path.read_bytes()))
    assert image.format == "PNG"
    drawn = np.asarray(image.convert("RGB"))
    assert min(drawn.shape[:2]) >= 400
    assert pixels.colored(drawn) > 500
    ink = [int((drawn.max(axis=2) < 90).sum())]
    assert ink[0] > 200, "names in dark ink"


def test_about_tells_how_good_the_map_is(either: MapPage) -> None:
    text = either.panel("info").inner_text()
    assert "gnomonic-embed-text-mini" in text
    assert f"{STDLIB_ROWS:,}" in text
    quality = either.panel("info").get_by_label("How far it can be trusted")
    assert len(re.findall(r"\d %", quality.inner_text())) >= 4


def test_a_lost_context_comes_back(stdlib: MapPage) -> None:
    before = stdlib.shot()
    stdlib.page.evaluate(
        """async () => {
          const gl = document.querySelector("main.stage canvas").getContext("webgl2");
          const lost = gl.getExtension("WEBGL_lose_context");
          lost.loseContext();
          await new Promise((resolve) => setTimeout(resolve, 400));
          lost.restoreContext();
        }"""
    )
    until(lambda: pixels.changed(before, stdlib.shot()) < 2000, "the same points again")
    assert pixels.colored(stdlib.shot()) > 500


def test_without_webgl_the_page_says_so(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    page = open_page(
        f"{server.url}/map/local/stdlib",
        wait=False,
        before="""const plain = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
          return kind === "webgl2" ? null : plain.call(this, kind, ...rest);
        };""",
    )
    alert = page.page.get_by_role("alert").filter(has_text="WebGL")
    alert.wait_for()
    assert "WebGL" in alert.inner_text()


def _told(page: MapPage) -> Any:
    return page.page.evaluate("() => performance.getEntriesByType('resource').map(({ name }) => name)")


def test_no_text_is_loaded_before_it_is_asked_for(stdlib: MapPage) -> None:
    names = _told(stdlib)
    assert not any("rows-at" in name for name in names)
    assert any("/tiles/" in name for name in names)
