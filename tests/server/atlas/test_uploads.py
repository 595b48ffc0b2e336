"""Uploads: Arrow shards, images before their rows, refusals, and fields of bodies."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gnomonic.errors import DatasetNotFoundError, InputError, SchemaError, TooLargeError
from gnomonic.server.atlas.call import Call
from gnomonic.server.atlas.organisations import check_organization, check_slug, check_uuid, organization_of
from gnomonic.server.atlas.reading import flag, names, only, text, whole
from gnomonic.server.atlas.uploads import keep_blobs, note_refusal, read_shard, take_blobs, take_refusals
from gnomonic.server.atlas.wire_search import vectors_of
from tests.server.atlas.desks import feather_of

_MIB = 1 << 20


def test_a_shard_has_rows_vectors_and_metadata(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float16).reshape(3, 2)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 2)
    path = feather_of(pa.table({"a": [1, 2, 3], "_embeddings": column}), tmp_path / "x", project_id="p")
    shard = read_shard(path, max_bytes=_MIB)
    assert shard.table.to_pydict() == {"a": [1, 2, 3]}
    assert shard.metadata == {"project_id": "p"}
    assert shard.vectors is not None
    np.testing.assert_array_equal(shard.vectors, vectors)


def test_streams_are_read_too(tmp_path: Path) -> None:
    table = pa.table({"a": ["x"]})
    with pa.ipc.new_stream(tmp_path / "x", table.schema) as writer:
        writer.write_table(table)
    assert read_shard(tmp_path / "x", max_bytes=_MIB).table.to_pydict() == {"a": ["x"]}


@pytest.mark.parametrize("body", [b"", b"nonsense", b"ARROW1\0\0" + b"x" * 100, b"\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_what_is_no_arrow_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x").write_bytes(body)
    with pytest.raises(InputError, match="neither an Arrow IPC file nor a stream"):
        read_shard(tmp_path / "x", max_bytes=_MIB)


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    path = feather_of(pa.table({"a": np.zeros(1_000_000)}), tmp_path / "x")
    assert path.stat().st_size < 100_000
    with pytest.raises(TooLargeError, match="when unpacked"):
        read_shard(path, max_bytes=100_000)


def test_images_are_kept_until_their_rows_come(tmp_path: Path) -> None:
    hashes = keep_blobs(tmp_path, [b"one", b"two", b"one"])
    assert hashes[0] == hashes[2] != hashes[1]
    table = pa.table({"_blob_hash": [hashes[1], "null", None, hashes[0]]})
    assert take_blobs(tmp_path, table) == [b"two", None, None, b"one"]
    assert take_blobs(tmp_path, pa.table({"a": [1]})) is None
    for bad in ("0" * 64, "../dataset.json"):
        with pytest.raises(SchemaError, match="row 1 names the image"):
            take_blobs(tmp_path, pa.table({"_blob_hash": [hashes[0], bad]}))


def test_images_without_rows_go_after_a_day(tmp_path: Path) -> None:
    (old,) = keep_blobs(tmp_path, [b"old"])
    long_ago = time.time() - 100_000
    os.utime(tmp_path / "blobs" / old, (long_ago, long_ago))
    (new,) = keep_blobs(tmp_path, [b"new"])
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [new]


def test_refusals_are_told_once(tmp_path: Path) -> None:
    assert take_refusals(tmp_path) is None
    note_refusal(tmp_path, 5, "for this")
    note_refusal(tmp_path, 7, "for that")
    told = str(take_refusals(tmp_path))
    assert "2 uploads with 12 rows were refused" in told
    assert "for this (and 1 other reasons)" in told
    assert take_refusals(tmp_path) is None


def test_names_that_may_stand_in_paths() -> None:
    assert check_slug("a-1") == "a-1"
    for bad in ("", "..", "a/b", "A", "a\0", "-a", "x" * 200):
        with pytest.raises(DatasetNotFoundError):
            check_slug(bad)
    good = "00000000-0000-0000-0000-00000000000a"
    assert check_uuid(good.upper(), "id") == good
    for bad_id in ("", None, 5, "../x", good + "\n"):
        with pytest.raises(InputError, match="is no id"):
            check_uuid(bad_id, "id")
    check_organization("a", "a")
    with pytest.raises(DatasetNotFoundError):
        check_organization("a", "b")
    assert organization_of({"state": {"organization": "x"}}) == "x"
    assert organization_of({}) == "local"


def test_fields_of_bodies() -> None:
    given = {"a": "x", "k": 3, "on": True, "l": ["x", 1]}
    assert (text(given, "a"), text(given, "b", "y"), whole(given, "k", 1, 1, 5), flag(given, "on")) == (
        "x",
        "y",
        3,
        True,
    )
    assert names(given, "l", numbers=True) == ["x", 1]
    bad = [
        lambda: only(given, "a"), lambda: text(given, "k"), lambda: text(given, "a", longest=0),
        lambda: whole(given, "k", 1, 4, 5), lambda: whole(given, "on", 1, 0, 5), lambda: flag(given, "k"),
        lambda: names(given, "l"), lambda: names(given, "a"), lambda: names({"l": [True]}, "l", numbers=True),
    ]  # fmt: skip
    for ask in bad:
        with pytest.raises(InputError):
            ask()


def test_numbers_of_the_query() -> None:
    call = Call(organization="local", query={"k": "7", "bad": "x"})
    assert (call.number("k", 1, 1, 9), call.number("none", 1, 1, 9)) == (7, 1)
    for name, high in (("bad", 9), ("k", 5)):
        with pytest.raises(InputError, match=name):
            call.number(name, 1, 1, high)


@pytest.mark.parametrize(
    "given", [None, 5, "!", "AAAA", "k05VTVBZAQA=", "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4Jywg"], ids=str
)
def test_what_is_no_array_is_refused(given: object) -> None:
    with pytest.raises(InputError, match="queries"):
        vectors_of(given)


def test_an_array_whose_head_lies_is_refused() -> None:
    import base64
    import io

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (256, 10**12)})
    with pytest.raises(InputError, match="before its last number"):
        vectors_of(base64.b64encode(stream.getvalue()).decode())


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((300, 2)), np.full((1, 2), np.nan), np.array([["a"]])])
def test_arrays_that_cannot_be_queries_are_refused(array: np.ndarray) -> None:
    import base64
    import io

    stream = io.BytesIO()
    np.save(stream, array)
    with pytest.raises(InputError, match="queries"):
        vectors_of(base64.b64encode(stream.getvalue()).decode())
