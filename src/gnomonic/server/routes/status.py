"""The routes that embed no texts: what the server is, what it serves, whether it is well; and images, which wait."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from fastapi import Request, Response

from gnomonic import __version__
from gnomonic.catalog import ModelSpec
from gnomonic.errors import GnomonicError, InputError, TooLargeError, UnknownModelError
from gnomonic.inference.load import ModelFiles
from gnomonic.server.atlas.organisations import organization_of
from gnomonic.server.dialects import nomic, nomic_image, ollama, openai, sagemaker, tei
from gnomonic.server.dialects.base import Reply
from gnomonic.server.dialects.reading import split_model
from gnomonic.server.metrics import Metrics
from gnomonic.server.routes.embeddings import Exchange, respond
from gnomonic.server.service import Service

__all__ = ["OPEN_PATHS", "add_status_routes"]

OPEN_PATHS = frozenset({"/health", "/ping", "/metrics", "/openapi.json"})
"""What is answered without a key: a load balancer's probes, the collector of metrics, and the description."""

_MAX_TOKENIZED = 1 << 18
"""Characters; each may be a token, and a token is an object here and some forty bytes in the answer."""

Endpoint = Callable[[Request, Exchange], Awaitable[Response]]


def add_status_routes(
    add: Callable[[str, str, Endpoint], None],
    service: Service,
    metrics: Metrics,
    *,
    max_connections: int,
    warning: str | None = None,
) -> None:
    """Add every route that does not embed texts and is about no dataset; `warning` is for Nomic's client to log."""
    status = _Status(service, metrics, max_connections, warning)
    for method, path, endpoint in (
        ("GET", "/health", status.health),
        ("GET", "/ping", status.ping),
        ("GET", "/metrics", status.show_metrics),
        ("GET", "/v1/user", status.user),
        ("POST", "/v1/embedding/image", status.image),
        ("GET", "/v1/models", status.models),
        ("GET", "/models", status.models),
        ("GET", "/v1/models/{name:path}", status.model),
        ("GET", "/api/tags", status.tags),
        ("POST", "/api/show", status.show),
        ("GET", "/api/ps", status.running),
        ("GET", "/api/version", status.version),
        ("GET", "/info", status.info),
        ("POST", "/tokenize", status.tokenize),
    ):
        add(path, method, endpoint)


class _Status:
    def __init__(self, service: Service, metrics: Metrics, max_connections: int, warning: str | None) -> None:
        self._warning = warning
        self._max_connections = max_connections
        self._service = service
        self._metrics = metrics
        self._since = time.time()

    async def health(self, _: Request, __: Exchange) -> Response:
        """Embed a canary, or rely on a batch of the last seconds; 503 says why it failed."""
        worker = self._service.worker
        about = {
            "version": __version__,
            "models": list(self._service.models.entries),
            "worker_restarts": worker.restarts,
            "waiting_requests": self._service.queue.waiting_requests,
            "waiting_tokens": self._service.queue.waiting_tokens,
        }
        try:
            await self._service.healthy()
        except GnomonicError as error:
            return _json({"status": "unhealthy", "error": str(error), **about}, status=503)
        return _json({"status": "ok", **about})

    async def ping(self, _: Request, __: Exchange) -> Response:
        await self._service.healthy()
        return respond(sagemaker.render_ping())

    async def show_metrics(self, _: Request, __: Exchange) -> Response:
        body, media_type = self._metrics.render()
        return Response(body, headers={"content-type": media_type})

    async def user(self, request: Request, _: Exchange) -> Response:
        return respond(nomic.render_user(organization_of(request.scope), warning=self._warning))

    async def image(self, request: Request, exchange: Exchange) -> Response:
        """Read the form; there is no image model to give it to yet."""
        exchange.dialect = "nomic"
        asked = nomic_image.parse(await request.body(), request.headers)
        self._service.models.find(asked.model)
        raise InputError(f"model {asked.model!r} embeds texts; POST /v1/embedding/text takes those")

    async def models(self, _: Request, __: Exchange) -> Response:
        return respond(openai.render_models(await self._service.models.described(), created=int(self._since)))

    async def model(self, request: Request, _: Exchange) -> Response:
        name = request.path_params["name"]
        spec = await self._spec(name)
        return respond(openai.render_model(spec, name=name, created=int(self._since)))

    async def tags(self, _: Request, __: Exchange) -> Response:
        return respond(ollama.render_tags(await self._service.models.described(), modified_at=self._started))

    async def show(self, request: Request, _: Exchange) -> Response:
        spec = await self._spec(ollama.parse_show(await request.body()))
        return respond(ollama.render_show(spec, modified_at=self._started))

    async def running(self, _: Request, __: Exchange) -> Response:
        open_ones = [entry.files.spec for entry in self._service.models.entries.values() if entry.line and entry.files]
        return respond(ollama.render_ps(open_ones))

    async def version(self, _: Request, __: Exchange) -> Response:
        return respond(ollama.render_version())

    async def info(self, _: Request, __: Exchange) -> Response:
        limits = self._service.limits
        entry = self._service.models.find("")
        capacity = tei.Capacity(
            max_concurrent_requests=self._max_connections,
            max_batch_tokens=limits.max_queue_tokens,
            max_client_batch_size=limits.max_texts,
        )
        dtype = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
        precision = entry.line.precision if entry.line else "fp32"
        spec = await self._spec("")
        return respond(tei.render_info(spec, capacity, dtype=dtype.get(precision, precision)))

    async def tokenize(self, request: Request, _: Exchange) -> Response:
        asked = tei.parse_tokenize(await request.body())
        characters, limits = sum(map(len, asked.texts)), self._service.limits
        if len(asked.texts) > limits.max_texts or characters > _MAX_TOKENIZED:
            raise TooLargeError(
                f"inputs has {len(asked.texts):,} texts of {characters:,} characters; this route takes "
                f"{limits.max_texts:,} texts and {_MAX_TOKENIZED:,} characters at once"
            )
        entry = self._service.models.find(asked.model if "model_name" in asked.options else "")
        files = await self._service.models.read(entry)
        return await self._service.in_thread(characters, lambda: respond(tei.render_tokenize(_tokens(asked, files))))

    @property
    def _started(self) -> datetime:
        return datetime.fromtimestamp(self._since, UTC)

    async def _spec(self, name: str) -> ModelSpec:
        """Return a served model by any name a client may use.

        Raises:
            UnknownModelError: there is none.
        """
        entries = self._service.models.entries
        meant = name if name in entries or not name else split_model(name)[0]
        if meant and meant not in entries:
            raise UnknownModelError(f"model {name[:100]!r} is not served here; there are: {', '.join(entries)}")
        return (await self._service.models.read(self._service.models.find(meant))).spec


def _json(value: object, *, status: int = 200) -> Response:
    return respond(Reply(body=json.dumps(value).encode(), status=status))


def _tokens(asked: tei.TokenizeRequest, files: ModelFiles) -> list[list[tei.Token]]:
    """Return the tokens of each text, with the task's prefix where one was asked for."""
    prefix = files.spec.prefixes.get(str(asked.task_type), "") if asked.task_type else ""
    left, right = (
        [tei.Token(id=number, text=spelt, special=True) for number, spelt in side] if asked.add_special_tokens else []
        for side in files.tokenizer.special
    )
    rows = []
    for text in asked.texts:
        whole = prefix + text
        found = files.tokenizer.explain(whole)
        body = [tei.Token(id=i, text=whole[start:stop], start=start, stop=stop) for i, _, start, stop in found]
        rows.append([*left, *body, *right])
    return rows
