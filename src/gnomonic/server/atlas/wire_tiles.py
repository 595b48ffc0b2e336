"""The official client's tiles: Arrow files of a part of the map, made when they are asked for.

Every tile of a map has the same columns of the same types, and leaves out rows that were deleted since.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import Response
from numpy.typing import NDArray
from pyarrow import feather

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.duplicates import CLASS_NAMES, Duplicates
from gnomonic.atlas.tiles import Manifest, Tile, read_manifest
from gnomonic.atlas.topics import Topics
from gnomonic.errors import DatasetError, DatasetNotFoundError
from gnomonic.server.atlas.call import Call, data
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.jobs import jobs_of
from gnomonic.server.atlas.organisations import check_uuid
from gnomonic.server.atlas.uploads import VECTOR_FIELD
from gnomonic.server.atlas.wire_tags import tag_bits

__all__ = ["manifest", "map_schema", "schema", "tile", "tile_table"]

_KEY = re.compile(r"(\d{1,3}/\d{1,12}/\d{1,12})(?:\.([A-Za-z0-9_.-]{1,100}))?\.feather")
_TAG = "_tag."
# What a map is does not change, but rows may leave it and columns may come, so it is asked for again after a while.
_FRESH = {"cache-control": "private, max-age=60"}

IDS = "datum_id"
COLUMNS = "columns"
VECTORS = "embeddings"
TOPICS = "topics"
DUPLICATES = "duplicates"


def schema(desk: Desk, call: Call) -> Response:
    """GET /v1/project/projection/{map_id}/schema: the columns of a map, and the sidecar that each is in."""
    return data(map_schema(_map(desk, call)).serialize().to_pybytes())


def manifest(desk: Desk, call: Call) -> Response:
    """GET /v1/project/{project_id}/index/projection/{map_id}/quadtree/manifest.feather: the tiles of a map."""
    found = _manifest(_map(desk, call))
    boxes = [found.extent_of(one) for one in found.tiles]
    extents = [json.dumps({"x": [box.x, box.x + box.size], "y": [box.y, box.y + box.size]}) for box in boxes]
    return _feather(
        pa.table(
            {
                "key": pa.array([one.key for one in found.tiles], pa.string()),
                "nPoints": pa.array([one.count for one in found.tiles], pa.int64()),
                "min_ix": pa.array([one.offset for one in found.tiles], pa.int64()),
                "max_ix": pa.array([one.offset + max(0, one.count - 1) for one in found.tiles], pa.int64()),
                "extent": pa.array(extents, pa.string()),
            }
        )
    )


def tile(desk: Desk, call: Call) -> Response:
    """GET …/quadtree/{z}/{x}/{y}[.{sidecar}].feather: some columns of one tile."""
    asked = _KEY.fullmatch(call.params["key"])
    if asked is None:
        raise DatasetNotFoundError(f"{call.params['key'][:100]!r} is no tile; one is called z/x/y.sidecar.feather")
    found = _map(desk, call)
    try:
        wanted = _manifest(found).tile(asked[1])
    except DatasetError as error:
        raise DatasetNotFoundError(str(error)) from None
    return _feather(tile_table(found, wanted, asked[2] or ""))


def map_schema(found: AtlasMap) -> pa.Schema:
    """Return every column of a map, each with the name of its sidecar in its metadata."""
    fields: list[pa.Field] = []

    def add(sidecar: str, columns: pa.Schema) -> None:
        told = {"sidecar_name": json.dumps(sidecar)}
        fields.extend(item.with_metadata(told) for item in columns)

    add("", pa.schema({"x": pa.float32(), "y": pa.float32(), "ix": pa.int64()}))
    add(IDS, _id_schema(found))
    add(VECTORS, pa.schema({VECTOR_FIELD: _vector_type(found)}))
    add(COLUMNS, _column_schema(found))
    if depth := _depth(found):
        add(TOPICS, pa.schema({f"_topic_depth_{d}_int": pa.int32() for d in range(1, depth + 1)}))
    if _has_duplicates(found):
        add(DUPLICATES, pa.schema({"_duplicate_class": pa.string(), "_cluster_id": pa.int64()}))
    return pa.schema(fields)


def tile_table(found: AtlasMap, wanted: Tile, sidecar: str) -> pa.Table:
    """Return the columns of a sidecar for the rows of a tile.

    Raises:
        DatasetNotFoundError: the map has no such sidecar.
    """
    positions = found.folder.order[wanted.offset : wanted.offset + wanted.count]
    kept = np.flatnonzero(_alive(found)[positions])
    rows = np.asarray(positions[kept])
    if sidecar.startswith(_TAG):
        return pa.table({"bitmask": tag_bits(found, sidecar.removeprefix(_TAG), rows)})
    make = _SIDECARS.get(sidecar)
    if make is None:
        raise DatasetNotFoundError(f"the map has no sidecar {sidecar!r}")
    if sidecar == "":
        return _positions(found, rows, wanted.offset + kept)
    return make(found, rows)


def _map(desk: Desk, call: Call) -> AtlasMap:
    """Return the map of a path.

    Raises:
        DatasetError: its build failed; says why.
        DatasetNotFoundError: there is none.
    """
    map_id = check_uuid(call.params["map_id"], "map id")
    try:
        return desk.datasets.map_by_id(call.organization, map_id)
    except DatasetNotFoundError:
        for home in desk.datasets.homes(call.organization):
            for job in jobs_of(home.folder):
                if job.map_id == map_id and job.state != "completed":
                    raise DatasetError(f"the map is not there: its build is {job.state}. {job.error or ''}") from None
        raise


def _manifest(found: AtlasMap) -> Manifest:
    return read_manifest(found.folder.folder / "tiles")


def _alive(found: AtlasMap) -> NDArray[np.bool_]:
    there = np.zeros(found.record.rows, dtype=bool)
    there[found.alive] = True
    return there


def _feather(table: pa.Table) -> Response:
    stream = io.BytesIO()
    # Readers in browsers know no compression.
    feather.write_feather(table, stream, compression="uncompressed", chunksize=max(1, len(table)))
    return data(stream.getvalue(), "application/vnd.apache.arrow.file", _FRESH)


def _positions(found: AtlasMap, rows: NDArray[np.int64], at: NDArray[np.int64]) -> pa.Table:
    xy = np.asarray(found.folder.xy[rows], dtype=np.float32).reshape(-1, 2)
    return pa.table({"x": xy[:, 0].copy(), "y": xy[:, 1].copy(), "ix": at.astype(np.int64)})


def _ids(found: AtlasMap, rows: NDArray[np.int64]) -> pa.Table:
    return _taken(found, rows, _id_schema(found))


def _columns(found: AtlasMap, rows: NDArray[np.int64]) -> pa.Table:
    return _taken(found, rows, _column_schema(found))


def _taken(found: AtlasMap, rows: NDArray[np.int64], wanted: pa.Schema) -> pa.Table:
    table = found.dataset.store.take(found.folder.rows[rows], wanted.names)
    return table.cast(wanted).combine_chunks()


def _vectors(found: AtlasMap, rows: NDArray[np.int64]) -> pa.Table:
    kind = _vector_type(found)
    values = np.ascontiguousarray(found.folder.vectors[rows]).reshape(-1)
    return pa.table({VECTOR_FIELD: pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind)})


def _topics(found: AtlasMap, rows: NDArray[np.int64]) -> pa.Table:
    labels = np.asarray(Topics.load(_part(found, "topics")).labels)[:, rows].astype(np.int32)
    return pa.table({f"_topic_depth_{depth}_int": part for depth, part in enumerate(labels, start=1)})


def _duplicates(found: AtlasMap, rows: NDArray[np.int64]) -> pa.Table:
    kept = Duplicates.load(_part(found, "duplicates"))
    names = pa.array(CLASS_NAMES, pa.string()).take(pa.array(np.asarray(kept.classes)[rows].astype(np.int32)))
    return pa.table({"_duplicate_class": names, "_cluster_id": np.asarray(kept.cluster)[rows].astype(np.int64)})


_SIDECARS: dict[str, Callable[[AtlasMap, NDArray[np.int64]], pa.Table]] = {
    "": _ids,
    IDS: _ids,
    COLUMNS: _columns,
    VECTORS: _vectors,
    TOPICS: _topics,
    DUPLICATES: _duplicates,
}


def _part(found: AtlasMap, name: str) -> Path:
    return found.folder.folder / name


def _depth(found: AtlasMap) -> int:
    if not found.record.options.get("topics", {}).get("build_topic_model"):
        return 0
    return len(Topics.load(_part(found, "topics")).labels)


def _has_duplicates(found: AtlasMap) -> bool:
    return (_part(found, "duplicates") / "classes.npy").is_file()


def _vector_type(found: AtlasMap) -> pa.DataType:
    return pa.list_(pa.from_numpy_dtype(found.folder.vectors.dtype), found.record.dim)


def _id_schema(found: AtlasMap) -> pa.Schema:
    return pa.schema([_plain(found.dataset.store.schema.field(found.id_field))])


def _column_schema(found: AtlasMap) -> pa.Schema:
    """Return the user's columns without the ids, which have their own sidecar; ids that were made here are a column."""
    own = found.dataset.home.record.unique_id_field
    return pa.schema(
        [_plain(item) for item in found.dataset.store.schema if item.name != own and not item.name.startswith("_")]
    )


def _plain(item: pa.Field) -> pa.Field:
    """Return a column as every tile can have it: dictionaries would differ from tile to tile."""
    kind: Any = item.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind) or pa.types.is_large_string(kind):
        kind = pa.string()
    return pa.field(item.name, kind)
