"""Our own API: search, filters, heat and exports of a map."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import Response
from fastapi.responses import FileResponse, StreamingResponse
from numpy.typing import NDArray
from starlette.background import BackgroundTask

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.errors import InputError
from gnomonic.server.atlas.api_datasets import tabled
from gnomonic.server.atlas.api_maps import map_of
from gnomonic.server.atlas.call import Call, data
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.reading import names, only, text, whole

__all__ = ["export", "filter_bits", "heat", "search", "selected"]

_MAX_K = 1000
_MAX_DIM = 65_536
_BLOCK_ROWS = 8192
_CONDITIONS = ("where", "topics", "tags", "ids", "bits")


def search(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/search: the rows that a text, a vector or a row asks for, best first."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, "query", "vector", "id", "k", "mode", "where", "topics", "tags", "columns")
    vector = _vector(given, found)
    asked = given.get("id")
    table = found.search(
        text(given, "query"),
        vector=vector,
        id=None if asked is None else typed_ids(found.dataset, [asked])[0],
        k=whole(given, "k", 10, 1, _MAX_K),
        mode=text(given, "mode", "semantic", longest=40) or "semantic",
        where=text(given, "where"),
        topics=names(given, "topics", numbers=True),
        tags=names(given, "tags"),
        columns=names(given, "columns"),
    )
    return tabled(call, table)


def filter_bits(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/filter: a bit for each row in map order, lowest bit first; 1 where all conditions hold."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, *_CONDITIONS)
    mask = selected(found, given)[found.folder.order]
    headers = {"x-gnomonic-count": str(int(mask.sum())), "x-gnomonic-rows": str(len(mask))}
    return data(np.packbits(mask, bitorder="little").tobytes(), headers=headers)


def heat(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/heat: how near each row is to a text, a vector or a row: float16, or uint8, in map order.

    Rows that were deleted are NaN, as uint8 0.
    """
    found = map_of(desk, call)
    given = call.fields()
    only(given, "query", "vector", "id", "dtype")
    dtype = text(given, "dtype", "float16", longest=40)
    if dtype not in ("float16", "uint8"):
        raise InputError(f"dtype {dtype!r} is unknown; choose float16 or uint8")
    asked = [name for name in ("query", "vector", "id") if given.get(name) is not None]
    if len(asked) != 1:
        raise InputError(f"give one of query, vector and id, not {' and '.join(asked) or 'none'}")
    id_ = None if given.get("id") is None else typed_ids(found.dataset, [given["id"]])[0]
    scores = found.search_engine.heat(text=text(given, "query"), vector=_vector(given, found), id=id_)
    there = scores[np.isfinite(scores)]
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
    headers = {"x-gnomonic-rows": str(len(scores)), "x-gnomonic-low": f"{low:.6g}", "x-gnomonic-high": f"{high:.6g}"}
    if dtype == "uint8":
        scaled = (np.nan_to_num(scores, nan=low) - low) * (255 / (high - low) if high > low else 0.0)
        return data(np.rint(scaled).astype(np.uint8).tobytes(), headers=headers)
    return data(scores.astype("<f2").tobytes(), headers=headers)


