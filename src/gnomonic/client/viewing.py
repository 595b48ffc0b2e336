"""Maps shown from Python: the address of their page, a browser, a notebook's widget."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gnomonic.errors import MissingExtraError

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.client.channels import Channel
    from gnomonic.server.background import BackgroundServer

__all__ = ["LocalShowing", "RemoteShowing"]

_servers: dict[tuple[int, Path], BackgroundServer] = {}
"""By process and data folder; a forked child has none of its parent's threads."""
_lock = threading.Lock()


class LocalShowing:
    """Shows maps of this machine; implements `atlas.showing.Showing`."""

    def address(self, found: AtlasMap) -> str:
        """Return the address of the page, on a server in a thread of this process.

        Raises:
            MissingExtraError: the server's packages are not installed.
        """
        root = found.dataset.home.folder.parents[2]
        return _page(_server(root).url, found)

    def show(self, found: AtlasMap) -> Any:
        """Return the widget in a notebook; else open a browser and return the address.

        Raises:
            MissingExtraError: the packages for it are not installed.
        """
        if _in_notebook():
            return self.widget(found, 600)
        address = self.address(found)
        webbrowser.open(address)
        return address

    def widget(self, found: AtlasMap, height: int) -> Any:
        """Return a widget.

        Raises:
            MissingExtraError: anywidget is not installed.
        """
        from gnomonic.client.widget import MapWidget

        return MapWidget(found, self._channel(found), height=height)

    def _channel(self, found: AtlasMap) -> Channel:
        from gnomonic.client.channels import LocalChannel

        return LocalChannel(found)


class RemoteShowing(LocalShowing):
    """Shows maps on a server; implements `atlas.showing.Showing`."""

    def address(self, found: AtlasMap) -> str:
        """Return the address of the page on that server; with keys, the page asks for one."""
        return _page(_api_of(found).url, found)

    def _channel(self, found: AtlasMap) -> Channel:
        from gnomonic.client.channels import RemoteChannel

        return RemoteChannel(found, _api_of(found))


def _api_of(found: AtlasMap) -> Any:
    return found.dataset.api  # type: ignore[attr-defined]  # of a RemoteDataset


def _page(server: str, found: AtlasMap) -> str:
    """Return the address of a map's page: the dataset's own for the map that readers see, which stays when it grows."""
    address = f"{server.rstrip('/')}/map/{quote(found.dataset.identifier)}"
    return address if found.dataset.get_map().id == found.id else f"{address}/{found.id}"


def _server(root: Path) -> BackgroundServer:
    """Return the server of a data folder, started where it is not."""
    try:
        from gnomonic.server.background import BackgroundServer, viewing_config
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gnomonic"):
            raise
        raise MissingExtraError("server", needed_for="the page of a map") from error
    with _lock:
        key = (os.getpid(), root)
        server = _servers.get(key)
        if server is None or not server.is_alive:
            server = BackgroundServer(viewing_config(root))
            server.start()
            if not _servers:
                atexit.register(_stop_all)
            _servers[key] = server
        return server


def _stop_all() -> None:
    for (process, _), server in _servers.items():
        if process == os.getpid():
            server.stop()


def _in_notebook() -> bool:
    """Tell whether cells run this: Jupyter, JupyterHub, Colab and the like have a kernel behind IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
