"""The parts put together: routes, keys, limits, log and metrics around one service."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from gnomonic import __version__
from gnomonic.errors import AuthenticationError, GnomonicError, InputError
from gnomonic.server import access_log
from gnomonic.server.auth import KeyRing
from gnomonic.server.config import ServeConfig
from gnomonic.server.dialects.base import Reply
from gnomonic.server.guard import Guard, GuardSettings
from gnomonic.server.metrics import Metrics
from gnomonic.server.rates import RateLimiter, rates_path
from gnomonic.server.routes.atlas import AtlasRoutes, is_streamed
from gnomonic.server.routes.embeddings import (
    ROUTES,
    EmbedRoute,
    Exchange,
    dialect_of,
    embed_over_http,
    respond,
    told,
)
from gnomonic.server.routes.pages import add_page_routes, is_page
from gnomonic.server.routes.schemas import describe
from gnomonic.server.routes.status import OPEN_PATHS, add_status_routes
from gnomonic.server.service import Service
from gnomonic.server.tracing import tracer
from gnomonic.settings import Settings

__all__ = ["App", "build_app"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Endpoint = Callable[[Request, Exchange], Awaitable[Response]]


class App:
    """One server process, as an ASGI application.

    Attributes:
        service: models, queue and worker.
        metrics: what /metrics shows.
    """

    def __init__(self, config: ServeConfig, settings: Settings) -> None:
        """Build everything and start nothing.

        Raises:
            ConfigError: the models contradict each other, or the file of keys cannot be read.
        """
        self.config = config
        self.metrics = Metrics()
        self.service = Service(
            config.service_options(), settings, on_batch=self.metrics.batch, on_restart=self.metrics.worker_restarted
        )
        keys = Path(config.api_keys).expanduser() if config.api_keys else None
        self._keys = KeyRing(keys) if keys else None
        self._rates = RateLimiter(rates_path(keys)) if keys else None
        self._trace = tracer(config.tracing)
        self._api = FastAPI(
            title="Gnomonic",
            version=__version__,
            description="Embeddings in the wire formats of Nomic, OpenAI, Ollama, TEI, Cohere and SageMaker; maps.",
            docs_url=None,
            redoc_url=None,
            openapi_url="/openapi.json",
        )
        self._atlas = AtlasRoutes(config, self.service, settings)
        for route in ROUTES:
            self._add(route.path, "POST", self._embedding(route), name=f"{route.name} {route.path}")
        connections = config.max_connections
        add_status_routes(
            self._add, self.service, self.metrics, max_connections=connections, warning=self._atlas.warning
        )
        self._atlas.add_to(self._add)
        add_page_routes(self._add)
        describe(self._api)
        self._api.add_exception_handler(HTTPException, self._http_error)  # type: ignore[arg-type]
        limits = GuardSettings(
            bound_host=config.host,
            allowed_hosts=config.allowed_hosts,
            allowed_origins=config.allowed_origins,
            max_body_bytes=config.max_body_bytes,
            body_timeout_s=config.body_timeout_s,
        )
        self._guarded = Guard(
            self._api,
            limits,
            _error_reply,
            admit=self._admit if keys else None,
            on_refusal=self.metrics.refused,
            streams=is_streamed,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI scope."""
        await self._guarded(scope, receive, send)

    async def start(self) -> None:
        """Start the worker and open the default model.

        Raises:
            GnomonicError: it cannot be opened; nothing is left running.
        """
        try:
            await self.service.start()
        except GnomonicError as error:
            await self.stop()
            # At the start there is no client to spare: the operator is told what the model's own loader says.
            cause = error.__cause__
            raise (cause if isinstance(cause, GnomonicError) else error) from None
        await self._atlas.start()

    async def stop(self) -> None:
        """End the worker, and what waits for it."""
        await self._atlas.stop()
        await self.service.stop()
        if self._rates is not None:
            self._rates.close()

    def _add(self, path: str, method: str, endpoint: Endpoint, *, name: str = "", shown: bool = True) -> None:
        """Add a route whose endpoint is timed, counted, logged and guarded by keys."""

        async def handle(request: Request) -> Response:
            return await self._exchange(request, endpoint)

        self._api.add_api_route(
            path, handle, methods=[method], name=name or path, response_model=None, include_in_schema=shown
        )

    def _embedding(self, route: EmbedRoute) -> Endpoint:
        async def embed(request: Request, exchange: Exchange) -> Response:
            exchange.dialect = route.name
            return await embed_over_http(request, route, self.service, exchange)

        return embed

    async def _exchange(self, request: Request, endpoint: Endpoint) -> Response:
        began = time.perf_counter()
        path = request.scope["path"]
        key_id = request.scope.get("state", {}).get("key_id", "")
        exchange = Exchange(request_id=_request_id(request), key_id=key_id)
        try:
            response = await endpoint(request, exchange)
            status = response.status_code
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - every request gets an answer in its own dialect
            response = respond(_error_reply(path, told(error, exchange.request_id)))
            status = response.status_code
        response.headers["x-request-id"] = exchange.request_id
        response.headers.setdefault("x-gnomonic-version", __version__)
        self._note(request, exchange, status, time.perf_counter() - began)
        return response

    def _admit(self, scope: Any) -> None:
        """Check the key of a request, before its body is read."""
        assert self._keys is not None
        assert self._rates is not None
        if scope["path"] in OPEN_PATHS or is_page(scope):
            return
        entry = self._keys.check(Headers(scope=scope))
        self._rates.take(entry.id, entry.requests_per_minute)
        scope.setdefault("state", {}).update(key_id=entry.id, organization=entry.organization)

    def _note(self, request: Request, exchange: Exchange, status: int, seconds: float) -> None:
        self.metrics.request(exchange, status, seconds)
        self.metrics.queue(requests=self.service.queue.waiting_requests, tokens=self.service.queue.waiting_tokens)
        self._trace(request.scope, exchange, status, seconds)
        if self.config.access_log and exchange.dialect:
            access_log.write(request.scope, exchange, status, seconds)

    async def _http_error(self, request: Request, error: HTTPException) -> Response:
        """Tell of a path or method that does not exist in the dialect's shape."""
        path = request.scope["path"]
        what = f"{request.method} {path[:100]}"
        message = f"{what} is not known here" if error.status_code == 404 else f"{what}: {error.detail}"
        reply = _error_reply(path, InputError(message, hint="GET /openapi.json lists the paths"))
        response = respond(reply, dict(error.headers or {}))
        response.status_code = error.status_code
        return response


def build_app(config: ServeConfig, settings: Settings) -> App:
    """Return a server process as an ASGI application.

    Raises:
        ConfigError: the settings contradict each other.
    """
    return App(config, settings)


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _error_reply(path: str, error: GnomonicError) -> Reply:
    reply: Reply = dialect_of(path).render_error(error)
    if isinstance(error, AuthenticationError):
        reply = replace(reply, headers={**reply.headers, "www-authenticate": "Bearer"})
    return reply
