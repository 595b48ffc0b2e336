"""The plane: neighbours stay neighbours, a seed gives one plane, and data of any shape has one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomonic.atlas import fuzzy, landmarks, layout
from gnomonic.atlas.fuzzy import EdgeGraph, fuzzy_graph, neighbor_weights
from gnomonic.atlas.kernels import library
from gnomonic.atlas.landmarks import draw_landmarks, landmark_neighbors
from gnomonic.atlas.layout import fit_curve, optimize
from gnomonic.atlas.options import ProjectionOptions
from gnomonic.atlas.progress import Progress
from gnomonic.atlas.projection import project
from gnomonic.atlas.start import start_positions
from gnomonic.errors import InputError

needs_kernels = pytest.mark.skipif(library() is None, reason="the package was installed without a compiler")


@dataclass(frozen=True)
class Graph:
    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    metric: str = "euclidean"


def _graph_of(vectors: NDArray[Any], k: int = 15, metric: str = "euclidean") -> Graph:
    """Compare all with all; -1 and infinity where there are fewer than k others."""
    n = len(vectors)
    own = vectors.astype(np.float64)
    if metric == "cosine":
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        apart = 1.0 - own @ own.T
    else:
        apart = np.sqrt(((own[:, None] - own[None]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    order = np.argsort(apart, axis=1, kind="stable")[:, :k]
    distances = np.maximum(np.take_along_axis(apart, order, axis=1), 0.0)
    indices, padded = np.full((n, k), -1, np.int32), np.full((n, k), np.inf, np.float32)
    found = np.isfinite(distances)
    indices[:, : order.shape[1]][found] = order[found]
    padded[:, : order.shape[1]] = distances
    return Graph(indices, padded, metric)


def _blobs(n: int, *, groups: int = 6, d: int = 20, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, n)
    centres = 6.0 * random.standard_normal((groups, d))
    return (centres[group] + random.standard_normal((n, d))).astype(np.float32), group


def _kept_neighbors(graph: Graph, xy: NDArray[np.float32], k: int = 10) -> float:
    near = _graph_of(xy, k).indices
    return float(np.mean([len(np.intersect1d(a[:k], b)) / k for a, b in zip(graph.indices, near, strict=True)]))


def _without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fuzzy, layout, landmarks):
        monkeypatch.setattr(module, "library", lambda: None)


def _assert_same_edges(one: EdgeGraph, other: EdgeGraph) -> None:
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.targets, other.targets)
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-4, atol=1e-6)


def test_groups_stay_together_and_neighbors_near() -> None:
    vectors, group = _blobs(500)
    graph = _graph_of(vectors)
    xy = project(graph, vectors)
    assert xy.dtype == np.float32
    assert np.isfinite(xy).all()
    np.testing.assert_allclose(xy.mean(axis=0), 0.0, atol=1e-4)
    near = _graph_of(xy, 10).indices
    assert (group[near] == group[:, None]).mean() > 0.99
    assert _kept_neighbors(graph, xy) > 0.3
    spread = np.linalg.eigvalsh(np.cov(xy.T))
    assert spread[1] / spread[0] < 20


def test_a_curve_is_unrolled() -> None:
    t = np.sort(np.random.default_rng(0).uniform(0, 9, 400))
    vectors = np.stack([t * np.cos(t), t * np.sin(t), np.zeros_like(t)], axis=1).astype(np.float32)
    graph = _graph_of(vectors)
    assert _kept_neighbors(graph, project(graph, vectors)) > 0.6


def test_a_seed_gives_one_plane() -> None:
    vectors, _ = _blobs(200)
    graph = _graph_of(vectors)
    first = project(graph, vectors, seed=3)
    assert np.array_equal(first, project(graph, vectors, seed=3))
    assert not np.array_equal(first, project(graph, vectors, seed=4))


@needs_kernels
def test_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = _blobs(1500)
    random = np.random.default_rng(0)
    indices = random.integers(0, 1500, (1500, 8)).astype(np.int32)
    graph = Graph(indices, np.sort(random.random((1500, 8), dtype=np.float32), axis=1))
    planes = []
    for count in (1, 2, 7):
        monkeypatch.setattr(layout, "threads", lambda count=count: count)
        monkeypatch.setattr(fuzzy, "threads", lambda count=count: count)
        planes.append(project(graph, vectors, ProjectionOptions(n_epochs=30)))
    assert np.array_equal(planes[0], planes[1])
    assert np.array_equal(planes[0], planes[2])


def test_the_start_does_not_depend_on_the_threads_of_blas(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np; from gnomonic.atlas.start import start_positions;"
        "v = np.random.default_rng(0).standard_normal((3000, 130)).astype(np.float16);"
        "np.save(sys.argv[1], start_positions(v, metric='cosine'))"
    )
    found = []
    for count in ("1", "2"):
        path = tmp_path / f"{count}.npy"
        environment = {"OPENBLAS_NUM_THREADS": count, "PYTHONPATH": ":".join(sys.path)}
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, env=environment)
        found.append(np.load(path))
    assert np.array_equal(*found)


def test_the_start_is_the_main_directions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    turned = np.linalg.qr(random.standard_normal((30, 30)))[0]
    scores = random.standard_normal((500, 30)) * np.array([9.0, 4.0] + [0.3] * 28)
    held = np.lib.format.open_memmap(tmp_path / "v.npy", mode="w+", dtype=np.float16, shape=(500, 30))
    held[:] = scores @ turned + 5.0
    found = start_positions(held, metric="euclidean")
    for axis in range(2):
        assert abs(np.corrcoef(found[:, axis], scores[:, axis])[0, 1]) > 0.995  # what lies far out is at the rim
    ratio = found[:, 0].std() / found[:, 1].std()
    assert ratio == pytest.approx(9 / 4, rel=0.15)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_start_takes_vectors_of_any_length(metric: str) -> None:
    vectors, _ = _blobs(50)
    for scale in (1e-30, 1e30):
        found = start_positions(vectors * np.float32(scale), metric=metric)
        np.testing.assert_allclose(found, start_positions(vectors, metric=metric), atol=1e-2)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 14])
@pytest.mark.parametrize("d", [1, 3, 8])
def test_few_rows(n: int, d: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((n, d)).astype(np.float16)
    xy = project(_graph_of(vectors), vectors)
    assert xy.shape == (n, 2)
    assert np.isfinite(xy).all()
    assert len(np.unique(xy, axis=0)) == n


def test_equal_rows_come_near_each_other_and_not_on_one_spot() -> None:
    vectors = np.ones((300, 8), dtype=np.float32)
    graph = _graph_of(vectors)
    xy = project(graph, vectors)
    assert np.isfinite(xy).all()
    assert len(np.unique(xy, axis=0)) == 300
    mixed = np.concatenate([np.repeat([[0.0] * 8], 40, axis=0), _blobs(200, d=8)[0] + 40.0]).astype(np.float32)
    apart = project(_graph_of(mixed), mixed)
    assert np.linalg.norm(apart[:40] - apart[:40].mean(axis=0), axis=1).max() < np.linalg.norm(apart, axis=1).max()


def test_zero_vectors_have_positions() -> None:
    vectors, _ = _blobs(60)
    graph = _graph_of(vectors, metric="cosine")
    vectors[:5] = 0.0
    assert np.isfinite(project(graph, vectors)).all()


def test_a_graph_in_pieces() -> None:
    pieces = [np.random.default_rng(i).standard_normal((20, 5)) + 1000.0 * i for i in range(4)]
    vectors = np.concatenate(pieces).astype(np.float32)
    xy = project(_graph_of(vectors, k=5), vectors)
    assert np.isfinite(xy).all()
    assert (_graph_of(xy, 5).indices // 20 == np.arange(80)[:, None] // 20).mean() > 0.95


def test_rows_without_neighbors_have_positions() -> None:
    vectors, _ = _blobs(30)
    graph = Graph(np.full((30, 5), -1, np.int32), np.full((30, 5), np.inf, np.float32))
    assert np.isfinite(project(graph, vectors)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_of_two_dimensions_are_positions(dtype: Any) -> None:
    vectors = (np.random.default_rng(0).standard_normal((50, 2)) * [3.0, 1.0] + 7.0).astype(dtype)
    xy = project(_graph_of(vectors), vectors)
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    scale = np.sqrt((xy**2).sum() / (centred**2).sum())
    np.testing.assert_allclose(xy, centred * scale, rtol=1e-4, atol=1e-4)
    assert np.sqrt((xy**2).sum(axis=1).mean()) == pytest.approx(10.0, rel=1e-4)
    same = np.full((5, 2), 3.0, dtype=dtype)
    assert np.array_equal(project(_graph_of(same), same), np.zeros((5, 2)))


@pytest.mark.parametrize("d", [2, 5])
def test_a_vector_that_is_not_finite_is_named(d: int) -> None:
    vectors, _ = _blobs(40, d=d)
    graph = _graph_of(vectors)
    for bad in (np.nan, np.inf):
        vectors[17, 1] = bad
        with pytest.raises(InputError, match="vector of row 17 is not finite"):
            project(graph, vectors)


def test_a_graph_of_other_rows_is_refused() -> None:
    vectors, _ = _blobs(40)
    with pytest.raises(InputError, match=r"shape \(39, 20\).* 40 rows"):
        project(_graph_of(vectors), vectors[1:])


def test_progress_and_cancellation() -> None:
    vectors, _ = _blobs(40)
    told: list[Progress] = []
    project(_graph_of(vectors), vectors, ProjectionOptions(n_epochs=7), on_progress=told.append)
    assert [one.done for one in told] == list(range(1, 8))
    assert {(one.stage, one.total, one.unit) for one in told} == {("projection", 7, "epochs")}

    def cancel(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project(_graph_of(vectors), vectors, on_progress=cancel)


def test_options_change_the_plane() -> None:
    vectors, _ = _blobs(300)
    graph = _graph_of(vectors)

    def nearest(**given: Any) -> float:
        return float(np.median(_graph_of(project(graph, vectors, ProjectionOptions(**given)), 1).distances))

    assert nearest(min_dist=0.0) < nearest() < nearest(min_dist=0.8)
    few = project(graph, vectors, ProjectionOptions(n_neighbors=4))
    cut = Graph(graph.indices[:, :4], graph.distances[:, :4])
    assert np.array_equal(few, project(cut, vectors))
    assert not np.array_equal(few, project(cut, vectors, ProjectionOptions(local_neighborhood_size=3)))
    wide = project(graph, vectors, ProjectionOptions(spread=50.0, min_dist=5.0))
    np.testing.assert_allclose(wide, project(graph, vectors), rtol=1e-2, atol=1e-2)


def test_many_rows_are_laid_out_by_landmarks() -> None:
    vectors, group = _blobs(600)
    graph = _graph_of(vectors)
    told: list[Progress] = []
    xy = project(graph, vectors, landmarks_above=200, on_progress=told.append)
    assert np.array_equal(xy, project(graph, vectors, landmarks_above=200))
    assert (group[_graph_of(xy, 10).indices] == group[:, None]).mean() > 0.98
    assert _kept_neighbors(graph, xy) > 0.8 * _kept_neighbors(graph, project(graph, vectors))
    assert [one.done for one in told] == list(range(1, len(told) + 1))
    assert told[-1].done == told[-1].total


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_landmarks_within_two_steps(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _graph_of(_blobs(120)[0], k=6, metric=metric)
    graph.indices[5, 4:], graph.distances[5, 4:] = -1, np.inf
    rows = draw_landmarks(120, 40)
    assert np.array_equal(rows, np.unique(rows))
    found = landmark_neighbors(graph, rows, np.arange(120))
    for row in range(120):
        ways: dict[int, float] = {}
        for middle, first in zip(graph.indices[row], graph.distances[row], strict=True):
            if middle < 0:
                continue
            steps = [(middle, first)]
            for other, second in zip(graph.indices[middle], graph.distances[middle], strict=True):
                steps.append((other, first + second if metric == "cosine" else np.hypot(first, second)))
            for other, length in steps:
                if other in rows and other != row:
                    ways[other] = min(ways.get(other, np.inf), length)
        nearest = sorted(ways.values())[:6]
        there = found.indices[row] >= 0
        np.testing.assert_allclose(found.distances[row, there], nearest, rtol=1e-5)
        assert set(rows[found.indices[row, there]]) <= set(ways)
    _without_kernels(monkeypatch)
    plain = landmark_neighbors(graph, rows, np.arange(120))
    assert np.array_equal(plain.indices, found.indices)
    np.testing.assert_allclose(plain.distances, found.distances, rtol=1e-6)


def test_weights_by_hand() -> None:
    indices = np.array([[1, 2, 3], [0, 2, 3], [0, 1, -1], [-1, -1, -1]], dtype=np.int32)
    distances = np.array([[0.0, 0.5, 2.0], [1.0, 1.0, 1.0], [1.0, 4.0, np.inf], [np.inf] * 3], dtype=np.float32)
    weights = neighbor_weights(indices, distances)
    # The first neighbour that is no equal counts fully, and so does the equal.
    assert weights[0, :2].tolist() == [1.0, 1.0]
    # Three at one distance: no width gives log2(4), so all count.
    assert weights[1].tolist() == [1.0, 1.0, 1.0]
    assert weights[2] == pytest.approx([1.0, np.log2(3) - 1, 0.0], abs=1e-4)
    assert weights[3].tolist() == [0.0, 0.0, 0.0]
    assert (neighbor_weights(indices, distances, local_connectivity=2)[2] == [1.0, 1.0, 0.0]).all()


def test_edges_are_symmetric_and_joined() -> None:
    graph = _graph_of(_blobs(150)[0], k=7)
    edges = fuzzy_graph(graph)
    directed = np.zeros((150, 150))
    np.put_along_axis(
        directed, graph.indices.astype(np.int64), neighbor_weights(graph.indices, graph.distances), axis=1
    )
    joined = directed + directed.T - directed * directed.T
    rows = np.repeat(np.arange(150), np.diff(edges.offsets))
    dense = np.zeros((150, 150))
    dense[rows, edges.targets] = edges.weights
    np.testing.assert_allclose(dense, joined, atol=1e-6)
    assert (np.diff(rows * 150 + edges.targets) > 0).all()


@needs_kernels
def test_the_kernels_agree_with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = _blobs(400)
    vectors[:30] = vectors[0]
    graph = _graph_of(vectors, k=9)
    graph.indices[50, 3:], graph.distances[50, 3:] = -1, np.inf
    start = start_positions(vectors, metric="euclidean")
    compiled = fuzzy_graph(graph, local_connectivity=2)
    moved = optimize(compiled, start, epochs=1, curve=fit_curve(0.1, 1.0), seed=5, rate=0.05)
    _without_kernels(monkeypatch)
    _assert_same_edges(fuzzy_graph(graph, local_connectivity=2), compiled)
    plain = optimize(compiled, start, epochs=1, curve=fit_curve(0.1, 1.0), seed=5, rate=0.05)
    assert np.abs(moved - start).max() > 0.01
    np.testing.assert_allclose(moved, plain, atol=2e-4)


@needs_kernels
def test_numpy_alone_makes_as_good_a_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = _blobs(250)
    graph = _graph_of(vectors)
    options = ProjectionOptions(n_epochs=60)
    compiled = _kept_neighbors(graph, project(graph, vectors, options))
    _without_kernels(monkeypatch)
    assert _kept_neighbors(graph, project(graph, vectors, options)) == pytest.approx(compiled, abs=0.03)


@pytest.mark.parametrize(
    ("min_dist", "spread", "a", "b"),
    # As published for UMAP's defaults, and as SciPy's curve_fit finds the others.
    [(0.1, 1.0, 1.5769, 0.8951), (0.0, 1.0, 1.9328, 0.7905), (0.5, 1.0, 0.5830, 1.3342), (0.5, 2.0, 0.2589, 1.0575)],
)
def test_the_curve(min_dist: float, spread: float, a: float, b: float) -> None:
    assert list(fit_curve(min_dist, spread)) == pytest.approx([a, b], rel=2e-3)


def test_an_edge_takes_its_share_of_epochs() -> None:
    # Two rows that only pull each other: the lighter edge moves them less.
    def moved(weight: float) -> float:
        edges = EdgeGraph(
            offsets=np.array([0, 1, 2, 3, 4]),
            targets=np.array([1, 0, 3, 2], dtype=np.int32),
            weights=np.array([1.0, 1.0, weight, weight], dtype=np.float32),
        )
        start = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 50.0], [9.0, 50.0]], dtype=np.float32)
        xy = optimize(edges, start, epochs=100, curve=(1.0, 1.0), rate=0.01)
        return 9.0 - float(xy[3, 0] - xy[2, 0])

    assert moved(1.0) > 1.5 * moved(0.3) > 0.0
