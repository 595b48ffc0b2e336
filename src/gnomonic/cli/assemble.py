"""Put finished chunks together into the output file, and publish it whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gnomonic.cli import columns
from gnomonic.cli.chunks import Chunk, ChunkStore, write_atomically
from gnomonic.cli.source import Source

__all__ = ["assemble"]


def assemble(
    output: Path,
    source: Source,
    store: ChunkStore,
    chunks: Sequence[Chunk],
    *,
    column: str,
    about: Mapping[str, object],
) -> None:
    """Write the output and the list of failed rows beside it, each by renaming a complete file.

    Args:
        output: .npy or .parquet.
        source: the input, read once more for its columns when the output is Parquet.
        store: where the vectors are.
        chunks: all chunks of the run, in order.
        column: name of the new column in Parquet.
        about: `model`, `dim`, `task_type` and so on; kept in the Parquet file's metadata under "gnomonic".

    Raises:
        InputError: the input was changed since it was looked through.
        OSError: the disk is full or not writable.
    """
    draft = store.folder / "output.tmp"
    dim = int(str(about["dim"]))
    with draft.open("wb") as file:
        if output.suffix == ".npy":
            _write_npy(file, store, chunks, dim)
        else:
            _write_parquet(file, source, _VectorReader(store, chunks, dim), column=column, about=about)
        file.flush()
        os.fsync(file.fileno())
    source.check_unchanged()
    failed = output.with_name(output.name + ".failed.jsonl")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for chunk in chunks for row in chunk.failed]
    if lines:
        write_atomically(failed, "".join(lines).encode())
    else:
        failed.unlink(missing_ok=True)
    draft.replace(output)


def _write_npy(file: IO[bytes], store: ChunkStore, chunks: Sequence[Chunk], dim: int) -> None:
    rows = sum(chunk.rows for chunk in chunks)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(file, header)
    for index, chunk in enumerate(chunks):
        file.write(store.vectors(index, chunk).tobytes())


class _VectorReader:
    """The vectors of all chunks as one sequence, taken in pieces of any size."""

    def __init__(self, store: ChunkStore, chunks: Sequence[Chunk], dim: int) -> None:
        self.dim = dim
        self._pieces: Iterator[NDArray[np.float32]] = (store.vectors(i, chunk) for i, chunk in enumerate(chunks))
        self._rest = np.empty((0, dim), dtype=np.float32)

    def take(self, rows: int) -> NDArray[np.float32]:
        """Return the next vectors, [rows, dim] float32."""
        pieces = [self._rest]
        have = len(self._rest)
        while have < rows:
            pieces.append(next(self._pieces))
            have += len(pieces[-1])
        joined = np.concatenate(pieces)
        self._rest = joined[rows:]
        return joined[:rows]


def _write_parquet(
    file: IO[bytes], source: Source, vectors: _VectorReader, *, column: str, about: Mapping[str, object]
) -> None:
    pa = columns.require_pyarrow("writing .parquet files")
    import pyarrow.parquet as pq

    schema = columns.schema_of(source.path, source.format, source.kinds)
    added = pa.field(column, pa.list_(pa.float32(), vectors.dim))
    metadata = {**(schema.metadata or {}), b"gnomonic": json.dumps(about).encode()}
    with pq.ParquetWriter(file, schema.append(added).with_metadata(metadata), use_dictionary=schema.names) as writer:
        for table in columns.iter_tables(source.path, source.format, source, schema):
            taken = vectors.take(len(table))
            failed = pa.array(np.isnan(taken[:, 0]))
            lists = pa.FixedSizeListArray.from_arrays(pa.array(taken.reshape(-1)), type=added.type, mask=failed)
            whole = table.append_column(added, lists).replace_schema_metadata(metadata)
            writer.write_table(whole, row_group_size=max(1, len(whole)))
