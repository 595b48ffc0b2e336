"""The Atlas routes: from HTTP to the functions that answer, which run in threads.

What they work with is imported and opened by the first request, since most servers embed and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from gnomonic.errors import DeadlineError, GnomonicError, InputError, MissingExtraError, TooLargeError
from gnomonic.server.atlas.jobs import JobQueue
from gnomonic.server.atlas.organisations import organization_of
from gnomonic.server.atlas.runner import JobRunner
from gnomonic.server.bodies import drain
from gnomonic.server.config import ServeConfig
from gnomonic.server.routes.atlas_table import ROUTES, AtlasRoute
from gnomonic.server.routes.embeddings import Exchange
from gnomonic.server.service import Service
from gnomonic.settings import Settings

if TYPE_CHECKING:
    from gnomonic.server.atlas.call import Call
    from gnomonic.server.atlas.desk import Desk

__all__ = ["AtlasRoutes", "is_streamed"]

_THREADS = 8
_PIECE = 1 << 20
_STALE_S = 24 * 3600
_LINGER_S = 2.0
_STREAMED = re.compile(r"/v1/project/data/add/(arrow|blobs)|/v1/datasets/[^/]+/[^/]+/rows")


def is_streamed(scope: Any) -> bool:
    """Tell whether a request's body goes to a file instead of memory."""
    return scope["method"] == "POST" and _STREAMED.fullmatch(scope["path"]) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limits:
    max_bytes: int
    idle_s: float
    """How long nothing may arrive."""


class AtlasRoutes:
    """Every route about datasets and maps, and the runner of their jobs."""

    def __init__(self, config: ServeConfig, service: Service, settings: Settings) -> None:
        """Put it together; nothing is opened."""
        self._config = config
        self._service = service
        self._settings = settings
        self._root = Path(config.data_dir).expanduser() if config.data_dir else settings.data_dir
        self._limits = _Limits(max_bytes=config.max_upload_bytes, idle_s=config.body_timeout_s)
        self._queue = JobQueue(self._root)
        self._runner = JobRunner(self._queue, self._job_config(), limit=config.atlas_jobs)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="atlas")
        self._opening = asyncio.Lock()
        self._desk: Desk | None = None

    @property
    def warning(self) -> str | None:
        """What Nomic's client is told when it asks who it is."""
        by = {"fields": self._forced, "images": self._config.atlas_images}
        said = [f"{what} of datasets are embedded with {name}" for what, name in by.items() if name is not None]
        return f"{' and '.join(said)}, whatever model is asked for" if said else None

    def add_to(self, add: Callable[..., None]) -> None:
        """Add the routes."""
        for route in ROUTES:
            add(route.path, route.method, functools.partial(self._answer, route), shown=route.shown)

    async def start(self) -> None:
        """Begin to run jobs."""
        await self._runner.start()

    async def stop(self) -> None:
        """End the jobs that run, and close what is open."""
        await self._runner.stop()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._desk is not None:
            self._desk.datasets.close()

    async def _answer(self, route: AtlasRoute, request: Request, exchange: Exchange) -> Response:
        exchange.dialect = "atlas"
        desk = await self._opened()
        loop = asyncio.get_running_loop()
        async with self._spooled(request) as upload:
            call = await self._call(request, upload)
            return await loop.run_in_executor(self._threads, _run, route.target, desk, call)

    async def _call(self, request: Request, upload: Path | None) -> Call:
        from gnomonic.server.atlas.call import Call

        return Call(
            organization=organization_of(request.scope),
            params=dict(request.path_params),
            query=dict(request.query_params),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]},
            body=b"" if upload is not None else await request.body(),
            upload=upload,
        )

    async def _opened(self) -> Desk:
        if self._desk is None:
            async with self._opening:
                if self._desk is None:
                    loop = asyncio.get_running_loop()
                    self._desk = await loop.run_in_executor(self._threads, self._open, loop)
        return self._desk

    def _open(self, loop: asyncio.AbstractEventLoop) -> Desk:
        try:
            from gnomonic.server.atlas.desk import Desk
            from gnomonic.server.atlas.encoders import encode_by_service
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("pyarrow", "lancedb"):
                raise
            raise MissingExtraError("atlas", needed_for="a dataset") from error
        uploads = self._root / "uploads"
        for left in uploads.glob("*") if uploads.is_dir() else ():
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < time.time() - _STALE_S:
                    left.unlink()
        return Desk(self._options(), self._queue, encode_by_service(self._service, loop))

    @property
    def _forced(self) -> str | None:
        wanted = self._config.atlas_model
        for name, entry in self._service.models.entries.items():
            if wanted is not None and entry.source == wanted:
                return name
        return None

    def _options(self) -> Any:
        from gnomonic.server.atlas.desk import DeskOptions

        return DeskOptions(
            root=self._root,
            sources=self._sources,
            forced=self._forced,
            images=self._config.atlas_images,
            why_absent=self._why_absent,
            max_upload_bytes=self._limits.max_bytes,
        )

    @property
    def _sources(self) -> dict[str, str]:
        return {name: entry.source for name, entry in self._service.models.entries.items()}

    def _job_config(self) -> str:
        import json

        config = self._config
        told = {
            "root": str(self._root),
            "sources": self._sources,
            "forced": self._forced,
            "images": config.atlas_images,
        }
        return json.dumps({**told, "device": config.device, "precision": config.precision, "threads": config.threads})

    def _why_absent(self, name: str) -> str | None:
        from gnomonic.catalog import known_models
        from gnomonic.inference.presence import presence_of

        if name not in known_models() or presence_of(name, self._settings) is not None:
            return None
        return "its files are not on this machine, and the server may not fetch them (--offline)"

    @asynccontextmanager
    async def _spooled(self, request: Request) -> AsyncIterator[Path | None]:
        """Write the body of an upload to a file, for as long as it is needed; None for other requests."""
        if not is_streamed(request.scope):
            yield None
            return
        folder = self._root / "uploads"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as stream:
            try:
                await _spool(request, stream, self._limits)
            except (InputError, DeadlineError):
                # A client that still sends would lose the answer that says why.
                await drain(request.receive, timeout_s=_LINGER_S)
                raise
            yield Path(stream.name)


