"""Whatever users hold rows in, as one Arrow table; ids, vectors and images checked."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.row_types import settled_type, show
from gnomonic.atlas.store import HIDDEN_COLUMNS
from gnomonic.errors import InputError, SchemaError

__all__ = ["as_matrix", "check_ids", "check_vectors", "read_blobs", "read_rows", "split_embeddings", "to_table"]

_BLOCK_ROWS = 8192
_EMBEDDINGS = "_embeddings"


def read_rows(
    data: Any = None, *, vectors: Any = None, blobs: Sequence[Any] | None = None
) -> tuple[pa.Table, list[bytes | None] | None]:
    """Return rows as a table, and their images as bytes.

    Args:
        data: a DataFrame, an Arrow table, a list of dicts or a dict of columns; may be None with vectors or blobs, and
            the table then has no columns.
        vectors: the rows' vectors, of which only the number is looked at.
        blobs: an image a row: bytes, a path, a PIL image or None.

    Raises:
        InputError: the data are none of that, a name is not usable, or the numbers of rows differ.
        SchemaError: a column's values are of several types; names the column and the row.
    """
    images = None if blobs is None else read_blobs(blobs)
    counts = {"embeddings": vectors, "blobs": images}
    given = {name: len(values) for name, values in counts.items() if values is not None}
    if data is None:
        if not given:
            raise InputError("there are no rows; give data, embeddings or blobs")
        table = pa.table({})
    else:
        table = to_table(data)
        given = {"data": table.num_rows, **given} if table.num_columns or not given else given
    if len(set(given.values())) > 1:
        told = ", ".join(f"{count} in {name}" for name, count in given.items())
        raise InputError(f"the numbers of rows differ: {told}; each row needs one of each")
    return table, images


def to_table(data: Any) -> pa.Table:
    """Return rows as a table with settled types and usable names.

    Args:
        data: a DataFrame (anything with __arrow_c_stream__ or to_dict), an Arrow table or batch, dicts, or a dict of
            columns.

    Raises:
        InputError: the data are none of that, or a name is not usable.
        SchemaError: a column's values are of several types; names the column and the row.
    """
    if isinstance(data, Mapping):
        columns = {_name(name): values for name, values in data.items()}
        if len(columns) < len(data):
            raise InputError("two columns have the same name once names are read as strings; rename one")
        table = _from_columns(columns)
    elif hasattr(data, "__arrow_c_stream__") or isinstance(data, pa.RecordBatch):
        table = _from_arrow(data)
    elif hasattr(data, "to_dict") and hasattr(data, "columns"):
        table = to_table(data.to_dict("list"))
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | np.ndarray):
        table = _from_dicts(list(data))
    else:
        raise InputError(
            f"rows cannot be read from a {type(data).__name__}; give a DataFrame, a list of dicts or a dict of columns"
        )
    _check_names(table.column_names)
    columns = {field.name: _settle(table.column(i)) for i, field in enumerate(table.schema)}
    return pa.table(columns)


def split_embeddings(table: pa.Table) -> tuple[pa.Table, NDArray[Any] | None]:
    """Take the column `_embeddings`, where a table has it, out as vectors [n, dim].

    Raises:
        InputError: its rows are not lists of one length, or one is null.
    """
    if _EMBEDDINGS not in table.column_names:
        return table, None
    values = table.column(_EMBEDDINGS).combine_chunks()
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"row {row} has null in {_EMBEDDINGS}; every row needs a vector")
    rest = table.drop_columns([_EMBEDDINGS])
    if pa.types.is_fixed_size_list(values.type):
        dim = values.type.list_size
    elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        sizes = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        dim = int(sizes[0]) if len(sizes) else 0
        if (sizes != dim).any():
            row = int(np.flatnonzero(sizes != dim)[0])
            raise InputError(f"row {row} has a vector of {sizes[row]} numbers, row 0 one of {dim}; all need the same")
    else:
        raise InputError(f"{_EMBEDDINGS} holds {values.type}; give lists of numbers")
    flat = values.flatten()
    return rest, flat.to_numpy(zero_copy_only=False).reshape(len(values), dim)


def as_matrix(vectors: Any) -> NDArray[Any]:
    """Return vectors as an array of numbers, [n, dim]; it is not copied.

    Args:
        vectors: an array, or a list of lists.

    Raises:
        InputError: they are ragged or not numbers; says which row.
    """
    try:
        found = np.asarray(vectors)
    except ValueError:
        found = np.empty(0, dtype=object)
    if found.dtype == object and hasattr(vectors, "__len__") and len(vectors):
        _say_ragged(vectors)
    if found.shape == (0,):
        return np.empty((0, 1), dtype=np.float32)
    if found.ndim != 2 or not found.shape[1]:
        raise InputError(f"embeddings have the shape {found.shape}; give [rows, dimensions]")
    if found.dtype.kind not in "fiu":
        raise InputError(f"embeddings hold {found.dtype}; give floating-point numbers")
    return found


def check_vectors(vectors: Any, *, rows: int | None = None, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Return vectors as an array of numbers, [n, dim]; it is not copied.

    Args:
        vectors: an array, or a list of lists.
        rows: how many there must be.
        dtype: the type they will be stored in, in which they must be finite too.

    Raises:
        InputError: they are ragged, not numbers, not finite or not as many; says which row.
    """
    found = as_matrix(vectors)
    if rows is not None and len(found) != rows:
        raise InputError(f"the numbers of rows differ: {rows} in data, {len(found)} in embeddings")
    for begin in range(0, len(found), _BLOCK_ROWS):
        block = found[begin : begin + _BLOCK_ROWS]
        with np.errstate(over="ignore"):
            kept = block if dtype is None else block.astype(dtype, copy=False)
        finite = np.isfinite(kept).all(axis=1)
        if not finite.all():
            at = int(np.argmin(finite))
            bad = block[at][~np.isfinite(kept[at])][0]
            limit = "" if not np.isfinite(bad) else f", too large for {dtype}"
            raise InputError(f"the vector of row {begin + at} has {bad}{limit}; all values must be finite numbers")
    return found


