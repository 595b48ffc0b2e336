from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gnomonic.server.connections import LimitedProtocol, protocol
from gnomonic.server.dialects.base import Reply
from gnomonic.server.guard import Guard, GuardSettings, Receive, Scope, Send, send_reply

HEAD = b"GET /x HTTP/1.1\r\nHost: localhost\r\n"
BIG = b"0" * 20_000_000


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    if scope["path"] == "/echo":
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send_reply(send, Reply(body=body))
    else:
        await send_reply(send, Reply(body=BIG if scope["path"] == "/big" else b'"done"'))


Opener = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@asynccontextmanager
async def _serving(app: Any = _app, **limits: Any) -> AsyncIterator[tuple[Opener, ServerState, int]]:
    """Serve on a free loopback port; yields a function that connects, the server's state and the port."""
    config = uvicorn.Config(app, http=protocol(**limits), log_level="critical", timeout_keep_alive=5, ws="none")
    config.load()
    state = ServerState()

    def connection() -> LimitedProtocol:
        return config.http_protocol_class(config, state, {})  # type: ignore[return-value]

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect, state, port
    finally:
        for writer in writers:
            writer.close()
        server.close()
        for open_one in list(state.connections):
            open_one.transport.abort()
        await asyncio.sleep(0.01)


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(within_a_minute())


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head.split()[1]), await reader.readexactly(int(length.partition(b":")[2]))


def test_ordinary_requests_pass_one_after_the_other() -> None:
    async def test() -> None:
        async with _serving(head_timeout_s=0.2) as (connect, _, _):
            reader, writer = await connect()
            for _ in range(2):
                writer.write(HEAD + b"\r\n")
                assert await _answer(reader) == (200, b'"done"')
                await asyncio.sleep(0.3)  # idle between requests is keep-alive's business

    _run(test)


def test_a_head_that_dribbles_in_is_ended_with_408() -> None:
    async def test() -> None:
        async with _serving(head_timeout_s=0.3) as (connect, _, _):
            for before in (b"", HEAD + b"\r\n"):
                reader, writer = await connect()
                writer.write(before)
                if before:
                    assert (await _answer(reader))[0] == 200
                for piece in (b"GET /x HTTP", b"/1.1\r\nHost: loc", b"alhost\r\nX-A: "):
                    writer.write(piece)
                    await asyncio.sleep(0.05)
                assert await _answer(reader) == (408, b"the request head did not arrive in time")
                assert await reader.read() == b""

    _run(test)


def test_empty_lines_keep_no_connection_open() -> None:
    async def test() -> None:
        async with _serving(head_timeout_s=0.3) as (connect, _, _):
            reader, writer = await connect()
            writer.write(HEAD + b"\r\n")
            assert (await _answer(reader))[0] == 200

            async def dribble() -> None:
                while True:
                    writer.write(b"\r\n")
                    await asyncio.sleep(0.02)

            dribbling = asyncio.create_task(dribble())
            assert (await _answer(reader))[0] == 408
            dribbling.cancel()

    _run(test)


def test_a_connection_without_a_byte_is_closed_without_an_answer() -> None:
    async def test() -> None:
        async with _serving(head_timeout_s=0.1) as (connect, _, _):
            reader, _ = await connect()
            assert await reader.read() == b""

    _run(test)


def test_a_slow_body_and_a_slow_answer_are_not_this_limits_business() -> None:
    async def test() -> None:
        async with _serving(head_timeout_s=0.1) as (connect, _, _):
            reader, writer = await connect()
            writer.write(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
            for _ in range(4):
                await asyncio.sleep(0.1)
                writer.write(b"x")
            assert await _answer(reader) == (200, b"xxxx")
            writer.write(HEAD.replace(b"/x", b"/slow") + b"\r\n")
            assert (await _answer(reader))[0] == 200

    _run(test)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X-A: " + b"a" * 3000 + b"\r\n\r\n",  # complete
        HEAD + b"X-A: " + b"a" * 3000,  # never complete
        HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(300)) + b"\r\n",
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\r\n" * 1500,
    ],
    ids=["one header", "no end", "many headers", "path", "empty lines"],
)
def test_a_large_head_is_ended_with_431(head: bytes) -> None:
    async def test() -> None:
        async with _serving(max_head_bytes=2000) as (connect, _, _):
            reader, writer = await connect()
            writer.write(head)
            assert await _answer(reader) == (431, b"the request head is too large")
            assert await reader.read() == b""

    _run(test)


