"""Exact search in tiles gives what one matrix product gives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

from gnomonic.training.curation import neighbors
from gnomonic.training.curation.neighbors import Search


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_QUERIES", 7)
    monkeypatch.setattr(neighbors, "_DOCUMENTS", 11)


def _unit(rows: int, seed: int) -> NDArray[np.float16]:
    vectors = np.random.default_rng(seed).standard_normal((rows, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def search() -> Search:
    return Search(_unit(20, 1), _unit(50, 2))


def _matrix(search: Search) -> NDArray[np.float32]:
    return search.queries.astype(np.float32) @ search.documents.astype(np.float32).T


def test_ranks_are_those_of_the_whole_matrix(search: Search) -> None:
    rng = np.random.default_rng(0)
    query, document = rng.integers(0, 20, 60), rng.integers(0, 50, 60)
    seen: list[tuple[int, int]] = []
    scores = _matrix(search)[query]
    own = np.take_along_axis(scores, document[:, None], axis=1)
    expected = 1 + (scores > own + 1e-5).sum(axis=1)
    found = search.ranks(query, document, lambda done, total: seen.append((done, total)))
    assert found.tolist() == expected.tolist()
    assert seen[-1] == (60, 60)


def test_equal_documents_share_the_rank() -> None:
    documents = np.concatenate([_unit(3, 0), _unit(3, 0), _unit(3, 0)])
    search = Search(documents[:1], documents)
    ranks = search.ranks(np.zeros(9, np.int64), np.arange(9))
    assert ranks.tolist() == [1, *ranks[1:3], 1, *ranks[1:3], 1, *ranks[1:3]]
    assert sorted(set(ranks.tolist())) == [1, 4, 7]


def test_the_hardest_are_the_best_below_the_ceiling_that_are_not_excluded(search: Search) -> None:
    query = np.arange(20)
    ceilings = np.linspace(-0.2, 0.5, 20, dtype=np.float32)
    excluded = np.repeat(query, 3), np.random.default_rng(3).integers(0, 50, 60)
    found = search.hardest(query, ceilings, excluded, 30)
    scores = _matrix(search)
    scores[excluded] = -np.inf
    above = scores >= ceilings[:, None]
    assert found.above.tolist() == above.sum(axis=1).tolist()
    scores[above] = -np.inf
    for row in range(20):
        order = [d for d in np.argsort(-scores[row]) if np.isfinite(scores[row, d])][:30]
        assert found.documents[row].tolist() == order + [-1] * (30 - len(order))
        assert np.allclose(found.scores[row, : len(order)], scores[row, order], atol=1e-6)
    assert (found.documents == -1).any()
    assert (found.documents[:, -1] >= 0).any()


def test_likeness_is_the_cosine_of_documents(search: Search) -> None:
    candidates = np.array([[3, 4], [5, -1]])
    found = search.likeness(np.array([3, 9]), candidates)
    assert found[0, 0] == pytest.approx(1, abs=2e-3)
    assert found[1, 0] == pytest.approx(float(search.documents[9].astype(float) @ search.documents[5].astype(float)))
