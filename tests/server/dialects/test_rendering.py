from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomonic.errors import EngineError, InputError
from gnomonic.server.dialects.rendering import (
    ENCODINGS,
    base64_rows,
    binary_rows,
    bit_rows,
    float_rows,
    int8_range,
    int8_rows,
    told,
    ubinary_rows,
    uint8_rows,
)
from tests.server.dialects.cases import unit_vectors

untimed = settings(deadline=None)  # a busy machine stretches wall time
FLOATS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20
)  # subnormal, negative zero and huge values included


@untimed
@given(row=FLOATS)
def test_floats_read_back_as_the_same_float32(row: list[float]) -> None:
    vectors = np.array([row, row[::-1]], dtype=np.float32)
    assert np.array(json.loads(float_rows(vectors)), dtype=np.float32).tobytes() == vectors.tobytes()


@untimed
@given(row=FLOATS)
def test_base64_equals_float_bit_for_bit(row: list[float]) -> None:
    vectors = np.array([row], dtype=np.float32)
    (packed,) = base64_rows(vectors)
    assert base64.b64decode(packed, validate=True) == vectors.astype("<f4").tobytes()
    assert np.array(json.loads(float_rows(vectors)), dtype="<f4").tobytes() == base64.b64decode(packed)


def test_no_vectors_are_an_empty_list() -> None:
    none = np.empty((0, 8), dtype=np.float32)
    assert float_rows(none) == b"[]"
    assert base64_rows(none) == []
    assert int8_rows(none).shape == (0, 8)
    assert binary_rows(none).shape == (0, 1)


@pytest.mark.parametrize("encode", [float_rows, *ENCODINGS.values()])
def test_no_encoding_takes_what_is_not_finite(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(EngineError, match="not finite"):
        encode(np.array([[0.0, np.nan]], dtype=np.float32))


@pytest.mark.parametrize("dim", [1, 7, 8, 9, 64, 100, 384, 768])
def test_the_range_of_int8_depends_on_the_dimension_only(dim: int) -> None:
    assert int8_range(dim) == min(1.0, 10 / math.sqrt(dim))
    vectors = unit_vectors(50, dim)
    one_by_one = np.concatenate([int8_rows(row[None]) for row in vectors])
    np.testing.assert_array_equal(int8_rows(vectors), one_by_one)


@pytest.mark.parametrize("dim", [64, 384, 768])
def test_int8_keeps_the_vectors_direction(dim: int) -> None:
    vectors = unit_vectors(200, dim)
    restored = int8_rows(vectors) * (int8_range(dim) / 127)
    cosine = (restored * vectors).sum(axis=1) / np.linalg.norm(restored, axis=1)
    assert cosine.min() > 0.999
    np.testing.assert_allclose(restored, vectors, atol=int8_range(dim) / 254 + 1e-7)


def test_int8_is_symmetric_and_clips() -> None:
    row = np.array([[1.0, -1.0, *[0.0] * 398]], dtype=np.float32)
    assert int8_range(400) == 0.5
    assert int8_rows(row)[0, :3].tolist() == [127, -127, 0]
    assert int8_rows(row).dtype == np.int8
    assert uint8_rows(row)[0, :3].tolist() == [255, 1, 128]
    assert uint8_rows(row).dtype == np.uint8


@untimed
@given(row=FLOATS)
def test_bits_are_packed_first_value_highest(row: list[float]) -> None:
    vectors = np.array([row], dtype=np.float32)
    bits = "".join("1" if value > 0 else "0" for value in row)
    padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
    expected = [int(padded[at : at + 8], 2) for at in range(0, len(padded), 8)]
    assert ubinary_rows(vectors).tolist() == [expected]
    assert binary_rows(vectors).tolist() == [[byte - 128 for byte in expected]]
    assert bit_rows(vectors).tolist() == [[int(bit) for bit in bits]]
    assert (ubinary_rows(vectors).dtype, binary_rows(vectors).dtype) == (np.uint8, np.int8)


@pytest.mark.parametrize(
    ("message", "expected", "path"),
    [
        ("texts[3] is null; mend it", "input[3] is null; mend it", ("input", 3)),
        ("texts[0].content[2].text is null", "input[0].content[2].text is null", ("input", 0, "content", 2, "text")),
        ("dimensionality 9 is larger", "dimensions 9 is larger", ("dimensions",)),
        ("dimensions 9 is larger", "dimensions 9 is larger", ("dimensions",)),
        ("limit 9 is larger", "options.limit 9 is larger", ("options", "limit")),
        ("model 'x' not found", "model 'x' not found", ("model",)),
        ("textsual 3", "textsual 3", ()),
        ("something about texts[3]", "something about texts[3]", ()),
        ("texts", "texts", ()),
        ("", "", ()),
    ],
)
def test_an_error_is_told_in_the_callers_words(message: str, expected: str, path: tuple[str | int, ...]) -> None:
    names = {"texts": "input", "dimensionality": "dimensions", "limit": "options.limit"}
    told_ = told(InputError(message), names, ("model",))
    assert (told_.message, told_.path, told_.too_long) == (expected, path, False)
    assert told(InputError(message or "x", hint="Do y."), names, ("model",)).message.endswith(" Do y.")
