"""How near rows are to a query, exactly, and which are the best."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import library, pointer, threads
from gnomonic.errors import InputError

__all__ = ["as_queries", "best_of", "row_scores", "unit_rows"]

_BLOCK_ROWS = 8192


def as_queries(queries: NDArray[Any], dim: int) -> NDArray[np.float32]:
    """Return queries as [m, dim] float32, contiguous.

    Raises:
        InputError: they have another shape, or values that are not finite.
    """
    found = np.ascontiguousarray(queries, dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != dim:
        raise InputError(f"queries have the shape {np.shape(queries)}; this map takes [m, {dim}]")
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        raise InputError(f"query {int(bad.argmax())} has values that are not finite; embed it again")
    return found


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows at unit length, [m, dim] float32; a zero row stays zero."""
    wide = np.asarray(rows, dtype=np.float32)
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", wide, wide)
    if np.all((squares > 1e-30) & (squares < 1e30)):
        return np.asarray(wide / np.sqrt(squares)[:, None], dtype=np.float32)
    exact = wide.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def row_scores(
    vectors: NDArray[Any], query: NDArray[np.float32], *, cosine: bool, among: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Return how near rows are to a query, [count] float32: more is nearer.

    Args:
        vectors: [n, dim] float16 or float32, C-contiguous and finite; may be a memory map.
        query: [dim] float32, finite.
        cosine: whether a score is the cosine (of zero vectors 1 to each other and 0 to all else), or else the
            Euclidean distance, negative.
        among: [count] int64 rows; default all.
    """
    count = len(vectors) if among is None else len(among)
    asked = unit_rows(query[None])[0] if cosine else np.ascontiguousarray(query, dtype=np.float32)
    zero = cosine and not asked.any()
    scores = np.empty(count, dtype=np.float32)
    half = int(vectors.dtype == np.float16)
    which = None if among is None else np.ascontiguousarray(among, dtype=np.int64)
    # A zero vector is what is no way from a zero query.
    by_angle = int(cosine and not zero)
    if not run_kernel(
        "neighbors_scan", vectors, half, vectors.shape[1], which, count, asked, by_angle, scores, threads()
    ):
        _scan(vectors, asked, by_angle, which, scores)
    if not cosine:
        return np.asarray(-np.sqrt(-scores), dtype=np.float32)
    if zero:
        return np.asarray(scores == 0, dtype=np.float32)
    # Rows too long or too short for sums in float32, and zero rows, of which the kernel says a very little.
    doubtful = np.flatnonzero(~(np.abs(scores) > 2e-6))
    for begin in range(0, len(doubtful), _BLOCK_ROWS):
        at = doubtful[begin : begin + _BLOCK_ROWS]
        scores[at] = unit_rows(vectors[at if which is None else which[at]]) @ asked
    return scores


def _scan(
    vectors: NDArray[Any],
    asked: NDArray[np.float32],
    by_angle: int,
    which: NDArray[np.int64] | None,
    scores: NDArray[np.float32],
) -> None:
    """Give the kernel's answer."""
    for begin in range(0, len(scores), _BLOCK_ROWS):
        part = slice(begin, begin + _BLOCK_ROWS)
        rows = vectors[part if which is None else which[part]]
        if by_angle:
            scores[part] = unit_rows(rows) @ asked
        else:
            away = np.asarray(rows, dtype=np.float32) - asked
            scores[part] = -np.einsum("ij,ij->i", away, away)


def best_of(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return where the best scores stand, best first and equal ones by place; minus infinity is no score.

    Args:
        scores: [n] float32, contiguous.
        k: at most so many.
    """
    wanted = min(k, len(scores))
    kernels = library()
    if kernels is not None:
        found = np.empty(wanted, dtype=np.int64)
        kernels.search_top.restype = ctypes.c_int64
        got = int(kernels.search_top(pointer(scores), *map(ctypes.c_int64, (len(scores), wanted)), pointer(found)))
        if got < 0:
            raise MemoryError("no memory for the results of a search")
        return found[:got]
    if not wanted:
        return np.empty(0, dtype=np.int64)
    least = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    near = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return near[np.argsort(-scores[near], kind="stable")][:wanted]