def export(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/export: the rows for which all conditions hold, as parquet, JSON lines or CSV."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, *_CONDITIONS, "columns", "format")
    form = text(given, "format", "parquet", longest=40)
    if form not in ("parquet", "jsonl", "csv"):
        raise InputError(f"format {form!r} is unknown; choose parquet, jsonl or csv")
    rows = found.folder.rows[np.flatnonzero(selected(found, given))]
    columns = names(given, "columns")
    name = f"{found.dataset.slug}.{form}"
    headers = {"content-disposition": f'attachment; filename="{name}"', "x-gnomonic-count": str(len(rows))}
    blocks = _blocks(found, rows, columns)
    first = next(blocks)
    if form == "parquet":
        path = _parquet(desk.options.root / "uploads", first, blocks)
        return FileResponse(
            path, media_type="application/vnd.apache.parquet", headers=headers, background=BackgroundTask(path.unlink)
        )
    lines = _json_lines(first, blocks) if form == "jsonl" else _csv_lines(first, blocks)
    kind = "application/x-ndjson" if form == "jsonl" else "text/csv; charset=utf-8"
    return StreamingResponse(lines, media_type=kind, headers=headers)


def selected(found: AtlasMap, given: dict[str, Any]) -> NDArray[np.bool_]:
    """Return which rows pass all the conditions of a body, [n] bool in row order; deleted rows never do.

    Conditions: `where` SQL-like, `topics` names or ids, `tags` names, `ids`, and `bits`, base64 of a bit a row in map
    order, such as an earlier answer or what somebody drew.

    Raises:
        InputError: a condition is not usable.
    """
    annotations, store = found.dataset.annotations, found.dataset.store
    tagged = None
    if (tags := names(given, "tags")) is not None:
        rows = [annotations.rows_of(tag) for tag in tags]
        tagged = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *rows]))
    mask = np.zeros(found.record.rows, dtype=bool)
    mask[found.alive] = True
    conditions = found.search_engine.mask(
        where=text(given, "where"), topics=names(given, "topics", numbers=True), tags=tagged
    )
    if conditions is not None:
        mask &= conditions
    if (ids := names(given, "ids", numbers=True)) is not None:
        at = found.folder.positions_of(store.rows_of(typed_ids(found.dataset, ids)))
        chosen = np.zeros(len(mask), dtype=bool)
        chosen[at[at >= 0]] = True
        mask &= chosen
    if (bits := text(given, "bits", longest=64 << 20)) is not None:
        drawn = np.zeros(len(mask), dtype=bool)
        drawn[found.folder.order] = _unpacked(bits, len(mask))
        mask &= drawn
    return mask


def _unpacked(bits: str, count: int) -> NDArray[np.bool_]:
    try:
        raw = np.frombuffer(base64.b64decode(bits, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"bits are no base64: {error}") from None
    if len(raw) != (count + 7) // 8:
        raise InputError(f"bits have {len(raw)} bytes; {count:,} rows take {(count + 7) // 8:,}")
    return np.unpackbits(raw, count=count, bitorder="little").astype(bool)


def _vector(given: dict[str, Any], found: AtlasMap) -> NDArray[np.float32] | None:
    value = given.get("vector")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > _MAX_DIM:
        raise InputError("vector must be a list of numbers")
    try:
        vector = np.array(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError("vector must be a list of numbers") from None
    if vector.shape != (found.record.dim,) or not np.isfinite(vector).all():
        raise InputError(f"vector must have {found.record.dim} finite numbers; it has the shape {vector.shape}")
    return vector


def _blocks(found: AtlasMap, rows: NDArray[np.int64], columns: list[str] | None) -> Iterator[pa.Table]:
    """Yield the rows' columns, a block at a time, and one block where there are no rows."""
    for begin in range(0, max(1, len(rows)), _BLOCK_ROWS):
        yield found.dataset.store.take(rows[begin : begin + _BLOCK_ROWS], columns)


def _parquet(folder: Path, first: pa.Table, others: Iterator[pa.Table]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".parquet", delete=False) as stream:
        path = Path(stream.name)
        try:
            with pq.ParquetWriter(stream, first.schema, compression="zstd") as writer:
                writer.write_table(first)
                for block in others:
                    writer.write_table(block.cast(first.schema))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def _json_lines(first: pa.Table, others: Iterator[pa.Table]) -> Iterator[bytes]:
    for block in chain((first,), others):
        for row in block.to_pylist():
            yield orjson.dumps(row, default=str) + b"\n"


def _csv_lines(first: pa.Table, others: Iterator[pa.Table]) -> Iterator[bytes]:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(first.column_names)
    for block in chain((first,), others):
        for row in block.to_pylist():
            writer.writerow([_cell(value) for value in row.values()])
        yield stream.getvalue().encode()
        stream.seek(0)
        stream.truncate()


def _cell(value: Any) -> Any:
    """Return a value as a table program may safely show it: a text that would be a formula is quoted."""
    if isinstance(value, list | dict):
        return orjson.dumps(value, default=str).decode()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
