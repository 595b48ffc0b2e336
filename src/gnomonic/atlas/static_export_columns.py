"""Tiles and the columns beside them, as a static export holds them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.columns import (
    ColumnInfo,
    read_column_tile,
    read_columns_index,
    read_dictionary,
    write_column,
    write_columns_index,
)
from gnomonic.atlas.tiles import Manifest, read_manifest

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.atlas.living import Living

__all__ = ["write_columns"]

_MADE = re.compile(r"_topic_depth_\d+|_duplicate_class|_trust")
"""Columns that the build makes; they go before columns of the user's that have such a name."""


def write_columns(found: AtlasMap, living: Living, folder: Path, names: list[str], there: NDArray[np.bool_]) -> None:
    """Write manifest, tiles, `columns.json` and the files of the columns that are exported.

    They are the map's own, copied. Where rows are gone the columns are written anew without what these held.

    Args:
        found: the map.
        living: which of its rows are there, at the version that is exported.
        folder: where they go.
        names: the fields of the export.
        there: [n] bool in row order: the rows that are not gone.
    """
    source = found.folder.folder / "tiles"
    manifest = read_manifest(source)
    folder.mkdir(parents=True)
    shutil.copyfile(source / "manifest.json", folder / "manifest.json")
    shutil.copytree(source / "tiles", folder / "tiles", copy_function=shutil.copyfile)
    infos = []
    for name, info in read_columns_index(source).items():
        made = _MADE.fullmatch(name) is not None
        if not made and name not in names:
            continue
        if info.dtype is None or there.all():
            if info.dtype is not None:
                shutil.copytree(
                    source / "columns" / info.id, folder / "columns" / info.id, copy_function=shutil.copyfile
                )
            infos.append(info)
            continue
        values = _made_values(source, info, manifest) if made else _values(found, living, name, there)
        gone = ~there[found.folder.order]
        infos.append(write_column(folder, name, _without(values, gone), manifest))
    write_columns_index(folder, infos)


def _values(found: AtlasMap, living: Living, name: str, there: NDArray[np.bool_]) -> pa.ChunkedArray:
    """Return a column in map order as it is now, null for rows that are gone."""
    at = found.folder.order
    use = there[at]
    column = found.dataset.store.take(found.folder.rows[at[use]], [name], version=living.version).column(0)
    places = np.where(use, np.cumsum(use) - 1, -1)
    if not len(column):
        return pa.chunked_array([pa.nulls(len(at), column.type)])
    return column.take(pa.array(places, mask=places < 0))


def _made_values(source: Path, info: ColumnInfo, manifest: Manifest) -> pa.ChunkedArray:
    """Return a column in map order from its files."""
    parts = [read_column_tile(source, info, tile) for tile in manifest.tiles]
    stored = np.concatenate(parts)
    if info.kind != "category":
        return pa.chunked_array([pa.array(stored, from_pandas=True)])
    codes = pa.array(stored.astype(np.int32), mask=stored == info.null_code)
    values = pa.DictionaryArray.from_arrays(codes, pa.array(read_dictionary(source, info)[0], type=pa.string()))
    return pa.chunked_array([values.dictionary_decode()])


def _without(values: pa.ChunkedArray, gone: NDArray[np.bool_]) -> pa.ChunkedArray:
    places = np.where(gone, -1, np.arange(len(gone)))
    return values.take(pa.array(places, mask=gone))
