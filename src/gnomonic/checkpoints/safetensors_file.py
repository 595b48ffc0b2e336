"""The safetensors file format: read as memory-mapped numpy views, written with a digest of the data.

The format: 8 bytes little-endian header size, a JSON header (name -> dtype, shape, byte range), the data.
Files written here carry the sha256 of the data section in their metadata, so a flipped bit is found on
reading; other readers ignore the entry.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import CheckpointError

__all__ = ["SafetensorsFile", "TensorEntry", "write_safetensors"]

# Where the data's sha256 stands in `__metadata__`.
_DIGEST_KEY = "gnomonic.data_sha256"
# The reference implementation refuses larger headers too.
_MAX_HEADER_BYTES = 100_000_000

_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorEntry:
    """One tensor as the header describes it."""

    dtype: str
    """The format's own name: "F32", "F16", "BF16", …"""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the beginning of the data section."""
    stop: int


class SafetensorsFile:
    """A file whose header has been checked; tensors are read on demand.

    Attributes:
        path: the file.
        entries: what the header says of each tensor, by name.
        metadata: the header's free text entries.
    """

    def __init__(self, path: Path) -> None:
        """Read and check the header; no tensor data is touched.

        Raises:
            CheckpointError: the file is absent, unreadable, cut off, or not a safetensors file.
        """
        self.path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                prefix = file.read(8)
                header_size = int.from_bytes(prefix, "little")
                if len(prefix) < 8 or header_size > min(size - 8, _MAX_HEADER_BYTES):
                    raise CheckpointError(
                        f"{path}: {size} bytes do not hold its header; it is cut off or no safetensors file",
                        hint="fetch or save the file again",
                    )
                raw = file.read(header_size)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        self._data_offset = 8 + header_size
        self.metadata, self.entries = _parse_header(raw, path, size - self._data_offset)
        self._data: NDArray[np.uint8] | None = None

    def _bytes(self) -> NDArray[np.uint8]:
        """Return the data section, [size] uint8, mapped read-only."""
        if self._data is None:
            try:
                # An empty mapping is an error of the operating system, and a file without tensors is legal.
                filled = self.path.stat().st_size > self._data_offset
                self._data = (
                    np.memmap(self.path, dtype=np.uint8, mode="r", offset=self._data_offset)
                    if filled
                    else np.empty(0, dtype=np.uint8)
                )
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{self.path}: cannot be mapped into memory: {error}") from error
        return self._data

    def check_digest(self) -> None:
        """Compare the data with the digest the file carries, if it carries one.

        Raises:
            CheckpointError: the data is not what was written.
        """
        expected = self.metadata.get(_DIGEST_KEY)
        if expected is None:
            return
        if hashlib.sha256(self._bytes().data).hexdigest() != expected:
            raise CheckpointError(
                f"{self.path}: the data does not match its sha256 {expected[:12]}…; it is damaged",
                hint="fetch or save the file again",
            )

    def read(self, name: str) -> NDArray[Any]:
        """Return one tensor, read-only.

        Returns:
            float32 and float16 as a view of the mapped file (a copy where the file is not aligned); bfloat16
            widened to float32, which is exact.

        Raises:
            CheckpointError: the tensor's dtype is not a float of 16 or 32 bits, or the file cannot be mapped.
        """
        entry = self.entries[name]
        raw = self._bytes()[entry.start : entry.stop]
        if entry.dtype == "BF16":
            wide = raw.view("<u2").astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32).reshape(entry.shape)
        if entry.dtype not in ("F32", "F16"):
            raise CheckpointError(f"{self.path}: {name} has dtype {entry.dtype}; supported: F32, F16, BF16")
        values: NDArray[Any] = np.asarray(raw.view("<f4" if entry.dtype == "F32" else "<f2")).reshape(entry.shape)
        return values if values.flags.aligned else values.copy()


def _parse_header(raw: bytes, path: Path, data_size: int) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    """Check the byte ranges: they cover the data section without gaps or overlaps, to its last byte."""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is not JSON; the file is damaged ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is not a JSON object; the file is damaged")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: the header's __metadata__ is not a map of strings; the file is damaged")
    entries = {name: _parse_entry(name, entry, path) for name, entry in header.items()}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise CheckpointError(f"{path}: {name} begins at byte {entry.start} instead of {position}; damaged header")
        position = entry.stop
    if position != data_size:
        raise CheckpointError(
            f"{path}: the header describes {position} bytes of data, the file holds {data_size}: damaged",
            hint="fetch or save the file again",
        )
    return metadata, entries


def _parse_entry(name: str, entry: object, path: Path) -> TensorEntry:
    damaged = CheckpointError(f"{path}: the header entry of {name!r} is damaged: {str(entry)[:200]}")
    if not isinstance(entry, dict):
        raise damaged
    dtype = entry.get("dtype")
    shape, offsets = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if dtype not in _ITEM_BYTES or shape is None or offsets is None or len(offsets) != 2:
        raise damaged
    start, stop = offsets
    if stop - start != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise damaged
    return TensorEntry(dtype=dtype, shape=shape, start=start, stop=stop)


def _sizes(value: object) -> tuple[int, ...] | None:
    """Return a JSON list of natural numbers as a tuple; None when it is anything else."""
    if not isinstance(value, list) or not all(type(number) is int and number >= 0 for number in value):
        return None
    return tuple(value)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
    """Write a file and flush it to the disk. The caller makes it appear atomically.

    Args:
        path: the file to create.
        tensors: name -> (the format's dtype name, values); BF16 values are given as their uint16 bits.

    Raises:
        CheckpointError: the file cannot be written.
    """
    header: dict[str, Any] = {}
    digest = hashlib.sha256()
    position = 0
    # Wide types first, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, name))
    arrays = {name: np.ascontiguousarray(tensors[name][1]) for name in order}
    for name, array in arrays.items():
        stop = position + array.nbytes
        header[name] = {
            "dtype": tensors[name][0],
            "shape": list(array.shape),
            "data_offsets": [position, stop],
        }
        digest.update(_bytes_of(array))
        position = stop
    # "format" is what the transformers loader asks for.
    header = {"__metadata__": {"format": "pt", _DIGEST_KEY: digest.hexdigest()}, **header}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    try:
        with path.open("wb") as file:
            file.write(len(raw).to_bytes(8, "little") + raw)
            for array in arrays.values():
                file.write(_bytes_of(array))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
