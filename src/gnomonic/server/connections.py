"""Connections that cannot be held for nothing: uvicorn's HTTP protocol with the limits it lacks.

A request's head must be complete within a time and a size, and a client must take its answer. Without these, a few
hundred sockets that send a byte now and then, or never read, occupy a server that has nothing to do. Bodies have their
own limits in `guard`, and idle connections uvicorn's keep-alive time.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

__all__ = ["LimitedProtocol", "protocol"]

_TOO_LATE = "the request head did not arrive in time"
_TOO_LARGE = "the request head is too large"

_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `uvicorn.Config(http=LimitedProtocol)` uses it."""

    head_timeout_s = 10.0
    """From the first byte of a request, or from the connection, to the end of its head; then 408."""
    max_head_bytes = 64 << 10
    """Of the request line and the headers; then 431."""
    stall_timeout_s = 60.0
    """The longest that a client may take nothing of an answer that waits for it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._awaits_head = True
        self._in_head = False
        self._head_ended = False
        self._head_bytes = 0
        self._incomplete_bytes = 0
        self._head_timer: TimerHandle | None = None
        self._stall_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin with a head that has yet to come."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._stop_head_timer()
        self._stop_stall_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and look whether the head it is in is late or large."""
        if self.transport.is_closing():
            return
        awaited = self._awaits_head
        if awaited and not self._incomplete_bytes:
            self._stop_head_timer()  # the time since the connection was made does not count
        self._incomplete_bytes = self._incomplete_bytes + len(data) if awaited else 0
        self._head_ended = False
        super().data_received(data)
        if self._in_head or (awaited and not self._head_ended):
            if self._incomplete_bytes > self.max_head_bytes:
                self._end(431, _TOO_LARGE)
            elif self._head_timer is None:
                self._start_head_timer()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        super().on_url(url)
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        """The head is there: let the application run, or refuse it."""
        self._stop_head_timer()
        self._awaits_head = self._in_head = False
        self._head_ended = True
        self._incomplete_bytes = 0
        application = self.app
        if self._head_bytes > self.max_head_bytes:
            self.app = _refuse_large_head
        try:
            super().on_headers_complete()
        finally:
            self.app = application

    def on_message_complete(self) -> None:
        """The request is there: the next head may come."""
        super().on_message_complete()
        self._awaits_head = True

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._watch_writing(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has taken most of what waited for it."""
        self._stop_stall_timer()
        super().resume_writing()

    def _watch_writing(self, waiting: int) -> None:
        self._stop_stall_timer()
        self._stall_timer = self.loop.call_later(self.stall_timeout_s, self._check_writing, waiting)

    def _check_writing(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before:
            self.transport.abort()  # close would wait for the client once more
        else:
            self._watch_writing(waiting)

    def _start_head_timer(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _head_is_late(self) -> None:
        if self._incomplete_bytes:
            self._end(408, _TOO_LATE)
        elif not self.transport.is_closing():  # a connection opened in advance and never used
            self.transport.close()

    def _end(self, status: int, message: str) -> None:
        """Answer from here and close; the answer to an earlier request, if one is due, goes out first and alone."""
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever its type says
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            self.transport.pause_reading()
            return
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(message) + message.encode())
        self.transport.close()


def protocol(
    *, head_timeout_s: float = 10.0, max_head_bytes: int = 64 << 10, stall_timeout_s: float = 60.0
) -> type[LimitedProtocol]:
    """Return a protocol class with these limits, since uvicorn makes the connections itself.

    It is made in the process that serves: a class made here cannot be sent to another one, as LimitedProtocol can.

    Args:
        head_timeout_s: from a request's first byte to the end of its head.
        max_head_bytes: of the request line and the headers.
        stall_timeout_s: the longest that a client may take nothing of an answer that waits for it.
    """

    class Limited(LimitedProtocol):
        pass

    Limited.head_timeout_s = head_timeout_s
    Limited.max_head_bytes = max_head_bytes
    Limited.stall_timeout_s = stall_timeout_s
    return Limited


async def _refuse_large_head(_scope: Any, _receive: Any, send: _Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_TOO_LARGE)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": _TOO_LARGE.encode(), "more_body": False})
