from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomonic.errors import DeadlineError, InputError, TooLargeError
from gnomonic.server.bodies import decompress, drain, read_body

Message = MutableMapping[str, Any]


class Connection:
    """Sends what it is given, piece by piece, and then nothing."""

    def __init__(self, *pieces: bytes, ends: bool = True, leaves: bool = False) -> None:
        self.messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        if leaves:
            self.messages.append({"type": "http.disconnect"})
        elif ends:
            self.messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


def _read(connection: Connection, headers: dict[bytes, bytes] | None = None, timeout_s: float = 60.0) -> bytes | None:
    return asyncio.run(read_body(connection.receive, headers or {}, max_bytes=10, timeout_s=timeout_s))


def test_a_body_is_read_up_to_the_limit() -> None:
    assert _read(Connection()) == b""
    assert _read(Connection(b"01234", b"56789")) == b"0123456789"
    with pytest.raises(TooLargeError, match="this server takes 10 bytes"):
        _read(Connection(b"01234", b"567890", ends=False))


@pytest.mark.parametrize(
    ("length", "shown"), [(b"11", "is 11 bytes"), (b"1" * 7, "is 1,111,111 bytes"), (b"9" * 5000, "is more than")]
)
def test_a_declared_length_beyond_the_limit_is_refused_before_anything_is_read(length: bytes, shown: str) -> None:
    connection = Connection(b"x")
    with pytest.raises(TooLargeError, match=shown):
        _read(connection, {b"content-length": length})
    assert len(connection.messages) == 2


def test_a_length_that_lies_is_counted_anyway() -> None:
    with pytest.raises(TooLargeError):
        _read(Connection(b"x" * 11), {b"content-length": b"5"})


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"", b"\xb2", b"0x10"])
def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    with pytest.raises(InputError, match="Content-Length"):
        _read(Connection(b"x"), {b"content-length": length})


def test_a_body_that_never_ends_is_late() -> None:
    with pytest.raises(DeadlineError, match=r"within 0.01 s; 5 bytes"):
        _read(Connection(b"01", b"234", ends=False), timeout_s=0.01)


def test_a_client_that_leaves_is_no_error() -> None:
    assert _read(Connection(b"01", leaves=True)) is None


def test_draining_ends_with_the_body_the_client_or_the_time() -> None:
    for connection in (Connection(b"a", b"b"), Connection(b"a", leaves=True), Connection(b"a", ends=False)):
        asyncio.run(drain(connection.receive, timeout_s=0.01))
        assert connection.messages == []


def _raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(body) + deflater.flush()


@given(st.binary(max_size=200))
def test_compressed_bodies_come_back(body: bytes) -> None:
    for encoding, sent in (
        ("gzip", gzip.compress(body, mtime=0)),
        ("gzip", gzip.compress(body[:5], mtime=0) + gzip.compress(body[5:], mtime=0) + b"\0\0"),
        ("deflate", zlib.compress(body)),
        ("deflate", _raw_deflate(body)),
    ):
        assert decompress(sent, encoding, max_bytes=max(1, len(body))) == body


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress, _raw_deflate])
def test_a_small_body_that_grows_is_stopped_at_the_limit(encode: Any) -> None:
    encoding = "gzip" if encode is gzip.compress else "deflate"
    sent = encode(b"0" * 1001)
    with pytest.raises(TooLargeError, match="larger when decompressed"):
        decompress(sent, encoding, max_bytes=1000)
    assert len(decompress(sent, encoding, max_bytes=1001)) == 1001


def test_the_parts_of_a_body_count_together_and_are_few() -> None:
    with pytest.raises(TooLargeError):
        decompress(gzip.compress(b"0" * 600, mtime=0) * 2, "gzip", max_bytes=1000)
    with pytest.raises(InputError, match="is not gzip"):
        decompress(gzip.compress(b"", mtime=0) * 10_000, "gzip", max_bytes=1000)


@pytest.mark.parametrize(
    ("sent", "encoding"),
    [
        (b"", "gzip"),
        (b'{"texts": []}', "gzip"),
        (b'{"texts": []}', "deflate"),
        (gzip.compress(b"hello", mtime=0)[:-1], "gzip"),
        (gzip.compress(b"hello", mtime=0)[:-8] + b"\0" * 8, "gzip"),
        (gzip.compress(b"hello", mtime=0) + b"more", "gzip"),
        (zlib.compress(b"hello")[:-1], "deflate"),
        (gzip.compress(b"hello", mtime=0), "deflate"),
        (zlib.compress(b"hello"), "gzip"),
    ],
)
def test_a_body_of_another_form_is_refused(sent: bytes, encoding: str) -> None:
    with pytest.raises(InputError, match=f"is not {encoding}"):
        decompress(sent, encoding, max_bytes=1000)
