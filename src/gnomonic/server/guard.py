"""What every request passes before the application sees it: host, origin, path, and the whole body.

A web page must not reach a server that listens on this machine or in this network. By DNS rebinding its own name comes
to stand for our address, so the Host header must be a name of this server; addresses are let through, since a page
cannot have them as its name unless it came from here. From its own origin a page may still send requests whose answers
it cannot read, so those that could change something or cost work need an origin of this server or an allowed one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from gnomonic.errors import ConfigError, DeadlineError, GnomonicError, InputError, TooLargeError
from gnomonic.server.bodies import ENCODINGS, decompress, drain, read_body
from gnomonic.server.dialects.base import Reply, status_of

__all__ = ["ASGIApp", "Guard", "GuardSettings", "Message", "Receive", "Scope", "Send", "send_reply"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/\s*]+")
_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
_EXPOSED = b"retry-after, x-request-id"
_PREFLIGHT_S = b"600"
_LINGER_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardSettings:
    """What is let through.

    Raises:
        ConfigError: an origin is not written as browsers send it.
    """

    max_body_bytes: int = 32 << 20
    """The largest body, as it is sent and decompressed."""
    body_timeout_s: float = 60.0
    """The longest that a body may take to arrive."""
    bound_host: str = "127.0.0.1"
    """The name or address the server listens on."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names in the Host header, without port; "*" for any, behind a proxy that checks them."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may use this server, exactly as browsers send them, such as https://app.example.com."""

    def __post_init__(self) -> None:
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"allowed origin {origin!r} is not one; write scheme://host or scheme://host:port in small "
                    "letters, without a path, one option for each"
                )


