"""The graph of neighbours is the true one, or nearly, whatever the vectors; and the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.atlas.neighbors import NeighborGraph, build_neighbors, effective_metric, query_neighbors
from gnomonic.atlas.options import NeighborOptions
from gnomonic.atlas.progress import Progress
from gnomonic.errors import DatasetError, InputError

METRICS = ("cosine", "euclidean")
BY_CELLS = NeighborOptions(exact_below=0)


def _all_distances(vectors: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    """Compare every pair, in double precision."""
    x, y = vectors.astype(np.float64), others.astype(np.float64)
    if metric == "cosine":
        return 1 - (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(axis=2))


def _truth(vectors: np.ndarray, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    distances = _all_distances(vectors, vectors, metric)
    np.fill_diagonal(distances, np.inf)
    ids = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(distances, ids, axis=1)


def _blobs(n: int, dim: int, *, blobs: int = 12, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Clusters that differ in spread, spread in all directions: no projection keeps who is whose neighbour."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, blobs, n)
    spread = rng.uniform(0.2, 1.0, blobs)[label, None]
    return (2 * rng.standard_normal((blobs, dim))[label] + spread * rng.standard_normal((n, dim))).astype(dtype)


def _check_form(graph: NeighborGraph, n: int, k: int) -> None:
    assert graph.indices.shape == graph.distances.shape == (n, k)
    assert graph.indices.dtype == np.int32
    assert graph.distances.dtype == np.float32
    assert not (graph.indices == np.arange(n)[:, None]).any()
    assert (np.isinf(graph.distances) == (graph.indices < 0)).all()
    assert not (np.diff(np.where(graph.indices < 0, 9e9, graph.distances), axis=1) < 0).any()
    ranked = np.sort(graph.indices, axis=1)
    assert not ((np.diff(ranked, axis=1) == 0) & (ranked[:, 1:] >= 0)).any()


# -- every pair compared ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "dim"), [(2, 5), (14, 768), (300, 33), (301, 3), (257, 2)])
def test_small_graphs_are_the_true_ones(n: int, dim: int, metric: str, dtype: Any) -> None:
    vectors = np.random.default_rng(n).standard_normal((n, dim)).astype(dtype)
    graph = build_neighbors(vectors, NeighborOptions(metric=metric))
    _check_form(graph, n, 15)
    assert graph.metric == ("euclidean" if dim <= 3 else metric)
    assert (graph.recall, graph.exact) == (1.0, True)
    within = min(15, n - 1)
    ids, distances = _truth(vectors, within, graph.metric)
    assert np.allclose(graph.distances[:, :within], distances, rtol=1e-5, atol=1e-6)
    assert np.mean(graph.indices[:, :within] == ids) > 0.995
    assert (graph.indices[:, within:] == -1).all()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("options", [NeighborOptions(), BY_CELLS], ids=["exact", "cells"])
def test_without_others_there_are_no_neighbours(n: int, options: NeighborOptions) -> None:
    graph = build_neighbors(np.ones((n, 4), dtype=np.float32), options)
    _check_form(graph, n, 15)
    assert (graph.indices == -1).all()


def test_close_positions_far_from_the_origin_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    towns = rng.uniform(-180, 180, (8, 2)).astype(np.float32)[rng.integers(0, 8, 600)]
    positions = (towns + rng.uniform(-1e-3, 1e-3, (600, 2))).astype(np.float32)
    ids, distances = _truth(positions, 15, "euclidean")
    graph = build_neighbors(positions)
    # Coordinates this large lie on a grid, so that some distances are equal.
    assert np.allclose(graph.distances, distances, rtol=1e-5)
    assert np.mean(graph.indices == ids) > 0.8
    by_cells = build_neighbors(positions, BY_CELLS)
    assert np.allclose(by_cells.distances, distances, rtol=1e-5)


# -- by cells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("n", "dim", "dtype"), [(6_000, 2, np.float32), (5_000, 40, np.float32), (3_000, 200, np.float16)]
)
def test_cells_find_most_neighbours(n: int, dim: int, dtype: Any, metric: str) -> None:
    vectors = _blobs(n, dim, dtype=dtype)
    exact = build_neighbors(vectors, NeighborOptions(metric=metric))
    graph = build_neighbors(vectors, NeighborOptions(metric=metric, exact_below=0))
    _check_form(graph, n, 15)
    assert not graph.exact
    found = np.mean([len(np.intersect1d(a, b)) / 15 for a, b in zip(graph.indices, exact.indices, strict=True)])
    assert found > 0.95
    assert abs(found - graph.recall) < 0.02


def test_directions_that_matter_are_searched_even_reduced() -> None:
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((3_000, 12)) @ rng.standard_normal((12, 200)) + 0.01 * rng.standard_normal((3_000, 200))
    graph = build_neighbors(flat.astype(np.float32), BY_CELLS)
    assert graph.recall > 0.95


def test_a_graph_repeats_for_a_seed() -> None:
    vectors = _blobs(4_000, 24)
    first, second = (build_neighbors(vectors, BY_CELLS, seed=5) for _ in range(2))
    assert (first.indices == second.indices).all()
    assert (first.distances == second.distances).all()


def test_many_nearly_equal_rows_do_not_make_one_large_cell() -> None:
    vectors = np.ones((5_000, 8), dtype=np.float32)
    vectors[:, 0] += np.arange(5_000, dtype=np.float32) * 1e-6
    graph = build_neighbors(vectors, NeighborOptions(metric="euclidean", exact_below=0))
    _check_form(graph, 5_000, 15)
    assert graph.recall > 0.95


# -- identical rows and zero vectors ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [NeighborOptions(), BY_CELLS], ids=["exact", "cells"])
def test_identical_rows_list_each_other(options: NeighborOptions) -> None:
    vectors = _blobs(1_000, 20)
    few, many = np.array([3, 500, 900]), np.arange(100, 160)
    vectors[few], vectors[many] = vectors[3], vectors[100]
    graph = build_neighbors(vectors, options)
    _check_form(graph, 1_000, 15)
    for row in few:
        assert set(graph.indices[row, :2]) == set(few) - {row}
        assert (graph.distances[row, :2] == 0).all()
        assert graph.distances[row, 2] > 0
    assert np.isin(graph.indices[many], many).all()
    assert (graph.distances[many] == 0).all()
    # None of them is everybody's neighbour.
    assert (np.bincount(graph.indices[many].ravel(), minlength=1_000)[many] == 15).all()


def test_groups_of_identical_rows_count_by_their_members() -> None:
    vectors = np.repeat(np.random.default_rng(0).standard_normal((9, 6)), 4, axis=0).astype(np.float32)
    graph = build_neighbors(vectors, NeighborOptions(k=10))
    _check_form(graph, 36, 10)
    assert np.allclose(graph.distances, _truth(vectors, 10, "cosine")[1], atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("dim", [2, 30])
def test_all_rows_equal(dim: int, value: float) -> None:
    graph = build_neighbors(np.full((40, dim), value, dtype=np.float16))
    _check_form(graph, 40, 15)
    assert (graph.distances == 0).all()


def test_zero_vectors_are_near_each_other_only() -> None:
    vectors = np.abs(_blobs(60, 10))
    vectors[[7, 30]] = 0
    graph = build_neighbors(vectors, NeighborOptions(k=59))
    assert graph.indices[7, 0] == 30
    assert graph.distances[7, 0] == 0
    assert (graph.distances[7, 1:] == 1).all()
    assert set(graph.indices[0, -2:]) == {7, 30}


# -- what is refused, kept and told -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite_is_named(value: float, dtype: Any) -> None:
    vectors = _blobs(300, 9, dtype=dtype)
    vectors[[123, 250], 4] = value
    with pytest.raises(InputError, match="vector 123 holds NaN or infinity"):
        build_neighbors(vectors)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros(5, dtype=np.float32), "shape"),
        (np.zeros((5, 0), dtype=np.float32), "at least one number wide"),
        (np.array([["a", "b"]]), "matrix of numbers"),
        (np.full((3, 2), 1e30, dtype=np.float32), "scale them down"),
    ],
)
def test_what_is_no_matrix_of_usable_numbers_is_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_neighbors(vectors)


def test_other_numbers_and_layouts_are_converted() -> None:
    whole = np.random.default_rng(0).integers(-50, 50, (80, 6))
    expected = build_neighbors(whole.astype(np.float32))
    for given in (whole, whole.astype(np.float64), np.asfortranarray(whole.astype(np.float32)), whole.astype(">f4")):
        assert (build_neighbors(given).indices == expected.indices).all()


def test_a_memory_map_is_read(tmp_path: Path) -> None:
    vectors = _blobs(500, 16, dtype=np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for options in (NeighborOptions(), BY_CELLS):
        assert (build_neighbors(mapped, options).indices == build_neighbors(vectors, options).indices).all()


def test_a_graph_comes_back_from_its_folder(tmp_path: Path) -> None:
    graph = build_neighbors(_blobs(50, 4), NeighborOptions(k=3))
    graph.save(tmp_path)
    found = NeighborGraph.load(tmp_path)
    assert (found.indices == graph.indices).all()
    assert (found.distances == graph.distances).all()
    assert (found.metric, found.recall, found.exact) == ("cosine", 1.0, True)


@pytest.mark.parametrize("name", ["indices.npy", "distances.npy", "neighbors.json"])
def test_a_damaged_graph_is_refused(tmp_path: Path, name: str) -> None:
    build_neighbors(_blobs(50, 4)).save(tmp_path)
    (tmp_path / name).write_bytes(b"no")
    with pytest.raises(DatasetError, match="build the map again"):
        NeighborGraph.load(tmp_path)


@pytest.mark.parametrize("options", [NeighborOptions(), BY_CELLS], ids=["exact", "cells"])
def test_progress_grows_to_all_rows(options: NeighborOptions) -> None:
    told: list[Progress] = []
    build_neighbors(_blobs(2_000, 8), options, on_progress=told.append)
    done = [one.done for one in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 2_000)
    assert {one.stage for one in told} == {"neighbors"}


def test_effective_metric() -> None:
    assert effective_metric("cosine", 3) == "euclidean"
    assert effective_metric("cosine", 4) == "cosine"
    with pytest.raises(InputError, match="manhattan"):
        effective_metric("manhattan", 4)


# -- queries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 4, 5, 70])
def test_queries_find_the_nearest_rows(count: int, metric: str, dtype: Any) -> None:
    vectors, queries = _blobs(700, 30, dtype=dtype), _blobs(count, 30, seed=1)
    queries[0] = vectors[33]
    ids, distances = query_neighbors(vectors, queries, 8, metric=metric)
    every = _all_distances(queries, vectors, metric)
    assert (ids.shape, ids.dtype, distances.dtype) == ((count, 8), np.int32, np.float32)
    assert np.allclose(distances, np.sort(every, axis=1)[:, :8], rtol=1e-5, atol=1e-6)
    assert np.allclose(distances, np.take_along_axis(every, ids.astype(int), axis=1), rtol=1e-5, atol=1e-6)
    assert (ids[0, 0], distances[0, 0]) == (33, 0)


@pytest.mark.parametrize("count", [2, 20])
def test_queries_keep_to_some_rows(count: int) -> None:
    vectors, queries = _blobs(400, 12), _blobs(count, 12, seed=1)
    rows = np.array([390, 5, 17, 200, 201])
    mask = np.isin(np.arange(400), rows)
    every = _all_distances(queries, vectors, "cosine")
    every[:, ~mask] = np.inf
    for among in (rows, mask):
        ids, distances = query_neighbors(vectors, queries, 9, among=among)
        assert ids.shape == (count, 5)
        assert (ids == np.argsort(every, axis=1)[:, :5]).all()
        assert np.allclose(distances, np.sort(every, axis=1)[:, :5], atol=1e-6)
    assert query_neighbors(vectors, queries, 9, among=np.empty(0, dtype=np.int64))[0].shape == (count, 0)


@pytest.mark.parametrize("count", [1, 9])
def test_zero_vectors_in_a_query_and_among_the_rows(count: int) -> None:
    vectors, queries = np.abs(_blobs(200, 12)), np.abs(_blobs(count, 12, seed=1))
    vectors[::2] = 0
    queries[0] = 0
    ids, distances = query_neighbors(vectors, queries, 20)
    assert (ids[0] % 2 == 0).all()
    assert (distances[0] == 0).all()
    assert (ids[1:] % 2 == 1).all()
    assert (distances[1:] < 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": np.ones((1, 5), dtype=np.float32)}, "must match"),
        ({"queries": np.full((1, 4), np.nan, dtype=np.float32)}, "vector 0 holds NaN"),
        ({"k": 0}, "at least 1"),
        ({"metric": "dot"}, "'dot' is unknown"),
        ({"among": np.array([3, 60])}, "row 60 is not there"),
        ({"among": np.array([-1, 3])}, "row -1 is not there"),
        ({"among": np.zeros(49, dtype=bool)}, "mask"),
        ({"among": np.array([0.5])}, "no list of row numbers"),
    ],
)
def test_queries_that_cannot_be_answered(change: dict[str, Any], message: str) -> None:
    arguments = {"queries": np.ones((1, 4), dtype=np.float32), "k": 3, **change}
    with pytest.raises(InputError, match=message):
        query_neighbors(_blobs(50, 4), **arguments)
