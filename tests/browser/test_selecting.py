"""Filters and selections: lasso, box, names, the tree, fields, how they combine, and what explains them."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from tests.browser import pixels
from tests.browser.driver import MapPage, Watch, until
from tests.browser.maps import ODD, STDLIB_ROWS


def _shown(page: MapPage) -> int:
    """Return how many rows the page says pass the filters."""
    text = page.page.locator(".status-rows").inner_text()
    return int(re.match(r"[\d,]+", text)[0].replace(",", ""))


def _filtered(page: MapPage, before: int = STDLIB_ROWS) -> int:
    until(lambda: _shown(page) != before, "another number of rows")
    return _shown(page)


def _count(page: MapPage, **conditions: object) -> int:
    return int(page.api("POST", "/filter", conditions).headers["x-gnomonic-count"])


def _bits(page: MapPage) -> np.ndarray:
    told = page.linked("selection")
    return np.unpackbits(np.frombuffer(base64.b64decode(told["bits"]), np.uint8), bitorder="little")


def test_a_box_selects_what_is_in_it(either: MapPage) -> None:
    before = either.shot()
    either.drag_box(0.25, 0.25, 0.6, 0.7)
    count = until(either.selected, "a selection")
    assert 0 < count < STDLIB_ROWS
    either.settle()
    assert pixels.changed(before, either.shot()) > 500, "the selection stands out"
    assert int(_bits(either).sum()) == count
    either.button("Clear the selection").click()
    until(lambda: either.selected() == 0, "no selection")


def test_a_box_selects_as_the_api_does(stdlib: MapPage) -> None:
    x, y, scale = stdlib.linked("camera")
    box = stdlib.box
    stdlib.drag_box(0.25, 0.25, 0.6, 0.7)
    count = until(stdlib.selected, "a selection")
    width, height = box["width"] / scale, box["height"] / scale
    plane = [x - 0.25 * width, y - 0.2 * height, x + 0.1 * width, y + 0.25 * height]
    assert count == pytest.approx(_count(stdlib, box=plane), abs=12)


def test_a_lasso_adds_and_takes_away(either: MapPage) -> None:
    either.lasso((0.3, 0.3), (0.6, 0.3), (0.6, 0.6), (0.3, 0.6))
    first = until(either.selected, "a selection")
    either.button("Lasso: draw around points").click()
    either.page.keyboard.down("Shift")
    either.drag([(0.55, 0.2), (0.8, 0.2), (0.8, 0.7), (0.55, 0.7), (0.55, 0.2)])
    either.page.keyboard.up("Shift")
    until(lambda: either.selected() > first, "more rows")
    more = either.selected()
    either.button("Box: drag over points").click()
    either.page.keyboard.down("Alt")
    either.drag([(0.2, 0.2), (0.5, 0.9)])
    either.page.keyboard.up("Alt")
    until(lambda: either.selected() < more, "fewer rows")


def test_a_name_selects_its_topic(either: MapPage) -> None:
    label = either.page.locator(".labels button:visible").first
    label.wait_for()
    name = " ".join(label.inner_text().split())
    label.click()
    count = until(either.selected, "a selection")
    panel = either.panel("topics")
    line = panel.get_by_role("treeitem").filter(has_text=name.split("\n")[0]).first
    assert line.get_attribute("aria-label").endswith(f", {count:,}")
    assert either.linked("selectionName") == name


def test_the_tree_opens_finds_and_selects(either: MapPage) -> None:
    panel = either.panel("topics")
    items = panel.get_by_role("treeitem")
    items.first.wait_for()
    coarse = items.count()
    assert coarse >= 2
    panel.get_by_role("button", name="Open all").click()
    until(lambda: items.count() > coarse, "more topics")
    item = items.nth(1)
    name, _, count = item.get_attribute("aria-label").rpartition(", ")
    item.click()
    assert until(either.selected, "a selection") == int(count.replace(",", ""))
    panel.get_by_role("button", name="Show only this").click()
    assert _filtered(either) == int(count.replace(",", ""))
    panel.get_by_label("Find a topic by name").fill(name[:6])
    until(lambda: name[:6].lower() in items.first.inner_text().lower() or items.count() < coarse, "what was looked for")


def test_categories_filter_and_others_fade(either: MapPage) -> None:
    before = either.shot()
    panel = either.panel("filters")
    values = panel.get_by_label("Values of kind")
    line = values.locator("label").filter(has_text="method")
    count = int(line.locator(".bar-count").inner_text().replace(",", ""))
    line.click()
    assert _filtered(either) == count
    either.settle()
    faded = either.shot()
    assert pixels.colored(faded) < 0.9 * pixels.colored(before)
    assert pixels.changed(before, faded) > 500
    values.locator("label").filter(has_text="class").click()
    until(lambda: _shown(either) > count, "two kinds")
    panel.get_by_role("button", name="Clear all").click()
    until(lambda: _shown(either) == STDLIB_ROWS, "all rows")


def test_ranges_of_numbers_and_dates_combine(either: MapPage) -> None:
    panel = either.panel("filters")
    for name in ("length", "added", ODD):
        either.field(name)
    low = panel.get_by_label("From, of length").and_(panel.locator("input[type=number]"))
    low.fill("200")
    low.press("Tab")
    long = _filtered(either)
    first = panel.get_by_label("From, of added").and_(panel.locator("input[type=date]"))
    first.fill("2012-01-01")
    first.press("Tab")
    recent = _filtered(either, long)
    assert 0 < recent < long
    high = panel.get_by_label(f"To, of {ODD}").and_(panel.locator("input[type=number]"))
    high.fill("50")
    high.press("Tab")
    small = _filtered(either, recent)
    assert 0 < small < recent
    chips = panel.get_by_label("Filters that are on").get_by_role("listitem")
    assert chips.count() == 3
    panel.get_by_label(f"Remove the filter of {ODD}").click()
    until(lambda: _shown(either) == recent, "the rows of two filters")


def test_ranges_are_those_of_the_api(stdlib: MapPage) -> None:
    panel = stdlib.panel("filters")
    card = panel.locator("[data-column=length]")
    if card.locator(".field-head").get_attribute("aria-expanded") != "true":
        card.locator(".field-head").click()
    high = panel.get_by_label("To, of length").and_(panel.locator("input[type=number]"))
    high.fill("120")
    high.press("Tab")
    assert _filtered(stdlib) == _count(stdlib, where="length <= 120")


def test_a_condition_in_sql(stdlib: MapPage, watch: Watch) -> None:
    watch.allow("status of 400")
    panel = stdlib.panel("filters")
    box = panel.get_by_label("Condition in SQL")
    box.fill("length > 500 AND kind = 'class'")
    box.press("Enter")
    assert _filtered(stdlib) == _count(stdlib, where="length > 500 AND kind = 'class'")
    box.fill("no_such_column > 1")
    box.press("Enter")
    alert = panel.get_by_role("alert").filter(has_text="no_such_column")
    alert.wait_for()


def test_the_histogram_is_dragged(either: MapPage) -> None:
    panel = either.panel("filters")
    card = panel.locator("[data-column=length]")
    if card.locator(".field-head").get_attribute("aria-expanded") != "true":
        card.locator(".field-head").click()
    drawing = card.locator(".histogram-drawing")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    mouse = either.page.mouse
    mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    mouse.down()
    mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2, steps=4)
    mouse.up()
    assert 0 < _filtered(either) < STDLIB_ROWS


def test_selections_keep_to_what_passes(either: MapPage) -> None:
    panel = either.panel("filters")
    panel.get_by_label("Values of kind").locator("label").filter(has_text="class").click()
    passing = _filtered(either)
    either.drag_box()
    assert until(either.selected, "a selection") <= passing


def test_show_only_and_invert(either: MapPage) -> None:
    either.drag_box(0.3, 0.3, 0.6, 0.6)
    count = until(either.selected, "a selection")
    panel = either.panel("selection")
    panel.get_by_role("button", name="Invert").click()
    until(lambda: either.selected() == STDLIB_ROWS - count, "the others")
    panel.get_by_role("button", name="Show only these").click()
    assert _filtered(either) == STDLIB_ROWS - count


def test_a_selection_is_explained(either: MapPage) -> None:
    panel = either.panel("topics")
    panel.get_by_role("treeitem").first.click()
    count = until(either.selected, "a selection")
    panel = either.panel("selection")
    assert f"{count:,}" in panel.inner_text()
    panel.get_by_label("Topics", exact=True).wait_for()
    text = panel.inner_text()
    assert re.search(r"\d+(\.\d)? %", text)
    examples = panel.locator(".row-card")
    examples.first.wait_for()
    assert examples.count() >= 2
    examples.first.click()
    either.page.get_by_label("Details of a row").locator(".detail-fields").wait_for()


def test_an_explanation_names_the_words_of_a_module(stdlib: MapPage) -> None:
    panel = stdlib.panel("filters")
    box = panel.get_by_label("Condition in SQL")
    box.fill("module = 'tkinter'")
    box.press("Enter")
    _filtered(stdlib)
    panel = stdlib.panel("selection")
    panel.get_by_role("button", name="all that pass the filters").click()
    until(stdlib.selected, "a selection")
    until(lambda: "tkinter" in panel.inner_text(), "the module as what sets them apart")
    told = stdlib.api("POST", "/explain", {"where": "module = 'tkinter'"}).json()
    words = [one["phrase"] for one in told["words"][:3]]
    assert words
    shown = panel.inner_text().lower()
    assert all(word.lower() in shown for word in words)
    panel.locator("button.share-line").filter(has_text=words[0]).first.click()
    results = stdlib.page.get_by_label("Results", exact=True)
    until(lambda: f"Words “{words[0]}”" in results.inner_text(), "a search for the word")
    wanted = stdlib.api("POST", "/find", {"mode": "words", "query": words[0], "where": "module = 'tkinter'"}).json()
    until(lambda: results.locator("li").count() == len(wanted["hits"]), "the rows that have it")


def test_the_legend_filters(either: MapPage) -> None:
    either.page.get_by_label("Colour by", exact=True).select_option("kind")
    line = either.page.locator(".legend-line").filter(has_text="function")
    line.wait_for()
    count = int(line.locator(".legend-count").inner_text().replace(",", ""))
    line.click()
    assert _filtered(either) == count