async def _spool(request: Request, stream: Any, limits: _Limits) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise InputError(
            f"Content-Encoding {encoding[:40]!r} is not taken for uploads; Arrow files compress their columns"
        )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limits.max_bytes:
        raise _too_large(limits.max_bytes)
    size, waiting, more = 0, bytearray(), True
    while more:
        try:
            async with asyncio.timeout(limits.idle_s):
                message = await request.receive()
        except TimeoutError:
            raise DeadlineError(f"nothing of the upload arrived for {limits.idle_s:g} s; {size:,} bytes had") from None
        if message["type"] == "http.disconnect":
            raise InputError("the connection ended before the upload did")
        piece = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size > limits.max_bytes:
            raise _too_large(limits.max_bytes)
        waiting += piece
        if len(waiting) >= _PIECE or not more:
            await asyncio.to_thread(stream.write, bytes(waiting))
            waiting.clear()
    await asyncio.to_thread(stream.flush)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"the upload is larger than the {limit:,} bytes this server takes",
        hint="send fewer rows at a time, or start the server with a larger --max-upload-mb",
    )


def _run(target: str, desk: Desk, call: Call) -> Response:
    """Call the function that a route names."""
    module, _, name = target.partition(":")
    from gnomonic.server.atlas.packing import packed

    answer: Callable[[Desk, Call], Response] = getattr(importlib.import_module(f"gnomonic.server.atlas.{module}"), name)
    try:
        return packed(call, answer(desk, call))
    except GnomonicError as error:
        # Where the server keeps its files is none of its clients' business.
        root = str(desk.options.root)
        error.args = (str(error).replace(root, "…"), *error.args[1:])
        error.hint = error.hint.replace(root, "…")
        raise
