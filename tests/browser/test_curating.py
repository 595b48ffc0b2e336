"""Tags, duplicates and exports: what leaves traces."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.browser.driver import MapPage, until
from tests.browser.maps import COPIES, ODD, STDLIB_ROWS


def _tags(page: MapPage) -> dict[str, int]:
    lines = page.page.locator("#panel-tags li.tag").evaluate_all(
        "lines => lines.filter(line => line.querySelector('.tag-name')).map(line =>"
        " [line.querySelector('.tag-name').textContent, line.querySelector('.number').textContent])"
    )
    return {name: int(count.replace(",", "")) for name, count in lines}


def _select(page: MapPage) -> int:
    page.drag_box(0.3, 0.3, 0.6, 0.6)
    return int(until(page.selected, "a selection"))


def test_tags_are_made_used_removed_and_undone(stdlib: MapPage) -> None:
    count = _select(stdlib)
    panel = stdlib.panel("tags")
    name = panel.locator("input[name=tag]")
    name.fill("to review")
    name.press("Enter")
    until(lambda: _tags(stdlib).get("to review") == count, "the tag")
    stdlib.linked("selection")
    stdlib.page.reload()
    stdlib.ready()
    stdlib.panel("tags")
    until(lambda: _tags(stdlib).get("to review") == count, "the tag after a reload")
    stdlib.button("Clear the selection").click()
    until(lambda: stdlib.selected() == 0, "no selection")
    panel.get_by_role("button", name="to review", exact=True).click()
    until(lambda: stdlib.selected() == count, "the tag's rows")
    stdlib.settle()
    stdlib.drag_box(0.1, 0.1, 0.5, 0.9)
    until(lambda: stdlib.selected() not in (0, count), "others")
    panel.get_by_label("Take the tag to review off the selection").click()
    until(lambda: _tags(stdlib).get("to review", 0) < count, "fewer rows")
    panel.get_by_role("button", name=re.compile("^Undo")).click()
    until(lambda: _tags(stdlib).get("to review") == count, "all rows again")
    panel.get_by_label("Delete the tag to review").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    until(lambda: "to review" not in _tags(stdlib), "no tag")
    stdlib.page.locator("body").press("Control+z")
    until(lambda: _tags(stdlib).get("to review") == count, "the tag after undoing by key")
    panel.get_by_label("Delete the tag to review").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    until(lambda: "to review" not in _tags(stdlib), "no tag at the end")


def test_tags_are_filters(stdlib: MapPage) -> None:
    count = _select(stdlib)
    panel = stdlib.panel("tags")
    panel.locator("input[name=tag]").fill("a <b>tag</b>")
    panel.locator("input[name=tag]").press("Enter")
    until(lambda: "a <b>tag</b>" in _tags(stdlib), "the tag")
    filters = stdlib.panel("filters")
    filters.get_by_label("Show only rows with a tag").select_option(label="a <b>tag</b>")
    rows = stdlib.page.locator(".status-rows")
    until(lambda: rows.inner_text().startswith(f"{count:,} of"), "its rows")
    # Deleted on the page, a tag is no filter any more.
    panel = stdlib.panel("tags")
    panel.get_by_role("button", name="Delete the tag a <b>tag</b>").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    until(lambda: " of " not in rows.inner_text(), "all rows")


def _numbers(page: MapPage) -> tuple[int, int, int]:
    counts = page.page.locator(".duplicate-counts strong")
    until(lambda: counts.count() == 3, "counts of duplicates")
    groups, rows, deletable = (int(text.replace(",", "")) for text in counts.all_inner_texts())
    return groups, rows, deletable


def test_duplicates_follow_the_slider_and_the_rule(either: MapPage) -> None:
    panel = either.panel("duplicates")
    slider = panel.get_by_label("How alike")
    slider.focus()
    slider.press("Home")
    until(lambda: COPIES <= _numbers(either)[2] < COPIES + 10, "the exact copies")
    exact = _numbers(either)
    for _ in range(40):
        slider.press("ArrowRight")
    until(lambda: _numbers(either)[2] > exact[2], "more at a wider cut-off")
    slider.press("Home")
    until(lambda: _numbers(either) == exact, "the exact copies again")
    group = panel.locator(".duplicate-group").first
    group.wait_for()
    until(lambda: "(copy)" in panel.inner_text(), "names of the copies")
    panel.get_by_label("Which row is kept").select_option("longest")
    until(lambda: _numbers(either)[2] == exact[2], "as many that could go")
    panel.get_by_label("Which row is kept").select_option("newest")
    panel.get_by_label("Newest by which field").select_option("added")
    until(lambda: _numbers(either)[2] == exact[2], "as many that could go")
    panel.get_by_role("button", name="Select what could go").click()
    until(lambda: either.selected() == exact[2], "them selected")
    panel.get_by_role("button", name="Hide it").click()
    wanted = f"{STDLIB_ROWS - exact[2]:,} of"
    until(lambda: either.page.locator(".status-rows").inner_text().startswith(wanted), "them hidden")


def _download(page: MapPage, kind: str, folder: Path) -> bytes:
    panel = page.panel("export")
    panel.get_by_role("radio", name=kind).check()
    with page.page.expect_download() as waiting:
        panel.get_by_role("button", name="Download", exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path.read_bytes()


def _api_ids(page: MapPage) -> list[str]:
    bits = page.linked("selection")["bits"]
    return page.api("POST", "/export", {"bits": bits, "format": "ids"}).text().split("\n")[:-1]


def test_exports_are_what_the_api_says(stdlib: MapPage, tmp_path: Path) -> None:
    count = _select(stdlib)
    ids = _api_ids(stdlib)
    assert len(ids) == count
    assert _download(stdlib, "Ids only", tmp_path).decode().split("\n")[:-1] == ids
    table = pq.read_table(io.BytesIO(_download(stdlib, "Parquet", tmp_path)))
    assert sorted(table["name"].to_pylist()) == sorted(ids)
    assert {"kind", "length", "added", ODD, "text"} <= set(table.column_names)
    lines = [json.loads(line) for line in _download(stdlib, "JSON lines", tmp_path).decode().splitlines()]
    assert sorted(line["name"] for line in lines) == sorted(ids)
    assert {line["name"]: line["length"] for line in lines} == dict(
        zip(table["name"].to_pylist(), table["length"].to_pylist(), strict=True)
    )
    rows = list(csv.DictReader(io.StringIO(_download(stdlib, "CSV", tmp_path).decode("utf-8-sig"))))
    assert sorted(row["name"] for row in rows) == sorted(ids)
    texts = dict(zip(table["name"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert all(row["text"].replace("\r\n", "\n").lstrip("'") == texts[row["name"]].lstrip("'") for row in rows)


def test_a_static_copy_exports_too(static: str, open_page: object, tmp_path: Path) -> None:
    page = open_page(f"{static}/stdlib/")  # type: ignore[operator]
    count = _select(page)
    ids = _download(page, "Ids only", tmp_path).decode().split("\n")
    assert len([one for one in ids if one]) == count
    lines = [json.loads(line) for line in _download(page, "JSON lines", tmp_path).decode().splitlines()]
    assert sorted(line["name"] for line in lines) == sorted(one for one in ids if one)


@pytest.mark.parametrize("place", ["status", "panel"])
def test_the_link_is_copied(stdlib: MapPage, place: str) -> None:
    stdlib.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if place == "status":
        stdlib.button("Copy a link to this view").click()
    else:
        stdlib.panel("export").get_by_role("button", name="Copy the link").click()
    copied = until(lambda: stdlib.page.evaluate("() => navigator.clipboard.readText()"), "a link in the clipboard")
    assert copied.startswith(stdlib.address + "#")
    assert copied.partition("#")[2]
