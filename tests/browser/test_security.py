"""What rows, names and files say is text, whatever they say; keys stay out of addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gnomonic.server.auth import create_key
from tests.browser.driver import MapPage, Watch, until
from tests.browser.maps import PAYLOADS
from tests.server.live import LiveServer, running

_CREATED = """() => [...document.querySelectorAll(
  "iframe, object, embed, #evil, details[ontoggle], script:not([src]), style, base, form[action], "
  + "img[src='x'], [onerror], [onload], [onmouseover], [onclick], [ontoggle], [style*=url], a[href^='javascript'], "
  + "a[href^='data']")].map((one) => one.outerHTML.slice(0, 200))"""


@pytest.fixture
def hostile(open_page: Callable[..., MapPage], server: LiveServer, data: Path) -> MapPage:
    """The map whose every name and value is markup."""
    (folder,) = (data / "datasets" / "local").glob("hostile*")
    return open_page(f"{server.url}/map/local/{folder.name}")


def _check(page: MapPage) -> None:
    assert page.page.evaluate("() => window.pwned") is None
    assert page.page.evaluate(_CREATED) == []


def test_names_and_values_are_text(hostile: MapPage) -> None:
    body = hostile.page.locator("body")
    until(lambda: hostile.page.locator(".labels button").count() > 0, "names of topics")
    _check(hostile)
    for panel in ("topics", "filters", "selection", "tags", "duplicates", "export", "info"):
        hostile.panel(panel)
        hostile.page.wait_for_timeout(250)
        _check(hostile)
    assert PAYLOADS[0] in hostile.panel("info").inner_text(), "the description, with the name of a file in it"
    assert PAYLOADS[1] in hostile.panel("tags").inner_text()
    filters = hostile.panel("filters")
    closed = filters.locator(".field-head[aria-expanded=false]")
    while closed.count():
        closed.first.click()
    hostile.page.wait_for_timeout(400)
    assert PAYLOADS[0] in filters.inner_text()
    _check(hostile)
    select = hostile.page.get_by_label("Colour by", exact=True)
    for option in select.locator("option").all():
        select.select_option(value=option.get_attribute("value"))
        hostile.page.wait_for_timeout(150)
    _check(hostile)
    assert body.is_visible()


def test_rows_are_text(hostile: MapPage) -> None:
    hits = hostile.search("row", "Words")
    hits.first.wait_for()
    for number in range(min(hits.count(), len(PAYLOADS))):
        hits.nth(number).locator("button").click()
        fields = hostile.page.get_by_label("Details of a row").locator(".detail-fields")
        fields.wait_for()
        hostile.page.wait_for_timeout(80)
        _check(hostile)
    text = hostile.page.get_by_label("Details of a row").inner_text()
    assert any(payload in text for payload in PAYLOADS)
    assert hostile.page.locator("a[href]").evaluate_all("links => links.map(({ protocol }) => protocol)") == []
    hostile.drag_box()
    until(hostile.selected, "a selection")
    panel = hostile.panel("selection")
    panel.locator(".row-card").first.wait_for()
    _check(hostile)


def test_queries_names_and_files_are_text(hostile: MapPage, tmp_path: Path) -> None:
    for mode in ("Words", "Id"):
        hostile.search(PAYLOADS[1], mode)
        _check(hostile)
    hostile.drag_box()
    until(hostile.selected, "a selection")
    panel = hostile.panel("tags")
    panel.locator("input[name=tag]").fill(PAYLOADS[2])
    panel.locator("input[name=tag]").press("Enter")
    until(lambda: PAYLOADS[2] in panel.inner_text(), "the tag")
    _check(hostile)
    panel = hostile.panel("export")
    with hostile.page.expect_download() as waiting:
        panel.get_by_role("button", name="Download", exact=True).click()
    assert re.fullmatch(r"[\w .()-]+", waiting.value.suggested_filename)
    _check(hostile)


def test_a_hostile_link_is_text(open_page: Callable[..., MapPage], server: LiveServer) -> None:
    told = "%7B%22selectionName%22%3A%22%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22%2C%22selection%22%3A%7B%22topics%22"
    page = open_page(f"{server.url}/map/local/stdlib#{told}%3A%5B0%5D%7D%7D")
    until(page.selected, "a selection")
    page.panel("selection")
    _check(page)
    assert "<img" in page.panel("selection").inner_text()


def test_the_list_of_maps_is_text(hostile: MapPage, server: LiveServer) -> None:
    hostile.page.goto(server.url)
    until(lambda: hostile.page.locator("a[href^='/map/']").count() >= 3, "the maps")
    _check(hostile)
    assert "<img" in hostile.page.locator("body").inner_text()


@pytest.mark.parametrize("path", ["/", "/map/local/stdlib", "/viewer/main.js"])
def test_headers_are_strict(stdlib: MapPage, server: LiveServer, path: str) -> None:
    headers = stdlib.page.context.request.get(f"{server.url}{path}", headers={"accept": "text/html"}).headers
    policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert {"base-uri", "form-action", "frame-ancestors"} <= policy.keys()
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_files_outside_of_the_viewer_are_not_given(stdlib: MapPage, server: LiveServer) -> None:
    for path in (
        "../settings.py",
        "%2e%2e/settings.py",
        "files.py",
        "..%2f..%2fsettings.py",
        "/etc/passwd",
        "__init__.py",
    ):
        answer = stdlib.page.context.request.get(f"{server.url}/viewer/{path}")
        assert answer.status in (400, 403, 404), path


# -- keys ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, create_key(path, "reader")[1]


@pytest.fixture(scope="module")
def locked(data: Path, key: tuple[Path, str]) -> Iterator[LiveServer]:
    with running("--no-access-log", "--offline", "--data-dir", data, "--api-keys", key[0]) as live:
        yield live


def test_a_key_is_asked_for_and_kept_out_of_addresses(
    open_page: Callable[..., MapPage], locked: LiveServer, key: tuple[Path, str], watch: Watch
) -> None:
    watch.allow("status of 401")
    page = open_page(f"{locked.url}/map/local/stdlib", wait=False)
    dialog = page.page.get_by_role("dialog")
    dialog.wait_for()
    assert "asks for an API key" in dialog.inner_text()
    dialog.get_by_label("Key").fill("nk-wrong")
    dialog.get_by_role("button", name="Continue").click()
    until(lambda: "refused" in dialog.inner_text(), "that the key was refused")
    dialog.get_by_label("Key").fill(key[1])
    dialog.get_by_label("Key").press("Enter")
    page.ready()
    page.page.reload()
    page.ready()
    page.search("regular expression", "Words").first.wait_for()
    assert [one for one in [*watch.addresses, page.page.url] if key[1] in one or "nk-wrong" in one] == []
    stored = page.page.evaluate("() => [JSON.stringify(localStorage), document.cookie]")
    assert key[1] not in "".join(stored)


def test_another_tab_is_asked_again(open_page: Callable[..., MapPage], locked: LiveServer, watch: Watch) -> None:
    watch.allow("status of 401")
    page = open_page(f"{locked.url}/map/local/stdlib", wait=False)
    dialog = page.page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Cancel").click()
    alert = page.page.get_by_role("alert")
    alert.wait_for()
    assert "asks for an API key" in alert.inner_text()
    assert dialog.count() == 0, "whoever has no key is asked once, not by every request"


def test_a_page_tells_nothing_without_a_key(locked: LiveServer, stdlib: MapPage) -> None:
    for path in ("/map/local/stdlib", "/map/local/there-is-no-such-dataset"):
        answer: Any = stdlib.page.context.request.get(f"{locked.url}{path}")
        assert answer.status == 200, path
        assert "docstrings" not in answer.text().lower()
