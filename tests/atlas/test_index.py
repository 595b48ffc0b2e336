"""The nearest rows: exactly, and by an index that keeps its recall, under any mask."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gnomonic.atlas import index, inverted_file, kernel_calls, scoring
from gnomonic.atlas.index import VectorIndex, build_index
from gnomonic.atlas.kernels import library
from gnomonic.atlas.scoring import best_of, row_scores
from gnomonic.errors import DatasetError, InputError

METRICS = ("cosine", "euclidean")


@pytest.fixture(params=["kernel", "numpy"])
def form(request, monkeypatch):
    if request.param == "numpy":
        for module in (scoring, inverted_file, kernel_calls):
            monkeypatch.setattr(module, "library", lambda: None)
    elif library() is None:
        pytest.skip("no compiled kernels")


@pytest.fixture
def always(monkeypatch):
    """An index whatever the number of rows."""
    monkeypatch.setattr(index, "EXACT_BELOW", 0)


def _clusters(rows, dim=160, seed=0, kind=np.float16):
    shape = np.random.default_rng(7)
    centres, axes = shape.normal(size=(40, 12)) * 2, shape.normal(size=(12, dim))
    random = np.random.default_rng(seed)
    hidden = centres[random.integers(len(centres), size=rows)] + random.normal(size=(rows, 12))
    return (hidden @ axes + 0.3 * random.normal(size=(rows, dim))).astype(kind)


def _true(vectors, queries, metric):
    """[m, n] float64 distances."""
    rows, asked = vectors.astype(np.float64), np.asarray(queries, dtype=np.float64)
    if metric == "euclidean":
        return np.linalg.norm(asked[:, None] - rows, axis=2)

    def unit(x):
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(lengths > 0, lengths, 1)

    both_zero = (asked == 0).all(axis=1)[:, None] & (rows == 0).all(axis=1)
    return np.where(both_zero, 0.0, 1 - unit(asked) @ unit(rows).T)


def _check_exact(vectors, queries, metric, k, found, mask=None):
    rows, distances = found
    true = _true(vectors, queries, metric)
    if mask is not None:
        true[:, ~mask] = np.inf
        assert mask[rows].all()
    passing = len(vectors) if mask is None else int(mask.sum())
    assert rows.shape == distances.shape == (len(queries), min(k, passing))
    assert rows.dtype == np.int64
    assert distances.dtype == np.float32
    assert all(len(set(one)) == len(one) for one in rows.tolist())
    np.testing.assert_allclose(distances, np.sort(true, axis=1)[:, : rows.shape[1]], rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(distances, np.take_along_axis(true, rows, axis=1), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("m", [1, 9])
def test_without_an_index_the_answer_is_exact(form, metric, kind, m) -> None:
    vectors, queries = _clusters(900, kind=kind), _clusters(m, seed=1, kind=np.float32)
    exact = VectorIndex(vectors, metric=metric)
    assert exact.exact
    assert exact.recall == 1.0
    _check_exact(vectors, queries, metric, 12, exact.search(queries, 12))
    mask = np.random.default_rng(2).random(900) < 0.05
    _check_exact(vectors, queries, metric, 12, exact.search(queries, 12, mask=mask), mask)
    scores = exact.scores(queries[0])
    true = _true(vectors, queries[:1], metric)[0]
    np.testing.assert_allclose(scores, 1 - true if metric == "cosine" else -true, rtol=1e-3, atol=2e-5)


def _odd_sets():
    random = np.random.default_rng(5)
    return {
        "none": np.zeros((0, 8), dtype=np.float32),
        "one": np.ones((1, 8), dtype=np.float16),
        "two": random.normal(size=(2, 131)).astype(np.float16),
        "fourteen": random.normal(size=(14, 3)).astype(np.float32),
        "all equal": np.full((300, 6), 0.5, dtype=np.float16),
        "on the plane": random.normal(size=(400, 2)).astype(np.float32),
        "zeros": np.zeros((50, 9), dtype=np.float16),
        "some zeros": np.where(random.random((200, 1)) < 0.3, 0, random.normal(size=(200, 9))).astype(np.float32),
    }


@pytest.mark.parametrize("name", _odd_sets())
@pytest.mark.parametrize("metric", METRICS)
def test_odd_sets_are_searched_with_and_without_an_index(form, always, tmp_path, name, metric) -> None:
    vectors = _odd_sets()[name]
    queries = np.concatenate([np.zeros((1, vectors.shape[1])), np.ones((1, vectors.shape[1])), vectors[-2:]])
    build_index(tmp_path, vectors, metric=metric)
    opened = VectorIndex.open(tmp_path, vectors, metric)
    _check_exact(vectors, queries, metric, 5, VectorIndex(vectors, metric=metric).search(queries, 5))
    rows, distances = opened.search(queries, 5)
    true = _true(vectors, queries, metric)
    assert rows.shape == (len(queries), min(5, len(vectors)))
    assert all(len(set(one)) == len(one) for one in rows.tolist())
    np.testing.assert_allclose(distances, np.take_along_axis(true, rows, axis=1), rtol=1e-3, atol=2e-5)
    # An index may miss the last of them, not the first.
    np.testing.assert_allclose(distances[:, :1], np.sort(true, axis=1)[:, :1], rtol=1e-3, atol=2e-5)


def test_equal_rows_come_in_their_order(form) -> None:
    exact = VectorIndex(np.ones((40, 4), dtype=np.float16), metric="cosine")
    assert exact.search(np.ones((1, 4)), 5)[0].tolist() == [[0, 1, 2, 3, 4]]


def test_very_long_and_very_short_rows_have_their_cosine(form) -> None:
    vectors = np.array([[1e25, 1e25], [1e-25, 0], [0, 1], [0, 0]], dtype=np.float32)
    scores = row_scores(vectors, np.array([1, 0], dtype=np.float32), cosine=True)
    np.testing.assert_allclose(scores, [0.5**0.5, 1, 0, 0], atol=1e-6)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Vectors and the folders of their indices."""
    vectors = _clusters(3000)
    folders = {}
    for metric in METRICS:
        folders[metric] = tmp_path_factory.mktemp(metric)
        build_index(folders[metric], vectors, metric=metric)
    return vectors, folders


