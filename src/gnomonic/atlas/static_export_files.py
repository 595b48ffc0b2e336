"""Files of a static export: gzipped JSON, and gzipped arrays behind a head of JSON. docs/reference/formats.md."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Json", "json_bytes", "json_value", "pack", "shard_of", "unpack", "write_file", "write_json"]

Json = Any
"""What JSON has a form for."""

_DTYPES = {"u1": "u8", "i1": "i8", "u2": "u16", "u4": "u32", "i4": "i32", "f4": "f32", "f8": "f64"}
_ALIGNED = 8
_EXACT = 2**53
"""Whole numbers up to it, either way, are read exactly by browsers."""


def json_value(value: Any) -> Json:
    """Return a value of a row as JSON has it.

    What is no number becomes null, a number that browsers do not read exactly its digits, bytes their count, all else
    its text.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if -_EXACT <= value <= _EXACT else str(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(one) for one in value]
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def json_bytes(value: Json) -> bytes:
    """Return a value as JSON in UTF-8; half of a surrogate pair, which UTF-8 has no form for, becomes "?"."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", errors="replace")


def write_file(path: Path, raw: bytes, *, level: int = 6) -> int:
    """Write bytes gzipped, the same ones every time; returns how many came of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = gzip.compress(raw, compresslevel=level, mtime=0)
    path.write_bytes(made)
    return len(made)


def write_json(path: Path, value: Json) -> None:
    """Write JSON as it is, so that it can be read by eye."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json_bytes(value))


def pack(head: Mapping[str, Json], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays behind a head that says where each is: u32 length of the head, the head, the arrays."""
    placed: dict[str, list[Any]] = {}
    body: list[bytes] = []
    size = 0
    for name, values in arrays.items():
        little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
        raw = little.tobytes()
        placed[name] = [_DTYPES[values.dtype.str[1:]], size, int(values.size)]
        raw += b"\0" * (-len(raw) % _ALIGNED)
        body.append(raw)
        size += len(raw)
    told = json_bytes({**head, "arrays": placed})
    told += b" " * (-(len(told) + 4) % _ALIGNED)
    return b"".join([len(told).to_bytes(4, "little"), told, *body])


def unpack(raw: bytes) -> tuple[dict[str, Json], dict[str, NDArray[Any]]]:
    """Return the head and the arrays of a packed file, gzipped or not."""
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    begin = 4 + int.from_bytes(raw[:4], "little")
    head = json.loads(raw[4:begin])
    kinds = {told: f"<{short}" for short, told in _DTYPES.items()}
    return head, {
        name: np.frombuffer(raw, dtype=kinds[dtype], count=count, offset=begin + at)
        for name, (dtype, at, count) in head.pop("arrays").items()
    }


def shard_of(word: str, shards: int) -> int:
    """Return which of some files, a power of two of them, has what stands under a word: its CRC-32's lowest bits."""
    return zlib.crc32(word.encode("utf-8", errors="replace")) & (shards - 1)
