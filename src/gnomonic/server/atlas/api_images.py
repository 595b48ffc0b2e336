"""Our own API: the pictures of a map's rows, small ones many at a time and large ones one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from fastapi import Response

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.living import Living
from gnomonic.atlas.sprites import SHEET_ROWS, image_type, sprite_sheet
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError
from gnomonic.server.atlas.api_maps import map_of, position_of, unchanged
from gnomonic.server.atlas.call import Call, data
from gnomonic.server.atlas.desk import Desk

__all__ = ["image", "thumb", "thumbs"]

_READ_AT_ONCE = 16
"""Pictures in memory at a time."""
_SAFE = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; sandbox"}


def thumbs(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/thumbs/{z}/{x}/{y}: a sheet of the pictures of a tile's first 1,024 rows, in its order."""
    found = map_of(desk, call)
    return _sheet(call, found, found.living, *_tile(found, "/".join(call.params[name] for name in "zxy")))


def thumb(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/thumbs/{position}: the picture of a row on a sheet of its own."""
    found = map_of(desk, call)
    living = found.living
    return _sheet(call, found, living, position_of(found, call, living), 1)


def image(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/images/{position}: the picture of a row as it was given."""
    found = map_of(desk, call)
    living = found.living
    position = position_of(found, call, living)
    row = found.folder.rows[found.folder.order[position]]
    (held,) = found.dataset.store.blobs(np.array([row]), version=living.version)
    if held is None:
        raise DatasetNotFoundError(f"the row at position {position} has no picture")
    kind = image_type(held)
    if kind is None:
        raise InputError("the row's file is no PNG, JPEG, WebP or GIF picture, and others are not shown")
    return data(held, kind, {**_SAFE, "cache-control": "private, no-cache", "content-disposition": "inline"})


def _sheet(call: Call, found: AtlasMap, living: Living, offset: int, count: int) -> Response:
    """Give a sheet of the pictures of some positions that follow each other."""
    if not found.dataset.store.has_blobs:
        raise DatasetNotFoundError("the rows of this map have no pictures")
    tag = f'"{found.id}-{living.version}-{offset}-{count}"'
    headers = {**_SAFE, "cache-control": "private, no-cache", "etag": tag}
    if (same := unchanged(call, headers)) is not None:
        return same
    sheet, kind = found.arrays.kept(
        ("thumbs", living.version, offset, count), lambda: sprite_sheet(_images(found, living, offset, count), count)
    )
    return data(sheet, kind, headers)


def _tile(found: AtlasMap, key: str) -> tuple[int, int]:
    """Return where a tile begins in map order, and how many of its rows have their pictures on the sheet."""
    try:
        tile = found.arrays.columns.manifest.tile(key[:100])
    except DatasetError as error:
        raise DatasetNotFoundError(str(error)) from None
    return tile.offset, min(tile.count, SHEET_ROWS)


def _images(found: AtlasMap, living: Living, offset: int, count: int) -> Iterator[bytes | None]:
    """Yield the pictures at positions of the map order; None for rows that are gone or have none."""
    alive = found.arrays.living(living)
    for begin in range(offset, offset + count, _READ_AT_ONCE):
        places = np.arange(begin, min(begin + _READ_AT_ONCE, offset + count))
        there = np.ones(len(places), dtype=np.bool_) if alive is None else alive[places]
        rows = found.folder.rows[found.folder.order[places[there]]]
        held = iter(found.dataset.store.blobs(rows, version=living.version))
        for is_there in there.tolist():
            yield next(held) if is_there else None
