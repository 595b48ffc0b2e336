"""How commands show a map: a server in this process, its address on stdout, and a browser where there is one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from gnomonic.errors import DatasetError, MissingExtraError, UnavailableError

if TYPE_CHECKING:
    from gnomonic.atlas.map_folder import MapFolder

__all__ = ["check_server", "show"]

_LOOK_S = 30.0
_NOTICE_S = 0.5
_PACKAGES = ("fastapi", "uvicorn", "httptools", "orjson", "prometheus_client")
_BROWSER_SIGNS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def check_server(needed_for: str) -> None:
    """See to it that a server can be started, before anything that takes long.

    Raises:
        MissingExtraError: its packages are not installed.
    """
    if any(find_spec(name) is None for name in _PACKAGES):
        raise MissingExtraError("server", needed_for=needed_for)


def show(
    name: str,
    *,
    data_dir: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    once: bool = False,
    browser: bool = True,
) -> None:
    """Serve the map of a dataset until Ctrl-C.

    Args:
        name: of the dataset.
        data_dir: where it is; None for that of the settings.
        host: address to listen on.
        port: 0 for any free one.
        once: fetch the page and the map's first tile, and end.
        browser: open the page in a browser, where there is a terminal and a screen.

    Raises:
        MissingExtraError: the server's packages are not installed.
        DatasetNotFoundError: there is no such dataset.
        DatasetError: it has no map.
        ConfigError: the address cannot be had.
        UnavailableError: the page cannot be fetched, or the server ended.
    """
    check_server("the page of a map")
    from gnomonic.atlas.home import open_home
    from gnomonic.atlas.map_folder import current_map
    from gnomonic.server.background import BackgroundServer, viewing_config
    from gnomonic.settings import read_settings

    root = data_dir.expanduser() if data_dir is not None else read_settings().data_dir
    home = open_home(root, name)
    place = f"{home.record.organization}/{home.record.slug}"
    found = current_map(home.maps)
    if found is None:
        raise DatasetError(f"dataset {place} has no map yet", hint="gnomonic map makes one")
    server = BackgroundServer(viewing_config(root, host=host, port=port))
    with _ended_by_signals() as ended:
        try:
            server.start(warm=_model_of(found))
            address = f"{server.url}/map/{place}"
            _fetch(address)
            # What is opened now, nobody waits for in front of an empty page.
            _fetch_first(f"{server.url}/v1/datasets/{place}/maps/current")
            typer.echo(f"Map: {address}")
            if once:
                return
            _tell(host)
            if browser and sys.stdout.isatty() and _has_browser():
                webbrowser.open(address)
            while server.is_alive and not ended.wait(_NOTICE_S):
                pass
        finally:
            server.stop()
    if not ended.is_set():
        raise UnavailableError("the server ended by itself", hint="gnomonic --debug view … may show why")
    typer.echo("stopped", err=True)


def _tell(host: str) -> None:
    typer.echo("Ctrl-C ends it; gnomonic view NAME shows it again", err=True)
    if host not in ("127.0.0.1", "::1", "localhost"):
        typer.echo("warning: other machines can reach this port and no key is asked", err=True)


def _model_of(found: MapFolder) -> str | None:
    from gnomonic.catalog import DEFAULT_TEXT_MODEL

    model: str | None = found.record.model if found.record.modality == "text" else None
    return None if model == DEFAULT_TEXT_MODEL else model  # that one is open already


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set, once; the second time they end the process."""
    ended = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def restore() -> None:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    def end(*_: object) -> None:
        ended.set()
        restore()

    for number in numbers:
        signal.signal(number, end)
    try:
        yield ended
    finally:
        restore()


def _fetch(address: str) -> bytes:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_LOOK_S)
    try:
        connection.request("GET", parts.path, headers={"accept": "text/html, */*"})
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        raise UnavailableError(f"{address} does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise UnavailableError(f"{address} answers {answer.status}: {body[:200].decode(errors='replace')}")
    return body


def _fetch_first(found: str) -> None:
    """Fetch what a page asks for before its first points."""
    _fetch(f"{found}/view")
    for tile in json.loads(_fetch(f"{found}/files/manifest.json"))["tiles"][:1]:
        _fetch(f"{found}/files/tiles/{tile['z']}/{tile['x']}/{tile['y']}.bin")


def _has_browser() -> bool:
    """Tell whether there is one with windows; one of text would take the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in _BROWSER_SIGNS)
