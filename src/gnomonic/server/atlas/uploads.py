"""Rows as they are uploaded: Arrow files of shards, images that come before their rows, and what had to be refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.planning import BLOB_FIELD
from gnomonic.atlas.rows import split_embeddings
from gnomonic.errors import InputError, SchemaError, TooLargeError

__all__ = ["VECTOR_FIELD", "Shard", "keep_blobs", "note_refusal", "read_shard", "take_blobs", "take_refusals"]

VECTOR_FIELD = "_embeddings"

_HASH = re.compile(r"[0-9a-f]{64}")
_UNPACKED = 8
"""How many times its size on the wire a shard may take in memory."""
_BLOBS_KEPT_S = 24 * 3600
_REFUSALS = "refused.jsonl"
_MAX_REFUSALS_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Rows of one upload."""

    table: pa.Table
    """The columns, without the vectors."""
    vectors: NDArray[Any] | None
    """[n, dim] float16 or float32."""
    metadata: dict[str, str]
    """Of the Arrow schema."""


def read_shard(path: Path, *, max_bytes: int) -> Shard:
    """Read an Arrow IPC file, or stream, of rows.

    Args:
        path: where the upload is.
        max_bytes: the largest upload; in memory it may take a few times as much.

    Raises:
        InputError: it is not Arrow, or its vectors are not usable.
        TooLargeError: it takes too much memory when unpacked.
    """
    try:
        batches, schema = _batches(path, _UNPACKED * max_bytes)
        table = pa.Table.from_batches(batches, schema)
        table.validate()
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"the upload is neither an Arrow IPC file nor a stream: {error}") from None
    metadata = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, value in (schema.metadata or {}).items()
    }
    table, vectors = split_embeddings(table)
    return Shard(table=table.replace_schema_metadata(None), vectors=vectors, metadata=metadata)


def _batches(path: Path, limit: int) -> tuple[list[pa.RecordBatch], pa.Schema]:
    with pa.memory_map(str(path)) as source:
        try:
            reader: Any = pa.ipc.open_file(source)
            numbered = (reader.get_batch(i) for i in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            numbered = iter(reader)
        found, size = [], 0
        for batch in numbered:
            size += batch.nbytes
            if size > limit:
                raise TooLargeError(f"the rows take more than {limit:,} bytes when unpacked; send fewer at a time")
            found.append(batch)
        return found, reader.schema


def keep_blobs(folder: Path, blobs: Sequence[bytes]) -> list[str]:
    """Keep images in a dataset's folder until their rows come; return their hashes, in order."""
    place = folder / "blobs"
    place.mkdir(exist_ok=True)
    _forget_old(place)
    hashes = []
    for blob in blobs:
        digest = hashlib.sha256(blob).hexdigest()
        path = place / digest
        if not path.is_file():
            fresh = place / f".{digest}.{os.getpid()}.{time.monotonic_ns()}"
            fresh.write_bytes(blob)
            fresh.replace(path)
        hashes.append(digest)
    return hashes


def take_blobs(folder: Path, table: pa.Table) -> list[bytes | None] | None:
    """Return the images that rows name; None where there is no column of them.

    A row whose image could not be uploaded has no hash, or the text "null", as the official client writes it.

    Raises:
        SchemaError: a row names an image that was not uploaded.
    """
    if BLOB_FIELD not in table.column_names:
        return None
    found: list[bytes | None] = []
    for row, digest in enumerate(table[BLOB_FIELD].to_pylist()):
        if digest is None or digest in ("null", ""):
            found.append(None)
            continue
        path = folder / "blobs" / str(digest)
        if not _HASH.fullmatch(str(digest)) or not path.is_file():
            raise SchemaError(f"row {row} names the image {str(digest)[:70]!r}, which was not uploaded before it")
        found.append(path.read_bytes())
    return found


def _forget_old(place: Path) -> None:
    until = time.time() - _BLOBS_KEPT_S
    for path in place.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < until:
                path.unlink()


def note_refusal(folder: Path, rows: int | None, reason: str) -> None:
    """Remember that an upload was refused: the official client goes on as if it had not been."""
    path = folder / _REFUSALS
    if path.exists() and path.stat().st_size > _MAX_REFUSALS_BYTES:
        return
    line = json.dumps({"rows": rows, "reason": reason[:2000]}) + "\n"
    with path.open("ab", buffering=0) as stream:
        stream.write(line.encode())


def take_refusals(folder: Path) -> str | None:
    """Return what was refused since this was last asked, in a sentence; None where nothing was."""
    path = folder / _REFUSALS
    mine = path.with_name(f".{_REFUSALS}.{time.monotonic_ns()}")
    try:
        path.rename(mine)
        lines = mine.read_text(encoding="utf-8").splitlines()
        mine.unlink()
    except FileNotFoundError:
        return None
    refusals = [json.loads(line) for line in lines]
    reasons = list(dict.fromkeys(one["reason"] for one in refusals))
    rows = sum(one["rows"] or 0 for one in refusals)
    more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
    return (
        f"{len(refusals)} uploads with {rows:,} rows were refused and are not in the dataset: {reasons[0]}{more}. "
        "Upload those rows again, or ask again for the index to map the rows that are there"
    )
