"""Values of rows as a page shows them: short, and of types that JSON has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.server.atlas.call import json_bytes

__all__ = ["read_short", "shorten"]

_BLOCK_BYTES = 64 << 20
_FIRST_ROWS = 8
"""Rows that are read to see how large they are."""
_EXACT = 2**53
"""Larger whole numbers are no exact numbers in JavaScript."""


def read_short(
    found: AtlasMap, rows: NDArray[np.int64], columns: list[str] | None, longest: int, *, version: int
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield each row's values by field, and the fields that were cut.

    Rows are read so many at a time that long texts do not fill the memory.

    Args:
        found: the map.
        rows: [m] int64 numbers of the store, all there at that version.
        columns: default all of the user's.
        longest: characters of a value.
        version: of the rows.
    """
    done, size = 0, _FIRST_ROWS
    while done < len(rows):
        table = found.dataset.store.take(rows[done : done + size], columns, version=version)
        shown = [shorten(column, longest) for column in table.columns]
        for row in range(len(table)):
            cells = {name: column[row] for name, column in zip(table.column_names, shown, strict=True)}
            yield {name: cell[0] for name, cell in cells.items()}, [name for name, cell in cells.items() if cell[1]]
        done += len(table)
        size = max(1, min(len(rows), int(_BLOCK_BYTES / max(1.0, table.nbytes / len(table)))))


def shorten(column: pa.ChunkedArray, longest: int) -> list[tuple[Any, bool]]:
    """Return the values of a column as JSON can hold them, and whether each was cut.

    Texts are cut to `longest` characters; lists and objects whose JSON is longer become its beginning, bytes their
    number.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # Cut before it becomes Python's, which for a text of many megabytes is most of the work.
        return [_text(value, longest) for value in pc.utf8_slice_codeunits(column, 0, longest + 1).to_pylist()]
    if _is_binary(kind):
        return [(None if size is None else f"<{size:,} bytes>", False) for size in pc.binary_length(column).to_pylist()]
    if _is_list(kind):
        # Every element takes a character or more.
        column = pc.list_slice(column, 0, longest + 1, return_fixed_size_list=False)
    return [_plain(value, longest) for value in column.to_pylist()]


def _is_binary(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _text(value: str | None, longest: int) -> tuple[str | None, bool]:
    return (value, False) if value is None or len(value) <= longest else (value[:longest], True)


def _plain(value: Any, longest: int) -> tuple[Any, bool]:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value), False
    if value is None or isinstance(value, bool | int | float):
        return value, False
    if isinstance(value, str):
        return _text(value, longest)
    written = json_bytes(value)
    plain = orjson.loads(written)
    if isinstance(plain, list | dict) and len(text := written.decode()) > longest:
        return text[:longest], True
    return plain, False
