"""How a widget's questions reach a map: the routes of a server, without one for maps of this machine."""

from __future__ import annotations

import asyncio
import importlib
import json
import posixpath
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import GnomonicError, InputError, MissingExtraError

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.atlas.embedding import EncodedChunk
    from gnomonic.atlas.options import EmbedOptions
    from gnomonic.client.remote_api import RemoteApi
    from gnomonic.server.atlas.desk import Desk

__all__ = ["Channel", "ChannelAnswer", "LocalChannel", "RemoteChannel"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelAnswer:
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""


class Channel(Protocol):
    """Reaches one map. Safe for threads."""

    def request(self, method: str, path: str, body: bytes = b"") -> ChannelAnswer:
        """Ask for something.

        Args:
            method: as in HTTP.
            path: below the map's address, such as "/labels"; with "/../" also of the dataset.
            body: JSON.

        Returns:
            the answer; what went wrong is told by its status.
        """
        ...


def _address(found: AtlasMap, path: str) -> tuple[str, str]:
    """Return path and query of an address below a map's.

    Raises:
        InputError: it leads out of the dataset.
    """
    organization, slug = found.dataset.identifier.split("/")
    dataset = f"/v1/datasets/{quote(organization)}/{quote(slug)}/"
    parts = urlsplit(path)
    place = posixpath.normpath(f"{dataset}maps/{found.id}/{parts.path}")
    if not place.startswith(dataset):
        raise InputError(f"path {path[:100]!r} leads out of the dataset")
    return place, parts.query


class LocalChannel:
    """Calls what answers on a server's routes, in this process; implements `Channel`."""

    def __init__(self, found: AtlasMap) -> None:
        """Reach a map of this machine; nothing is opened."""
        self._found = found
        self._opening = threading.Lock()

    def request(self, method: str, path: str, body: bytes = b"") -> ChannelAnswer:
        """See `Channel`."""
        from gnomonic.server.dialects import atlas

        try:
            with self._opening:
                desk, routes = self._desk, self._routes
            place, query = _address(self._found, path)
            for known, pattern, target in routes:
                parts = pattern.fullmatch(place) if known == method else None
                if parts is not None:
                    return self._answer(desk, target, parts.groupdict(), query, body)
            raise InputError(f"{method} {path[:100]} is not known here")
        except GnomonicError as error:
            reply = atlas.render_error(error)
            return ChannelAnswer(status=reply.status, body=reply.body, headers=dict(reply.headers))

    def _answer(self, desk: Desk, target: str, parts: Mapping[str, str], query: str, body: bytes) -> ChannelAnswer:
        from gnomonic.server.atlas.call import Call

        module, _, name = target.partition(":")
        call = Call(
            organization=self._found.dataset.identifier.partition("/")[0],
            params={key: unquote(value) for key, value in parts.items()},
            query=dict(parse_qsl(query)),
            body=body,
        )
        made = getattr(importlib.import_module(f"gnomonic.server.atlas.{module}"), name)(desk, call)
        # A notebook's cells run inside of an event loop, which takes no second one in its thread.
        with ThreadPoolExecutor(1) as apart:
            return apart.submit(asyncio.run, _sent(made)).result()

    @cached_property
    def _routes(self) -> list[tuple[str, re.Pattern[str], str]]:
        from gnomonic.server.routes.atlas_table import ROUTES

        return [
            (route.method, re.compile(re.sub(r"{(\w+)(:path)?}", _part, route.path)), route.target)
            for route in ROUTES
            if route.path.startswith("/v1/datasets/{organization}/{slug}")
        ]

    @cached_property
    def _desk(self) -> Desk:
        with _server_needed():
            from gnomonic.server.atlas.desk import Desk, DeskOptions
            from gnomonic.server.atlas.jobs import JobQueue
        from gnomonic.client.datasets import LocalEncoders

        found, encoders = self._found, LocalEncoders()
        record = found.record
        sources = {DEFAULT_TEXT_MODEL: DEFAULT_TEXT_MODEL}
        if record.modality == "text" and record.model is not None:
            sources[record.model.removeprefix("nomic-ai/")] = record.model

        def encode(name: str, values: list[Any], options: EmbedOptions) -> EncodedChunk:
            return encoders.open("text", replace(options, model=sources[name]))(values)

        root = found.dataset.home.folder.parents[2]
        images = record.model if record.modality == "image" else None
        return Desk(DeskOptions(root=root, sources=sources, images=images), JobQueue(root), encode)


@contextmanager
def _server_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gnomonic"):
            raise
        raise MissingExtraError("notebook", needed_for="the widget of a map") from error


def _part(found: re.Match[str]) -> str:
    return f"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})"


async def _sent(response: Any) -> ChannelAnswer:
    """Return what an answer of the framework's would send: some are written piece by piece, some are files."""
    status, headers, body = 500, {}, bytearray()

    async def send(message: Any) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        else:
            body.extend(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": "GET", "headers": [], "extensions": {}}
    await response(scope, receive, send)
    return ChannelAnswer(status=status, body=bytes(body), headers=headers)


class RemoteChannel:
    """Asks a server of ours; implements `Channel`."""

    def __init__(self, found: AtlasMap, api: RemoteApi) -> None:
        """Reach a map on a server; nothing is sent."""
        self._found = found
        self._api = api

    def request(self, method: str, path: str, body: bytes = b"") -> ChannelAnswer:
        """See `Channel`."""
        try:
            place, query = _address(self._found, path)
            reply = self._api.fetch(method, f"{place}?{query}" if query else place, body)
        except GnomonicError as error:
            status = 400 if isinstance(error, InputError) else 502
            told = f"{error}; {error.hint}" if error.hint else str(error)
            return ChannelAnswer(status=status, body=json.dumps({"detail": told}).encode())
        return ChannelAnswer(status=reply.status, body=reply.body, headers=dict(reply.headers))
