"""Rows on their way into Lance, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomonic.atlas.row_types import Codec

__all__ = ["RowBatches", "vector_array"]

_BLOCK_ROWS = 8192


class RowBatches:
    """Rows to add, made into Lance's columns a block at a time, so that a memory map is never whole in memory."""

    def __init__(
        self,
        columns: Mapping[str, tuple[Codec, pa.ChunkedArray]],
        numbers: NDArray[np.int64],
        kept: NDArray[np.int64],
        vectors: NDArray[Any] | None,
        blobs: Mapping[str, Sequence[bytes | None] | None],
    ) -> None:
        self._columns = columns
        self._numbers = numbers
        self._kept = kept
        self._vectors = vectors
        self._blobs = {name: values for name, values in blobs.items() if values is not None}
        self._all = len(kept) == (int(kept[-1]) + 1 if len(kept) else 0)

    def schema(self, held: pa.Schema) -> pa.Schema:
        """Return the columns that are given; the others become null."""
        names = ["_row", *self._columns, *(["_vector"] if self._vectors is not None else []), *self._blobs]
        return pa.schema([pa.field(name, held.field(name).type) for name in names])

    def batches(self, held: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Make the rows, block by block."""
        schema = self.schema(held)
        for begin in range(0, len(self._kept), _BLOCK_ROWS):
            chosen = self._kept[begin : begin + _BLOCK_ROWS]
            arrays = [pa.array(self._numbers[begin : begin + len(chosen)])]
            for codec, values in self._columns.values():
                block = values.slice(begin, len(chosen)) if self._all else values.take(pa.array(chosen))
                arrays.append(_one(codec.encode(block)))
            if self._vectors is not None:
                block = self._vectors[begin : begin + len(chosen)] if self._all else self._vectors[chosen]
                arrays.append(vector_array(block, schema.field("_vector").type))
            for values in self._blobs.values():
                arrays.append(pa.array([values[i] for i in chosen.tolist()], pa.large_binary()))
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _one(values: pa.ChunkedArray) -> pa.Array:
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def vector_array(vectors: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Return vectors [n, dim] as a column of a fixed-size list type, their numbers rounded to its width."""
    block = np.ascontiguousarray(vectors, dtype=kind.value_type.to_pandas_dtype())
    return pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), type=kind)
