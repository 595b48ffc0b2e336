"""The pages of maps: files without data, given without a key; what a page shows it asks of the API."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import Any

from fastapi import Request, Response

from gnomonic.errors import DatasetNotFoundError
from gnomonic.server.dialects import ollama
from gnomonic.server.routes.embeddings import Exchange, respond
from gnomonic.viewer import files as viewer

__all__ = ["add_page_routes", "is_page"]

Endpoint = Callable[[Request, Exchange], Awaitable[Response]]

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_MAP = re.compile(r"current|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; font-src 'none'; worker-src 'self'; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_FOREVER = "public, max-age=31536000, immutable"


def is_page(scope: Any) -> bool:
    """Tell whether a request is for a page or a file of the viewer, which need no key."""
    path: str = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path == "/" or path.startswith(("/map/", "/viewer/")))


def add_page_routes(add: Callable[..., None]) -> None:
    """Add the pages and the viewer's files."""
    pages = _Pages()
    for method in ("GET", "HEAD"):
        add("/", method, pages.root, shown=method == "GET")
        add("/map/{organization}/{slug}", method, pages.map, shown=False)
        add("/map/{organization}/{slug}/{map_id}", method, pages.map, shown=False)
        add("/viewer/{path:path}", method, pages.file, shown=False)


class _Pages:
    """The viewer's files in memory: a page asks for all of them at once, and looks for new ones itself."""

    def __init__(self) -> None:
        self._version = ""
        self._bodies: dict[str, bytes] = {}

    async def root(self, request: Request, _: Exchange) -> Response:
        """Give browsers the list of maps, and others the sentence by which Ollama's clients know that it is there."""
        if "text/html" not in request.headers.get("accept", ""):
            return respond(ollama.render_root(), {"vary": "accept"})
        body = viewer.page(name="home.html", root=self._place())
        return _answer(request, body, "home.html", more={"vary": "accept"})

    async def map(self, request: Request, _: Exchange) -> Response:
        """Give the page of a map, whether there is such a map or not: the API tells that to those who may know."""
        params = request.path_params
        organization, slug, map_id = params["organization"], params["slug"], params.get("map_id", "current")
        if not (_SLUG.fullmatch(organization) and _SLUG.fullmatch(slug) and _MAP.fullmatch(map_id)):
            raise DatasetNotFoundError("no map has this address; it is /map/ORGANISATION/DATASET, and perhaps /MAP-ID")
        source = f"/v1/datasets/{organization}/{slug}/maps/{map_id}"
        return _answer(request, viewer.page(source, f"{slug} · Gnomonic", root=self._place()), "index.html")

    async def file(self, request: Request, __: Exchange) -> Response:
        """Give a file of the viewer; under /viewer/@VERSION/ it never changes."""
        path: str = request.path_params["path"]
        version = ""
        if path.startswith("@"):
            version, _, path = path[1:].partition("/")
        if version != self._version or not version:
            self._place()
        if path in viewer.PAGES or path not in self._bodies:
            raise DatasetNotFoundError(f"the viewer has no file {path[:100]!r}")
        # A page that was opened before the server was updated gets what there is now, and keeps none of it.
        return _answer(request, self._bodies[path], path, cache=_FOREVER if version == self._version else "no-cache")

    def _place(self) -> str:
        """Return the address of the files as they are now, another one for each version."""
        version = viewer.version()
        if version != self._version:
            self._bodies = {path: place.read_bytes() for path, place in viewer.files().items()}
            self._version = version
        return f"/viewer/@{version}/"


def _answer(
    request: Request, body: bytes, path: str, *, cache: str = "no-cache", more: dict[str, str] | None = None
) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {**_SAFE, "etag": tag, "cache-control": cache, **(more or {})}
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in known:
        return Response(status_code=304, headers=headers)
    headers["content-type"] = viewer.KINDS[PurePosixPath(path).suffix]
    if request.method == "HEAD":
        return Response(headers={**headers, "content-length": str(len(body))})
    return Response(body, headers=headers)
