from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gnomonic.errors import AuthenticationError, ConfigError, GnomonicError, OverloadedError
from gnomonic.server import guard as guard_module
from gnomonic.server.dialects.base import Reply, retry_after, status_of
from gnomonic.server.guard import Guard, GuardSettings, Message, Receive, Scope, Send, send_reply

Headers = dict[str, str]


@dataclass
class Answer:
    """What came back, and what the application saw."""

    sent: list[Message] = field(default_factory=list)
    seen: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unread: int = 0

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> Headers:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def json(self) -> Any:
        return json.loads(b"".join(message["body"] for message in self.sent[1:]))


def _dialect_reply(path: str, error: GnomonicError) -> Reply:
    body = json.dumps({"path": path, "kind": type(error).__name__, "message": str(error)}).encode()
    return Reply(body=body, status=status_of(error), headers=retry_after(error))


def _ask(
    path: str = "/v1/x",
    headers: Headers | None = None,
    *,
    method: str = "POST",
    pieces: Iterable[bytes] = (b"{}",),
    settings: GuardSettings | None = None,
    scope: dict[str, Any] | None = None,
    admit: Any = None,
) -> Answer:
    """Send one request through the guard; the client is silent after its last piece unless that was the end."""
    answer = Answer()
    pieces = list(pieces)
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if pieces[-1:] != [b"..."]:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    named = {"host": "localhost:8000", "transfer-encoding": "chunked", **(headers or {})}
    whole: Scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(), "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in named.items() if value is not None],
        **(scope or {}),
    }  # fmt: skip

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer.seen.append(scope)
        if method == "POST":
            message = await receive()
            assert message["more_body"] is False
            answer.bodies.append(message["body"])
        await send_reply(send, Reply(body=b'"done"'))

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Message) -> None:
        answer.sent.append(message)

    guarded = Guard(app, settings or GuardSettings(), _dialect_reply, admit=admit, on_refusal=answer.reasons.append)
    asyncio.run(guarded(whole, receive, send))
    answer.unread = len(messages)
    return answer


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_LINGER_S", 0.01)


# -- path -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/", "/"), ("//", "/"), ("", "/"), ("/v1/user", "/v1/user"), ("//v1/user", "/v1/user"),
        ("///v1/user/", "/v1/user"), ("/v1/user//", "/v1/user"), ("/a//b", "/a//b"),
    ],
)  # fmt: skip
def test_a_path_has_one_slash_before_and_none_behind(path: str, seen: str) -> None:
    answer = _ask(path)
    assert answer.status == 200
    assert (answer.seen[0]["path"], answer.seen[0]["raw_path"]) == (seen, seen.encode())


# -- host -------------------------------------------------------------------------------------------------------

OPEN = GuardSettings(bound_host="Box.local", allowed_hosts=("embed.example.com",))


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8000", "LOCALHOST", "localhost.:80", "127.0.0.1:9", "[::1]:8000", "[::1]", "box.local",
        "embed.example.com:443", "10.1.2.3:8000", "[fe80::1]:8000",
    ],
)  # fmt: skip
def test_names_of_this_server_and_addresses_are_answered(host: str) -> None:
    assert _ask(headers={"host": host}, settings=OPEN).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "localhost@evil.example", "1.2.3"]
)
def test_other_names_are_refused_in_plain_json(host: str) -> None:
    answer = _ask(headers={"host": host}, settings=OPEN)
    assert (answer.status, answer.reasons, answer.seen) == (421, ["host"], [])
    assert set(answer.json) == {"error"}
    assert "--allowed-host" in answer.json["error"]
    assert answer.headers["content-type"] == "application/json"


def test_a_star_lets_every_name_through() -> None:
    assert _ask(headers={"host": "evil.example"}, settings=GuardSettings(allowed_hosts=("*",))).status == 200


def test_none_or_two_host_headers_are_refused() -> None:
    assert _ask(scope={"headers": []}).status == 400
    assert _ask(scope={"headers": [(b"host", b"localhost"), (b"host", b"evil.example")]}).status == 400
    old = {"headers": [], "http_version": "1.0"}
    assert _ask(scope=old, method="GET").status == 200


# -- origin -----------------------------------------------------------------------------------------------------

SHARED = GuardSettings(allowed_origins=("https://app.example.com",))


def test_without_allowed_origins_no_page_may_read_anything() -> None:
    answer = _ask(headers={"origin": "https://app.example.com"}, method="GET")
    assert answer.status == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "", "localhost:8000"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_pages_of_other_origins_can_start_no_work(origin: str, method: str) -> None:
    answer = _ask(headers={"origin": origin}, method=method, settings=SHARED)
    assert (answer.status, answer.reasons, answer.seen) == (403, ["origin"], [])
    assert "--allow-origin" in answer.json["error"]


def test_our_own_pages_may() -> None:
    assert _ask(headers={"origin": "http://localhost:8000"}).status == 200


@pytest.mark.parametrize("origin", ["https://app.example.com", "null"])
def test_pages_of_an_allowed_origin_may_read_the_answer_and_errors(origin: str) -> None:
    settings = GuardSettings(allowed_origins=(origin,), max_body_bytes=5)
    for pieces, status in (((b"{}",), 200), ((b"0" * 6,), 413)):
        answer = _ask(headers={"origin": origin}, settings=settings, pieces=pieces)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin", ["http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil.example"]
)
def test_an_origin_is_compared_as_a_whole(origin: str) -> None:
    assert _ask(headers={"origin": origin}, settings=SHARED).status == 403