def test_a_head_of_almost_that_size_passes_each_time() -> None:
    async def test() -> None:
        async with _serving(max_head_bytes=2000) as (connect, _, _):
            reader, writer = await connect()
            for _ in range(3):
                writer.write(HEAD + b"X-A: " + b"a" * 1900 + b"\r\n\r\n")
                assert (await _answer(reader))[0] == 200

    _run(test)


@pytest.mark.parametrize("second", [HEAD, HEAD + b"X-A: " + b"a" * 3000], ids=["late", "large"])
def test_a_bad_head_behind_a_good_request_does_not_cost_its_answer(second: bytes) -> None:
    async def test() -> None:
        async with _serving(head_timeout_s=0.1, max_head_bytes=2000) as (connect, _, _):
            reader, writer = await connect()
            writer.write(HEAD.replace(b"/x", b"/slow") + b"\r\n")
            await asyncio.sleep(0.05)
            writer.write(second)
            assert await _answer(reader) == (200, b'"done"')
            assert await reader.read() == b""

    _run(test)


def _greedy(port: int) -> socket.socket:
    """Ask for a large answer with a small receive buffer, and do not read it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(HEAD.replace(b"/x", b"/big") + b"\r\n")
    return client


def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def test() -> None:
        async with _serving(stall_timeout_s=0.2) as (_, state, port):
            with _greedy(port):
                while not state.connections:
                    await asyncio.sleep(0.01)
                while state.connections:
                    await asyncio.sleep(0.05)

    _run(test)


class Timer:
    """What `call_later` returned."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class StillLoop:
    """A loop whose timers go off when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, _delay_s: float, call: Callable[..., None], *args: Any) -> Timer:
        self.timers.append(Timer(lambda: call(*args)))
        return self.timers[-1]

    def fire(self) -> None:
        """Let the one timer that is set go off."""
        (timer,) = [timer for timer in self.timers if not timer.cancelled]
        self.timers.clear()
        timer.call()


class FullTransport:
    """A transport with bytes that wait for the client."""

    waiting = 0
    aborted = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


def test_a_client_that_reads_slowly_is_waited_for() -> None:
    async def test() -> None:
        loop, transport = StillLoop(), FullTransport()
        config = uvicorn.Config(_app, http=LimitedProtocol, log_level="critical", ws="none")
        slow = LimitedProtocol(config, ServerState(), {}, _loop=loop)
        slow.connection_made(transport)  # type: ignore[arg-type]
        slow._stop_head_timer()
        transport.waiting = 1000
        slow.pause_writing()
        for waiting in (900, 899, 200):
            transport.waiting = waiting
            loop.fire()
            assert not transport.aborted
        loop.fire()
        assert transport.aborted

    _run(test)


def test_a_client_that_caught_up_is_not_watched() -> None:
    async def test() -> None:
        loop, transport = StillLoop(), FullTransport()
        config = uvicorn.Config(_app, http=LimitedProtocol, log_level="critical", ws="none")
        slow = LimitedProtocol(config, ServerState(), {}, _loop=loop)
        slow.connection_made(transport)  # type: ignore[arg-type]
        slow._stop_head_timer()
        slow.pause_writing()
        slow.resume_writing()
        assert all(timer.cancelled for timer in loop.timers)

    _run(test)


def test_the_class_travels_to_workers() -> None:
    assert pickle.loads(pickle.dumps(LimitedProtocol)) is LimitedProtocol


def test_a_client_that_sends_too_much_can_read_why() -> None:
    """The guard's lingering, over a real connection: closing at once would reset it."""
    guarded = Guard(_app, GuardSettings(max_body_bytes=1000), lambda _path, error: Reply(body=str(error).encode()))

    async def test() -> None:
        async with _serving(guarded) as (connect, _, _):
            reader, writer = await connect()
            writer.write(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n")
            for _ in range(50):
                writer.write(b"0" * 100_000)
                await writer.drain()
            status, body = await _answer(reader)
            assert status == 413
            assert b"this server takes 1,000 bytes" in body
            assert await reader.read() == b""

    _run(test)
