"""Rows of vectors as the search for neighbours reads them: checked, measured, and a block at a time in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import threads
from gnomonic.errors import InputError

__all__ = ["IdenticalRows", "VectorRows", "check_vectors", "identical_rows", "survey_rows", "unit_scale"]

_BLOCK_BYTES = 64 << 20
_SHORTEST = 1e-30
"""Rows no longer than this count as zero vectors, whose cosine distance is 0 to each other and 1 to all else."""
_LARGEST_SQUARE = 1e36
"""Of a row, so that squares of differences stay within float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorRows:
    """Some rows of a matrix, each times a factor, as kernels read them without copying the matrix."""

    vectors: NDArray[Any]
    """[n, d] float16 or float32, C-contiguous; may be a memory map."""
    which: NDArray[np.int64] | None = None
    """[m] int64, the rows meant; None for all."""
    scale: NDArray[np.float32] | None = None
    """[n] float32, the factor of each row of `vectors`, 0 for a zero vector; None where rows are taken as they are."""

    def __len__(self) -> int:
        return len(self.vectors if self.which is None else self.which)

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return int(self.vectors.shape[1])

    @property
    def arguments(self) -> tuple[NDArray[Any], int, NDArray[np.int64] | None, NDArray[np.float32] | None]:
        """What kernels are given: the matrix, whether of halves, the rows and the factors."""
        return self.vectors, int(self.vectors.dtype == np.float16), self.which, self.scale

    def rows(self, at: NDArray[np.integer[Any]]) -> VectorRows:
        """Return the rows at some positions."""
        which = at if self.which is None else self.which[at]
        return VectorRows(vectors=self.vectors, which=np.ascontiguousarray(which, dtype=np.int64), scale=self.scale)

    def part(self, begin: int, end: int) -> VectorRows:
        """Return the rows from one position to before another."""
        return self.rows(np.arange(begin, min(end, len(self))))

    def read(self) -> NDArray[np.float32]:
        """Return the rows [m, d] float32."""
        which = np.arange(len(self.vectors)) if self.which is None else self.which
        out = np.empty((len(which), self.dim), dtype=np.float32)
        vectors, half, _, scale = self.arguments
        if not run_kernel("neighbors_read", vectors, half, self.dim, which, len(which), scale, out, threads()):
            out[:] = self.vectors[which]
            if self.scale is not None:
                out *= self.scale[which, None]
        return out

    def zeros(self) -> NDArray[np.bool_] | None:
        """Return which rows are zero vectors [m] bool; None where rows are taken as they are."""
        if self.scale is None:
            return None
        scale = self.scale if self.which is None else self.scale[self.which]
        zeros: NDArray[np.bool_] = scale == 0
        return zeros


@dataclass(frozen=True, kw_only=True, slots=True)
class IdenticalRows:
    """Groups of rows whose vectors are the same."""

    group: NDArray[np.int64]
    """[n] int64, each row's group; groups are numbered by their first rows."""
    order: NDArray[np.int64]
    """[n] int64, rows sorted by group, ascending inside one."""
    starts: NDArray[np.int64]
    """[groups + 1] int64, where each group begins in `order`."""

    @property
    def first(self) -> NDArray[np.int64]:
        """[groups] int64, each group's first row."""
        return self.order[self.starts[:-1]]


