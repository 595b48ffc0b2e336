"""A server in a thread of this process, for whoever looks at maps of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from gnomonic.atlas.home import list_datasets
from gnomonic.atlas.map_folder import current_map
from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import ConfigError, GnomonicError
from gnomonic.server.app import App, build_app
from gnomonic.server.config import ServeConfig
from gnomonic.server.models import name_of
from gnomonic.server.run import Server, bind, make_server
from gnomonic.settings import read_settings
from gnomonic.types import EmbedRequest

__all__ = ["BackgroundServer", "viewing_config"]

_START_S = 120.0
_DRAIN_S = 2.0
_FROM_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where this machine reaches a server that listens on all addresses."""


def viewing_config(root: Path, *, host: str = "127.0.0.1", port: int = 0) -> ServeConfig:
    """Return the settings of a server that shows the maps of a data folder.

    It offers the bundled model and those that the maps were made with, so that typed texts can be searched for; these
    are opened when they are first wanted.

    Args:
        root: the data folder.
        host: address to listen on.
        port: 0 for any free one.

    Raises:
        ConfigError: the port is none.
    """
    models: dict[str, str] = {}
    for source in (DEFAULT_TEXT_MODEL, *_models_of(root)):
        with contextlib.suppress(ConfigError):  # a folder whose name cannot be a model's is searched in other ways
            models.setdefault(name_of(source), source)
    return ServeConfig(
        host=host,
        port=port,
        models=tuple(models.values()),
        data_dir=str(root),
        atlas_images="appearance",
        access_log=False,
        drain_s=_DRAIN_S,
    )


def _models_of(root: Path) -> Iterator[str]:
    """Yield the models of the current maps of texts."""
    for home in list_datasets(root):
        with contextlib.suppress(GnomonicError):
            found = current_map(home.maps)
            if found is not None and found.record.modality == "text" and found.record.model:
                yield found.record.model


class BackgroundServer:
    """Serves in a thread until it is told to end, or this process ends.

    Attributes:
        url: where it listens.
    """

    def __init__(self, config: ServeConfig) -> None:
        """Describe it; `start` makes it.

        Args:
            config: of one process; `workers` says nothing here.
        """
        self.url = ""
        self._config = config
        self._ready = threading.Event()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._warming: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, *, warm: str | None = None) -> str:
        """Start it and return its address once it answers.

        Args:
            warm: a model to open at once, since it will be wanted soon.

        Raises:
            ConfigError: the address cannot be had.
            GnomonicError: the server cannot start.
        """
        listening = bind(self._config)
        host, port = listening.getsockname()[:2]
        app = build_app(self._config, read_settings())
        # uvloop forks to start the worker, which the store's threads in this process do not take well.
        self._server = make_server(self._config, app, lambda: self._started(app, warm), loop="asyncio")

        def run() -> None:
            try:
                with listening:
                    assert self._server is not None
                    self._server.run(sockets=[listening])
            except BaseException as error:  # noqa: BLE001 - told to whoever waits for the start
                self._error = error
            finally:
                self._ready.set()

        self._thread = threading.Thread(target=run, name="gnomonic-server", daemon=True)
        self._thread.start()
        try:
            self._ready.wait(_START_S)
        except BaseException:  # Ctrl-C: nobody would have a hand on it any more
            self._server.should_exit = True
            raise
        failure = self._error or self._server.failure
        if failure is not None or not self._server.started:
            self.stop()
            raise failure or ConfigError(f"the server did not start within {_START_S:.0f} s")
        reached = _FROM_HERE.get(host, host)
        self.url = f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
        return self.url

    def _started(self, app: App, warm: str | None) -> None:
        if warm is not None:
            self._warming = asyncio.get_running_loop().create_task(_open(app, warm))
        self._ready.set()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def stop(self) -> None:
        """End it: requests have a moment to end."""
        if self._server is not None:
            self._server.should_exit = True
        self.wait(_DRAIN_S + 10)


async def _open(app: App, model: str) -> None:
    """Have a model opened; one that cannot be is told of when somebody asks for it."""
    with contextlib.suppress(GnomonicError):
        await app.service.embed(EmbedRequest(texts=("a map",), model=name_of(model)))
