"""Every format, as people write it, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

from gnomonic.errors import ConfigError, GnomonicError, InputError  # noqa: E402
from gnomonic.training.data.readers import read_batches, stem_of  # noqa: E402

_ROWS = [
    {"query": "größer\r\nals 日本 🦊", "document": 'said "no", twice', "source": "a"},
    {"query": "x", "document": "y\ty\n", "source": "b"},
]
_JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _ROWS)
_CSV = 'query,document,source\n"größer\r\nals 日本 🦊","said ""no"", twice",a\nx,"y\ty\n",b\n'


def _read(path: Path) -> list[dict[str, Any]]:
    return [row for batch, _ in read_batches(path) for row in batch.to_pylist()]


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _compressed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data[:20], mtime=0) + gzip.compress(data[20:], mtime=0)
    return pa.compress(data, "zstd", asbytes=True) if name.endswith(".zst") else data


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("kind", "text"), [("jsonl", _JSONL), ("csv", _CSV)])
def test_text_files_give_their_rows(tmp_path: Path, kind: str, text: str, ending: str, mark: bytes) -> None:
    path = tmp_path / f"My.Pairs.{kind}{ending}"
    path.write_bytes(_compressed(path.name, mark + text.encode()))
    assert _filled(_read(path)) == _ROWS


def test_windows_line_ends_and_blank_lines_are_no_part_of_the_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"query": "q", "document": "d"}\r\n\r\n  \r\n{"query": "r", "document": "e"}')
    (tmp_path / "a.csv").write_bytes(b"query,document\r\nq,d\r\nr,e\r\n")
    (tmp_path / "a.tsv").write_bytes(b"query\tdocument\r\nq\td\r\nr\te")
    for kind in ("jsonl", "csv", "tsv"):
        rows = _read(tmp_path / f"a.{kind}")
        assert [(row["query"], row["document"], row["source"]) for row in rows] == [("q", "d", "a"), ("r", "e", "a")]


@pytest.mark.parametrize(
    ("texts", "lists"),
    [
        (pa.string(), pa.list_(pa.string())),
        (pa.large_string(), pa.large_list(pa.large_string())),
        (pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.string())),
    ],
    ids=["string", "large", "dictionary"],
)
def test_parquet_of_any_text_type(tmp_path: Path, texts: Any, lists: Any) -> None:
    columns = {
        "id": pa.array([1, 2, 3]),
        "query": pa.array(["ä", "b", "c"]).cast(texts),
        "document": pa.array(["d", "e", "f"]).cast(texts),
        "negatives": pa.array([["n", "", None, " "], None, []], pa.list_(pa.string())).cast(lists),
        "source": pa.array(["s", None, " "]).cast(texts),
    }
    pq.write_table(pa.table(columns), tmp_path / "p.parquet", row_group_size=2)
    rows = _read(tmp_path / "p.parquet")
    assert [row["query"] + row["document"] + row["source"] for row in rows] == ["äds", "bep", "cfp"]
    assert [row["negatives"] for row in rows] == [["n"], [], []]


def test_negatives_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"query": "a", "document": "b"}\n{"query": "a", "document": "b", "negatives": ["c", null, ""]}\n'
        '{"query": "a", "document": "b", "negatives": "d"}\n'
    )
    assert [row["negatives"] for row in _read(tmp_path / "a.jsonl")] == [None, ["c"], ["d"]]
    (tmp_path / "a.csv").write_text('query,document,negatives\na,b,"[""c"", ""d""]"\na,b,\n')
    assert [row["negatives"] for row in _read(tmp_path / "a.csv")] == [["c", "d"], []]
    (tmp_path / "b.csv").write_text("anchor,positive,negative\na,b,c\n")
    assert _filled(_read(tmp_path / "b.csv")) == [{"query": "a", "document": "b", "negatives": ["c"], "source": "b"}]


def test_rows_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"query": "a", "document": "b"}\n{"query": "a", "document": null}\n{"query": " \\n", "document": "b"}\n'
        '{"document": "b"}\n{"query": "c", "document": "d"}\n'
    )
    ((batch, read),) = read_batches(tmp_path / "a.jsonl")
    assert (batch["query"].to_pylist(), read) == (["a", "c"], 5)
    (tmp_path / "a.csv").write_text("query,document\na,b\n,b\na,\nc,d\n")
    ((batch, read),) = read_batches(tmp_path / "a.csv")
    assert (batch["query"].to_pylist(), read) == (["a", "c"], 4)


def test_a_whole_batch_without_a_document_is_left_out_too(tmp_path: Path) -> None:
    columns = {"query": ["a"] * 5000, "document": [None] * 4096 + ["b"] * 904}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert sum(batch.num_rows for batch, _ in read_batches(tmp_path / "a.parquet")) == 904


def test_plain_texts_need_only_their_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": ""}\n{"text": "two", "id": 3}\n')
    assert [row["text"] for row in _read(tmp_path / "a.jsonl")] == ["one", "two"]


_GOOD = b'{"query": "a", "document": "b"}\n'


@pytest.mark.parametrize(
    ("name", "data", "error", "said"),
    [
        ("a.jsonl", _GOOD + b"{oops}\n", InputError, r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", b'{\n "query": "a"\n}\n', InputError, "line 1: not valid JSON.*write one object a line"),
        ("a.jsonl", _GOOD + b'["a", "b"]\n', InputError, r"line 2: holds a list; each line must be an object"),
        ("a.jsonl", _GOOD + b'{"query": 5, "document": "b"}\n', InputError, "line 2: `query` is a number; it must be"),
        ("a.jsonl", _GOOD + b'{"query": "a", "document": {}}\n', InputError, "line 2: `document` is an object"),
        ("a.jsonl", b'{"query": "a", "document": "b", "negatives": [1]}', InputError, "line 1: `negatives` must be"),
        ("a.jsonl", _GOOD + b'\n{"query": "\xff", "document": "b"}\n', InputError, "line 3: not valid UTF-8"),
        ("a.jsonl", b'{"query": "\\ud800", "document": "b"}\n', InputError, "line 1: `query` has half of a surrogate"),
        ("a.jsonl", b'{"question": "a"}\n', ConfigError, r"has the columns \['question'\]; pairs need `query`"),
        ("a.jsonl", '{"query": "a"}'.encode("utf-16"), InputError, "UTF-16; convert it first: iconv"),
        ("a.csv", b"", InputError, "empty; its first line must name the columns"),
        ("a.csv", b"q,d\na,b\n", ConfigError, r"has the columns \['q', 'd'\]"),
        ("a.csv", b"query,query,document\na,b,c\n", ConfigError, "names a column twice"),
        ("a.csv", b"query,document\na,b\na,b,c\n", InputError, "line 3: 3 cells, but the first line names 2 columns"),
        ("a.csv", b'query,document\na,"b\nc,d\n', InputError, "line 3: not valid CSV.*is a quote left open"),
        ("a.csv", b"query,document\n\xff,b\n", InputError, "line 2: not valid UTF-8"),
        ("a.csv", b"que\xffry,document\na,b\n", InputError, "line 1: not valid UTF-8"),
        ("a.csv", b"query,document,negatives\na,b,c\n", InputError, "line 2: `negatives` must be a JSON list"),
        ("a.csv", b"query,document,negatives\na,b,{}\n", InputError, "line 2: `negatives` must be a list of texts"),
        ("a.jsonl.gz", gzip.compress(_GOOD * 99, mtime=0)[:-9], InputError, "damaged gzip data"),
        ("a.jsonl.gz", _GOOD, InputError, "damaged gzip data"),
        ("a.csv.gz", gzip.compress(b"query,document\na,b\n" * 99, mtime=0)[:-9], InputError, "damaged gzip data"),
        ("a.jsonl.zst", _GOOD, InputError, r"a\.jsonl\.zst"),
        ("a.jsonl.zst", pa.compress(_GOOD * 99, "zstd", asbytes=True)[:-9], InputError, r"a\.jsonl\.zst"),
        ("a.parquet", b"PAR1 no more", InputError, "cannot be read as parquet"),
        ("a.txt", b"a", ConfigError, r"unknown format; its name must end in \.parquet"),
        ("a.parquet.gz", b"a", ConfigError, "unknown format"),
        ("jsonl", b"a", ConfigError, "unknown format"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, data: bytes, error: type[GnomonicError], said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=said):
        _read(tmp_path / name)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1, 2]), "column 'query' holds int64; it must hold text"),
        (pa.array([b"a", b"b"]), "column 'query' holds binary; it must hold text"),
        (pa.array([["a"], ["b"]]), "column 'query' holds list.*; it must hold text"),
    ],
)
def test_a_parquet_column_of_another_type(tmp_path: Path, column: Any, said: str) -> None:
    pq.write_table(pa.table({"query": column, "document": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=said):
        _read(tmp_path / "a.parquet")


def test_a_document_longer_than_the_csv_module_takes_by_default(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"query,document\nq,{'long ' * 50_000}\n")
    assert len(_read(tmp_path / "a.csv")[0]["document"]) == 250_000


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl: cannot be read: No such file"):
        _read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("name", "stem"), [("a.b.jsonl.gz", "a.b"), ("A.CSV", "A"), ("a.parquet", "a"), ("a.jsonl.zst", "a")]
)
def test_the_stem_is_the_name_without_its_format(name: str, stem: str) -> None:
    assert stem_of(Path("folder") / name) == stem
