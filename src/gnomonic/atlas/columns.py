"""Columns beside a map's tiles, one small file a tile: what a browser colours and filters by.

Each kind of column is stored as numbers of one width, in map order; what they mean is in `columns.json`. Free text and
nested values have no files: they are searched, filtered and shown by the server. Every byte: docs/reference/formats.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomonic.atlas.tiles import Manifest, Tile
from gnomonic.errors import DatasetError, InputError

__all__ = [
    "ColumnInfo",
    "read_column_tile",
    "read_columns_index",
    "read_dictionary",
    "write_column",
    "write_columns_index",
]

FORMAT = "gnomonic-columns-1"

_BINS = 64
_NAMES = 65_535
"""Most names a dictionary lists; the rarer categories beyond have codes of their own but no names."""
_FEW = 64
"""As few different strings are categories even when most rows have one of their own."""
_LONG = 256
"""Mean bytes above which strings are texts and no categories."""
_EXACT_32 = 2**24
_EXACT_64 = 2**53

_MILLISECONDS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnInfo:
    """A column of a map, as the browser is told."""

    name: str
    id: str
    """Its folder's name under `columns/`."""
    kind: str
    """"category", "number", "integer", "date" (milliseconds since 1970 in UTC) or "bool"; "text" and "other" have no
    files."""
    dtype: str | None = None
    """Of its files: "u8", "u16", "u32", "f32" or "f64", little-endian; None without files."""
    nulls: int = 0
    """Rows without a value; NaN is one."""
    null_code: int | None = None
    """What stands for no value in integer files: the type's highest number. In f32 and f64 files NaN does."""
    distinct: int | None = None
    """Different values of a category."""
    minimum: float | None = None
    """Of the finite values; None without any. Also of dates."""
    maximum: float | None = None
    histogram: tuple[int, ...] = ()
    """Finite values in equal steps from minimum to maximum; integers of less than 64 steps have one bin each. A bool
    column has the counts of false and true."""


def write_column(folder: Path, name: str, values: pa.Array | pa.ChunkedArray, manifest: Manifest) -> ColumnInfo:
    """Write the files of a column: `columns/{id}/{z}/{x}/{y}.bin`, and `dictionary.json` for categories.

    Args:
        folder: the one of the tiles.
        name: the column's, any string.
        values: [n] in map order, of any type.
        manifest: of the tiles.

    Returns:
        the column as `columns.json` holds it; of kind "text" or "other" where no files were written.

    Raises:
        InputError: there are not as many values as points.
    """
    if len(values) != manifest.count:
        raise InputError(f"column {name!r} has {len(values)} values and the map {manifest.count} points; give one each")
    column_id = _column_id(name)
    target = folder / "columns" / column_id
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.cast(chunked.type.value_type)
    kind = chunked.type
    info: dict[str, Any] = {"name": name, "id": column_id, "nulls": chunked.null_count}
    stored: NDArray[Any] | None = None
    if pa.types.is_boolean(kind):
        stored = _bools(chunked, info)
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        stored = _dates(chunked, info)
    elif pa.types.is_integer(kind):
        stored = _integers(chunked, info)
    elif _is_number(kind):
        stored = _numbers(_to_seconds(chunked), info)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        stored = _categories(chunked, info, target)
    else:
        info["kind"] = "other"
    if stored is not None:
        _write(target, stored, manifest)
    return ColumnInfo(**info)


def write_columns_index(folder: Path, infos: Sequence[ColumnInfo]) -> None:
    """Write `columns.json`, the list of all columns."""
    told = {"format": FORMAT, "columns": [asdict(info) for info in infos]}
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate cannot come out of Arrow, but a column's name comes from anywhere.
    (folder / "columns.json").write_text(text, encoding="utf-8", errors="replace")


