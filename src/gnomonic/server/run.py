"""Server processes: one listening socket, one or several of them, and an orderly end.

`serve` is the only process, or starts several that call `serve_share`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from prometheus_client.multiprocess import mark_process_dead

from gnomonic.errors import ConfigError, GnomonicError
from gnomonic.inference.threads import usable_cpus
from gnomonic.server.app import App, build_app
from gnomonic.server.config import ServeConfig
from gnomonic.server.connections import protocol
from gnomonic.settings import read_settings

__all__ = ["Server", "bind", "make_server", "serve", "serve_share"]

log = logging.getLogger(__name__)

_BACKLOG = 2048
_LOOP = "uvloop" if sys.platform != "win32" else "asyncio"


def bind(config: ServeConfig) -> socket.socket:
    """Return a listening socket.

    Raises:
        ConfigError: the address is not ours, or the port is in use.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}", hint="choose another --host or --port"
        ) from error
    listening.listen(_BACKLOG)
    listening.set_inheritable(True)
    return listening


def serve(config: ServeConfig, *, share: Sequence[str], on_ready: Callable[[str, int], None]) -> int:
    """Serve until SIGTERM or Ctrl-C, then let the requests end.

    Args:
        config: what to serve.
        share: the command of one of several processes; the arguments of `serve_share` are added to it.
        on_ready: called with host and port once requests are answered.

    Returns:
        0 after an orderly end, 1 when the server could not start.

    Raises:
        ConfigError: the address cannot be had, or a setting is wrong.
        GnomonicError: the default model cannot be opened.
    """
    with bind(config) as listening:
        host, port = listening.getsockname()[:2]
        if config.workers == 1:
            return _one(config, listening, on_start=lambda: on_ready(host, port))
        return _several(config, listening, share, on_start=lambda: on_ready(host, port))


class Server(uvicorn.Server):
    """uvicorn's server, which tells when it is ready, and ends with its own exit code after a signal.

    Attributes:
        failure: why it could not start; None where it could.
    """

    def __init__(self, config: uvicorn.Config, app: App, on_start: Callable[[], None]) -> None:
        """Serve `app`; `on_start` is called once requests are answered."""
        super().__init__(config)
        self._app = app
        self._on_start = on_start
        self.failure: GnomonicError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        try:
            await self._app.start()
        except GnomonicError as error:
            self.failure = error
            self.should_exit = True
            return
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the requests end, then stop the application."""
        # Before uvicorn cancels what is not done, it gets its refusal.
        until = max(0.1, (self.config.timeout_graceful_shutdown or 1) - 1)
        last_call = asyncio.get_running_loop().call_later(until, self._app.service.refuse)
        await super().shutdown(sockets)
        last_call.cancel()
        await self._app.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have Ctrl-C and SIGTERM end the server; in another thread than the first nothing is caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_server(config: ServeConfig, app: App, on_start: Callable[[], None], *, loop: str = _LOOP) -> Server:
    """Return the server of an application; its `run(sockets=[…])` serves until it is told to end."""
    return Server(
        uvicorn.Config(
            app,
            http=protocol(head_timeout_s=config.head_timeout_s),
            loop=loop,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=config.max_connections,
            backlog=_BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=max(1, round(config.drain_s)),
        ),
        app,
        on_start,
    )


def _one(config: ServeConfig, listening: socket.socket, on_start: Callable[[], None]) -> int:
    server = make_server(config, build_app(config, read_settings()), on_start)
    server.run(sockets=[listening])
    if server.failure is not None:
        raise server.failure
    return 0 if server.started else 1


class _Several:
    """Processes that accept on the same socket; one that dies is replaced."""

    def __init__(self, config: ServeConfig, listening: socket.socket, share: Sequence[str], metrics: Path) -> None:
        threads = config.threads or max(1, usable_cpus() // config.workers)
        self._config = replace(config, workers=1, threads=threads)
        self._socket = listening
        self._share = [*share, str(metrics)]
        self._metrics = metrics
        self._ending = False
        self._alive = os.pipe()
        """Nobody writes to it; it ends when this process does, and the others notice."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._began: dict[int, float] = {}

    def start(self) -> None:
        """Start one process and wait until it answers.

        Raises:
            ConfigError: it ended instead; it has said why.
        """
        if self._ending:
            return
        readable, writable = os.pipe()
        with os.fdopen(readable, "rb") as told:
            try:
                process = subprocess.Popen(
                    [*self._share, str(self._socket.fileno()), str(writable), str(self._alive[0]), self._config.dump()],
                    pass_fds=[self._socket.fileno(), writable, self._alive[0]],
                )
            finally:
                os.close(writable)
            self._processes.append(process)
            self._began[process.pid] = time.monotonic()
            if not told.read(1) and not self._ending:
                raise ConfigError("a server process ended before it could answer; its message is above")

    def watch(self) -> None:
        """Replace processes that end, until the end is wanted."""
        while not self._ending:
            time.sleep(0.2)
            for process in [process for process in self._processes if process.poll() is not None]:
                log.error("server process %d ended with code %s; another is started", process.pid, process.returncode)
                self._processes.remove(process)
                mark_process_dead(process.pid, str(self._metrics))  # type: ignore[no-untyped-call]
                # One that cannot start must not be started without end.
                time.sleep(max(0.0, 1.0 - (time.monotonic() - self._began.pop(process.pid))))
                try:
                    self.start()
                except (ConfigError, OSError) as error:
                    log.error("no other could be started: %s", error)
                    time.sleep(1.0)

    def end(self, *_: object) -> None:
        """Ask all to end in order; also a handler of signals."""
        self._ending = True
        # Nobody is to connect who would not be served.
        self._socket.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    def wait(self) -> None:
        """Wait for all to end, and end those that do not."""
        until = time.monotonic() + self._config.drain_s + 10
        for process in self._processes:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _several(config: ServeConfig, listening: socket.socket, share: Sequence[str], on_start: Callable[[], None]) -> int:
    with tempfile.TemporaryDirectory(prefix="gnomonic-metrics-") as metrics:
        group = _Several(config, listening, share, Path(metrics))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, group.end)
        try:
            for _ in range(config.workers):
                group.start()
            on_start()
            group.watch()
        finally:
            group.end()
            group.wait()
    return 0


def serve_share(number: int, ready: int, parent: int, config: ServeConfig) -> int:
    """Serve as one of several processes.

    Args:
        number: file descriptor of the listening socket.
        ready: file descriptor of a pipe that is told when requests are answered.
        parent: file descriptor of a pipe that ends with the process that started this one.
        config: what to serve.

    Raises:
        GnomonicError: it could not start.
    """

    def watch() -> None:
        os.read(parent, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()

    def on_start() -> None:
        os.write(ready, b"r")
        os.close(ready)

    with socket.socket(fileno=number) as listening:
        return _one(config, listening, on_start)
