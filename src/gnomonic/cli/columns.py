"""Input columns as Arrow data, for Parquet in and out; nothing else here needs pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomonic.cli.rows import Row, usable_text
from gnomonic.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["iter_parquet_rows", "iter_tables", "parquet_kinds", "require_pyarrow", "schema_of"]

_GROUP_ROWS = 8192
_GROUP_BYTES = 64 << 20
"""A row group of the output holds at most so many rows, and about so many bytes of input."""


def require_pyarrow(needed_for: str) -> Any:
    """Return the pyarrow module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("atlas", needed_for=needed_for) from error
    return pyarrow


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    pa = require_pyarrow("reading .parquet files")
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def parquet_kinds(path: Path) -> dict[str, str]:
    """Return column -> "string" for text, "null" for an empty column, else the Arrow type's name.

    Raises:
        InputError: the file is not readable Parquet.
        MissingExtraError: pyarrow is not installed.
    """
    with _open(path) as file:
        return {field.name: _kind(field.type) for field in file.schema_arrow}


def _kind(type_: pa.DataType) -> str:
    import pyarrow.types as is_

    if is_.is_dictionary(type_):
        return _kind(type_.value_type)
    if is_.is_string(type_) or is_.is_large_string(type_) or is_.is_string_view(type_):
        return "string"
    return "null" if is_.is_null(type_) else str(type_)


def iter_parquet_rows(path: Path, field: str) -> Iterator[Row]:
    """Yield every row of a Parquet file with the text of `field`; `Row.values` stays None.

    Raises:
        InputError: the file is damaged.
        MissingExtraError: pyarrow is not installed.
    """
    number = 0
    with _open(path) as file:
        for batch in file.iter_batches(batch_size=_batch_rows(file), columns=[field], use_threads=False):
            for value in batch.column(0):
                try:
                    text, reason = usable_text(value.as_py())
                except UnicodeDecodeError:
                    text, reason = "", "the text is not valid UTF-8"
                yield Row(number=number, text=text, reason=reason)
                number += 1


def _batch_rows(file: Any) -> int:
    """Return how many rows may be in memory at once, from the size the file says it has uncompressed."""
    about = file.metadata
    rows: int = about.num_rows
    size = sum(int(about.row_group(i).total_byte_size) for i in range(about.num_row_groups))
    return max(1, min(_GROUP_ROWS, _GROUP_BYTES * max(rows, 1) // max(size, 1)))


def schema_of(path: Path, kind: str, kinds: Mapping[str, str]) -> pa.Schema:
    """Return the Arrow schema of the input's columns; a mixed or nested JSON column is text."""
    if kind == "parquet":
        with _open(path) as file:
            return file.schema_arrow
    pa = require_pyarrow("writing .parquet files")
    types = {"bool": pa.bool_(), "int": pa.int64(), "int64": pa.int64(), "float": pa.float64()}
    return pa.schema([(name, types.get(held, pa.string())) for name, held in kinds.items()])


def iter_tables(path: Path, kind: str, rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the input's columns in groups of rows, in order, every row once.

    Args:
        path: the input file.
        kind: its format.
        rows: its rows; not read for Parquet, whose columns are passed through as they are.
        schema: from `schema_of`.
    """
    pa = require_pyarrow("writing .parquet files")
    if kind == "parquet":
        with _open(path) as file:
            for batch in file.iter_batches(batch_size=_batch_rows(file), use_threads=False):
                yield pa.Table.from_batches([batch], schema=schema)
        return
    group: list[Mapping[str, object]] = []
    size = 0
    for row in rows:
        values = row.values or {}
        group.append(values)
        size += sum(len(value) if isinstance(value, str) else 64 for value in values.values())
        if len(group) == _GROUP_ROWS or size > _GROUP_BYTES:
            yield _table(group, schema)
            group, size = [], 0
    if group:
        yield _table(group, schema)


def _table(group: list[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    pa = require_pyarrow("writing .parquet files")
    arrays = []
    for field in schema:
        values = [row.get(field.name) for row in group]
        if pa.types.is_string(field.type):
            values = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
        arrays.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
