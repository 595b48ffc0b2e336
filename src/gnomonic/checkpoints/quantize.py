"""Weights as 8-bit codes: one scale per row, so that a row of large values does not coarsen the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantize_rows"]

_LARGEST_CODE = 127
# Rows handled at once: bounds the float32 temporaries of a word table to some megabytes.
_ROWS_AT_ONCE = 2048


def quantize_rows(matrix: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each row to 8-bit codes, symmetric around zero.

    Args:
        matrix: [rows, columns] float16 or float32, finite.

    Returns:
        codes [rows, columns] int8 in -127…127 and scales [rows] float32, with matrix ≈ codes · scales[:, None].
        A row of zeros has the scale 1.
    """
    codes = np.empty(matrix.shape, dtype=np.int8)
    scales = np.empty(len(matrix), dtype=np.float32)
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        values = matrix[rows].astype(np.float32)
        scale = np.abs(values).max(axis=1) / np.float32(_LARGEST_CODE)
        # Rows of zeros, and rows whose scale would be a denormal number, which some CPUs flush to zero.
        scale[scale < np.finfo(np.float32).tiny] = 1
        codes[rows] = np.rint(values / scale[:, None])
        scales[rows] = scale
    return codes, scales
