"""Rows: the card beside the pointer, all of one row, its neighbours, and searches."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import pixels
from tests.browser.driver import MapPage, until
from tests.browser.maps import MAGENTA, ODD
from tests.server.live import LiveServer

# Rows in view that nothing lies over, and where.
_PLACES = """() => {
  const { renderer, manifest } = mountedMap;
  const box = renderer.element.getBoundingClientRect();
  return Array.from({ length: manifest.count }, (_, position) => {
    const [x, y] = renderer.toScreen(...renderer.placeOf(position));
    return { position, x, y };
  }).filter(({ x, y }) => x > 5 && y > 5 && x < box.width - 5 && y < box.height - 5
    && renderer.element.contains(document.elementFromPoint(box.x + x, box.y + y)));
}"""


def _point(page: MapPage) -> tuple[float, float]:
    """Return a place of the page where a point is drawn and no name lies over it."""
    shot = page.shot().astype(np.int16)
    colored = (shot.max(axis=2) - shot.min(axis=2)) > 60
    box = page.box
    covered = page.page.locator(".labels button:visible, .floating:visible").evaluate_all(
        "nodes => nodes.map(node => { const box = node.getBoundingClientRect();"
        " return [box.x, box.y, box.right, box.bottom]; })"
    )
    rows, columns = np.nonzero(colored)
    apart = (columns / box["width"] - 0.5) ** 2 + (rows / box["height"] - 0.5) ** 2
    for at in np.argsort(apart):
        x, y = box["x"] + columns[at], box["y"] + rows[at]
        if all(not (a - 6 < x < c + 6 and b - 6 < y < d + 6) for a, b, c, d in covered):
            return float(x), float(y)
    raise AssertionError("no point is drawn")


def _marked(page: MapPage) -> int:
    """Return how many pixels are drawn above the points: lines and rings."""
    marked: int = page.page.evaluate(
        """() => {
          const canvas = document.querySelectorAll(".map canvas")[1];
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let count = 0;
          for (let i = 3; i < data.length; i += 4) if (data[i] > 40) count++;
          return count;
        }"""
    )
    return marked


def _row(page: MapPage, where: str) -> dict[str, Any]:
    """Return the first row of an SQL condition, as the API has it."""
    bits = page.api("POST", "/filter", {"where": where}).body()
    position = next(i for i in range(8 * len(bits)) if bits[i // 8] >> (i % 8) & 1)
    told: dict[str, Any] = page.api("POST", "/rows-at", {"positions": [position]}).json()["rows"][0]
    return told


def test_the_card_tells_what_is_below_the_pointer(either: MapPage) -> None:
    either.page.mouse.move(*_point(either))
    card = either.page.locator(".card.floating")
    card.wait_for()
    assert len(card.inner_text().strip()) > 3
    either.page.mouse.move(*either.at(0.01, 0.99))
    card.wait_for(state="hidden")


def test_a_click_shows_the_whole_row_and_its_neighbours(either: MapPage) -> None:
    assert _marked(either) == 0
    either.page.mouse.click(*_point(either))
    drawer = either.page.get_by_label("Details of a row")
    drawer.wait_for()
    drawer.locator(".detail-fields").wait_for()
    fields = drawer.locator(".detail-fields dt").all_inner_texts()
    assert {"name", "kind", "module", "length", "added", ODD, "text"} <= set(fields)
    assert re.search(r"Trust in the place \d+ %", drawer.inner_text())
    neighbors = drawer.locator(".neighbor")
    neighbors.first.wait_for()
    assert neighbors.count() >= 10
    distances = [float(text) for text in drawer.locator(".neighbor-distance").all_inner_texts()]
    assert distances == sorted(distances)
    until(lambda: _marked(either) > 200, "lines to the neighbours")
    title = drawer.locator(".detail-title").inner_text()
    neighbors.first.click()
    until(lambda: drawer.locator(".detail-title").inner_text() != title, "the neighbour's row")
    drawer.get_by_label("Previous row").click()
    until(lambda: drawer.locator(".detail-title").inner_text() == title, "the row before")
    either.page.keyboard.press("Escape")
    drawer.wait_for(state="hidden")


def test_neighbours_are_those_of_the_api(stdlib: MapPage) -> None:
    stdlib.page.mouse.click(*_point(stdlib))
    drawer = stdlib.page.get_by_label("Details of a row")
    drawer.locator(".neighbor").first.wait_for()
    position = stdlib.linked("focus", lambda focus: focus is not None)
    told = stdlib.api("GET", f"/neighbors/{position}?k=15").json()["neighbors"]
    shown = [float(text) for text in drawer.locator(".neighbor-distance").all_inner_texts()]
    assert shown == pytest.approx([one["distance"] for one in told], abs=6e-4)


def test_more_like_this(either: MapPage) -> None:
    either.page.mouse.click(*_point(either))
    drawer = either.page.get_by_label("Details of a row")
    drawer.get_by_role("button", name="More like this").click()
    hits = either.page.locator(".results-list > li")
    hits.first.wait_for()
    assert hits.count() >= 10


def test_search_by_meaning_fills_list_and_heat(stdlib: MapPage) -> None:
    before = stdlib.shot()
    hits = stdlib.search("copy a whole folder with everything in it")
    until(lambda: "shutil.copy" in hits.first.inner_text(), "a function of shutil on top")
    stdlib.page.get_by_role("group", name="Heat").wait_for()
    stdlib.settle()
    warm = stdlib.shot()
    assert pixels.changed(before, warm) > 500
    slider = stdlib.page.get_by_label("Least score")
    slider.focus()
    slider.press("End")
    for _ in range(40):
        slider.press("ArrowLeft")
    stdlib.settle()
    assert pixels.changed(warm, stdlib.shot()) > 200, "rows below the threshold fade"
    told = stdlib.page.locator(".heat-told b").inner_text()
    stdlib.button("Select rows above").click()
    until(stdlib.selected, "a selection")
    assert stdlib.selected() == int(told.replace(",", ""))
    hits.first.locator("button").click()
    stdlib.page.get_by_label("Details of a row").locator(".detail-fields").wait_for()
    stdlib.button("Clear heat").click()
    stdlib.page.get_by_role("group", name="Heat").wait_for(state="hidden")


def test_search_by_words(either: MapPage) -> None:
    hits = either.search("regular expression", "Words")
    hits.first.wait_for()
    until(lambda: "…" not in hits.first.inner_text()[:2], "the first row")
    texts = " ".join(hits.locator("button").all_inner_texts()).lower()
    assert "regular" in texts
    either.page.get_by_label("Results", exact=True).get_by_role("button", name="Select").click()
    assert until(either.selected, "a selection") == hits.count()


def test_search_by_id(either: MapPage) -> None:
    hits = either.search("shutil.copytree", "Id")
    hits.first.wait_for()
    assert hits.count() == 1
    until(lambda: "shutil.copytree" in hits.first.inner_text(), "the row's name")
    either.search("there is no such row", "Id")
    state = either.page.locator(".results-state")
    until(lambda: re.search("Nothing found|no row|no such", state.inner_text(), re.I), "that it is not there")


def test_search_keeps_to_the_filters(either: MapPage) -> None:
    panel = either.panel("filters")
    panel.get_by_label("Values of kind").get_by_text("class", exact=True).click()
    until(lambda: " of " in either.page.locator(".status-rows").inner_text(), "a filter")
    hits = either.search("file", "Words")
    hits.first.locator("button").click()
    fields = either.page.get_by_label("Details of a row").locator(".detail-fields")
    fields.wait_for()
    values = dict(zip(fields.locator("dt").all_inner_texts(), fields.locator("dd").all_inner_texts(), strict=True))
    assert values["kind"] == "class"


def test_a_static_copy_says_why_meaning_is_not_searched(open_page: Callable[..., MapPage], static: str) -> None:
    page = open_page(f"{static}/stdlib/")
    assert "server" in page.page.locator(".search-note").inner_text()
    options = page.page.get_by_label("Search by", exact=True).locator("option").all_inner_texts()
    assert "Meaning" not in options
    assert {"Words", "Id"} <= set(options)


def test_the_row_of_the_api_is_the_row_of_the_page(stdlib: MapPage) -> None:
    wanted = _row(stdlib, "name = 'shutil.copytree'")
    stdlib.search("shutil.copytree", "Id").first.locator("button").click()
    fields = stdlib.page.get_by_label("Details of a row").locator(".detail-fields")
    fields.wait_for()
    shown = dict(zip(fields.locator("dt").all_inner_texts(), fields.locator("dd").all_inner_texts(), strict=True))
    assert shown["name"] == "shutil.copytree"
    assert shown["length"].replace(",", "") == str(wanted["values"]["length"])
    assert shown["text"].split()[:8] == wanted["values"]["text"].split()[:8]


@pytest.mark.parametrize("kind", ["server", "static"])
def test_every_row_has_its_picture(
    kind: str, open_page: Callable[..., MapPage], request: pytest.FixtureRequest
) -> None:
    """Also those that are not among the first of their tile, which its sheet has."""
    if kind == "static":
        page = open_page(f"{request.getfixturevalue('static')}/many-pictures/")
    else:
        page = open_page(f"{request.getfixturevalue('server').url}/map/local/many-pictures")
    page.page.evaluate("() => mountedMap.renderer.fit([-1.8, -1.8, 1.8, 1.8], { animate: false })")
    places = page.page.evaluate(_PLACES)
    assert len(places) > 30
    assert sum(one["position"] >= 1024 for one in places) > 5

    def absent() -> list[int]:
        shot = page.shot()
        at = {one["position"]: shot[round(one["y"]), round(one["x"])].astype(int) for one in places}
        return [position for position, color in at.items() if np.abs(color - MAGENTA).max() > 30]

    until(lambda: not absent(), f"pictures of all rows in view, without {absent()}")


@pytest.mark.parametrize("kind", ["server", "static"])
def test_pictures_on_the_map(kind: str, open_page: Callable[..., MapPage], request: pytest.FixtureRequest) -> None:
    if kind == "static":
        page = open_page(f"{request.getfixturevalue('static')}/pictures/")
    else:
        page = open_page(f"{request.getfixturevalue('server').url}/map/local/pictures")
    page.button("Display settings").click()
    thumbs = page.page.get_by_role("checkbox", name="Thumbnails")

    def squares() -> int:
        shot = page.shot()
        wanted = [(230, 20, 20), (20, 200, 20), (20, 60, 230)]
        return max(pixels.count_of(shot, color, within=30) for color in wanted)

    page.page.mouse.move(*_point(page))
    for _ in range(12):
        if squares() > 1500:
            break
        page.page.mouse.wheel(0, -150)
        page.settle()
    assert squares() > 1500, "thumbnails"
    thumbs.uncheck()
    until(lambda: squares() < 100, "no thumbnails")
    thumbs.check()
    until(lambda: squares() > 1500, "thumbnails again")
    page.button("Display settings").click()
    page.page.mouse.click(*page.at(0.5, 0.5))
    drawer = page.page.get_by_label("Details of a row")
    if not drawer.is_visible():
        page.search("0", "Id").first.locator("button").click()
    image = drawer.locator("img")
    image.wait_for()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 16


def test_search_by_picture(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    page = open_page(f"{server.url}/map/local/looks")
    hits = page.page.locator(".results-list > li")

    def picture(color: tuple[int, int, int]) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (40, 40), color).save(buffer, "PNG")
        return buffer.getvalue()

    page.page.locator("input[type=file]").set_input_files(
        {"name": "red.png", "mimeType": "image/png", "buffer": picture((225, 30, 30))}
    )
    until(lambda: hits.count() and "red" in hits.first.inner_text(), "red squares")
    assert page.page.evaluate("() => window.mountedMap.store.state.heat !== null")

    # Dropped on the map instead.
    page.page.evaluate(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([Uint8Array.from(bytes)], "blue.png", { type: "image/png" }));
          const place = document.querySelector("main.stage");
          for (const kind of ["dragenter", "dragover", "drop"]) {
            place.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
          }
        }""",
        list(picture((30, 60, 225))),
    )
    until(lambda: hits.count() and "blue" in hits.first.inner_text(), "blue squares")


def test_no_search_by_picture_without_a_model(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    """Vectors that were given have no model that reads pictures, so the page offers no such search."""
    page = open_page(f"{server.url}/map/local/pictures")
    assert page.button("Picture…").count() == 0
    assert page.page.locator("input[type=file]").count() == 0
