"""The routes that embed: one way from any dialect's bytes through the service and back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

from fastapi import Request, Response

from gnomonic import __version__
from gnomonic.errors import EngineError, GnomonicError
from gnomonic.server.dialects import atlas, cohere, nomic, ollama, openai, sagemaker, tei
from gnomonic.server.dialects.base import Reply
from gnomonic.server.dialects.rendering import headers_of
from gnomonic.server.service import Answer, Service
from gnomonic.types import Embeddings, EmbedRequest

__all__ = ["ROUTES", "EmbedRoute", "Exchange", "dialect_of", "embed_over_http", "respond", "told"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_INLINE_VALUES = 1 << 16
_INLINE_BYTES = 1 << 18
_CLIENT_GONE = 499
"""What nginx logs for a client that closed its connection; nobody receives it."""
_RAW = "application/x-gnomonic-f32"


@dataclass(frozen=True, slots=True)
class EmbedRoute:
    """A path that takes texts and gives vectors."""

    path: str
    dialect: ModuleType
    parse: Callable[[bytes, Mapping[str, str]], EmbedRequest]
    render: Callable[[EmbedRequest, Embeddings], Reply]

    @property
    def name(self) -> str:
        """The dialect's name."""
        return self.dialect.__name__.rpartition(".")[2]


def _route(path: str, dialect: Any) -> EmbedRoute:
    return EmbedRoute(path, dialect, dialect.parse, dialect.render)


ROUTES: tuple[EmbedRoute, ...] = (
    _route("/v1/embedding/text", nomic),
    _route("/v1/embeddings", openai),
    _route("/embeddings", openai),
    _route("/api/embed", ollama),
    EmbedRoute("/api/embeddings", ollama, ollama.parse_prompt, ollama.render_prompt),
    _route("/embed", tei),
    _route("/", tei),
    _route("/v2/embed", cohere),
    _route("/invocations", sagemaker),
)


def dialect_of(path: str) -> ModuleType:
    """Return the dialect in whose shape an error on this path is told."""
    if path == "/":
        return tei
    for beginnings, dialect in _BY_PATH:
        if path.startswith(beginnings):
            return dialect
    return nomic


_BY_PATH: tuple[tuple[tuple[str, ...], ModuleType], ...] = (
    (("/v1/project", "/v1/organization", "/v1/datasets", "/v1/upload", "/v1/parse", "/v1/extract"), atlas),
    (("/v1/embeddings", "/embeddings", "/v1/models", "/models"), openai),
    (("/api/",), ollama),
    (("/v2/",), cohere),
    (("/ping", "/invocations"), sagemaker),
    (("/embed", "/info", "/tokenize", "/health", "/metrics"), tei),
)


@dataclass(kw_only=True, slots=True)
class Exchange:
    """What is noted of one request, for the log and the metrics; never a text, never a key."""

    request_id: str
    dialect: str = ""
    key_id: str = ""
    model: str = ""
    task: str = ""
    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    phases: dict[str, float] = field(default_factory=dict)


async def embed_over_http(request: Request, route: EmbedRoute, service: Service, exchange: Exchange) -> Response:
    """Answer a request on one of `ROUTES`.

    Raises:
        GnomonicError: whatever stands in the way; the app tells it in the dialect's shape.
    """
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    body = await request.body()
    began = time.perf_counter()
    large = len(body) > _INLINE_BYTES
    asked = await asyncio.to_thread(route.parse, body, headers) if large else route.parse(body, headers)
    if "model_name" not in asked.options:
        asked = replace(asked, model="")  # none was named: the server's default, not the package's
    exchange.phases["parse"] = time.perf_counter() - began
    exchange.model, exchange.task, exchange.texts = asked.model, str(asked.task_type), len(asked.texts)
    answer = await _unless_gone(request, service.embed(asked))
    if answer is None:
        return Response(status_code=_CLIENT_GONE)
    embeddings = answer.embeddings
    exchange.model, exchange.texts = embeddings.model, len(embeddings)
    exchange.tokens, exchange.truncated = embeddings.usage.total_tokens, len(embeddings.truncated)
    exchange.phases.update(answer.phases)
    asked.options["total_ns"] = int(1e9 * sum(exchange.phases.values()))
    began = time.perf_counter()
    raw = headers.get("accept", "") == _RAW

    def write() -> Reply:
        return _raw(asked, answer) if raw else route.render(asked, embeddings)

    reply = write() if embeddings.vectors.size <= _INLINE_VALUES else await asyncio.to_thread(write)
    exchange.phases["render"] = time.perf_counter() - began
    return respond(reply, {"x-gnomonic-fingerprint": answer.fingerprint, "x-gnomonic-model": embeddings.model})


def respond(reply: Reply, headers: Mapping[str, str] | None = None) -> Response:
    """Return a reply as the framework's response."""
    common = {"content-type": reply.media_type, "x-gnomonic-version": __version__}
    # A response that is given its media type adds a charset to text, and one client wants none.
    return Response(reply.body, status_code=reply.status, headers={**common, **reply.headers, **(headers or {})})


def told(error: BaseException, request_id: str) -> GnomonicError:
    """Return an error that may be told to a client; what nobody foresaw is logged and told without its words."""
    if isinstance(error, GnomonicError):
        return error
    log.error("unforeseen %s in request %s", type(error).__name__, request_id, exc_info=error)
    return EngineError("something went wrong in the server; its log says what, under this answer's x-request-id")


async def _unless_gone(request: Request, work: Awaitable[T]) -> T | None:
    """Return the work's result; drop the work and return None when the client leaves."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        gone.cancel()
        task.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _raw(asked: EmbedRequest, answer: Answer) -> Reply:
    """Return little-endian float32 rows, for our own client."""
    embeddings = answer.embeddings
    rows, dim = embeddings.vectors.shape
    headers = {
        "x-gnomonic-rows": str(rows),
        "x-gnomonic-dim": str(dim),
        "x-gnomonic-prompt-tokens": str(embeddings.usage.prompt_tokens),
        **headers_of(asked, embeddings),
    }
    return Reply(body=embeddings.vectors.astype("<f4").tobytes(), headers=headers, media_type=_RAW)
