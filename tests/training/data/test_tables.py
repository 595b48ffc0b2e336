"""Files become one mapped table: converted once, whole or not at all, and again when they change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

from gnomonic.errors import ConfigError, InputError  # noqa: E402
from gnomonic.training.data import tables  # noqa: E402
from gnomonic.training.data.tables import RowReader, find_files, left_out, open_tables  # noqa: E402


def _write(path: Path, count: int, label: str = "x") -> None:
    path.write_text("".join(f'{{"query": "{label}{i}", "document": "d{i}"}}\n' for i in range(count)))


def _copies(folder: Path) -> list[Path]:
    """Return what lies in a cache, locks aside."""
    return [path for path in (folder / "cache").iterdir() if not path.name.endswith(".lock")]


def _read_times(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []
    original = tables.read_batches

    def counted(path: Path) -> object:
        read.append(path)
        return original(path)

    monkeypatch.setattr(tables, "read_batches", counted)
    return read


def test_files_of_all_kinds_are_one_table(tmp_path: Path) -> None:
    _write(tmp_path / "one.jsonl", 2)
    (tmp_path / "two.csv").write_text("query,document,source\na,b,s\n,c,s\n")
    columns = {"query": ["e"], "document": ["f"], "negatives": [["g"]], "score": [1.0]}
    pq.write_table(pa.table(columns), tmp_path / "three.parquet")
    table = open_tables(["one.jsonl", "t*"], tmp_path, cache=tmp_path / "cache")
    assert table.to_pylist() == [
        {"query": "x0", "document": "d0", "negatives": [], "source": "one"},
        {"query": "x1", "document": "d1", "negatives": [], "source": "one"},
        {"query": "e", "document": "f", "negatives": ["g"], "source": "three"},
        {"query": "a", "document": "b", "negatives": [], "source": "s"},
    ]
    assert left_out(table) == 1


def test_columns_that_no_file_has_are_not_there(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", 2)
    assert open_tables(["a.jsonl"], tmp_path, cache=tmp_path).column_names == ["query", "document", "source"]


def test_the_second_time_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _read_times(monkeypatch)
    _write(tmp_path / "a.jsonl", 5)
    first, second = (open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache") for _ in range(2))
    assert first.equals(second)
    assert len(read) == 1


def test_a_changed_file_is_read_again_and_its_old_copy_goes(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", 5)
    before = open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache")
    stat = (tmp_path / "a.jsonl").stat()
    _write(tmp_path / "a.jsonl", 5, "y")
    os.utime(tmp_path / "a.jsonl", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache")
    assert (before["query"][0].as_py(), after["query"][0].as_py()) == ("x0", "y0")
    assert len(_copies(tmp_path)) == 1


def test_two_files_of_one_name_and_content_keep_their_copies(tmp_path: Path) -> None:
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        _write(tmp_path / folder / "a.jsonl", 3)
    assert open_tables(["*/a.jsonl"], tmp_path, cache=tmp_path / "cache").num_rows == 6
    assert len(_copies(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"ARROW1\0\0 and then nothing"], ids=["empty", "cut"])
def test_a_damaged_copy_is_made_again(tmp_path: Path, damage: bytes) -> None:
    _write(tmp_path / "a.jsonl", 5)
    open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache")
    (copy,) = _copies(tmp_path)
    (copy / "rows.arrow").write_bytes(damage)
    assert open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache").num_rows == 5


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["stop", "full"])
def test_a_conversion_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    _write(tmp_path / "a.jsonl", 9000)

    def broken(path: Path, rows: int) -> None:
        if rows > 5000:
            raise stop

    with pytest.raises(type(stop) if isinstance(stop, KeyboardInterrupt) else InputError) as caught:
        open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache", on_progress=broken)
    if isinstance(stop, OSError):
        assert "cannot be written: No space left on device; free space there, or set GNOMONIC_CACHE" in str(
            caught.value
        )
    assert _copies(tmp_path) == []
    assert open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache").num_rows == 9000


def test_the_cache_stands_in_gnomonic_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMONIC_CACHE", str(tmp_path / "own"))
    _write(tmp_path / "a.jsonl", 2)
    open_tables(["a.jsonl"], tmp_path)
    assert len(list((tmp_path / "own" / "data").glob("a-*"))) == 1


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", 2)
    with pytest.raises(InputError, match="cannot be written"):
        open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "a.jsonl" / "cache")


def test_a_table_takes_no_memory(tmp_path: Path) -> None:
    text = "word " * 2000
    columns = {"query": [f"{i}" for i in range(3000)], "document": [f"{text}{i}" for i in range(3000)]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    open_tables(["a.parquet"], tmp_path, cache=tmp_path / "cache")
    del columns
    before = pa.total_allocated_bytes()
    table = open_tables(["a.parquet"], tmp_path, cache=tmp_path / "cache")
    assert table.nbytes > 30_000_000
    assert pa.total_allocated_bytes() - before < 1_000_000
    taken = RowReader(table).take(np.array([7, 2999]))
    assert [text.removeprefix("word " * 2000) for text in taken["document"].to_pylist()] == ["7", "2999"]
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    for name, count in (("a", 5000), ("b", 3), ("c", 4097)):
        _write(tmp_path / f"{name}.jsonl", count, name)
    table = open_tables(["*.jsonl"], tmp_path, cache=tmp_path / "cache")
    rows = np.random.default_rng(0).integers(0, table.num_rows, 500)
    names = np.array(table["query"].to_pylist())
    assert RowReader(table).take(rows)["query"].to_pylist() == names[rows].tolist()
    nothing = RowReader(table).take(np.array([], np.int64))
    assert (nothing.num_rows, nothing.column_names) == (0, table.column_names)
    for row in (-1, 9100):
        with pytest.raises(IndexError, match="of a table of 9100"):
            RowReader(table).take(np.array([0, row]))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("query,title\na,b\n")
    with pytest.raises(
        ConfigError, match=r"a\.csv: it has no column 'document'; the columns that it has: \['query', 's"
    ):
        open_tables(["a.csv"], tmp_path, cache=tmp_path / "cache")
    assert open_tables(["a.csv"], tmp_path, need=["query"], cache=tmp_path / "cache").num_rows == 1


def test_some_rows_without_a_column_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"document": "b"}\n{"query": "a", "document": "b"}\n')
    with pytest.raises(ConfigError, match="1 rows have no 'query'"):
        open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache")


@pytest.mark.parametrize("data", ["", "\n\n", '{"query": "", "document": "b"}\n'], ids=["empty", "blank", "no text"])
def test_a_file_without_rows_is_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "a.jsonl").write_text(data)
    with pytest.raises(InputError, match=r"a\.jsonl: no row with text"):
        open_tables(["a.jsonl"], tmp_path, cache=tmp_path / "cache")


def test_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "data [1]"
    folder.mkdir()
    for name in ("b.csv", "a.csv", "c*.csv"):
        _write(folder / name, 1)
    found = find_files(["b.csv", "*.csv", "c*.csv", "../data [1]/a.csv"], folder)
    assert [path.name for path in found] == ["b.csv", "a.csv", "c*.csv"]
    absolute = find_files([str(tmp_path / "*" / "a.csv")], tmp_path / "elsewhere")
    assert absolute == [folder / "a.csv"]
    with pytest.raises(ConfigError, match=r"'\*\.json' matches no file under"):
        find_files(["*.json"], folder)
    with pytest.raises(ConfigError, match=r"'data \[1\]/' is a folder; name its files, as in data \[1\]/\*\.parquet"):
        find_files(["data [1]/"], tmp_path)
