"""Maps, servers and pages: what the browser tests start from."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import browser, chromium_path
from tests.browser.driver import MOUNTED, MapPage, Watch
from tests.server.live import LiveServer, running

_ROOT = Path(__file__).parents[2]
_WINDOW = {"width": 1280, "height": 800}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs Chromium, and takes longer than other tests on a busy machine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if chromium_path() is None:
        pytest.fail("chromium is not installed; `make test-browser` installs it")
    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with every map of maps.py; GNOMONIC_TEST_MAPS names one that is there already."""
    if ready := os.environ.get("GNOMONIC_TEST_MAPS"):
        return Path(ready)
    folder = tmp_path_factory.mktemp("maps")
    made = subprocess.run(
        [sys.executable, "-m", "tests.browser.maps", str(folder)],
        cwd=_ROOT, env={**os.environ, "PYTHONPATH": f"{_ROOT / 'src'}{os.pathsep}{_ROOT}"},
        capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    return folder


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[LiveServer]:
    """A server of all maps that asks for no keys."""
    with running("--no-access-log", "--offline", "--atlas-images", "appearance", "--data-dir", data) as live:
        yield live


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def static(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the exported maps on a host of files, below a path of its own, with no API."""
    from gnomonic.atlas.dataset import Dataset

    root = tmp_path_factory.mktemp("host")
    for name in ("stdlib", "pictures", "many-pictures"):
        Dataset(name, root=data, create=False).get_map().export(root / "some" / "where" / name)
    handler = functools.partial(_Quiet, directory=str(root))
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=host.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{host.server_port}/some/where"
    host.shutdown()
    host.server_close()
    thread.join(10)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """What goes wrong in the pages of a test; looked at when it ends."""
    watching = Watch()
    yield watching
    watching.check()


@pytest.fixture
def open_page(chromium: Any, watch: Watch, request: pytest.FixtureRequest) -> Iterator[Callable[..., MapPage]]:
    """Return `open(address, **options of the context) -> MapPage`, whose pages are closed when the test ends."""
    opened: list[MapPage] = []

    def start(address: str, *, before: str = "", wait: bool = True, **options: Any) -> MapPage:
        context = chromium.new_context(**{"viewport": _WINDOW, "accept_downloads": True, **options})
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.add_init_script(f"{MOUNTED}\n{before}")
        watch.follow(page, address)
        found = MapPage(page, address)
        opened.append(found)
        found.open(wait=wait)
        return found

    yield start
    folder = os.environ.get("GNOMONIC_SCREENSHOTS")
    for number, one in enumerate(opened):
        if folder and not one.page.is_closed():
            name = re.sub(r"[^\w.-]+", "-", request.node.nodeid.rpartition("/")[2].replace("::", "-"))
            Path(folder).mkdir(parents=True, exist_ok=True)
            one.page.screenshot(path=Path(folder) / f"{name[:100]}{f'-{number}' if number else ''}.png")
        one.page.context.close()


@pytest.fixture
def stdlib(open_page: Callable[..., MapPage], server: LiveServer) -> MapPage:
    """The standard library's map, served."""
    return open_page(f"{server.url}/map/local/stdlib")


@pytest.fixture(params=["server", "static"])
def either(request: pytest.FixtureRequest, open_page: Callable[..., MapPage]) -> MapPage:
    """The standard library's map: served, and then exported to a host of files."""
    if request.param == "static":
        return open_page(f"{request.getfixturevalue('static')}/stdlib/")
    return open_page(f"{request.getfixturevalue('server').url}/map/local/stdlib")