@pytest.mark.parametrize("metric", METRICS)
def test_the_index_keeps_the_recall_it_tells(form, always, built, metric) -> None:
    vectors, folders = built
    opened = VectorIndex.open(folders[metric], vectors, metric)
    record = json.loads((folders[metric] / "index.json").read_text())
    assert not opened.exact
    assert opened.recall == record["recall"] >= 0.95
    # It would prove nothing if all rows were looked at.
    assert record["quota"] < len(vectors) / 3
    queries = _clusters(60, seed=3, kind=np.float32)
    rows, distances = opened.search(queries, 10)
    true = _true(vectors, queries, metric)
    best = np.argsort(true, axis=1)[:, :10]
    shared = [len(set(found) & set(wanted)) for found, wanted in zip(rows.tolist(), best.tolist(), strict=True)]
    assert np.mean(shared) / 10 >= 0.93
    np.testing.assert_allclose(distances, np.take_along_axis(true, rows, axis=1), rtol=1e-3, atol=2e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


@pytest.mark.parametrize("passing", [0, 3, 40, 1500, 2800])
def test_as_many_as_pass_a_mask_are_found(form, always, built, passing) -> None:
    vectors, folders = built
    opened = VectorIndex.open(folders["cosine"], vectors, "cosine")
    mask = np.zeros(len(vectors), dtype=bool)
    mask[np.random.default_rng(passing).permutation(len(vectors))[:passing]] = True
    queries = _clusters(20, seed=4, kind=np.float32)
    rows, _ = opened.search(queries, 10, mask=mask)
    assert rows.shape == (20, min(10, passing))
    assert mask[rows].all()
    true = _true(vectors, queries, "cosine")
    true[:, ~mask] = np.inf
    best = np.argsort(true, axis=1)[:, : rows.shape[1]]
    shared = [len(set(found) & set(wanted)) for found, wanted in zip(rows.tolist(), best.tolist(), strict=True)]
    assert not passing or np.mean(shared) / rows.shape[1] >= 0.93


def test_a_mask_far_from_the_query_still_gives_k(form, always, built) -> None:
    vectors, folders = built
    opened = VectorIndex.open(folders["euclidean"], vectors, "euclidean")
    query = vectors[:1].astype(np.float32)
    far = np.argsort(_true(vectors, query, "euclidean")[0])[1500:]
    mask = np.zeros(len(vectors), dtype=bool)
    mask[far] = True
    rows, distances = opened.search(query, 10, mask=mask)
    assert mask[rows].all()
    assert rows.shape == (1, 10)
    assert distances[0, 0] <= 1.05 * _true(vectors, query, "euclidean")[0][far[0]]


def test_a_long_list_is_as_good(always, built) -> None:
    vectors, folders = built
    opened = VectorIndex.open(folders["cosine"], vectors, "cosine")
    queries = _clusters(20, seed=6, kind=np.float32)
    rows, _ = opened.search(queries, 200)
    best = np.argsort(_true(vectors, queries, "cosine"), axis=1)[:, :200]
    shared = [len(set(found) & set(wanted)) for found, wanted in zip(rows.tolist(), best.tolist(), strict=True)]
    assert np.mean(shared) / 200 >= 0.93


@pytest.mark.skipif(library() is None, reason="no compiled kernels")
@pytest.mark.parametrize("metric", METRICS)
def test_the_kernel_and_numpy_find_the_same_candidates(built, metric, monkeypatch) -> None:
    vectors, folders = built
    cells = inverted_file.InvertedFile(folders[metric], cosine=metric == "cosine")
    queries = _clusters(10, seed=8, kind=np.float32)
    mask = np.random.default_rng(1).random(len(vectors)) < 0.5

    def found():
        return [
            cells.candidates(query, quota=quota, keep=40, mask=given)
            for query in queries
            for quota in (1, 700, 100_000)
            for given in (None, mask)
        ]

    fast = found()
    for module in (scoring, inverted_file, kernel_calls):
        monkeypatch.setattr(module, "library", lambda: None)
    for one, other in zip(fast, found(), strict=True):
        # Products in another order may swap two that are almost equal.
        assert len(set(one.tolist()) ^ set(other.tolist())) <= 2
        assert len(one) == len(other)


@pytest.mark.skipif(library() is None, reason="no compiled kernels")
def test_the_number_of_threads_changes_nothing(tmp_path, monkeypatch) -> None:
    vectors = np.random.default_rng(0).integers(-3, 4, size=(20_000, 3)).astype(np.float32)
    inverted_file.write_inverted_file(tmp_path, vectors, cosine=False, seed=0, on_progress=lambda _: None)
    cells = inverted_file.InvertedFile(tmp_path, cosine=False)
    found = []
    for count in (1, 2, 5):
        monkeypatch.setattr(inverted_file, "threads", lambda count=count: count)
        found.append(cells.candidates(np.zeros(3, dtype=np.float32), quota=20_000, keep=500).tolist())
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 500


def test_the_same_seed_gives_the_same_index(built, tmp_path) -> None:
    vectors, folders = built
    build_index(tmp_path, vectors, metric="cosine")
    for path in folders["cosine"].iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_few_rows_need_no_index(built) -> None:
    vectors, folders = built
    assert VectorIndex.open(folders["cosine"], vectors, "cosine").exact
    assert VectorIndex.open(None, vectors, "cosine").exact


def test_a_damaged_or_foreign_index_is_told(always, built, tmp_path) -> None:
    vectors, folders = built
    with pytest.raises(DatasetError, match="rows"):
        VectorIndex.open(folders["cosine"], vectors[:-1], "cosine")
    with pytest.raises(DatasetError, match="metric"):
        VectorIndex.open(folders["cosine"], vectors, "euclidean")
    for path in folders["cosine"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "codes.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match="cannot be read"):
        VectorIndex.open(tmp_path, vectors, "cosine")
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(DatasetError, match=r"index\.json"):
        VectorIndex.open(tmp_path, vectors, "cosine")


def test_bad_queries_are_named() -> None:
    exact = VectorIndex(np.ones((3, 4), dtype=np.float32), metric="cosine")
    with pytest.raises(InputError, match=r"\[m, 4\]"):
        exact.search(np.ones((1, 5)), 2)
    with pytest.raises(InputError, match="query 1"):
        exact.search(np.array([[1, 1, 1, 1], [1, np.nan, 1, 1]]), 2)
    with pytest.raises(InputError, match="k 0"):
        exact.search(np.ones((1, 4)), 0)
    with pytest.raises(InputError, match="mask"):
        exact.search(np.ones((1, 4)), 1, mask=np.ones(2, dtype=bool))
    with pytest.raises(InputError, match="manhattan"):
        VectorIndex(np.ones((3, 4), dtype=np.float32), metric="manhattan")


def test_the_best_of_scores(form) -> None:
    random = np.random.default_rng(0)
    for k in (0, 1, 7, 50, 80):
        scores = random.integers(0, 9, size=50).astype(np.float32)
        scores[::7] = -np.inf
        order = np.argsort(-scores, kind="stable")
        wanted = order[np.isfinite(scores[order])][:k]
        assert best_of(scores, k).tolist() == wanted.tolist()
    assert best_of(np.empty(0, dtype=np.float32), 3).tolist() == []
