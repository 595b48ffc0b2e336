"""Plain texts out of data files of any kind: for learning a vocabulary and for masked-language modelling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gnomonic.errors import ConfigError
from gnomonic.training.data.readers import CONTENT
from gnomonic.training.data.tables import open_tables

__all__ = ["iter_texts"]


def iter_texts(
    paths: Sequence[str | Path],
    folder: Path | None = None,
    *,
    columns: Sequence[str] = CONTENT,
    max_chars: int | None = None,
    cache: Path | None = None,
) -> Iterator[str]:
    """Yield the texts of data files, column after column within a block of rows; the order is always the same.

    Args:
        paths: files or patterns, as `open_tables` takes them.
        folder: what they are relative to; default is the working folder.
        columns: which columns to read, of query, document and text; those that no file has are passed over.
        max_chars: texts are cut to this length.
        cache: folder for the converted files.

    Raises:
        ConfigError: no file has any of the columns, or a pattern matches nothing.
        InputError: a file is damaged.
    """
    table = open_tables([str(path) for path in paths], folder or Path(), need=(), cache=cache)
    present = [name for name in columns if name in table.column_names]
    if not present:
        raise ConfigError(f"data: no file has one of the columns {list(columns)}; there are {table.column_names}")
    for batch in table.select(present).to_batches():
        for column in batch.columns:
            for text in column.to_pylist():
                if text is not None:
                    yield text[:max_chars]
