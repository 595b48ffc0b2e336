"""The server's side of the worker process: started, spoken to, noticed when dead, started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import math
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import ConfigError, EngineError, UnavailableError
from gnomonic.inference.engines.base import BatchBudget
from gnomonic.server.framing import HEAD, lay_out, pack

__all__ = ["EngineInfo", "Worker"]

log = logging.getLogger(__name__)

_MAX_PAUSE_S = 30.0
_OPEN_TIMEOUT_S = 1800.0
_WATCH_EVERY_S = 0.5
_END_S = 5.0
"""How long a worker that was told to end may take."""
_STEADY_S = 60.0
"""A worker that lived this long died of something else than the one before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What an engine is, as the worker that opened it tells."""

    precision: str
    hidden_size: int
    budget: BatchBudget


@dataclass(slots=True)
class _Call:
    """A message that the worker has not answered."""

    future: asyncio.Future[tuple[dict[str, Any], bytes]]
    operation: str
    timeout_s: float
    began: float = math.inf
    """When it came first in line."""


class Worker:
    """One worker process; calls are answered in the order they were made.

    Attributes:
        restarts: how often a dead worker was replaced.
        alive: whether the process runs and is connected.
    """

    def __init__(
        self,
        *,
        batch_timeout_s: float = 120.0,
        on_start: Callable[[], Awaitable[None]] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "gnomonic.server.worker"),
    ) -> None:
        """Describe the worker; `start` makes it.

        Args:
            batch_timeout_s: a call that takes longer means a hung worker, which is killed.
            on_start: awaited after each start but the first, to open again what was open.
            command: what runs it; the socket's number is added.
        """
        self.restarts = 0
        self.alive = False
        self._timeout_s = batch_timeout_s
        self._on_start = on_start
        self._command = tuple(command)
        self._waiting: dict[int, _Call] = {}
        self._numbers = itertools.count()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    @property
    def pid(self) -> int | None:
        """The process's number, None while there is none."""
        return self._process.pid if self._process and self.alive else None

    async def start(self) -> None:
        """Start the process, and from now on a new one whenever it dies."""
        reader = await self._spawn()
        self._tasks = [asyncio.create_task(self._keep(reader)), asyncio.create_task(self._watch())]

    async def open(self, key: str, **settings: Any) -> EngineInfo:
        """Open an engine under a key; `settings` are those of `engines.select.open_engine`, `folder` and `cache_dir`.

        Raises:
            EngineError: the worker could not open it.
            UnavailableError: the worker died.
        """
        reply, _ = await self._call({"op": "open", "key": key, **settings}, timeout_s=_OPEN_TIMEOUT_S)
        return EngineInfo(
            precision=reply["precision"], hidden_size=reply["hidden_size"], budget=BatchBudget(**reply["budget"])
        )

    async def run(self, key: str, sequences: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.float32], float]:
        """Run one batch.

        Returns:
            pooled [rows, hidden_size] float32, and the engine's seconds.

        Raises:
            EngineError: the engine failed on it.
            UnavailableError: the worker died, or hung and was killed.
        """
        message = {"op": "run", "key": key, "rows": len(sequences)}
        reply, payload = await self._call(message, lay_out(sequences), timeout_s=self._timeout_s)
        pooled = np.frombuffer(payload, dtype="<f4").reshape(len(sequences), -1)
        return pooled, reply["engine_s"]

    async def close_engine(self, key: str) -> None:
        """Free an engine's memory."""
        await self._call({"op": "close", "key": key}, timeout_s=self._timeout_s)

    async def stop(self) -> None:
        """End the process; waits until it is gone."""
        self._closing = True
        if self._writer is not None:
            self._writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _END_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _call(
        self, header: dict[str, Any], payload: bytes = b"", *, timeout_s: float
    ) -> tuple[dict[str, Any], bytes]:
        if not self.alive or self._writer is None:
            raise UnavailableError("the worker is being started again; try again in a moment")
        number = next(self._numbers)
        message = pack({"id": number, **header}, payload)
        call = _Call(asyncio.get_running_loop().create_future(), header["op"], timeout_s)
        if not self._waiting:
            call.began = time.monotonic()
        self._waiting[number] = call
        self._writer.write(message)
        reply, answer = await asyncio.shield(call.future)
        if "error" in reply:
            raise EngineError(reply["error"], hint=reply["hint"])
        return reply, answer

    async def _spawn(self) -> asyncio.StreamReader:
        if sys.platform == "win32":
            raise ConfigError("the server needs socket pairs between processes, which this system does not pass on")
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, str(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL
                )
        except OSError:
            ours.close()
            raise
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 24)
        self.alive = True
        return reader

    async def _keep(self, reader: asyncio.StreamReader) -> None:
        """Hand out replies; when they end, fail those who wait and start the next worker."""
        deaths = 0
        while True:
            began = time.monotonic()
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._hand_out(reader)
            self._bury()
            deaths = 0 if time.monotonic() - began > _STEADY_S else deaths + 1
            while not self._closing:
                # The first new start is at once; a worker that dies again and again gets pauses that double.
                await asyncio.sleep(min(_MAX_PAUSE_S, 0.5 * 2 ** (deaths - 2)) if deaths > 1 else 0)
                try:
                    reader = await self._spawn()
                    break
                except OSError as error:  # no memory or no descriptors, perhaps for the moment
                    log.error("no worker can be started: %s", error)
                    deaths += 1
            if self._closing:
                return
            self.restarts += 1
            if self._on_start is not None:
                task = asyncio.create_task(self._reopen())
                task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _hand_out(self, reader: asyncio.StreamReader) -> None:
        while True:
            header_bytes, payload_bytes = HEAD.unpack(await reader.readexactly(HEAD.size))
            body = await reader.readexactly(header_bytes + payload_bytes)
            reply = json.loads(body[:header_bytes])
            call = self._waiting.pop(reply["id"], None)
            if call is None:
                self._kill(f"it answered call {reply['id']}, which nobody made")
                return
            if self._waiting:
                next(iter(self._waiting.values())).began = time.monotonic()
            if not call.future.done():
                call.future.set_result((reply, body[header_bytes:]))

    async def _watch(self) -> None:
        """Kill a worker that takes too long for the call it is at."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            first = next(iter(self._waiting.values()), None)
            if first is not None and time.monotonic() - first.began > first.timeout_s:
                self._kill(f"no answer to {first.operation!r} after {first.timeout_s:.0f} s")

    async def _reopen(self) -> None:
        assert self._on_start is not None
        try:
            await self._on_start()
        except Exception:
            log.exception("the new worker could not be made ready")
            raise

    def _bury(self) -> None:
        self.alive = False
        if self._writer is not None:
            self._writer.close()
        if not self._closing:
            log.error("the worker died; %d calls fail and another is started", len(self._waiting))
            self._kill("it is of no more use")
        while self._waiting:
            _, call = self._waiting.popitem()
            if not call.future.done():
                call.future.set_exception(UnavailableError("the worker died while it worked on this; try again"))
                call.future.exception()  # whoever stopped waiting does not ask

    def _kill(self, why: str) -> None:
        if self._process is not None and self._process.returncode is None:
            log.error("the worker is killed: %s", why)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
