"""Rows of a static export: what the browser shows of them, in small files by map position."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.row_types import is_text
from gnomonic.atlas.static_export_files import Json, json_bytes, json_value, pack, shard_of, write_file

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.atlas.living import Living

__all__ = ["LONG_ROWS", "ROWS", "SHORT", "RowWriter", "write_lengths"]

ROWS = 64
"""Positions of a file of rows."""
LONG_ROWS = 32
"""Positions of a file of long values."""
SHORT = 500
"""Characters of a value that stand in the file of rows; longer ones are whole in a file of long values."""
LONGEST = 100_000
"""Characters of a value at all."""
_NO_TEXT = 2**32 - 1
_IDS = 4096
"""Ids of a file of ids, about."""
_MOST_SHARDS = 256
_READ = 2048
"""Rows that are read at a time, at most."""
_FIRST_READ = 16
"""Rows that are read to see how large they are."""
_READ_BYTES = 64 << 20


class RowWriter:
    """Writes `rows/`, `long/` and `ids/`."""

    def __init__(self, found: AtlasMap, living: Living, folder: Path, columns: Sequence[str]) -> None:
        """Begin.

        Args:
            found: the map.
            living: which of its rows are there, at the version that is exported.
            folder: where the files go.
            columns: the fields that are written.
        """
        self._folder = folder
        self._columns = list(columns)
        self._id = found.id_field
        self._living = living
        self._store = found.dataset.store
        self._xy = found.folder.xy
        self._trust = found.folder.array("quality/trust")
        self._rows = found.folder.rows
        self._order = found.folder.order
        self._there = np.zeros(found.record.rows, dtype=np.bool_)
        self._there[living.alive] = True
        count = len(living.alive)
        self.shards = int(min(_MOST_SHARDS, 2 ** max(0, int(np.ceil(np.log2(max(count, 1) / _IDS))))))
        self._ids: list[dict[str, int]] = [{} for _ in range(self.shards)]
        self.cut = 0
        """Values that were cut."""

    def write(
        self, begin: int, end: int, words: Sequence[str], images: Sequence[str | None] | None = None
    ) -> list[str | None]:
        """Write the rows at some positions, and return their texts.

        Args:
            begin: the first position, a multiple of `ROWS`.
            end: the one after the last.
            words: the columns whose texts are returned, one below the other.
            images: [end - begin] the kind of image that each row has, such as "jpg".
        """
        texts: list[str | None] = []
        for first in range(begin, end, _READ):
            last = min(first + _READ, end)
            values = self._read(first, last)
            texts += _texts([values[name] for name in words], last - first)
            ids = values[self._id]
            shown = {name: values[name] for name in self._columns}
            for block in range(first, last, ROWS):
                part = slice(block - first, min(block + ROWS, last) - first)
                kinds = None if images is None else images[part.start + first - begin : part.stop + first - begin]
                self._write_block(block, ids[part], {name: one[part] for name, one in shown.items()}, kinds)
        return texts

    def write_ids(self) -> None:
        """Write where each id is, once all rows are written."""
        for shard, ids in enumerate(self._ids):
            write_file(self._folder / "ids" / f"{shard}.bin", json_bytes(ids))

    def _read(self, first: int, last: int) -> dict[str, list[Json]]:
        """Return the values of some positions by column, None for rows that are gone; long texts cut."""
        at = self._order[first:last]
        there = np.flatnonzero(self._there[at])
        names = list(dict.fromkeys([self._id, *self._columns]))
        found: dict[str, list[Json]] = {name: [None] * len(at) for name in names}
        done, size = 0, _FIRST_READ
        while done < len(there):
            places = there[done : done + size]
            table = self._store.take(self._rows[at[places]], names, version=self._living.version)
            for name in names:
                column = found[name]
                for place, value in zip(places.tolist(), _values(table.column(name)), strict=True):
                    column[place] = value
            done += len(places)
            # So many at a time that long texts do not fill the memory.
            size = max(1, min(_READ, int(_READ_BYTES / max(1.0, table.nbytes / len(places)))))
        return found

    def _write_block(
        self, begin: int, ids: list[Json], values: dict[str, list[Json]], images: Sequence[str | None] | None
    ) -> None:
        at = self._order[begin : begin + len(ids)]
        long: dict[str, list[str]] = {}
        cut: dict[str, list[str]] = {}
        whole: dict[int, dict[str, Json]] = {}
        for name, column in values.items():
            for place, value in enumerate(column):
                text = _text_of(value)
                if text is None or len(text) <= SHORT:
                    continue
                column[place] = text[:SHORT]
                long.setdefault(str(place), []).append(name)
                if len(text) > LONGEST:
                    cut.setdefault(str(place), []).append(name)
                    self.cut += 1
                    value = text[:LONGEST]
                whole.setdefault(place, {})[name] = value
        xy = np.asarray(self._xy[at], dtype=np.float64)
        told: dict[str, Json] = {
            "ids": ids,
            "x": [_short(value) for value in xy[:, 0]],
            "y": [_short(value) for value in xy[:, 1]],
            "trust": [int(value) for value in self._trust[at]],
            "columns": list(values),
            "values": list(values.values()),
            "long": long,
            "cut": cut,
        }
        if images is not None:
            told["images"] = list(images)
        write_file(self._folder / "rows" / f"{begin // ROWS}.bin", json_bytes(told))
        for first in range(0, len(ids), LONG_ROWS):
            part = {str(place): whole[place] for place in range(first, first + LONG_ROWS) if place in whole}
            if part:
                write_file(self._folder / "long" / f"{(begin + first) // LONG_ROWS}.bin", json_bytes(part))
        for place, one in enumerate(ids):
            if one is not None:
                name = str(one)
                self._ids[shard_of(name, self.shards)][name] = begin + place


def write_lengths(
    found: AtlasMap, living: Living, path: Path, columns: Sequence[str], nodes: NDArray[np.int64]
) -> list[str]:
    """Write how long the texts of some rows are, all ones for none; return the columns that hold texts.

    Args:
        found: the map.
        living: which of its rows are there, at the version that is exported.
        path: the file.
        columns: the fields of the export.
        nodes: [m] int64 rows in row order.
    """
    schema = found.dataset.schema
    named = [name for name in columns if is_text(schema.field(name).type)]
    lengths = {name: np.full(len(nodes), _NO_TEXT, dtype=np.uint32) for name in named}
    there = np.flatnonzero(np.isin(nodes, living.alive))
    for first in range(0, len(there) if named else 0, _READ):
        use = there[first : first + _READ]
        table = found.dataset.store.take(found.folder.rows[nodes[use]], named, version=living.version)
        for name in named:
            counted = pc.fill_null(pc.utf8_length(_plain(table.column(name))).cast(pa.uint32()), _NO_TEXT)
            lengths[name][use] = np.asarray(counted.to_numpy(), dtype=np.uint32)
    write_file(path, pack({"columns": named}, {str(place): lengths[name] for place, name in enumerate(named)}))
    return named


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _values(values: pa.ChunkedArray) -> list[Json]:
    kind = values.type
    if is_text(kind):
        # Cut before it becomes Python's; one more than is kept, to tell that it was.
        found: list[Json] = pc.utf8_slice_codeunits(_plain(values), 0, LONGEST + 1).to_pylist()
        return found
    return [json_value(value) for value in values.to_pylist()]


def _text_of(value: Json) -> str | None:
    """Return a value's text if it may be long."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return None


def _texts(columns: Sequence[list[Json]], rows: int) -> list[str | None]:
    if len(columns) == 1:
        return list(columns[0])
    return (
        ["\n".join(text for text in texts if text) for texts in zip(*columns, strict=True)]
        if columns
        else [None] * rows
    )


def _short(value: float) -> float:
    """Return a float32 with the digits it has."""
    return float(f"{value:.7g}")
