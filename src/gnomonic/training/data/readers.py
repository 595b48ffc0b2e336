"""Data files of any supported format as one stream of Arrow batches with the columns that training knows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnomonic.errors import ConfigError, InputError

__all__ = ["CONTENT", "SCHEMA", "read_batches", "stem_of"]

SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("document", pa.string()),
        ("negatives", pa.list_(pa.string())),
        ("text", pa.string()),
        ("source", pa.string()),
    ]
)
"""Columns of every batch, all nullable."""

CONTENT = ("query", "document", "text")
"""Columns that hold texts to learn from, one per row."""

# The names that sentence-transformers' data sets use. A column under its own name goes first.
_ALIASES = {"anchor": "query", "positive": "document", "negative": "negatives"}

_FORMATS = ("jsonl", "csv", "tsv", "parquet")
_COMPRESSED = (".gz", ".zst")
_BATCH_ROWS = 4096
_BATCH_BYTES = 16 << 20
_MAX_LINE = 64 << 20
_Row = tuple[int, dict[str, Any]]
"""Line of the file, counted from 1, and what stands there by column."""
_Part = tuple[Collection[str], dict[str, pa.Array], int]
"""Columns that the file has, their arrays, and the rows of each."""
_JSON_NAMES = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}


def _format_of(path: Path) -> str:
    """Return "jsonl", "csv", "tsv" or "parquet".

    Raises:
        ConfigError: the name ends in none of these.
    """
    name = path.name.lower()
    plain = name.removesuffix(".gz").removesuffix(".zst")
    kind = plain.rpartition(".")[2]
    if "." not in plain or kind not in _FORMATS or (kind == "parquet" and plain != name):
        raise ConfigError(
            f"data: {path} has an unknown format; its name must end in .parquet, or in .jsonl, .csv or .tsv "
            "(each also .gz or .zst)"
        )
    return kind


def stem_of(path: Path) -> str:
    """Return the file's name without the endings of its format: "a.b.jsonl.gz" → "a.b"."""
    name = path.name
    for ending in (*_COMPRESSED, *(f".{kind}" for kind in _FORMATS)):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def read_batches(path: Path) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the usable rows of a file in order: those in which no column of texts is null or blank.

    Args:
        path: a .parquet, or a .jsonl, .csv or .tsv file (each also .gz or .zst), UTF-8 with or without a byte-order
            mark, with Unix or Windows line ends. `anchor`, `positive` and `negative` are read as `query`, `document`
            and `negatives`.

    Returns:
        Batches of `SCHEMA`, at most a few thousand rows each, with the number of rows that were read for it. A column
        that the file lacks is null throughout, `negatives` holds no blank text, and `source` is filled, with the
        file's name where the file names none.

    Raises:
        ConfigError: the format is unknown, or the file has none of the columns query, document and text.
        InputError: the file is absent, damaged, not UTF-8, or a column holds something else than text; the message
            names the line or row.
    """
    readers = {"parquet": _parquet, "jsonl": _jsonl, "csv": _csv, "tsv": _csv}
    reader: Callable[[Path], Iterator[_Part]] = readers[_format_of(path)]
    source = pa.scalar(stem_of(path), pa.string())
    try:
        for wanted, columns, rows in reader(path):
            yield _usable(wanted, columns, rows, source), rows
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip data: {error}; fetch or compress the file again") from error
    except pa.ArrowException as error:
        raise InputError(f"{path}: cannot be read as {_format_of(path)}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _wanted(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return column of ours → column of the file.

    Raises:
        ConfigError: two columns have one name, or none holds text.
    """
    known = [name for name in names if name in SCHEMA.names or name in _ALIASES]
    if len(set(known)) < len(known):
        raise ConfigError(f"data: {path} names a column twice: {list(names)}")
    found = {_ALIASES[name]: name for name in known if name in _ALIASES}
    found |= {name: name for name in known if name in SCHEMA.names}
    if not set(found) & set(CONTENT):
        raise ConfigError(
            f"data: {path} has the columns {list(names)}; pairs need `query` and `document`, plain texts need `text`"
        )
    return found


