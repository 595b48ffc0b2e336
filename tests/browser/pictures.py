"""The pictures of the documentation: `python -m tests.browser.pictures [DATA]` takes them again, into docs/images."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.browser.chromium import browser
from tests.browser.driver import MOUNTED, MapPage
from tests.browser.maps import make
from tests.server.live import running

__all__ = ["main"]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LARGEST_BYTES = 150_000
_QUALITIES = (90, 80, 70, 60)


def _search(page: MapPage) -> None:
    page.search("copy a folder with everything in it").first.wait_for()


def _explain(page: MapPage) -> None:
    page.panel("topics").get_by_role("treeitem").nth(2).click()
    page.panel("selection").locator(".row-card").first.wait_for()


def _filter(page: MapPage) -> None:
    page.field("kind").locator("label").filter(has_text="class").click()
    page.page.get_by_label("Colour by", exact=True).select_option("length")


def _detail(page: MapPage) -> None:
    page.search("json.load", "Id").first.locator("button").click()
    page.page.locator(".neighbor").first.wait_for()


def _duplicates(page: MapPage) -> None:
    page.panel("duplicates").locator(".duplicate-group").first.wait_for()


def _dark(page: MapPage) -> None:
    page.button("Display settings").click()
    page.page.get_by_label("Theme").select_option("dark")
    page.page.get_by_role("checkbox", name="Density").check()
    page.page.get_by_role("checkbox", name="Contours").check()
    page.button("Display settings").click()


STATES: dict[str, Callable[[MapPage], None]] = {
    "map": lambda page: None,
    "search": _search,
    "explain": _explain,
    "filter": _filter,
    "detail": _detail,
    "duplicates": _duplicates,
    "dark": _dark,
}


def _keep(png: bytes, path: Path) -> None:
    """Write a picture as sharp as fits into the largest size."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in _QUALITIES:
        image.save(path, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= LARGEST_BYTES:
            return


def main(data: Path) -> None:
    """Take all pictures, of the map of the standard library in a data folder, made where it is not."""
    if not (data / "datasets" / "local" / "stdlib").exists():
        make(data, ["stdlib"])
    IMAGES.mkdir(parents=True, exist_ok=True)
    with running("--no-access-log", "--offline", "--data-dir", data) as live, browser() as chromium:
        for name, arrange in STATES.items():
            page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.add_init_script(MOUNTED)
            shown = MapPage(page, f"{live.url}/map/local/stdlib")
            shown.open()
            arrange(shown)
            shown.settle()
            page.wait_for_timeout(800)
            _keep(page.screenshot(), IMAGES / f"viewer-{name}.webp")
            page.context.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