def check_vectors(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return vectors as the kernels take them: float16 and float32 as they are, other numbers as float32.

    Args:
        vectors: [n, d], any real numbers.

    Raises:
        InputError: they are not a matrix of numbers, or too many.
    """
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiub" or not vectors.shape[1]:
        raise InputError(
            f"vectors of shape {vectors.shape} and type {vectors.dtype} are not a matrix of numbers; "
            "give one row per vector, at least one number wide"
        )
    if len(vectors) > np.iinfo(np.int32).max:
        raise InputError(f"{len(vectors)} vectors are too many for one map; the limit is 2,147,483,647")
    wanted = np.float16 if vectors.dtype == np.float16 else np.float32
    return np.ascontiguousarray(vectors, dtype=wanted)


def survey_rows(vectors: NDArray[Any], *, metric: str) -> tuple[VectorRows, NDArray[np.uint64]]:
    """Check that every number is finite, and take each row's length and digest.

    Args:
        vectors: as `check_vectors` returns them.
        metric: "cosine" or "euclidean".

    Returns:
        the rows, made unit vectors for "cosine", and their digests [n] uint64: rows equal in every bit have the same.

    Raises:
        InputError: a row holds NaN or infinity, or is too long for float32 distances; it names the first.
    """
    n, dim = vectors.shape
    squares = np.empty(n, dtype=np.float64)
    digests = np.empty(n, dtype=np.uint64)
    keys = _keys(dim)
    size = _rows_per_block(dim)
    for begin in range(0, n, size):
        block = np.asarray(vectors[begin : begin + size])
        found = slice(begin, begin + len(block))
        if not run_kernel(
            "neighbors_survey",
            block,
            int(block.dtype == np.float16),
            len(block),
            dim,
            keys,
            squares[found],
            digests[found],
            threads(),
        ):
            _survey(block, keys, squares[found], digests[found])
    if len(bad := np.flatnonzero(~np.isfinite(squares))):
        raise InputError(f"vector {bad[0]} holds NaN or infinity; every number must be finite")
    if metric == "cosine":
        return VectorRows(vectors=vectors, scale=unit_scale(squares)), digests
    if len(bad := np.flatnonzero(squares > _LARGEST_SQUARE)):
        raise InputError(
            f"vector {bad[0]} has length {squares[bad[0]] ** 0.5:.3g}; euclidean distances are taken between vectors "
            f"no longer than {_LARGEST_SQUARE**0.5:.0e}: scale them down"
        )
    return VectorRows(vectors=vectors), digests


def unit_scale(squares: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return 1 / length [n] float32 from squared lengths [n], 0 for zero vectors."""
    lengths = np.sqrt(squares, dtype=np.float64)
    found = np.zeros(len(lengths), dtype=np.float64)
    np.divide(1.0, lengths, out=found, where=lengths > _SHORTEST)
    return found.astype(np.float32)


def identical_rows(vectors: NDArray[Any], digests: NDArray[np.uint64]) -> IdenticalRows | None:
    """Return the groups of identical rows; None where no two rows are.

    Args:
        vectors: [n, d] float16 or float32.
        digests: [n] uint64, as `survey_rows` returns them.
    """
    n = len(vectors)
    order = np.argsort(digests, kind="stable")
    sorted_digests = digests[order]
    same = np.flatnonzero(sorted_digests[1:] == sorted_digests[:-1]) + 1
    if not len(same):
        return None
    begins = np.ones(n, dtype=bool)
    # Equal digests are a hint only: each row is compared with the one before it.
    for begin in range(0, len(same), size := _rows_per_block(vectors.shape[1])):
        later = same[begin : begin + size]
        begins[later] = (vectors[order[later]] != vectors[order[later - 1]]).any(axis=1)
    if begins.all():
        return None
    run = np.cumsum(begins) - 1
    firsts = order[begins]  # the sort is stable, so a run begins with its first row
    rank = np.empty(len(firsts), dtype=np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    group = np.empty(n, dtype=np.int64)
    group[order] = rank[run]
    starts = np.zeros(len(firsts) + 1, dtype=np.int64)
    np.cumsum(np.bincount(group, minlength=len(firsts)), out=starts[1:])
    return IdenticalRows(group=group, order=np.argsort(group, kind="stable"), starts=starts)


def _rows_per_block(dim: int) -> int:
    return max(1, _BLOCK_BYTES // (4 * dim))


def _keys(dim: int) -> NDArray[np.uint64]:
    """Return odd numbers [d] uint64, always the same."""
    drawn = np.random.default_rng(0x6E6F6D69).integers(0, 1 << 63, size=(dim,), dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


def _survey(
    block: NDArray[Any], keys: NDArray[np.uint64], squares: NDArray[np.float64], digests: NDArray[np.uint64]
) -> None:
    words = np.ascontiguousarray(block).view(np.uint16 if block.dtype == np.float16 else np.uint32)
    for begin in range(0, len(block), 1024):
        part = slice(begin, begin + 1024)
        numbers = block[part].astype(np.float64)
        squares[part] = np.einsum("ij,ij->i", numbers, numbers)
        digests[part] = (words[part].astype(np.uint64) * keys).sum(axis=1, dtype=np.uint64)
