"""Conditions on columns and their counts, against plain ones on the values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.atlas import column_values
from gnomonic.atlas.byte_cache import ByteCache
from gnomonic.atlas.column_values import ColumnValues, FieldCondition
from gnomonic.atlas.columns import write_column, write_columns_index
from gnomonic.atlas.tiles import read_manifest, write_tiles
from gnomonic.errors import DatasetError, InputError

_N = 300
_RANDOM = np.random.default_rng(0)
_VALUES: dict[str, list[Any]] = {
    "number": [None if i % 11 == 0 else float(v) for i, v in enumerate(_RANDOM.normal(0, 5, _N))],
    "infinite": [math.inf if i % 7 == 0 else -math.inf if i % 7 == 1 else float(i) for i in range(_N)],
    "integer": [None if i % 13 == 0 else int(v) for i, v in enumerate(_RANDOM.integers(-20, 20, _N))],
    "wide": [int(v) for v in _RANDOM.integers(-1000, 1000, _N)],
    "date": [None if i % 5 == 0 else int(v) for i, v in enumerate(_RANDOM.integers(0, 10**12, _N))],
    "bool": [None if i % 9 == 0 else bool(v) for i, v in enumerate(_RANDOM.integers(0, 2, _N))],
    "category": [None if i % 8 == 0 else f"kind {v}" for i, v in enumerate(_RANDOM.integers(0, 20, _N))],
    "many": [f"value {v}" for v in _RANDOM.integers(0, 140, _N)],
    "text": [f"{i} " * 200 for i in range(_N)],
    "nothing": [None] * _N,
    "none at all": [None] * _N,
}
_TYPES = {"date": pa.timestamp("ms"), "nothing": pa.float64(), "none at all": pa.string(), "bool": pa.bool_()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a map with several tiles."""
    folder = tmp_path_factory.mktemp("tiles")
    write_tiles(folder, _RANDOM.normal(size=(_N, 2)).astype(np.float32), tile_points=64)
    manifest = read_manifest(folder)
    infos = [
        write_column(folder, name, pa.array(values, type=_TYPES.get(name)), manifest)
        for name, values in _VALUES.items()
    ]
    write_columns_index(folder, infos)
    return folder


@pytest.fixture
def columns(folder: Path) -> ColumnValues:
    return ColumnValues(folder, ByteCache(1 << 20))


_ALL = np.ones(_N, dtype=bool)


@pytest.mark.parametrize("name", ["number", "infinite", "integer", "wide", "date", "nothing"])
@pytest.mark.parametrize(("low", "high"), [(None, None), (-3, None), (None, 5), (-3.5, 5), (7, -7), (0, 5e11), (3, 3)])
@pytest.mark.parametrize("nulls", [False, True])
def test_ranges(columns: ColumnValues, name: str, low: float | None, high: float | None, nulls: bool) -> None:
    found = columns.passing(FieldCondition(column=name, low=low, high=high, nulls=nulls))
    wanted = [
        nulls if value is None else (low is None or value >= low) and (high is None or value <= high)
        for value in _VALUES[name]
    ]
    assert found.tolist() == wanted


@pytest.mark.parametrize("name", ["number", "date", "integer", "wide"])
def test_its_own_least_and_greatest_values_pass(columns: ColumnValues, name: str) -> None:
    info = columns.info(name)
    found = columns.passing(FieldCondition(column=name, low=info.minimum, high=info.maximum))
    assert found.tolist() == [value is not None for value in _VALUES[name]]


@pytest.mark.parametrize("name", ["bool", "category", "many", "none at all"])
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("codes", [None, (), (0,), (1, 0)])
def test_codes(columns: ColumnValues, name: str, nulls: bool, codes: tuple[int, ...] | None) -> None:
    names = columns.names(name)
    if codes and max(codes) >= len(names):
        return
    wanted = set(names if codes is None else [names[code] for code in codes])
    as_text = [None if value is None else str(value).lower() if name == "bool" else value for value in _VALUES[name]]
    found = columns.passing(FieldCondition(column=name, codes=codes, nulls=nulls))
    assert found.tolist() == [nulls if value is None else value in wanted for value in as_text]