def check_ids(column: pa.ChunkedArray, name: str) -> None:
    """Check that every row has an id.

    Raises:
        InputError: one is null or empty.
        SchemaError: the ids are neither strings nor whole numbers.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not text and not pa.types.is_integer(kind) and len(column) and not pa.types.is_null(kind):
        raise SchemaError(f"the id column {name!r} holds {kind}; ids are strings or whole numbers")
    bad = column.is_null()
    if text:
        bad = pc.or_kleene(bad, pc.equal(column.cast(kind), ""))
    if (row := pc.index(bad.fill_null(False), True).as_py()) >= 0:
        raise InputError(f"row {row} has no id in {name!r}; every row needs one")


def read_blobs(blobs: Sequence[Any]) -> list[bytes | None]:
    """Return images as bytes; None stays None.

    Raises:
        InputError: one is no image, or its file cannot be read; says which row.
    """
    found: list[bytes | None] = []
    for row, blob in enumerate(blobs):
        if blob is None or isinstance(blob, bytes):
            found.append(blob)
        elif isinstance(blob, bytearray | memoryview):
            found.append(bytes(blob))
        elif isinstance(blob, str | Path):
            try:
                found.append(Path(blob).read_bytes())
            except (OSError, ValueError) as error:
                raise InputError(f"the image of row {row}, {show(str(blob))}, cannot be read: {error}") from error
        elif hasattr(blob, "save"):
            stream = io.BytesIO()
            blob.save(stream, format="PNG")
            found.append(stream.getvalue())
        else:
            raise InputError(f"the image of row {row} is a {type(blob).__name__}; give bytes, a path or a PIL image")
    return found


def _name(name: Any) -> str:
    if not isinstance(name, str | int):
        raise InputError(f"column name {show(name)} is not a string")
    try:
        str(name).encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"the column name {name!r} is not valid Unicode; rename that column") from None
    return str(name)


def _check_names(names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{count} columns are named {name!r}; rename all but one")
        if name in HIDDEN_COLUMNS:
            raise InputError(f"the name {name!r} is used by the store itself; rename that column")


def _from_arrow(data: Any) -> pa.Table:
    try:
        table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else pa.table(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        if not hasattr(data, "to_dict") or not hasattr(data, "columns"):
            raise InputError(f"the rows cannot be read: {error}") from error
        return to_table(data.to_dict("list"))  # column by column, so that the error names the column and the row
    unnamed = [name for name in table.column_names if name.startswith("__index_level_")]
    return table.drop_columns(unnamed) if b"pandas" in (table.schema.metadata or {}) else table


def _from_dicts(rows: list[Any]) -> pa.Table:
    names: dict[str, None] = {}
    for row, values in enumerate(rows):
        if not isinstance(values, Mapping):
            raise InputError(f"row {row} is a {type(values).__name__}; give a dict of columns for every row")
        for name in values:
            if not isinstance(name, str):
                raise InputError(f"row {row} has the column name {show(name)}, which is not a string")
            names.setdefault(name)
    for name in names:
        _name(name)
    return pa.table({name: _array(name, [values.get(name) for values in rows]) for name in names})


def _from_columns(columns: dict[str, Any]) -> pa.Table:
    made: dict[str, Any] = {}
    for name, values in columns.items():
        made[name] = _array(name, values)
    lengths = {name: len(values) for name, values in made.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} in {name!r}" for name, length in list(lengths.items())[:5])
        raise InputError(f"the columns have different numbers of rows: {told}")
    return pa.table(made)


def _array(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    """Return one column's values.

    Raises:
        InputError: they are no sequence.
        SchemaError: they are of several types.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = list(values) if values.ndim == 2 else values.tolist()
    elif isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise InputError(f"column {name!r} is a {type(values).__name__}; give a list of values, one a row")
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        listed = list(values)
        if listed and all(isinstance(value, int) or value is None for value in listed):
            # Whole numbers above 2**63 - 1 but below 2**64 have a type of their own.
            try:
                return pa.array(listed, pa.uint64())
            except (pa.ArrowException, OverflowError):
                pass
        raise _misfit(name, listed, error) from error


