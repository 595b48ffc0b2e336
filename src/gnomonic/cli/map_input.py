"""What `gnomonic map` reads: a table file, a file of vectors, or a folder of texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomonic.cli.columns import require_pyarrow
from gnomonic.cli.source import likely_field
from gnomonic.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["check_rows", "choose_field", "read_table", "read_vectors"]

_TEXT_FILES = {
    ".txt",
    ".md",
    ".rst",
    ".html",
    ".py",
    ".js",
    ".ts",
    ".c",
    ".h",
    ".cpp",
    ".java",
    ".go",
    ".rs",
    ".tex",
    ".org",
}
_MAX_FILE_BYTES = 10 << 20


def read_table(path: Path) -> pa.Table:
    """Read a .parquet, .csv, .tsv, .jsonl(.gz), .feather or .txt file, or every text file of a folder.

    Raises:
        InputError: there is nothing to read, or it cannot be read; says why.
        MissingExtraError: pyarrow is not installed.
    """
    pa = require_pyarrow("maps")
    if not path.exists():
        raise InputError(f"{path} does not exist")
    try:
        table = _folder(path, pa) if path.is_dir() else _file(path, pa)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not table.num_rows:
        raise InputError(f"{path} holds no rows")
    return table


def check_rows(table: pa.Table, vectors: NDArray[np.generic] | None, id_field: str | None, path: Path) -> None:
    """Check that the parts of a call fit one another, before anything is made.

    Args:
        table: the rows.
        vectors: of the rows; None for none.
        id_field: the column of ids; None for none.
        path: where the rows came from.

    Raises:
        InputError: there is no such column, or another number of vectors.
    """
    if id_field is not None and id_field not in table.column_names:
        raise InputError(f"there is no column {id_field!r}; the columns are: {', '.join(table.column_names)}")
    if vectors is not None and len(vectors) != table.num_rows:
        raise InputError(f"there are {len(vectors):,} vectors and {path.name} has {table.num_rows:,} rows")


def read_vectors(path: Path) -> NDArray[np.generic]:
    """Read a .npy file of vectors [n, dim], memory-mapped.

    Raises:
        InputError: it is none.
    """
    import numpy as np

    try:
        vectors: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a .npy file: {error}") from error
    if vectors.ndim != 2:
        raise InputError(f"{path} holds an array of shape {vectors.shape}; vectors are [rows, dim]")
    return vectors


def choose_field(table: pa.Table, wanted: str | None) -> str:
    """Return the text column to embed: the wanted one, the only one, or the one whose name tells.

    Raises:
        InputError: there is none, or which one is not clear.
    """
    import pyarrow as pa

    texts = [
        field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    if wanted is not None:
        if wanted not in table.column_names:
            raise InputError(f"there is no column {wanted!r}; the columns are: {', '.join(table.column_names)}")
        return wanted
    field = texts[0] if len(texts) == 1 else likely_field(texts)
    if field is None:
        raise InputError(
            f"which column to map is not clear; name one with --field: {', '.join(texts) or 'no text column'}"
        )
    return field


def _file(path: Path, pa: Any) -> pa.Table:
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    kind = name.rpartition(".")[2]
    if kind == "parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path)
    if kind in ("feather", "arrow"):
        import pyarrow.feather as feather

        return feather.read_table(path)
    if kind in ("csv", "tsv"):
        import pyarrow.csv as csv

        with pa.input_stream(str(path), compression="detect") as stream:
            options = csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True)
            return csv.read_csv(stream, parse_options=options)
    if kind in ("jsonl", "ndjson", "json"):
        import pyarrow.json as json

        with pa.input_stream(str(path), compression="detect") as stream:
            return json.read_json(stream, read_options=json.ReadOptions(block_size=16 << 20))
    if kind == "txt":
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return pa.table({"text": lines})
    raise InputError(
        f"{path} is of no kind that is read here; give .parquet, .csv, .tsv, .jsonl, .feather, .txt or a folder"
    )


def _folder(path: Path, pa: Any) -> pa.Table:
    rows = list(_texts(path))
    if not rows:
        raise InputError(f"{path} holds no text files; those read are {', '.join(sorted(_TEXT_FILES))}")
    names, texts = zip(*rows, strict=True)
    return pa.table({"path": list(names), "text": list(texts)})


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in _TEXT_FILES or not path.is_file():
            continue
        if path.stat().st_size <= _MAX_FILE_BYTES:
            yield str(path.relative_to(folder)), path.read_text(encoding="utf-8", errors="replace")