def read_columns_index(folder: Path) -> dict[str, ColumnInfo]:
    """Return all columns by name, in the order they were written.

    Raises:
        DatasetError: the list is absent, damaged or of another format.
    """
    path = folder / "columns.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        form = told["format"]
        infos = [_info(one) for one in told["columns"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    if form != FORMAT:
        raise _damaged(path, f"its format is {form!r} and not {FORMAT!r}")
    return {info.name: info for info in infos}


def read_column_tile(folder: Path, info: ColumnInfo, tile: Tile) -> NDArray[Any]:
    """Return a tile's values as they are stored: [count], of the column's dtype.

    Raises:
        DatasetError: the column has no files, or the tile's is absent or has not the length it should.
    """
    if info.dtype is None:
        raise DatasetError(
            f"column {info.name!r} is of kind {info.kind!r}, which has no files", hint="read it from the dataset's rows"
        )
    path = folder / "columns" / info.id / f"{tile.key}.bin"
    kind = np.dtype(f"<{info.dtype[0]}{int(info.dtype[1:]) // 8}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _damaged(path, error) from error
    if len(raw) != kind.itemsize * tile.count:
        raise _damaged(path, f"it has {len(raw)} bytes, and {tile.count} values take {kind.itemsize * tile.count}")
    return np.frombuffer(raw, dtype=kind)


def read_dictionary(folder: Path, info: ColumnInfo) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names of a category's codes 0, 1, … and how many rows have each, the most frequent first.

    Raises:
        DatasetError: the column is no category, or its dictionary is absent or damaged.
    """
    if info.kind != "category":
        raise DatasetError(f"column {info.name!r} is of kind {info.kind!r}; only a category has a dictionary")
    path = folder / "columns" / info.id / "dictionary.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        names, counts = tuple(map(str, told["names"])), tuple(map(int, told["counts"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if len(names) != len(counts):
        raise _damaged(path, f"it has {len(names)} names and {len(counts)} counts")
    return names, counts


def _info(told: dict[str, Any]) -> ColumnInfo:
    """Return a column as `columns.json` has it; fields of later versions are passed over."""
    known: dict[str, Any] = {item.name: told[item.name] for item in fields(ColumnInfo) if item.name in told}
    return ColumnInfo(**known | {"histogram": tuple(known.get("histogram", ()))})


def _column_id(name: str) -> str:
    """Return a folder's name that every file system takes, another for every column."""
    told = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32]
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).hexdigest()[:12]
    return f"{told}-{digest}" if told else digest


def _damaged(path: Path, reason: object) -> DatasetError:
    return DatasetError(f"{path} cannot be read: {reason}", hint="build the map again")


def _is_number(kind: pa.DataType) -> bool:
    return any(
        test(kind) for test in (pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration, pa.types.is_time)
    )


def _write(target: Path, stored: NDArray[Any], manifest: Manifest) -> None:
    little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    for tile in manifest.tiles:
        path = target / f"{tile.key}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(little[tile.offset : tile.offset + tile.count].tobytes())


def _bools(values: pa.ChunkedArray, info: dict[str, Any]) -> NDArray[np.uint8]:
    stored: NDArray[np.uint8] = _filled(values.cast(pa.uint8()), 255, np.uint8)
    counts = np.bincount(stored, minlength=256)
    info |= {"kind": "bool", "dtype": "u8", "null_code": 255, "histogram": (int(counts[0]), int(counts[1]))}
    return stored


def _dates(values: pa.ChunkedArray, info: dict[str, Any]) -> NDArray[np.float64]:
    kind = values.type
    if pa.types.is_timestamp(kind):
        scale, whole = _MILLISECONDS[kind.unit], values.cast(pa.int64())
    else:
        in_days = pa.types.is_date32(kind)
        scale, whole = (
            (86_400_000.0, values.cast(pa.int32()).cast(pa.int64())) if in_days else (1.0, values.cast(pa.int64()))
        )
    stored = _as_float(whole) * scale
    info |= {"kind": "date", "dtype": "f64", **_spread(stored)}
    return stored


def _integers(values: pa.ChunkedArray, info: dict[str, Any]) -> NDArray[Any]:
    """Store integers as f32 or f64, whichever holds them all exactly; larger ones are numbers, as near as f64 comes."""
    bounds = pc.min_max(values).as_py()
    most = max(abs(bounds["min"] or 0), abs(bounds["max"] or 0))
    stored = _as_float(values)
    small = most <= _EXACT_32
    info |= {
        "kind": "integer" if most <= _EXACT_64 else "number",
        "dtype": "f32" if small else "f64",
        **_spread(stored, whole=True),
    }
    return stored.astype(np.float32) if small else stored


def _numbers(values: pa.ChunkedArray, info: dict[str, Any]) -> NDArray[Any]:
    """Store numbers as f32, or f64 where f32 would tell too few of them apart."""
    stored = _as_float(values)
    told = _spread(stored)
    info |= {"kind": "number", "dtype": "f32", "nulls": int(np.isnan(stored).sum()), **told}
    with np.errstate(over="ignore"):
        narrow = stored.astype(np.float32)
    finite = np.isfinite(stored)
    lost = np.abs(narrow[finite].astype(np.float64) - stored[finite]).max(initial=0.0)
    if lost <= 1e-6 * ((told["maximum"] or 0.0) - (told["minimum"] or 0.0)):
        return narrow
    exact = lost == 0.0
    info["dtype"] = "f32" if exact else "f64"
    return narrow if exact else stored


def _categories(values: pa.ChunkedArray, info: dict[str, Any], target: Path) -> NDArray[Any] | None:
    """Store codes, 0 for the most frequent value; None where the strings are texts."""
    present = len(values) - values.null_count
    info["kind"] = "text"
    if present and pc.sum(pc.binary_length(values.cast(pa.large_string()))).as_py() > _LONG * present:
        return None
    # Chunks of a plain string array hold 2 GiB at most; one array of all of them may not.
    encoded = pc.dictionary_encode(values.cast(pa.large_string())).unify_dictionaries()
    names = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], type=pa.large_string())
    if len(names) > max(_FEW, present // 2):
        return None
    first_codes = pa.chunked_array([chunk.indices for chunk in encoded.chunks], type=pa.int32())
    codes = _filled(first_codes, len(names), np.int64)
    counts = np.bincount(codes, minlength=len(names) + 1)[: len(names)]
    # Among equally frequent names the one that sorts first, so that the codes do not hang on the order of the rows.
    alphabetical = np.empty(len(names), dtype=np.int64)
    alphabetical[pc.sort_indices(names).to_numpy()] = np.arange(len(names))
    ranked = np.lexsort((alphabetical, -counts))
    bits = 8 if len(names) <= 255 else 16 if len(names) <= 65_535 else 32
    null_code = 2**bits - 1
    recoded = np.full(len(names) + 1, null_code, dtype=np.int64)
    recoded[ranked] = np.arange(len(names))
    info |= {"kind": "category", "dtype": f"u{bits}", "null_code": null_code, "distinct": len(names)}
    target.mkdir(parents=True, exist_ok=True)
    listed = ranked[:_NAMES]
    told = {"names": names.take(pa.array(listed)).to_pylist(), "counts": counts[listed].tolist()}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    (target / "dictionary.json").write_text(text, encoding="utf-8")
    stored: NDArray[Any] = recoded[codes].astype(f"u{bits // 8}")
    return stored


def _to_seconds(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return floats; spans and times of day in seconds."""
    kind = values.type
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        whole = values.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64())
        return pc.multiply(whole.cast(pa.float64(), safe=False), _MILLISECONDS[kind.unit] / 1e3)
    return values.cast(pa.float64(), safe=False)


def _as_float(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return the values as float64, NaN for nulls."""
    stored: NDArray[np.float64] = _filled(values.cast(pa.float64(), safe=False), math.nan, np.float64)
    return stored


def _filled(values: pa.ChunkedArray, null: float, dtype: Any) -> NDArray[Any]:
    """Return the values with something in the place of nulls."""
    filled = pc.fill_null(values, pa.scalar(null, type=values.type))
    return np.asarray(filled.to_numpy()).astype(dtype)


def _spread(values: NDArray[np.float64], *, whole: bool = False) -> dict[str, Any]:
    """Return minimum, maximum and histogram of the finite values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"minimum": None, "maximum": None, "histogram": ()}
    low, high = float(finite.min()), float(finite.max())
    bins = int(high - low) + 1 if whole and high - low < _BINS else _BINS
    # Halves first: the widest range of float64 is wider than float64.
    share = (finite / 2 - low / 2) / (high / 2 - low / 2 or 1.0)
    places = np.minimum((share * bins).astype(np.int64), bins - 1)
    if whole and high - low < _BINS:
        places = (finite - low).astype(np.int64)
    return {"minimum": low, "maximum": high, "histogram": tuple(np.bincount(places, minlength=bins).tolist())}
