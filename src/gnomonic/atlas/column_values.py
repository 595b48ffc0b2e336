"""The columns beside a map's tiles, whole and in map order: conditions on them, and counts of what passes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.byte_cache import ByteCache
from gnomonic.atlas.columns import ColumnInfo, read_column_tile, read_columns_index, read_dictionary
from gnomonic.atlas.tiles import Manifest, read_manifest
from gnomonic.errors import InputError

__all__ = ["ColumnValues", "FieldCondition"]

_Mask = NDArray[np.bool_]

_CODES = 200
"""Values of a category that are counted apart."""
_NO_BIN = 255
"""Stands for no value; infinities have no bin either."""
_INFINITE = 254


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldCondition:
    """What the values of one column must be.

    Raises:
        InputError: it asks for a range and for codes, or for a limit that is no number.
    """

    column: str
    low: float | None = None
    """Least value, itself included; of dates in milliseconds since 1970."""
    high: float | None = None
    """Greatest value, itself included."""
    codes: tuple[int, ...] | None = None
    """Codes of a category, or 0 and 1 of a bool, instead of a range."""
    nulls: bool = False
    """Whether rows without a value pass."""

    def __post_init__(self) -> None:
        for name, value in (("min", self.low), ("max", self.high)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"{name} of column {self.column!r} is {value}; send a finite number or null")
        if self.codes is not None and (self.low is not None or self.high is not None):
            raise InputError(f"column {self.column!r}: send either codes, or min and max")


class ColumnValues:
    """Reads columns of one map when they are needed; safe for threads."""

    def __init__(self, folder: Path, cache: ByteCache) -> None:
        """Read columns.

        Args:
            folder: the map's `tiles`.
            cache: keeps what was read.
        """
        self._folder = folder
        self._cache = cache

    @cached_property
    def manifest(self) -> Manifest:
        """The map's tiles."""
        return read_manifest(self._folder)

    @cached_property
    def infos(self) -> dict[str, ColumnInfo]:
        """All columns by name, those without files too."""
        return read_columns_index(self._folder)

    def info(self, name: str) -> ColumnInfo:
        """Return a column that has files.

        Raises:
            InputError: there is no such column, or it has no files.
        """
        found = self.infos.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.infos, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "columns.json lists them"
            raise InputError(f"the map has no column {name[:100]!r}; {hint}")
        if found.dtype is None:
            raise InputError(
                f"column {name[:100]!r} is of kind {found.kind!r} and has no values beside the map; use where for it"
            )
        return found

    def values(self, name: str) -> NDArray[Any]:
        """Return a column as its files have it, [n] in map order.

        Raises:
            InputError: there is no such column, or it has no files.
            DatasetError: a file is absent or damaged.
        """
        info = self.info(name)

        def read() -> NDArray[Any]:
            found = np.empty(self.manifest.count, dtype=f"{str(info.dtype)[0]}{int(str(info.dtype)[1:]) // 8}")
            for tile in self.manifest.tiles:
                found[tile.offset : tile.offset + tile.count] = read_column_tile(self._folder, info, tile)
            found.flags.writeable = False
            return found

        return self._cache.get(("values", info.id), read)

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of a column's codes: a category's dictionary, or false and true.

        Raises:
            InputError: the column has no codes.
        """
        info = self.info(name)
        if info.kind == "bool":
            return ("false", "true")
        if info.kind != "category":
            raise InputError(f"column {name!r} is of kind {info.kind!r} and has no codes")
        return self._cache.get(("names", info.id), lambda: _Names(read_dictionary(self._folder, info)[0])).names

    def absent(self, name: str) -> _Mask:
        """Return which rows have no value, [n] bool in map order."""
        values, info = self.values(name), self.info(name)
        return np.isnan(values) if info.null_code is None else np.asarray(values == info.null_code)

    def passing(self, condition: FieldCondition) -> _Mask:
        """Return which rows pass a condition, [n] bool in map order.

        Raises:
            InputError: there is no such column, or the condition does not fit its kind.
        """
        info = self.info(condition.column)
        coded = info.kind in ("category", "bool")
        if coded and (condition.low is not None or condition.high is not None):
            raise InputError(f"column {info.name!r} is of kind {info.kind!r}; send codes and not a range")
        if not coded and condition.codes is not None:
            raise InputError(f"column {info.name!r} is of kind {info.kind!r}; send min and max and not codes")
        values = self.values(info.name)
        found = self._of_codes(info, values, condition) if coded else _in_range(values, condition.low, condition.high)
        return found | self.absent(info.name) if condition.nulls else found

    def counts(self, name: str, mask: _Mask | None = None) -> dict[str, Any]:
        """Return how often each value, or each step of the column's histogram, is there.

        Args:
            name: the column's.
            mask: [n] bool in map order: the rows that count; None for all.

        Returns:
            of a category the `codes` of the 200 most frequent, most frequent first, `counts`, `other` and `nulls`;
            of other kinds `bins` in the steps of columns.json, and `nulls`.

        Raises:
            InputError: there is no such column, or it has no files.
        """
        info = self.info(name)
        if info.kind != "category":
            binned = self._bins(info)
            counted = np.bincount(binned if mask is None else binned[mask], minlength=256)
            return {"bins": counted[: len(info.histogram)].tolist(), "nulls": int(counted[_NO_BIN])}
        counted, nulls = self.code_counts(name, mask)
        there = np.flatnonzero(counted)
        codes = there[np.argsort(-counted[there], kind="stable")]
        shown = codes[:_CODES]
        return {
            "codes": shown.tolist(),
            "counts": counted[shown].tolist(),
            "other": int(counted[codes[_CODES:]].sum()),
            "nulls": nulls,
        }

    def code_counts(self, name: str, mask: _Mask | None = None) -> tuple[NDArray[np.int64], int]:
        """Return how often each code is there, [codes] int64, and how many rows have no value.

        Args:
            name: of a category or a bool.
            mask: [n] bool in map order: the rows that count; None for all.
        """
        info, values = self.info(name), self.values(name)
        codes = 2 if info.kind == "bool" else info.distinct or 0
        chosen = values if mask is None else values[mask]
        if values.dtype == np.uint32:
            chosen = chosen[chosen != info.null_code]
            counted = np.bincount(chosen, minlength=codes)
            total = len(values) if mask is None else int(np.count_nonzero(mask))
            return counted, total - len(chosen)
        counted = np.bincount(chosen, minlength=int(np.iinfo(values.dtype).max) + 1)
        return counted[:codes], int(counted[info.null_code])

    @staticmethod
    def _of_codes(info: ColumnInfo, values: NDArray[Any], condition: FieldCondition) -> _Mask:
        if condition.codes is None:
            return np.asarray(values != info.null_code)
        count = 2 if info.kind == "bool" else info.distinct or 0
        for code in condition.codes:
            if not 0 <= code < count:
                raise InputError(f"column {info.name!r} has no code {code}; they are 0 to {count - 1}")
        if values.dtype == np.uint32:
            return np.isin(values, np.array(condition.codes, dtype=np.uint32))
        wanted = np.zeros(int(np.iinfo(values.dtype).max) + 1, dtype=np.bool_)
        wanted[list(condition.codes)] = True
        return np.asarray(wanted[values])

    def _bins(self, info: ColumnInfo) -> NDArray[np.uint8]:
        """Return the step of the histogram that each row is in, [n] uint8."""
        values = self.values(info.name)
        if info.kind == "bool":
            return values
        return self._cache.get(("bins", info.id), lambda: _binned(values, info))


class _Names:
    """A dictionary's names, and about how much memory they take."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.nbytes = sum(map(len, self.names)) + 64 * len(self.names)