def test_a_preflight_is_answered_without_the_application() -> None:
    asks = {
        "origin": "https://app.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    answer = _ask(headers=asks, method="OPTIONS", settings=SHARED)
    assert (answer.status, answer.seen) == (204, [])
    assert answer.headers["access-control-allow-headers"] == asks["access-control-request-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "content-length" not in answer.headers
    foreign = _ask(headers={**asks, "origin": "https://evil.example"}, method="OPTIONS", settings=SHARED)
    assert foreign.status == 403


@pytest.mark.parametrize(
    "origin", ["*", "app.example.com", "https://app.example.com/", "https://*.example.com", "HTTPS://a.b"]
)
def test_an_origin_that_no_browser_sends_is_a_mistake_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigError, match="is not one; write scheme://host"):
        GuardSettings(allowed_origins=(origin,))


# -- body -------------------------------------------------------------------------------------------------------

SMALL = GuardSettings(max_body_bytes=20, body_timeout_s=0.05)


def test_the_application_gets_the_body_in_one_piece() -> None:
    answer = _ask(pieces=[b"01", b"234", b"56789" * 3], settings=SMALL)
    assert answer.bodies == [b"01234" + b"56789" * 3]


def test_without_a_body_nothing_is_read() -> None:
    for headers in ({"transfer-encoding": None}, {"transfer-encoding": None, "content-length": "0"}):
        answer = _ask(headers=headers, method="GET", settings=SMALL)  # type: ignore[arg-type]
        assert answer.status == 200
        assert answer.unread == 2


@pytest.mark.parametrize(
    ("headers", "pieces", "status", "reason"),
    [
        ({"content-length": "21"}, [b"..."], 413, "body_size"),
        ({}, [b"0" * 11, b"0" * 10, b"..."], 413, "body_size"),
        ({}, [b"01", b"..."], 408, "body_time"),
        ({"content-length": "5"}, [b"..."], 408, "body_time"),
        ({"content-encoding": "br"}, [b"xyz"], 415, "encoding"),
        ({"content-encoding": "gzip, gzip"}, [b"xyz"], 415, "encoding"),
        ({"content-encoding": "gzip"}, [b"{}"], 400, "encoding"),
        ({"content-encoding": "gzip"}, [gzip.compress(b"0" * 1000, mtime=0)[:15], b"..."], 408, "body_time"),
        ({"content-encoding": "gzip"}, [b""], 400, "encoding"),
        ({"content-length": "five"}, [b"01234"], 400, "body"),
    ],
)
def test_a_body_that_is_refused(headers: Headers, pieces: list[bytes], status: int, reason: str) -> None:
    answer = _ask("//v1/x/", headers, pieces=pieces, settings=SMALL)
    assert (answer.status, answer.reasons, answer.seen) == (status, [reason], [])
    assert answer.json["path"] == "/v1/x"  # the dialect's own shape
    assert answer.sent[-1].get("more_body", False) is False


def test_a_client_that_is_still_sending_is_heard_out_for_a_moment() -> None:
    answer = _ask(headers={"content-length": "21"}, pieces=[b"0" * 10, b"0" * 11], settings=SMALL)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert answer.unread == 0
    waits = _ask(headers={"content-length": "21", "expect": "100-continue"}, pieces=[b"0" * 21], settings=SMALL)
    assert (waits.status, waits.unread) == (413, 2)  # the client sends nothing before it is told to


def test_an_unknown_encoding_is_told_what_is_known() -> None:
    answer = _ask(headers={"content-encoding": "zstd"})
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_a_compressed_body_arrives_as_if_it_had_not_been(encoding: str) -> None:
    answer = _ask(headers={"content-encoding": encoding}, pieces=[gzip.compress(b'{"texts": []}', mtime=0)])
    assert answer.bodies == [b'{"texts": []}']
    headers = dict(answer.seen[0]["headers"])
    assert headers[b"content-length"] == b"13"
    assert b"content-encoding" not in headers
    assert b"transfer-encoding" not in headers


def test_a_bomb_is_stopped() -> None:
    bomb = gzip.compress(b"0" * 50_000_000, mtime=0)
    answer = _ask(headers={"content-encoding": "gzip"}, pieces=[bomb], settings=GuardSettings(max_body_bytes=100_000))
    assert (answer.status, answer.reasons) == (413, ["body_size"])


def test_a_client_that_leaves_gets_no_answer() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        raise AssertionError

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/", "raw_path": b"/",
        "headers": [(b"host", b"localhost"), (b"content-length", b"5")],
    }  # fmt: skip
    asyncio.run(Guard(app, GuardSettings(), _dialect_reply)(scope, leave, send))


# -- admission --------------------------------------------------------------------------------------------------


def test_who_is_not_admitted_costs_no_memory() -> None:
    def admit(_scope: Scope) -> None:
        raise AuthenticationError("no key")

    answer = _ask(pieces=[b"0" * 1000, b"..."], admit=admit)
    assert (answer.status, answer.json["kind"], answer.seen) == (401, "AuthenticationError", [])
    assert answer.reasons == ["key"]


def test_admission_sees_the_plain_path_and_may_leave_a_note() -> None:
    def admit(scope: Scope) -> None:
        if scope["path"] == "/slow":
            raise OverloadedError("later", retry_after_s=7)
        scope["state"]["key"] = "abc"

    assert _ask("/v1/x", admit=admit).seen[0]["state"] == {"key": "abc"}
    refused = _ask("//slow/", admit=admit)
    assert (refused.status, refused.headers["retry-after"], refused.reasons) == (429, "7", ["rate"])


# -- what is no request -----------------------------------------------------------------------------------------


def test_lifespan_passes_and_websockets_do_not() -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    for kind in ("lifespan", "websocket"):
        asyncio.run(Guard(app, GuardSettings(), _dialect_reply)({"type": kind}, receive, send))
    assert seen == ["lifespan"]
    assert sent == [{"type": "websocket.close", "code": 1008}]