def _usable(found: Collection[str], columns: dict[str, pa.Array], rows: int, source: pa.StringScalar) -> pa.RecordBatch:
    keep = pa.repeat(True, rows)
    for name in set(CONTENT) & set(found):
        keep = pc.and_(keep, _present(columns[name]))
    full = {field.name: columns.get(field.name, pa.nulls(rows, field.type)) for field in SCHEMA}
    full["source"] = pc.if_else(_present(full["source"]), full["source"], source)
    batch = pa.RecordBatch.from_arrays(list(full.values()), schema=SCHEMA)
    return batch if pc.all(keep, min_count=0).as_py() else batch.filter(keep)


def _parquet(path: Path) -> Iterator[_Part]:
    with pq.ParquetFile(path, memory_map=True) as file:
        wanted = _wanted(path, file.schema_arrow.names)
        # Rows are cast batch by batch, small enough that no text column passes the 2 GiB of a 32-bit offset.
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(wanted.values())):
            columns = {ours: _cast(path, ours, theirs, batch.column(theirs)) for ours, theirs in wanted.items()}
            yield wanted, columns, batch.num_rows


def _cast(path: Path, ours: str, theirs: str, array: pa.Array) -> pa.Array:
    """Return a column of a Parquet file in the type that `SCHEMA` gives it."""
    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), SCHEMA.field(ours).type)
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if _is_text(kind):
        texts = array.cast(pa.string())
        return _tidy([[text] if text else [] for text in texts.to_pylist()]) if ours == "negatives" else texts
    if ours == "negatives" and (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type):
        lists = array.cast(pa.list_(pa.string()))
        clean = lists.null_count == 0 and bool(pc.all(_present(lists.flatten()), min_count=0).as_py())
        return lists if clean else _tidy(lists.to_pylist())
    wants = "a list of texts" if ours == "negatives" else "text"
    raise InputError(f"{path}: column {theirs!r} holds {kind}; it must hold {wants}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _present(texts: pa.Array) -> pa.Array:
    return pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(texts), ""), False)


