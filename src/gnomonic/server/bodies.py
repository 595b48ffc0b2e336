"""Request bodies: read whole, within a size and a time, and decompressed within the same size."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from gnomonic.errors import DeadlineError, InputError, TooLargeError

__all__ = ["ENCODINGS", "decompress", "drain", "read_body"]

ENCODINGS = ("gzip", "deflate", "identity")
"""What a request's Content-Encoding may be."""

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# As zlib's window bits; some clients send "deflate" without its header.
_FORMATS = {"gzip": (zlib.MAX_WBITS | 16,), "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS)}
_MAX_MEMBERS = 16
"""Parts of a gzip body. Each copies what follows it, so a body of empty parts would cost its length squared."""


async def read_body(
    receive: _Receive, headers: Mapping[bytes, bytes], *, max_bytes: int, timeout_s: float
) -> bytes | None:
    """Read a request's body.

    Args:
        receive: of the ASGI request.
        headers: lower-case names.
        max_bytes: the largest body that is read.
        timeout_s: the longest that a body may take to arrive.

    Returns:
        The body as it was sent, still compressed; None when the client went away.

    Raises:
        InputError: Content-Length is not a number.
        TooLargeError: the body is larger; found from its Content-Length before anything is read.
        DeadlineError: the body was not complete in time.
    """
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit():
        raise InputError(f"Content-Length {declared[:20].decode('latin-1')!r} is not a number of bytes")
    if len(declared) > 18 or int(declared) > max_bytes:
        shown = f"{int(declared):,}" if len(declared) <= 18 else "more than 10^18"
        raise _too_large(f"{shown} bytes", max_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > max_bytes:
                    raise _too_large("larger", max_bytes)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise DeadlineError(
            f"the request body did not arrive within {timeout_s:g} s; {size:,} bytes of it did"
        ) from None


def decompress(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Undo a Content-Encoding.

    Args:
        body: as it was sent.
        encoding: "gzip" or "deflate".
        max_bytes: the largest result; a small body may hold a very large one.

    Raises:
        InputError: the body is not of this encoding, or is cut off.
        TooLargeError: the result would be larger.
    """
    for window_bits in _FORMATS[encoding]:
        try:
            return _inflate(body, window_bits, max_bytes)
        except zlib.error:
            continue
    raise InputError(f"the request body is not {encoding}, though its Content-Encoding says so, or it is cut off")


async def drain(receive: _Receive, *, timeout_s: float) -> None:
    """Read and forget what a client still sends, for a while.

    Closing a connection with unread bytes resets it, and the client may lose the answer that says why.
    """
    try:
        async with asyncio.timeout(timeout_s):
            more = True
            while more:
                message = await receive()
                more = message["type"] == "http.request" and message.get("more_body", False)
    except TimeoutError:
        pass


def _inflate(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for _ in range(_MAX_MEMBERS):
        inflater = zlib.decompressobj(window_bits)
        # One byte beyond the limit shows that there is more.
        parts.append(inflater.decompress(body, max_bytes + 1 - size))
        size += len(parts[-1])
        if size > max_bytes:
            raise _too_large("larger when decompressed", max_bytes)
        if not inflater.eof:
            raise zlib.error("cut off")
        body = inflater.unused_data
        if not body.strip(b"\0"):
            return b"".join(parts)
    raise zlib.error("too many parts")


def _too_large(found: str, max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the request body is {found}, and this server takes {max_bytes:,} bytes",
        hint="send fewer inputs at a time, or start the server with a larger --max-body-mb",
    )
