"""A map's page as a user has it: what is clicked, typed and dragged, and what is seen then."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.browser.pixels import Picture, picture

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

__all__ = ["MOUNTED", "MapPage", "Watch", "until"]


MOUNTED = 'addEventListener("gnomonic:mounted", (event) => { window.mountedMap = event.detail; });'
"""Run before a page's own scripts: the map is then known to the tests."""

_SETTLE = """async () => {
  const frame = () => new Promise((resolve) => setTimeout(resolve, 60));
  const { renderer, store } = window.mountedMap;
  const view = () => JSON.stringify([store.state.camera, store.state.busy, store.state.colorBy, renderer.legend()]);
  let still = 0, before = "";
  for (const end = performance.now() + 15000; still < 6 && performance.now() < end; before = view()) {
    await frame();
    still = renderer.stats().settled && !store.state.busy && view() === before ? still + 1 : 0;
  }
}"""


def until(condition: Callable[[], Any], what: str, *, seconds: float = 15) -> Any:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds:g} s for: {what}"
        time.sleep(0.05)
    return found


class Watch:
    """Notes errors of pages, dialogs, and requests that leave the host they came from."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.addresses: list[str] = []
        self._allowed: list[str] = []

    def follow(self, page: Page, address: str) -> None:
        """Watch a page of a host."""
        home = urlsplit(address).netloc

        def note(found: str) -> None:
            self.errors.append(found)

        def asked(request: Any) -> None:
            self.addresses.append(request.url)
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc != home:
                self.foreign.append(request.url)

        page.on("console", lambda message: message.type == "error" and note(f"console: {message.text}"))
        page.on("pageerror", lambda error: note(f"error: {error}"))
        page.on("dialog", lambda dialog: (note(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", asked)

    def allow(self, *patterns: str) -> None:
        """Pass over errors with these expressions in them."""
        self._allowed += patterns

    def check(self) -> None:
        """Say what was noted."""
        left = [one for one in self.errors if not any(re.search(pattern, one) for pattern in self._allowed)]
        assert left == [], left
        assert self.foreign == [], self.foreign


class MapPage:
    """A page with a map."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address

    def open(self, address: str | None = None, *, wait: bool = True) -> None:
        """Go to the map's address, or another one, and wait for everything to be there."""
        self.page.goto(address or self.address)
        if wait:
            self.ready()

    def ready(self) -> None:
        """Wait until the page is whole and points are drawn."""
        self.page.wait_for_selector('#app[data-ready="all"]')
        self.settle()

    def settle(self) -> None:
        """Wait until nothing moves on the map any more."""
        self.page.evaluate(_SETTLE)

    @property
    def canvas(self) -> Locator:
        """The map."""
        return self.page.locator("[aria-label^='Map of']")

    @property
    def box(self) -> dict[str, float]:
        """Where the map is on the page."""
        found = self.canvas.bounding_box()
        assert found is not None
        return dict(found)

    def shot(self) -> Picture:
        """Return a picture of the stage: the map and what lies over it."""
        return picture(self.page.locator("main.stage").screenshot())

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return a place of the page by shares of the map's width and height, from the upper left."""
        box = self.box
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def button(self, name: str | re.Pattern[str], *, exact: bool = False) -> Locator:
        """Return a button by its name."""
        return self.page.get_by_role("button", name=name, exact=exact)

    def panel(self, name: str) -> Locator:
        """Open a panel, and return it."""
        panel = self.page.locator(f"#panel-{name}")
        tab = self.page.locator(f"#tab-{name}")
        if tab.get_attribute("aria-selected") != "true":
            tab.click()
        panel.wait_for(state="visible")
        return panel

    def field(self, name: str) -> Locator:
        """Open a field of the filters, and return it."""
        panel = self.panel("filters")
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        card = panel.locator(f'[data-column="{quoted}"]')
        head = card.locator("button[aria-expanded]").first
        if head.get_attribute("aria-expanded") != "true":
            head.click()
        card.locator("input, svg").first.wait_for(state="attached")
        return card

    def drag(self, shares: Sequence[tuple[float, float]], *, steps: int = 6) -> None:
        """Drag the mouse over places of the map."""
        mouse = self.page.mouse
        mouse.move(*self.at(*shares[0]))
        mouse.down()
        for share in shares[1:]:
            mouse.move(*self.at(*share), steps=steps)
        mouse.up()

    def drag_box(self, left: float = 0.97, top: float = 0.12, right: float = 0.02, bottom: float = 0.98) -> None:
        """Select by a box, by shares of the map's width and height; by default nearly all of it."""
        # It begins where no bar lies over the map.
        self.button("Box: drag over points").click()
        self.drag([(left, top), (right, bottom)])

    def lasso(self, *corners: tuple[float, float]) -> None:
        """Select by a lasso through some corners."""
        self.button("Lasso: draw around points").click()
        self.drag([*corners, corners[0]])

    def link(self) -> dict[str, Any]:
        """Return what the page's address says of the view."""
        fragment = self.page.evaluate("() => location.hash.slice(1)")
        told: dict[str, Any] = json.loads(unquote(fragment)) if fragment else {}
        return told

    def linked(self, key: str, test: Callable[[Any], bool] = bool) -> Any:
        """Wait until the address says something of the view, and return it."""
        until(lambda: test(self.link().get(key)), f"{key} in the address, which says {self.link()!r:.300}")
        return self.link().get(key)

    def search(self, text: str, mode: str = "Meaning") -> Locator:
        """Search, wait, and return the results' items."""
        self.page.get_by_label("Search by", exact=True).select_option(label=mode)
        box = self.page.get_by_label("Search the map")
        box.fill(text)
        box.press("Enter")
        self.page.wait_for_function("() => !document.querySelector('.search-form[aria-busy=true]')")
        return self.page.locator(".results-list > li")

    def selected(self) -> int:
        """Return how many rows the page says are selected; 0 without a selection."""
        text = self.status_text()
        found = re.search(r"([\d,]+) (?:rows? )?selected", text)
        return int(found[1].replace(",", "")) if found else 0

    def status_text(self) -> str:
        """Return what the status line says."""
        return " ".join(self.page.locator(".status").all_inner_texts())

    def api(self, method: str, path: str, json_body: Any = None) -> Any:
        """Ask the map's API, from outside of the page."""
        parts = urlsplit(self.address)
        base = f"{parts.scheme}://{parts.netloc}/v1/datasets/{parts.path.split('/', 2)[2]}/maps/current"
        return self.page.context.request.fetch(
            base + path,
            method=method,
            data=None if json_body is None else json.dumps(json_body),
            headers={"content-type": "application/json"} if json_body is not None else {},
        )
