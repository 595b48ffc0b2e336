"""Our own API: the rows of a map, a page and a part at a time, and what is near vectors; for the remote client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import Response

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.errors import InputError, OverloadedError
from gnomonic.server.atlas.api_datasets import tabled
from gnomonic.server.atlas.api_maps import map_of
from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.reading import names, only, text, whole

__all__ = ["nearest", "read", "topic_shares"]

_MAX_ROWS = 100_000
_MAX_VALUES = 1 << 24
"""Numbers in an answer with vectors."""
_MAX_QUERIES = 256
_MAX_K = 128
_TRIES = 5


def read(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/read: one part of the rows at `limit` places from `offset`, in row order.

    The first column, `_at`, is each row's place. Rows that were deleted have places, but are not in the answer.
    """
    found = map_of(desk, call)
    given = call.fields()
    only(given, "part", "offset", "limit", "columns", "cutoff")
    name = text(given, "part", "", longest=40) or ""
    if name not in _PARTS:
        raise InputError(f"part {name!r} is unknown; choose one of {', '.join(_PARTS)}")
    offset = whole(given, "offset", 0, 0, 2**53)
    limit = whole(given, "limit", 1000, 1, _MAX_ROWS)
    for _ in range(_TRIES):
        living = found.living
        low, high = (int(place) for place in np.searchsorted(living.alive, [offset, offset + limit]))
        table = _PARTS[name](found, slice(low, high), given)
        if found.living is living:  # else some of it is of the rows before a change and some of those after it
            return tabled(call, table.add_column(0, "_at", pa.chunked_array([pa.array(living.alive[low:high])])))
    raise OverloadedError("the rows change faster than the map can be read", retry_after_s=1.0)


def nearest(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/nearest: the ids of the rows nearest to vectors or rows, and how far they are."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, "queries", "ids", "k")
    ids = names(given, "ids", numbers=True)
    neighbors, distances = found.embeddings.vector_search(
        _vectors(given) if ids is None else None,
        None if ids is None else typed_ids(found.dataset, ids),
        k=whole(given, "k", 5, 1, _MAX_K),
    )
    return said({"neighbors": neighbors, "distances": distances})


def topic_shares(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/topic-shares: the topics of the rows nearest to vectors."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, "queries", "k", "depth")
    k, depth = whole(given, "k", 32, 1, _MAX_ROWS), whole(given, "depth", 3, 1, 100)
    return said(found.topics.vector_search_topics(_vectors(given), k=k, depth=depth))


def _vectors(given: dict[str, Any]) -> Any:
    try:
        queries = np.array(given.get("queries"), dtype=np.float32)
    except (TypeError, ValueError):
        queries = np.empty(0, dtype=np.float32)
    if queries.ndim != 2 or not 1 <= len(queries) <= _MAX_QUERIES or not np.isfinite(queries).all():
        raise InputError(f"queries must be 1 to {_MAX_QUERIES} vectors of finite numbers, all of one length")
    return queries


def _ids(found: AtlasMap, span: slice, _: dict[str, Any]) -> pa.Table:
    return pa.table({found.id_field: found.ids[span]})


def _data(found: AtlasMap, span: slice, given: dict[str, Any]) -> pa.Table:
    return found.dataset.store.take(found.living.rows[span], names(given, "columns"), version=found.living.version)


def _positions(found: AtlasMap, span: slice, _: dict[str, Any]) -> pa.Table:
    return _cut(found.embeddings.tb, span)


def _trust(found: AtlasMap, span: slice, _: dict[str, Any]) -> pa.Table:
    return pa.table({"trust": found.trust[span]})


def _latent(found: AtlasMap, span: slice, _: dict[str, Any]) -> pa.Table:
    places = found.alive[span]
    if len(places) * found.record.dim > _MAX_VALUES:
        raise InputError(
            f"{len(places):,} vectors of {found.record.dim} numbers are too many for one answer; "
            f"ask for {_MAX_VALUES // found.record.dim:,} at a time"
        )
    flat = np.ascontiguousarray(found.folder.vectors[places]).reshape(-1)
    return pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), found.record.dim)})


def _topics(found: AtlasMap, span: slice, _: dict[str, Any]) -> pa.Table:
    labels = found.topics.labels[:, span]
    return pa.table({f"topic_depth_{depth}": one for depth, one in enumerate(labels, start=1)})


def _duplicates(found: AtlasMap, span: slice, given: dict[str, Any]) -> pa.Table:
    cutoff = given.get("cutoff")
    if cutoff is not None and (isinstance(cutoff, bool) or not isinstance(cutoff, int | float)):
        raise InputError(f"cutoff {str(cutoff)[:40]} is no number")
    return _cut(found.duplicates.tb if cutoff is None else found.duplicates.at_cutoff(float(cutoff)), span)


def _tags(found: AtlasMap, span: slice, _: dict[str, Any]) -> pa.Table:
    return _cut(found.tags.tb, span)


def _cut(table: pa.Table, span: slice) -> pa.Table:
    return table.slice(span.start, span.stop - span.start)


_PARTS: dict[str, Callable[[AtlasMap, slice, dict[str, Any]], pa.Table]] = {
    "ids": _ids,
    "data": _data,
    "positions": _positions,
    "trust": _trust,
    "vectors": _latent,
    "topics": _topics,
    "duplicates": _duplicates,
    "tags": _tags,
}
