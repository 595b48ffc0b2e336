"""Messages between the server and its worker: two lengths, a JSON header, raw bytes. No pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEAD", "Stream", "lay_out", "pack", "read_message", "take_apart"]

HEAD = struct.Struct("<II")
"""Bytes of the header, bytes of the payload."""


class Stream(Protocol):
    """What a blocking socket's file offers."""

    def read(self, size: int, /) -> bytes | None:
        """Return exactly `size` bytes, or fewer at the end."""
        ...


def pack(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """Return one message."""
    text = json.dumps(header).encode("ascii")
    return HEAD.pack(len(text), len(payload)) + text + payload


def read_message(stream: Stream) -> tuple[dict[str, Any], bytes] | None:
    """Return the next header and payload; None where the other side has gone."""
    head = stream.read(HEAD.size)
    if head is None or len(head) < HEAD.size:
        return None
    header_bytes, payload_bytes = HEAD.unpack(head)
    body = stream.read(header_bytes + payload_bytes) or b""
    if len(body) < header_bytes + payload_bytes:
        return None
    return json.loads(body[:header_bytes]), body[header_bytes:]


def lay_out(sequences: Sequence[NDArray[np.int32]]) -> bytes:
    """Return the lengths of some sequences and their ids, end to end, as int32."""
    lengths = np.fromiter(map(len, sequences), dtype=np.int32, count=len(sequences))
    return np.concatenate([lengths, *sequences]).astype("<i4").tobytes()


def take_apart(payload: bytes, rows: int) -> list[NDArray[np.int32]]:
    """Return the sequences that `lay_out` laid out, each [tokens] int32."""
    numbers = np.frombuffer(payload, dtype="<i4")
    lengths, ids = numbers[:rows], numbers[rows:]
    return np.split(ids, np.cumsum(lengths)[:-1])
