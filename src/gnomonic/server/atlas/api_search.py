"""Our own API: search, filters, heat and exports of a map."""

from __future__ import annotations

import csv
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterator
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

from gnomonic.atlas.arguments import check_one_query
from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.search import Hits
from gnomonic.errors import DatasetError, InputError
from gnomonic.server.atlas.api_conditions import CONDITIONS, bits_of, row_mask, selected
from gnomonic.server.atlas.api_datasets import tabled
from gnomonic.server.atlas.api_maps import map_of
from gnomonic.server.atlas.call import Call, data, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.map_queries import QUERIES, check_model, query_of
from gnomonic.server.atlas.reading import names, only, text, whole

__all__ = ["export", "filter_bits", "find", "heat", "hits_of", "search"]

_MAX_K = 1000
_BLOCK_ROWS = 8192
_SEARCHED = ("query", "vector", "id")
_FOUND_BY = {
    "semantic": "query", "words": "query", "hybrid": "query", "id": "query", "like": "position", "image": "image",
}  # fmt: skip
"""What each mode of find looks for."""


def search(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/search: the rows that a text, a vector or a row asks for, best first."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, *_SEARCHED, "k", "mode", "columns", *CONDITIONS)
    check_one_query(**{name: given.get(name) for name in _SEARCHED})
    mode = text(given, "mode", "semantic", longest=40) or "semantic"
    hits = hits_of(desk, found, given, mode, row_mask(desk, found, given))
    return tabled(call, found.search_engine.table(hits, names(given, "columns")))


def find(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/find: positions and scores of the rows that are asked for, best first."""
    began = time.perf_counter()
    found = map_of(desk, call)
    given = call.fields()
    only(given, "mode", "query", "position", "image", "k", *CONDITIONS)
    mode = text(given, "mode", "semantic", longest=40) or "semantic"
    wanted = _FOUND_BY.get(mode)
    if wanted is None:
        raise InputError(f"mode {mode!r} is unknown; choose one of {', '.join(_FOUND_BY)}")
    if given.get(wanted) is None or any(given.get(name) is not None for name in _FOUND_BY.values() if name != wanted):
        raise InputError(f"mode {mode!r} takes {wanted}, and nothing else to look for")
    mask = row_mask(desk, found, given)
    if mode == "id":
        hits = _by_id(found, text(given, "query") or "", mask)
    else:
        hits = hits_of(desk, found, {**given, "k": whole(given, "k", 50, 1, _MAX_K)}, mode, mask)
    places = found.arrays.places[hits.rows].tolist()
    shown = [{"position": place, "score": score} for place, score in zip(places, hits.scores.tolist(), strict=True)]
    return said({"hits": shown, "ms": round(1000 * (time.perf_counter() - began), 2)})


def hits_of(desk: Desk, found: AtlasMap, given: dict[str, Any], mode: str, mask: NDArray[np.bool_] | None) -> Hits:
    """Return what the query of a body finds.

    Args:
        desk: has the models.
        found: the map.
        given: the body, with its query and k.
        mode: for a text: "semantic", "words" or "hybrid".
        mask: [n] bool in row order: the rows that may be found; None for all.

    Raises:
        InputError: the query or the mode is not usable.
    """
    engine = found.search_engine
    k = whole(given, "k", 10, 1, _MAX_K)
    if given.get("query") is not None:
        words = text(given, "query") or ""
        if mode != "words":
            check_model(desk, found)
        if mode == "semantic":
            return engine.by_text(words, k, mask)
        if mode == "words":
            return engine.by_words(words, k, found.word_columns(), mask)
        if mode == "hybrid":
            return engine.hybrid(words, k, mask, found.word_columns())
        raise InputError(f"mode {mode!r} is unknown; choose semantic, words or hybrid")
    asked = query_of(desk, found, given).query
    if "id" in asked:
        return engine.by_row(asked["id"], k, mask)
    if given.get("position") is None:
        return engine.by_vector(asked["vector"], k, mask)
    row = found.folder.order[given["position"]]
    near = engine.by_vector(asked["vector"], k + 1, mask)
    others = np.flatnonzero(near.rows != row)[:k]
    return Hits(rows=near.rows[others], scores=near.scores[others])


def filter_bits(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/filter: a bit for each row in map order, lowest bit first; 1 where all conditions hold."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, *CONDITIONS)
    mask = selected(desk, found, given)
    headers = {"x-gnomonic-count": str(int(np.count_nonzero(mask))), "x-gnomonic-rows": str(len(mask))}
    return data(bits_of(mask), headers=headers)


def heat(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/heat: how near each row is to a query: float16, or uint8, in map order.

    Rows that were deleted are NaN, as uint8 0.
    """
    found = map_of(desk, call)
    given = call.fields()
    only(given, *QUERIES, "dtype")
    dtype = text(given, "dtype", "float16", longest=40)
    if dtype not in ("float16", "uint8"):
        raise InputError(f"dtype {dtype!r} is unknown; choose float16 or uint8")
    asked = query_of(desk, found, given)
    scores = found.arrays.scores(asked.key, **asked.query)
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
    only(given, *CONDITIONS, "columns", "format")
    form = text(given, "format", "parquet", longest=40)
    if form not in ("parquet", "jsonl", "csv", "ids"):
        raise InputError(f"format {form!r} is unknown; choose parquet, jsonl, csv or ids")
    # Of one version: a row that is deleted while it is written would break off the answer.
    version = found.living.version
    rows = found.folder.rows[np.flatnonzero(found.arrays.by_row(selected(desk, found, given)))]
    columns = [found.id_field] if form == "ids" else names(given, "columns")
    if columns == []:
        raise InputError("columns is an empty list; name one at least, or leave it out for all")
    name = f"{found.dataset.slug}.{'txt' if form == 'ids' else form}"
    headers = {"content-disposition": f'attachment; filename="{name}"', "x-gnomonic-count": str(len(rows))}
    blocks = _blocks(found, rows, columns, version)
    first = next(blocks)
    if form == "parquet":
        path = _parquet(desk.options.root / "uploads", first, blocks)
        return FileResponse(
            path, media_type="application/vnd.apache.parquet", headers=headers, background=BackgroundTask(path.unlink)
        )
    write, kind = _TEXTS[form]
    return StreamingResponse(write(first, blocks), media_type=kind, headers=headers)


def _by_id(found: AtlasMap, asked: str, mask: NDArray[np.bool_] | None) -> Hits:
    """Return the row of an id, if there is one; what somebody typed need not be one."""
    try:
        numbers = found.dataset.store.rows_of(typed_ids(found.dataset, [asked.strip()]))
    except (InputError, DatasetError):
        numbers = np.empty(0, dtype=np.int64)
    rows = found.folder.positions_of(numbers)
    rows = rows[rows >= 0]
    rows = rows if mask is None else rows[mask[rows]]
    return Hits(rows=rows, scores=np.ones(len(rows), dtype=np.float32))


def _blocks(found: AtlasMap, rows: NDArray[np.int64], columns: list[str] | None, version: int) -> Iterator[pa.Table]:
    """Yield the rows' columns, a block at a time, and one block where there are no rows."""
    for begin in range(0, max(1, len(rows)), _BLOCK_ROWS):
        yield found.dataset.store.take(rows[begin : begin + _BLOCK_ROWS], columns, version=version)


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
    writer.writerow(map(_cell, first.column_names))
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


def _id_lines(first: pa.Table, others: Iterator[pa.Table]) -> Iterator[bytes]:
    for block in chain((first,), others):
        ids = [str(value) for value in block.column(0).to_pylist()]
        # An id with a line's end in it stands in quotes, so that every line is one id.
        yield "".join(f"{orjson.dumps(one).decode() if _LINE_END.search(one) else one}\n" for one in ids).encode()


_LINE_END = re.compile(r"[\r\n]")
_TEXTS: dict[str, tuple[Callable[[pa.Table, Iterator[pa.Table]], Iterator[bytes]], str]] = {
    "jsonl": (_json_lines, "application/x-ndjson"),
    "csv": (_csv_lines, "text/csv; charset=utf-8"),
    "ids": (_id_lines, "text/plain; charset=utf-8"),
}
