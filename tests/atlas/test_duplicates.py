"""Groups of duplicates: whole, without chains, the same by kernel and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomonic.atlas import duplicates
from gnomonic.atlas.duplicates import CLASS_NAMES, Duplicates, duplicate_groups, find_duplicates
from gnomonic.atlas.neighbors import NeighborGraph
from gnomonic.atlas.options import DuplicateOptions
from gnomonic.errors import InputError


def _graph(vectors: NDArray[Any], k: int = 15) -> NeighborGraph:
    """Compare all pairs; of equally near rows the lower come first."""
    rows, dim = vectors.shape
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(length > 0, length, 1)
    away = 1 - unit @ unit.T if dim > 3 else np.linalg.norm(wide[:, None] - wide, axis=2)
    away[(vectors[:, None] == vectors).all(axis=2)] = 0
    np.fill_diagonal(away, np.inf)
    indices = np.full((rows, k), -1, dtype=np.int32)
    distances = np.full((rows, k), np.inf, dtype=np.float32)
    nearest = np.argsort(away, axis=1, kind="stable")[:, : min(k, max(rows - 1, 0))]
    indices[:, : nearest.shape[1]] = nearest
    distances[:, : nearest.shape[1]] = np.maximum(np.take_along_axis(away, nearest, axis=1), 0)
    metric = "cosine" if dim > 3 else "euclidean"
    return NeighborGraph(indices=indices, distances=distances, metric=metric, recall=1.0, exact=True)


def _directions(degrees: list[float]) -> NDArray[np.float32]:
    """Unit vectors of five dimensions at some angles in one plane."""
    turn = np.radians(degrees)
    found = np.zeros((len(degrees), 5), dtype=np.float32)
    found[:, 0], found[:, 1] = np.cos(turn), np.sin(turn)
    return found


def _planted(rows: int = 1500, copies: int = 150, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Random directions and near copies of some, about 5 degrees off; returns vectors and the origin of each row."""
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(rows, 32))
    origin = np.concatenate([np.arange(rows), draw.choice(rows, copies, replace=False)])
    near = vectors[origin[rows:]] + draw.normal(scale=0.08, size=(copies, 32))
    return np.concatenate([vectors, near]).astype(np.float32), origin


def test_planted_copies_are_found_and_nothing_else() -> None:
    vectors, origin = _planted()
    found = find_duplicates(_graph(vectors), vectors)
    deleted = np.flatnonzero(found.classes == 2)
    assert sorted(deleted) == list(range(1500, 1650))
    first = {int(group): row for row, group in reversed(list(enumerate(found.cluster)))}
    assert all(first[int(found.cluster[row])] == origin[row] for row in deleted)
    assert (found.classes[origin[1500:]] == CLASS_NAMES.index("retention candidate")).all()
    assert (found.classes == CLASS_NAMES.index("singleton")).sum() == 1650 - 300


def test_groups_are_numbered_by_first_row() -> None:
    vectors = _directions([0, 90, 1, 90, 45])
    found = find_duplicates(_graph(vectors), vectors)
    assert found.cluster.tolist() == [0, 1, 0, 1, 2]
    assert found.classes.tolist() == [1, 1, 2, 2, 0]


def test_identical_rows_are_one_group_however_many() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(300, 8)).astype(np.float16)
    vectors[100:] = vectors[100]
    for cutoff in (0.0, 0.1):
        found = find_duplicates(_graph(vectors, k=4), vectors, DuplicateOptions(duplicate_cutoff=cutoff))
        assert (found.cluster[100:] == found.cluster[100]).all()
        assert found.classes[100] == 1
        assert (found.classes[101:] == 2).all()
        assert (found.classes[:100] == 0).all()


def test_a_chain_does_not_join_its_ends() -> None:
    vectors = _directions([12.0 * i for i in range(15)])
    found = find_duplicates(_graph(vectors), vectors)
    for group in np.unique(found.cluster):
        rows = np.flatnonzero(found.cluster == group)
        kept = rows[found.classes[rows] != 2]
        assert len(kept) == 1
        assert (np.abs(rows - kept[0]) * 12 <= 18).all()
    assert found.cluster.max() >= 4


def test_a_group_may_be_larger_than_a_row_has_neighbours() -> None:
    vectors = _directions([0.05 * i for i in range(60)])
    found = duplicate_groups(_graph(vectors, k=5), 0.1)
    assert (found.cluster == 0).all()
    assert (found.classes == 2).sum() == 59


def test_the_cutoff_is_a_share_of_half_a_turn() -> None:
    vectors = _directions([0, 17, 60, 79])
    assert find_duplicates(_graph(vectors), vectors).cluster.tolist() == [0, 0, 1, 2]
    wider = duplicate_groups(_graph(vectors), 0.11)
    assert wider.cluster.tolist() == [0, 0, 1, 1]
    everything = duplicate_groups(_graph(vectors), 1.5)
    assert (everything.cluster == 0).all()


def test_positions_use_their_own_distance() -> None:
    points = np.array([[0, 0], [0.09, 0], [5, 5], [5, 5.2]], dtype=np.float32)
    assert find_duplicates(_graph(points), points).cluster.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("cutoff", [0.0, 0.05, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_numpy_form_gives_the_same(monkeypatch: pytest.MonkeyPatch, cutoff: float, metric: str) -> None:
    draw = np.random.default_rng(1)
    distances = np.sort(draw.choice([0.0, 0.01, 0.02, 0.1, 0.3, 0.8], size=(400, 6)).astype(np.float32), axis=1)
    indices = draw.integers(0, 400, size=(400, 6)).astype(np.int32)
    indices[:5, 3:], distances[:5, 3:] = -1, np.inf
    graph = NeighborGraph(indices=indices, distances=distances, metric=metric, recall=1.0, exact=True)
    vectors = draw.integers(0, 6, size=(400, 3)).astype(np.float32)
    compiled = duplicate_groups(graph, cutoff, vectors)
    monkeypatch.setattr(duplicates, "library", lambda: None)
    slow = duplicate_groups(graph, cutoff, vectors)
    assert (slow.cluster == compiled.cluster).all()
    assert (slow.classes == compiled.classes).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 14])
def test_few_rows(rows: int) -> None:
    vectors = np.zeros((rows, 4), dtype=np.float32)
    found = find_duplicates(_graph(vectors), vectors)
    assert found.cluster.tolist() == [0] * rows
    assert found.classes.tolist() == [0] * rows if rows < 2 else [1] + [2] * (rows - 1)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    vectors, _ = _planted(50, 10)
    found = find_duplicates(_graph(vectors), vectors)
    found.save(tmp_path)
    again = Duplicates.load(tmp_path)
    assert (again.cluster == found.cluster).all()
    assert (again.classes == found.classes).all()
    assert again.cluster.dtype == np.int32
    assert again.classes.dtype == np.uint8


def test_bad_input_is_refused() -> None:
    vectors, _ = _planted(50, 10)
    with pytest.raises(InputError, match="build it again"):
        find_duplicates(_graph(vectors), vectors[:10])
    with pytest.raises(InputError, match="cutoff -1"):
        duplicate_groups(_graph(vectors), -1.0)