class _RefusedError(Exception):
    """A request goes no further."""

    def __init__(self, status: int, reason: str, error: GnomonicError, *, linger: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.error = error
        self.linger = linger
        """Whether the client may still be sending: the connection ends then."""


class Guard:
    """ASGI middleware; stands in front of everything else.

    Args:
        app: the application. It finds the whole body, decompressed, in the first message.
        settings: what is let through.
        error_reply: writes an error for a path, in the shape its callers expect; the guard sets the status.
        admit: called with the scope before the body is read, and may raise any GnomonicError, so that a request
            without a key costs no memory. It may leave what it found in `scope["state"]`.
        on_refusal: called with a word for each refusal: host, origin, key, rate, body_size, body_time, encoding, body.
        streams: tells of requests whose bodies the application reads itself, within limits of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: GuardSettings,
        error_reply: Callable[[str, GnomonicError], Reply],
        *,
        admit: Callable[[Scope], None] | None = None,
        on_refusal: Callable[[str], None] | None = None,
        streams: Callable[[Scope], bool] = lambda _: False,
    ) -> None:
        self.app = app
        self.settings = settings
        self._error_reply = error_reply
        self._admit = admit
        self._on_refusal = on_refusal
        self._streams = streams
        self._hosts = frozenset(map(_name, (*_LOOPBACK, settings.bound_host, *settings.allowed_hosts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "websocket":  # there are none; a browser would send them from any origin
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = _with_plain_path(scope)
        headers = dict(scope["headers"])
        try:
            self._check_host(scope)
            origin = self._check_origin(scope, headers)
        except _RefusedError as refused:
            await self._refuse_plainly(refused, send)
            return
        if origin is not None:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await send_reply(send, _preflight(origin, headers))
                return
            send = _with_origin(send, origin)
        await self._admit_and_run(scope, headers, receive, send)

    async def _admit_and_run(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        try:
            if self._admit is not None:
                _ask(self._admit, scope, has_body)
            if has_body and not self._streams(scope):
                body = await self._read(scope, headers, receive)
                if body is None:
                    return
                receive = _replay(body, receive)
        except _RefusedError as refused:
            await self._refuse(refused, scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        if "*" in self._hosts:
            return
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not given and scope["http_version"] == "1.0":  # such as the health check of a load balancer; no browser
            return
        if len(given) != 1:
            raise _RefusedError(400, "host", InputError(f"a request has one Host header; this one has {len(given)}"))
        name = _name(given[0])
        if name not in self._hosts and not _is_address(name):
            raise _RefusedError(
                421,
                "host",
                InputError(
                    f"this server does not answer to the name {name[:100]!r}; ask for it by a name it knows, or start "
                    "it with --allowed-host NAME"
                ),
            )

    def _check_origin(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bytes | None:
        """Return the origin whose page may read the answer, None where there is none."""
        origin = headers.get(b"origin")
        if origin is None:
            return None
        if origin.decode("latin-1") in self.settings.allowed_origins:
            return origin
        own = origin.partition(b"://")[2]
        if own and own == headers.get(b"host"):
            return None
        is_preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
        if scope["method"] in _SAFE_METHODS and not is_preflight:
            return None  # the browser keeps the answer from the page
        raise _RefusedError(
            403,
            "origin",
            InputError(
                f"pages of the origin {origin[:100].decode('latin-1')!r} may not use this server; start it with "
                "--allow-origin ORIGIN to let them"
            ),
        )

    async def _read(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """Return the body, decompressed; None when the client went away."""
        limit = self.settings.max_body_bytes
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower().removeprefix("x-")
        if encoding not in ENCODINGS:
            allowed = ", ".join(ENCODINGS)
            error = InputError(f"Content-Encoding {encoding[:100]!r} is not understood; use one of {allowed}")
            raise _RefusedError(415, "encoding", error, linger=True)
        try:
            body = await read_body(receive, headers, max_bytes=limit, timeout_s=self.settings.body_timeout_s)
        except DeadlineError as late:
            raise _RefusedError(408, "body_time", late, linger=True) from None
        except TooLargeError as large:
            raise _RefusedError(413, "body_size", large, linger=True) from None
        except InputError as bad:
            raise _RefusedError(400, "body", bad, linger=True) from None
        if body is None or encoding == "identity":
            return body
        try:
            body = await asyncio.to_thread(decompress, body, encoding, max_bytes=limit)
        except TooLargeError as large:
            raise _RefusedError(413, "body_size", large) from None
        except InputError as bad:
            raise _RefusedError(400, "encoding", bad) from None
        dropped = (b"content-encoding", b"content-length", b"transfer-encoding")
        kept = [pair for pair in scope["headers"] if pair[0] not in dropped]
        scope["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
        return body

    async def _refuse(self, refused: _RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
        if self._on_refusal is not None:
            self._on_refusal(refused.reason)
        reply = replace(self._error_reply(scope["path"], refused.error), status=refused.status)
        if refused.status == 415:
            reply = replace(reply, headers={**reply.headers, "accept-encoding": ", ".join(ENCODINGS)})
        if not refused.linger:
            await send_reply(send, reply)
            return
        # What is left of the body is read for a moment and thrown away, and the connection ends.
        await send_reply(send, replace(reply, headers={**reply.headers, "connection": "close"}), more=True)
        if (
            dict(scope["headers"]).get(b"expect", b"").lower() != b"100-continue"
        ):  # that client waits, and sends nothing
            await drain(receive, timeout_s=_LINGER_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse_plainly(self, refused: _RefusedError, send: Send) -> None:
        if self._on_refusal is not None:
            self._on_refusal(refused.reason)
        body = json.dumps({"error": str(refused.error)}).encode()
        await send_reply(send, Reply(body=body, status=refused.status, headers={"connection": "close"}))


async def send_reply(send: Send, reply: Reply, *, more: bool = False) -> None:
    """Send a Reply as ASGI messages.

    Args:
        send: of the ASGI request.
        reply: what to send.
        more: leave the answer open; the caller ends it with an empty body.
    """
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    if reply.body:
        headers.append((b"content-type", reply.media_type.encode("latin-1")))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": more})


def _with_plain_path(scope: Scope) -> Scope:
    """Return the scope with one slash at the start of its path and none at the end.

    Clients join their base address and the route: `http://host/` and `/v1/user` make `//v1/user`.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or path.encode()
    return {**scope, "path": "/" + path.strip("/"), "raw_path": b"/" + raw.strip(b"/")}


def _ask(admit: Callable[[Scope], None], scope: Scope, has_body: bool) -> None:
    try:
        admit(scope)
    except GnomonicError as error:
        status = status_of(error)
        raise _RefusedError(status, "key" if status == 401 else "rate", error, linger=has_body) from None


def _name(host: str) -> str:
    """Return a host's name or address in small letters, without port, brackets and closing dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return host.removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _preflight(origin: bytes, headers: Mapping[bytes, bytes]) -> Reply:
    """Answer a browser that asks whether it may send a request."""
    asked = headers.get(b"access-control-request-headers", b"")
    answer = {
        b"access-control-allow-origin": origin,
        b"access-control-allow-methods": _METHODS,
        b"access-control-allow-headers": asked,
        b"access-control-max-age": _PREFLIGHT_S,
        b"vary": b"origin, access-control-request-headers",
    }
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.items() if value}
    return Reply(body=b"", status=204, headers=named)


def _with_origin(send: Send, origin: bytes) -> Send:
    """Return a `send` that lets pages of the origin read the answer."""
    extra: Iterable[tuple[bytes, bytes]] = (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"origin"),
    )

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return sending


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, and then what the connection has to say."""
    waiting = [body]

    async def receiving() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receiving