def _misfit(name: str, values: list[Any], error: Exception) -> SchemaError:
    """Say at which row a column's values stop having one type."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pa.array(values[:middle])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            high = middle
        else:
            low = middle
    value = values[low] if values else None
    try:
        kind = f"; the rows before hold {pa.array(values[:low]).type}" if low else ""
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        kind = ""
    detail = str(error).splitlines()[0][:200]
    return SchemaError(
        f"column {name!r}: row {low} has {show(value)} ({type(value).__name__}){kind}: {detail}",
        hint="give all values of a column in one type",
    )


def _settle(values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = settled_type(values.type)
    if values.type == kind:
        return values
    if pa.types.is_dictionary(kind):
        return values.cast(kind.value_type).dictionary_encode().unify_dictionaries()
    if pa.types.is_run_end_encoded(values.type):
        return pa.chunked_array(
            [pc.run_end_decode(chunk) for chunk in values.chunks], type=values.type.value_type
        ).cast(kind)
    return values.cast(kind)


def _say_ragged(vectors: Any) -> None:
    sizes = [len(row) if hasattr(row, "__len__") else -1 for row in vectors]
    for row, size in enumerate(sizes):
        if size < 0:
            raise InputError(f"the vector of row {row} is a {type(vectors[row]).__name__}; give a list of numbers")
        if size != sizes[0]:
            raise InputError(f"row {row} has a vector of {size} numbers, row 0 one of {sizes[0]}; all need the same")
    raise InputError("embeddings hold something other than numbers")
