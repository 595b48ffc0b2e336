"""Values of every type, short."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from gnomonic.server.atlas.row_values import shorten


def _short(values: Any, kind: pa.DataType | None = None, longest: int = 10) -> list[tuple[Any, bool]]:
    found = shorten(pa.chunked_array([pa.array(values, type=kind)]), longest)
    orjson.dumps(found)
    return found


@pytest.mark.parametrize(
    ("values", "kind", "shown"),
    [
        (["short", "0123456789", "0123456789a", None, ""], None,
         [("short", False), ("0123456789", False), ("0123456789", True), (None, False), ("", False)]),
        (["👍" * 11], pa.large_string(), [("👍" * 10, True)]),
        (["a" * 11], pa.dictionary(pa.int32(), pa.string()), [("a" * 10, True)]),
        ([b"\x00" * 1234567, b"", None], None, [("<1,234,567 bytes>", False), ("<0 bytes>", False), (None, False)]),
        ([b"abcd"], pa.binary(4), [("<4 bytes>", False)]),
        ([[1, 2], [], None, list(range(9))], None, [([1, 2], False), ([], False), (None, False), ("[0,1,2,3,4", True)]),
        ([[1.5, 2.5, 3.5, 4.5]], pa.list_(pa.float32(), 4), [("[1.5,2.5,3", True)]),
        ([{"a": 1}, {"a": 10**9}], None, [({"a": 1}, False), ('{"a":10000', True)]),
        ([[("k", 1)]], pa.map_(pa.string(), pa.int64()), [([["k", 1]], False)]),
        ([1, 2**53 + 1, -(2**60), None], None,
         [(1, False), (str(2**53 + 1), False), (str(-(2**60)), False), (None, False)]),
        ([2**64 - 1], pa.uint64(), [(str(2**64 - 1), False)]),
        ([True, None], None, [(True, False), (None, False)]),
        ([1.5], None, [(1.5, False)]),
        ([decimal.Decimal("1.50")], None, [("1.50", False)]),
        ([dt.date(2020, 1, 2)], None, [("2020-01-02", False)]),
        ([None], pa.null(), [(None, False)]),
    ],
)  # fmt: skip
def test_values(values: Any, kind: pa.DataType | None, shown: list[tuple[Any, bool]]) -> None:
    assert _short(values, kind) == shown


def test_times_are_texts() -> None:
    moment = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert _short([moment], longest=40) == [("2020-01-02T03:04:05+00:00", False)]
    assert _short([moment], pa.timestamp("ns", "UTC"), 40)[0][0].startswith("2020-01-02")
    assert _short([dt.timedelta(seconds=61)], longest=40) == [("0:01:01", False)]
    assert _short([dt.time(1, 2, 3)], longest=40) == [("01:02:03", False)]


def test_numbers_that_json_has_not() -> None:
    assert orjson.dumps(_short([float("nan"), float("inf")])) == b"[[null,false],[null,false]]"


def test_ten_megabytes_are_not_sent() -> None:
    ((value, cut),) = _short(["x" * 10_000_000], longest=400)
    assert (len(value), cut) == (400, True)
    ((value, cut),) = _short([np.zeros(1_000_000).tolist()], longest=400)
    assert (len(value), cut) == (400, True)