def _tidy(lists: Sequence[Sequence[str | None] | None]) -> pa.Array:
    """Return lists of texts without null and blank ones."""
    return pa.array(
        [[text for text in texts or () if text and not text.isspace()] for texts in lists], pa.list_(pa.string())
    )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading its bytes, decompressed, after a UTF-8 byte-order mark if there is one."""
    ending = path.suffix.lower()
    with ExitStack() as stack:
        stream: Any = stack.enter_context(path.open("rb"))
        if ending == ".gz":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif ending == ".zst":
            stream = stack.enter_context(io.BufferedReader(pa.CompressedInputStream(stream, "zstd"), 1 << 20))
        mark = stream.peek(3)[:3]
        if mark[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path}: this file is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8")
        if mark == b"\xef\xbb\xbf":
            stream.read(3)
        yield stream


def _csv(path: Path) -> Iterator[_Part]:
    # The limit is the process's own and small by default; documents are longer.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE))
    with _opened(path) as stream:
        lines = (_decoded(path, number, line) for number, line in _lines(path, stream))
        reader = csv.reader(lines, delimiter="\t" if _format_of(path) == "tsv" else ",", strict=True)
        try:
            header = next(reader, [])
            if not header:
                raise InputError(f"{path}: the file is empty; its first line must name the columns")
            wanted = _wanted(path, header)
            yield from _parts(path, wanted, _csv_rows(path, reader, header))
        except csv.Error as error:
            raise InputError(
                f"{path}, line {reader.line_num}: not valid CSV: {error}; is a quote left open?"
            ) from error


def _csv_rows(path: Path, reader: Any, header: Sequence[str]) -> Iterator[_Row]:
    for cells in reader:
        if len(cells) != len(header):
            if not cells:
                continue
            raise InputError(
                f"{path}, line {reader.line_num}: {len(cells)} cells, but the first line names {len(header)} columns; "
                "a cell with the delimiter in it must stand in quotes"
            )
        row: dict[str, Any] = dict(zip(header, cells, strict=True))
        if row.get("negatives"):
            try:
                row["negatives"] = json.loads(row["negatives"])
            except ValueError as error:
                raise InputError(
                    f'{path}, line {reader.line_num}: `negatives` must be a JSON list of texts, like ["one", "two"]'
                ) from error
        yield reader.line_num, row


def _jsonl(path: Path) -> Iterator[_Part]:
    with _opened(path) as stream:
        rows = ((number, _parse(path, number, line)) for number, line in _lines(path, stream) if line.strip())
        first = next(rows, None)
        if first:
            yield from _parts(path, _wanted(path, list(first[1])), chain([first], rows))


def _lines(path: Path, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(iter(lambda: stream.readline(_MAX_LINE), b""), 1):
        if len(line) == _MAX_LINE:
            raise InputError(f"{path}, line {number}: longer than {_MAX_LINE >> 20} MiB; write one row a line")
        yield number, line


def _parts(path: Path, wanted: dict[str, str], rows: Iterable[_Row]) -> Iterator[_Part]:
    """Gather rows until they are many or large."""
    held: list[_Row] = []
    size = 0
    for row in rows:
        held.append(row)
        size += sum(len(value) for value in row[1].values() if isinstance(value, str))
        if len(held) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield wanted, _columns(path, held), len(held)
            held, size = [], 0
    if held:
        yield wanted, _columns(path, held), len(held)


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not valid UTF-8 ({error.reason} at byte {error.start}); convert the file first"
        ) from error


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return the object on a line of JSON.

    Raises:
        InputError: it is no JSON, or no object.
    """
    try:
        row = json.loads(_decoded(path, number, line))
    except json.JSONDecodeError as error:
        hint = "; an indented JSON document is not JSON lines: write one object a line" if number == 1 else ""
        raise InputError(f"{path}, line {number}: not valid JSON ({error}){hint}") from error
    if not isinstance(row, dict):
        found = _JSON_NAMES.get(type(row), "no object")
        raise InputError(f'{path}, line {number}: holds {found}; each line must be an object like {{"query": …}}')
    return row


def _columns(path: Path, rows: Sequence[_Row]) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    for field in SCHEMA:
        read = _negatives if field.name == "negatives" else _text
        values = [read(path, number, row, field.name) for number, row in rows]
        try:
            columns[field.name] = pa.array(values, field.type)
        except UnicodeEncodeError:
            raise _surrogate(path, rows, field.name, values) from None
    return columns


def _surrogate(path: Path, rows: Sequence[_Row], name: str, values: Sequence[Any]) -> InputError:
    """Return the error that names the first line whose value no UTF-8 can hold."""
    for (number, _), value in zip(rows, values, strict=True):
        if any(0xD800 <= ord(char) < 0xE000 for char in "".join(value or ())):
            return InputError(f"{path}, line {number}: `{name}` has half of a surrogate pair, which UTF-8 cannot hold")
    return InputError(f"{path}: `{name}` cannot be stored as UTF-8")


def _lookup(row: dict[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    return next((row[alias] for alias, ours in _ALIASES.items() if ours == name and alias in row), None)


def _text(path: Path, number: int, row: dict[str, Any], name: str) -> str | None:
    value = _lookup(row, name)
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{path}, line {number}: `{name}` is {_JSON_NAMES[type(value)]}; it must be text")


def _negatives(path: Path, number: int, row: dict[str, Any], name: str) -> list[str] | None:
    value = _lookup(row, name)
    if value is None:
        return None
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(text is None or isinstance(text, str) for text in texts):
        raise InputError(f"{path}, line {number}: `{name}` must be a list of texts")
    return [text for text in texts if text and not text.isspace()]