def _in_range(values: NDArray[Any], low: float | None, high: float | None) -> _Mask:
    # Limits are rounded as the values were: one that was read off the map's own minimum lets that row pass.
    with np.errstate(over="ignore"):
        limits = [None if limit is None else values.dtype.type(limit) for limit in (low, high)]
    found = np.ones(len(values), dtype=np.bool_) if limits != [None, None] else ~np.isnan(values)
    if limits[0] is not None:
        found &= values >= limits[0]
    if limits[1] is not None:
        found &= values <= limits[1]
    return found


def _binned(values: NDArray[Any], info: ColumnInfo) -> NDArray[np.uint8]:
    """Return the steps as the histogram of columns.json was made; what is rounded in the files may fall beside."""
    places = np.full(len(values), _INFINITE, dtype=np.uint8)
    places[np.isnan(values)] = _NO_BIN
    finite = np.isfinite(values)
    count = len(info.histogram)
    if not count or info.minimum is None or info.maximum is None:
        return places
    low, high = info.minimum, info.maximum
    there = values[finite].astype(np.float64)
    if info.kind == "integer" and count == int(high - low) + 1 and high - low < 64:
        steps = there - low
    else:
        steps = (there / 2 - low / 2) / (high / 2 - low / 2 or 1.0) * count
    places[finite] = np.clip(steps, 0, count - 1).astype(np.uint8)
    return places
