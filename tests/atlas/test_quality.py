"""The figures of a map: those of an independent reference, and right where the answer is known."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from gnomonic.atlas import quality as module
from gnomonic.atlas.kernels import library
from gnomonic.atlas.quality import measure_quality
from gnomonic.errors import InputError


def _graph(vectors, metric="euclidean", k=15):
    x = np.asarray(vectors, dtype=np.float64)
    if metric == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    away = np.linalg.norm(x[:, None] - x, axis=2)
    np.fill_diagonal(away, np.inf)
    order = np.argsort(away, axis=1, kind="stable")[:, :k]
    indices = np.full((len(x), k), -1, dtype=np.int32)
    indices[:, : min(k, max(len(x) - 1, 0))] = order[:, : max(len(x) - 1, 0)]
    return SimpleNamespace(indices=indices, metric=metric, recall=0.875)


@pytest.fixture(params=["kernel", "numpy"])
def form(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(module, "run_kernel", lambda *_: False)
    elif library() is None:
        pytest.skip("no compiled kernels")


def _data(n=300, dim=24, seed=0):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(6, dim))[random.integers(0, 6, n)] * 2 + random.normal(size=(n, dim))
    plane = vectors @ random.normal(size=(dim, 2)) / 4
    return vectors.astype(np.float32), plane.astype(np.float32)


def _preservation(vectors, xy, metric):
    high, low = (_graph(*pair, k=10).indices for pair in ((vectors, metric), (xy, "euclidean")))
    return np.mean([len(set(one) & set(other)) / 10 for one, other in zip(high, low, strict=True)])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_figures_are_those_of_references(form, metric) -> None:
    manifold = pytest.importorskip("sklearn.manifold")
    vectors, xy = _data()
    found, _ = measure_quality(vectors, xy, _graph(vectors, metric), seed=1)
    expected = manifold.trustworthiness(vectors, xy, n_neighbors=15, metric=metric)
    # Ranks by Euclidean distance may differ by one where float32 cannot tell two distances apart.
    assert found.trustworthiness == pytest.approx(expected, abs=1e-9 if metric == "cosine" else 2e-5)
    assert found.neighborhood_preservation == pytest.approx(_preservation(vectors, xy, metric), abs=1e-9)
    assert (found.trustworthiness_error, found.neighborhood_preservation_error) == (0, 0)
    assert (found.neighbor_recall, found.sampled_rows, found.noise_share) == (0.875, 300, None)


def test_vectors_far_from_zero_keep_their_distances(form) -> None:
    manifold = pytest.importorskip("sklearn.manifold")
    random = np.random.default_rng(5)
    vectors = (random.normal(size=(200, 3)) + 3000).astype(np.float32)
    xy = vectors[:, :2] - 3000
    found, _ = measure_quality(vectors, xy, _graph(vectors))
    expected = manifold.trustworthiness(vectors.astype(np.float64), xy, n_neighbors=15)
    assert found.trustworthiness == pytest.approx(expected, abs=2e-3)


def test_triplets_are_counted_rightly() -> None:
    vectors, xy = _data(60)
    away, near = (np.linalg.norm(x[:, None] - x, axis=2) for x in (vectors.astype(float), xy.astype(float)))
    agree = [
        (away[i, j] < away[i, k]) == (near[i, j] < near[i, k])
        for i in range(60)
        for j in range(60)
        for k in range(j)
        if i not in (j, k)
    ]
    found, _ = measure_quality(vectors, xy, _graph(vectors), seed=3)
    assert 0 < found.triplet_accuracy_error < 0.04
    assert found.triplet_accuracy == pytest.approx(np.mean(agree), abs=2 * found.triplet_accuracy_error)


def test_a_perfect_map_has_all_and_a_random_one_little(form) -> None:
    random = np.random.default_rng(2)
    xy = random.normal(size=(400, 2)).astype(np.float32)
    graph = _graph(xy)
    perfect, trust = measure_quality(xy, xy, graph)
    assert perfect.neighborhood_preservation == 1
    assert perfect.trustworthiness == 1
    assert perfect.triplet_accuracy == 1
    assert (trust == 255).all()
    shuffled, trust = measure_quality(xy, xy[random.permutation(400)], graph)
    assert shuffled.neighborhood_preservation < 0.1
    assert shuffled.trustworthiness < 0.65
    assert abs(shuffled.triplet_accuracy - 0.5) < 0.05
    assert trust.mean() < 0.35 * 255


def test_a_misplaced_point_is_not_trusted() -> None:
    random = np.random.default_rng(4)
    vectors = random.normal(size=(300, 2)).astype(np.float32)
    vectors[:150] += 20
    xy = vectors.copy()
    xy[7] = xy[200]
    _, trust = measure_quality(vectors, xy, _graph(vectors))
    assert trust[7] == 0
    assert np.delete(trust, 7).min() > 200


def test_a_sample_agrees_with_the_whole_within_its_error(form) -> None:
    vectors, xy = _data(700)
    graph = _graph(vectors)
    whole, _ = measure_quality(vectors, xy, graph, samples=700)
    for seed in range(3):
        part, _ = measure_quality(vectors, xy, graph, samples=150, seed=seed)
        assert part.sampled_rows == 150
        for name in ("neighborhood_preservation", "trustworthiness"):
            error = getattr(part, f"{name}_error")
            assert 0 < error < 0.08
            assert abs(getattr(part, name) - getattr(whole, name)) < 2 * error


def test_half_precision_and_blocks_change_nothing(form, monkeypatch, tmp_path) -> None:
    vectors, xy = _data(500)
    np.save(tmp_path / "v.npy", vectors.astype(np.float16))
    narrow = np.load(tmp_path / "v.npy", mmap_mode="r")
    graph = _graph(vectors, "cosine")
    whole = measure_quality(narrow.astype(np.float32), xy, graph)
    monkeypatch.setattr(module, "_BLOCK", 77)
    told = []
    blocks = measure_quality(narrow, xy, graph, on_progress=told.append)
    assert blocks[0] == whole[0]
    np.testing.assert_array_equal(blocks[1], whole[1])
    assert [one.done for one in told][-2:] == [462, 500]
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), vectors.astype(np.float16))


def test_the_given_vectors_are_left_alone() -> None:
    vectors, xy = _data(50)
    before = vectors.copy()
    measure_quality(vectors, xy, _graph(vectors, "cosine"))
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 14])
def test_few_rows(form, n, metric) -> None:
    vectors, xy = _data(n) if n else (np.zeros((0, 24), np.float32), np.zeros((0, 2), np.float32))
    found, trust = measure_quality(vectors, xy, _graph(vectors, metric), np.full((3, n), -1, dtype=np.int32))
    assert trust.shape == (n,)
    assert (trust == 255).all()
    assert found.neighborhood_preservation in ((None,) if n < 2 else (1.0,)) or n == 14
    assert (found.trustworthiness is None) == (n < 3)
    assert (found.triplet_accuracy is None) == (n < 3)
    assert found.noise_share == (1.0 if n else None)
    json.dumps(asdict(found), allow_nan=False)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("value", [0.0, 0.3, 1e30, 1e-30])
def test_equal_vectors_contradict_no_map(form, value, metric) -> None:
    random = np.random.default_rng(6)
    vectors = np.full((80, 5), value, dtype=np.float32)
    found, _ = measure_quality(vectors, random.normal(size=(80, 2)).astype(np.float32), _graph(vectors, metric))
    assert (found.neighborhood_preservation, found.trustworthiness, found.triplet_accuracy) == (1, 1, None)


def test_points_on_one_another_are_near() -> None:
    vectors, _ = _data(100)
    found, trust = measure_quality(vectors, np.zeros((100, 2), dtype=np.float32), _graph(vectors))
    assert (trust == 255).all()
    assert found.triplet_accuracy == 0.5


def test_noise_is_what_no_topic_holds() -> None:
    vectors, xy = _data(8)
    labels = np.array([[0, 0, 0, 0, -1, -1, 1, 1], [0, 0, -1, -1, -1, -1, 1, 1]], dtype=np.int32)
    found, _ = measure_quality(vectors, xy, _graph(vectors), labels)
    assert found.noise_share == 0.25


def test_arrays_that_do_not_fit_are_refused() -> None:
    vectors, xy = _data(20)
    graph = _graph(vectors)
    with pytest.raises(InputError, match="19 positions for 20"):
        measure_quality(vectors, xy[:-1], graph)
    with pytest.raises(InputError, match="20 rows in the neighbour graph for 19"):
        measure_quality(vectors[:-1], xy[:-1], graph)
    with pytest.raises(InputError, match="4 topic labels"):
        measure_quality(vectors, xy, graph, np.zeros((2, 4), dtype=np.int32))