def test_codes_of_columns_with_very_many_values(tmp_path: Path) -> None:
    n = 140_000
    write_tiles(tmp_path, np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32))
    values = [None if i < 10 else f"v{i % 66_000}" for i in range(n)]
    info = write_column(tmp_path, "huge", pa.array(values), read_manifest(tmp_path))
    assert info.dtype == "u32"
    write_columns_index(tmp_path, [info])
    columns = ColumnValues(tmp_path, ByteCache(1 << 24))
    assert int(columns.passing(FieldCondition(column="huge", codes=(0, 3))).sum()) == 6
    counted = columns.counts("huge", np.arange(n) < 5000)
    assert (counted["nulls"], len(counted["codes"]), sum(counted["counts"]) + counted["other"]) == (10, 200, 4990)


def test_columns_that_do_not_do(columns: ColumnValues, folder: Path) -> None:
    for name, match in (("numbre", "did you mean 'number'"), ("text", "kind 'text'"), ("zzz", "columns.json")):
        with pytest.raises(InputError, match=match):
            columns.passing(FieldCondition(column=name))
    for bad, match in (
        ({"column": "category", "low": 1.0}, "send codes"),
        ({"column": "number", "codes": (1,)}, "min and max"),
        ({"column": "category", "codes": (20,)}, "has no code 20; they are 0 to 19"),
        ({"column": "category", "codes": (-1,)}, "no code -1"),
        ({"column": "bool", "codes": (2,)}, "0 to 1"),
    ):
        with pytest.raises(InputError, match=match):
            columns.passing(FieldCondition(**bad))
    with pytest.raises(InputError, match="has no codes"):
        columns.names("number")
    for bad in ({"low": math.nan}, {"high": math.inf}, {"low": 1.0, "codes": (1,)}):
        with pytest.raises(InputError):
            FieldCondition(column="number", **bad)
    next((folder / "columns" / columns.info("many").id).rglob("*.bin")).unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        columns.values("many")


@pytest.mark.parametrize("name", ["number", "infinite", "integer", "wide", "date", "bool", "nothing"])
def test_counts_of_all_rows_are_the_histogram(columns: ColumnValues, name: str) -> None:
    info = columns.info(name)
    counted = columns.counts(name)
    assert counted == columns.counts(name, _ALL)
    assert counted["nulls"] == info.nulls
    assert sum(counted["bins"]) == sum(info.histogram)
    # A value that was rounded in the files may fall beside its bin.
    assert np.abs(np.array(counted["bins"]) - np.array(info.histogram)).sum() <= 2


def test_counts_of_some_rows(columns: ColumnValues) -> None:
    mask = np.arange(_N) % 3 == 0
    chosen = [value for value, there in zip(_VALUES["integer"], mask, strict=True) if there]
    counted = columns.counts("integer", mask)
    low = int(columns.info("integer").minimum)
    assert counted["bins"] == [chosen.count(low + i) for i in range(len(counted["bins"]))]
    assert counted["nulls"] == chosen.count(None)
    assert columns.counts("integer", ~_ALL)["nulls"] == 0


def test_counts_of_a_category(columns: ColumnValues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_values, "_CODES", 5)
    mask = np.arange(_N) % 3 == 0
    chosen = [value for value, there in zip(_VALUES["category"], mask, strict=True) if there]
    counted = columns.counts("category", mask)
    names = columns.names("category")
    assert counted["counts"] == [chosen.count(names[code]) for code in counted["codes"]]
    assert counted["counts"] == sorted(counted["counts"], reverse=True)
    assert counted["nulls"] == chosen.count(None)
    assert sum(counted["counts"]) + counted["other"] + counted["nulls"] == len(chosen)
    assert len(counted["codes"]) == 5


def test_little_memory_gives_the_same(folder: Path) -> None:
    small, large = ColumnValues(folder, ByteCache(0)), ColumnValues(folder, ByteCache(1 << 20))
    for name in ("number", "category", "bool"):
        assert small.counts(name) == large.counts(name)
