"""Compiled kernels give what their numpy forms give; without them everything works, only later."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gnomonic.atlas import best_matches, kernel_calls, neighbor_rounds, neighbors, vector_rows
from gnomonic.atlas.best_matches import BestLists, exact_distances, row_groups
from gnomonic.atlas.kernel_calls import run_kernel
from gnomonic.atlas.kernels import library
from gnomonic.atlas.neighbor_rounds import refine_lists
from gnomonic.atlas.neighbors import build_neighbors, query_neighbors
from gnomonic.atlas.options import NeighborOptions
from gnomonic.atlas.vector_rows import VectorRows, survey_rows

compiled = pytest.mark.skipif(library() is None, reason="the kernels are not compiled")


@pytest.fixture
def numpy_only() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def _both(patch: pytest.MonkeyPatch, run: Any) -> tuple[Any, Any]:
    """What a function gives with the kernels, and without."""
    fast = run()
    patch.setattr(kernel_calls, "library", lambda: None)
    return fast, run()


def _vectors(n: int, dim: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, dim)).astype(dtype)


def test_a_kernel_that_runs_out_of_memory_says_so(numpy_only: pytest.MonkeyPatch) -> None:
    numpy_only.setattr(kernel_calls, "library", lambda: types.SimpleNamespace(some_kernel=lambda *_: 1))
    with pytest.raises(MemoryError, match="some_kernel"):
        run_kernel("some_kernel", 3, None)


def test_without_kernels_nothing_is_run(numpy_only: pytest.MonkeyPatch) -> None:
    numpy_only.setattr(kernel_calls, "library", lambda: None)
    assert run_kernel("some_kernel") is False


@compiled
def test_every_half_is_read_as_numpy_reads_it() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.ascontiguousarray(halves[np.isfinite(halves)].reshape(-1, 16))
    assert (VectorRows(vectors=finite).read() == finite.astype(np.float32)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_surveys_agree(numpy_only: pytest.MonkeyPatch, dtype: Any) -> None:
    vectors = _vectors(3_000, 37, dtype)
    (fast, fast_digests), (slow, slow_digests) = _both(numpy_only, lambda: survey_rows(vectors, metric="cosine"))
    assert fast.scale is not None
    assert slow.scale is not None
    assert np.allclose(fast.scale, slow.scale, rtol=1e-6)
    assert (fast_digests == slow_digests).all()
    assert len(np.unique(fast_digests)) == 3_000


@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize("dim", [3, 16, 50])
def test_joins_agree(numpy_only: pytest.MonkeyPatch, dim: int, differences: bool) -> None:
    points = _vectors(700, dim)
    bias = np.abs(_vectors(700, 1)).ravel()
    segments = np.array([[0, 300], [300, 301], [420, 700], [50, 50]], dtype=np.int64)
    groups = np.array([[0, 13, 0, 1], [13, 400, 1, 4], [500, 700, 0, 3], [450, 460, 2, 2]], dtype=np.int64)

    def join() -> BestLists:
        lists = BestLists.empty(700, 9)
        rows = VectorRows(vectors=points)
        own = np.arange(5, 705, dtype=np.int32)
        for _ in range(2):
            lists.join(
                rows,
                rows,
                bias=bias,
                differences=differences,
                groups=groups[:1],
                segments=segments,
                own=own,
                first_id=5,
            )
            groups[0, 2:] = 1, 3
        groups[0, 2:] = 0, 1
        lists.join(
            rows, rows, bias=bias, differences=differences, groups=groups[1:], segments=segments, own=own, first_id=5
        )
        return lists

    fast, slow = _both(numpy_only, join)
    assert (fast.ids == slow.ids).mean() > 0.999
    assert np.allclose(fast.scores, slow.scores, rtol=1e-5, atol=1e-5)
    assert (fast.ids[450:460] == -1).all()
    assert not (fast.ids == np.arange(5, 705)[:, None]).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_agree(numpy_only: pytest.MonkeyPatch, metric: str, dtype: Any) -> None:
    vectors = _vectors(200, 30, dtype)
    vectors[[4, 9]] = 0
    rows, _ = survey_rows(vectors, metric=metric)
    rows = rows.rows(np.arange(199, -1, -1))
    ids = np.random.default_rng(0).integers(-1, 200, (200, 12)).astype(np.int32)
    fast, slow = _both(numpy_only, lambda: exact_distances(rows, rows, ids, 5))
    assert np.allclose(fast[1], slow[1], rtol=1e-5, atol=1e-6)
    assert (fast[0] == slow[0]).mean() > 0.99


def test_rounds_agree(numpy_only: pytest.MonkeyPatch) -> None:
    points = VectorRows(vectors=_vectors(600, 6))
    lost = np.abs(_vectors(600, 1)).ravel() / 10
    # Each row has met its own cell of 100 only.
    begins = np.arange(0, 600, 100, dtype=np.int64)
    groups = np.stack([begins, begins + 100, np.arange(6), np.arange(1, 7)], axis=1)
    segments = np.stack([begins, begins + 100], axis=1)

    def improve() -> tuple[BestLists, BestLists]:
        lists = BestLists.empty(600, 20)
        own = np.arange(600, dtype=np.int32)
        lists.join(points, points, bias=lost, differences=True, groups=groups, segments=segments, own=own)
        lists.ids[::7, 10:], lists.scores[::7, 10:] = -1, -np.inf
        lists.ids[:50, 0], lists.scores[:50, 0] = np.arange(550, 600), -1e-3
        before = BestLists(scores=lists.scores.copy(), ids=lists.ids.copy())
        cell_of = np.repeat(np.arange(6, dtype=np.int32), 100)
        refine_lists(lists, points, lost, k=8, cell_of=cell_of, searched=np.eye(6, dtype=np.uint8))
        return before, lists

    (before, fast), (_, slow) = _both(numpy_only, improve)
    assert (fast.ids != before.ids).any()
    assert (fast.ids == slow.ids).mean() > 0.999
    assert np.allclose(fast.scores, slow.scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [NeighborOptions(), NeighborOptions(exact_below=0)], ids=["exact", "cells"])
def test_graphs_agree(numpy_only: pytest.MonkeyPatch, options: NeighborOptions) -> None:
    vectors = _vectors(900, 20, np.float16)
    vectors[40:70] = vectors[40]
    fast, slow = _both(numpy_only, lambda: build_neighbors(vectors, options))
    assert (fast.indices == slow.indices).mean() > 0.98
    assert abs(fast.recall - slow.recall) < 0.02


@pytest.mark.parametrize("count", [1, 30])
def test_queries_agree(numpy_only: pytest.MonkeyPatch, count: int) -> None:
    vectors, queries = _vectors(500, 20), _vectors(count, 20)
    fast, slow = _both(numpy_only, lambda: query_neighbors(vectors, queries, 5))
    assert (fast[0] == slow[0]).all()
    assert np.allclose(fast[1], slow[1], atol=1e-6)


@compiled
@pytest.mark.parametrize("options", [NeighborOptions(), NeighborOptions(exact_below=0)], ids=["exact", "cells"])
def test_the_number_of_threads_changes_nothing(numpy_only: pytest.MonkeyPatch, options: NeighborOptions) -> None:
    vectors = _vectors(3_000, 20)
    graphs = []
    for count in (1, 5):
        for module in (best_matches, neighbor_rounds, neighbors, vector_rows):
            numpy_only.setattr(module, "threads", lambda count=count: count)
        graphs.append(build_neighbors(vectors, options))
    assert (graphs[0].indices == graphs[1].indices).all()
    assert (graphs[0].distances == graphs[1].distances).all()


def test_groups_cover_all_rows() -> None:
    for rows in (1, 11, 500, 5_000):
        groups = row_groups(rows)
        assert np.concatenate([np.arange(a, b) for a, b, _, _ in groups]).tolist() == list(range(rows))
