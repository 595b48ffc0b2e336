"""Rows of 8-bit codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnomonic.checkpoints import quantize as quantize_module
from gnomonic.checkpoints.quantize import quantize_rows

_LARGEST = float(np.float32(1e30))
_FLOATS = st.floats(-_LARGEST, _LARGEST, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=_FLOATS))
def test_no_value_is_off_by_more_than_half_a_step(matrix: np.ndarray) -> None:
    codes, scales = quantize_rows(matrix)
    assert codes.dtype == np.int8
    assert scales.dtype == np.float32
    assert codes.min() >= -127
    error = np.abs(codes * scales[:, None].astype(np.float64) - matrix)
    # Rows below the smallest normal step become zero.
    assert (error <= np.maximum(scales[:, None] * 0.5001, 127 * np.finfo(np.float32).tiny)).all()


def test_a_row_of_large_values_does_not_coarsen_others() -> None:
    codes, scales = quantize_rows(np.array([[1e6, -1e6], [0.5, 1.0]], dtype=np.float32))
    np.testing.assert_array_equal(codes, [[127, -127], [64, 127]])
    assert scales[1] == pytest.approx(1 / 127)


def test_a_row_of_zeros_stays_zero() -> None:
    codes, scales = quantize_rows(np.zeros((1, 3), dtype=np.float16))
    assert not codes.any()
    assert scales.tolist() == [1.0]


def test_blocks_of_rows_join_up(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    whole = quantize_rows(matrix)
    monkeypatch.setattr(quantize_module, "_ROWS_AT_ONCE", 3)
    for a, b in zip(quantize_rows(matrix), whole, strict=True):
        np.testing.assert_array_equal(a, b)
