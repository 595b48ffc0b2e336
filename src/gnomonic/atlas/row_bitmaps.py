"""Numbers of rows as bitmaps, one for each 65,536 numbers of which any is there: a million rows are 16 small values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import InputError

__all__ = ["BLOCK", "check_numbers", "count_rows", "distinct", "join_rows", "split_rows", "unpack"]

BLOCK = 65_536
"""Numbers a bitmap."""


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return values ascending and each once; sorting them is far faster than NumPy's `unique`."""
    found = np.sort(values)
    return found if len(found) < 2 else found[np.concatenate([[True], found[1:] != found[:-1]])]


def check_numbers(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers of rows ascending and each once.

    Raises:
        InputError: one is negative, or they are no whole numbers.
    """
    found = np.asarray(rows)
    if found.size and found.dtype.kind not in "iu":
        raise InputError(f"row numbers hold {found.dtype}; give whole numbers")
    found = distinct(found.astype(np.int64))
    if len(found) and found[0] < 0:
        raise InputError(f"row number {found[0]} is negative")
    return found


def split_rows(rows: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
    """Return rows as bitmaps [8192] uint8 by block, the lowest bit first.

    Raises:
        InputError: one is negative, or they are no whole numbers.
    """
    numbers = check_numbers(rows)
    blocks, begins = np.unique(numbers // BLOCK, return_index=True)
    found = {}
    ends = [*begins[1:].tolist(), len(numbers)]
    for block, begin, end in zip(blocks.tolist(), begins.tolist(), ends[: len(blocks)], strict=True):
        marks = np.zeros(BLOCK, dtype=np.uint8)
        marks[numbers[begin:end] % BLOCK] = 1
        found[block] = np.packbits(marks, bitorder="little")
    return found


def join_rows(blocks: list[tuple[int, bytes]]) -> NDArray[np.int64]:
    """Return the rows of bitmaps that come in the order of their blocks."""
    found = [np.empty(0, dtype=np.int64)]
    for block, bits in blocks:
        found.append(np.flatnonzero(np.unpackbits(unpack(bits), bitorder="little")) + block * BLOCK)
    return np.concatenate(found)


def unpack(bits: bytes) -> NDArray[np.uint8]:
    """Return a bitmap from its bytes."""
    return np.frombuffer(bits, dtype=np.uint8)


def count_rows(blocks: Mapping[int, NDArray[np.uint8]]) -> int:
    """Return how many rows bitmaps hold."""
    return sum(int(np.unpackbits(bits).sum()) for bits in blocks.values())
