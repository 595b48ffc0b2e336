"""Clusters of the plane: found, nested, numbered, whatever the points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomonic.atlas import linkage
from gnomonic.atlas.clusters import cluster
from gnomonic.errors import InputError


def _blobs(
    rows: int, *, groups: int = 6, parts: int = 4, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Groups of blobs, far from each other on a circle; returns points and the blob of each."""
    draw = np.random.default_rng(seed)
    turn = 2 * np.pi * np.arange(groups) / groups
    inner = 2 * np.pi * np.arange(parts) / parts
    centres = 30 * np.stack([np.cos(turn), np.sin(turn)], 1)[:, None] + 3 * np.stack([np.cos(inner), np.sin(inner)], 1)
    blob = draw.integers(0, groups * parts, rows)
    points = centres.reshape(-1, 2)[blob] + draw.normal(scale=0.4, size=(rows, 2))
    return points.astype(np.float32), blob


def _check(labels: NDArray[np.int32]) -> None:
    """Hold what is promised of any answer."""
    for row in labels:
        counts = np.bincount(row[row >= 0])
        assert (counts > 0).all()
        assert (np.diff(counts) <= 0).all(), "largest first"
        assert (row < 0).mean() <= 0.25
    for coarse, fine in pairwise(labels):
        for one in range(fine.max() + 1):
            above = np.unique(coarse[fine == one])
            assert len(above) == 1
            assert above[0] >= 0


def test_blobs_and_their_groups_are_found() -> None:
    points, blob = _blobs(4000)
    labels = cluster(points)
    _check(labels)
    for row, truth in ((labels[0], blob // 4), (labels[1], blob)):
        inside = row >= 0
        assert inside.mean() > 0.95
        pairs = {(int(a), int(b)) for a, b in zip(row[inside], truth[inside], strict=True)}
        assert len(pairs) == truth.max() + 1 == row.max() + 1


def test_uniform_points_make_some_clusters_at_three_depths() -> None:
    points = np.random.default_rng(1).uniform(size=(3000, 2)).astype(np.float32)
    labels = cluster(points)
    _check(labels)
    coarse, middle, fine = (int(row.max()) + 1 for row in labels)
    assert 3 <= coarse <= 12
    assert coarse < middle < fine <= 80


def test_scattered_points_stay_outside_or_near() -> None:
    points, _ = _blobs(3000)
    far = np.random.default_rng(2).uniform(-300, 300, size=(30, 2)).astype(np.float32)
    labels = cluster(np.concatenate([points, far]))
    _check(labels)
    assert (labels[2, 3000:] < 0).mean() > 0.5
    assert (labels[2, :3000] < 0).mean() < 0.05


@pytest.mark.parametrize("rows", [0, 1, 2, 14])
def test_few_rows_are_one_cluster(rows: int) -> None:
    points = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    assert cluster(points).tolist() == [[0] * rows] * 3
    assert cluster(points, depths=1).shape == (1, rows)


def test_equal_points_are_one_cluster() -> None:
    assert (cluster(np.ones((500, 2), dtype=np.float32)) == 0).all()
    two = np.repeat(np.array([[0.0, 0.0], [9.0, 9.0]], dtype=np.float32), 100, axis=0)
    assert cluster(two)[2].tolist() == [0] * 100 + [1] * 100


def test_the_answer_repeats() -> None:
    points, _ = _blobs(2000, parts=1)
    assert (cluster(points, seed=3) == cluster(points, seed=3)).all()


def test_the_numpy_form_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.concatenate([_blobs(900)[0], np.random.default_rng(5).uniform(-40, 40, (100, 2)).astype(np.float32)])
    points[:60] = points[0]
    compiled = cluster(points)
    monkeypatch.setattr(linkage, "library", lambda: None)
    assert (cluster(points) == compiled).all()


def test_linkage_of_a_forest() -> None:
    start, end = np.array([0, 1, 0, 3], dtype=np.int32), np.array([1, 2, 2, 4], dtype=np.int32)
    tree = linkage.link(6, start, end)
    assert tree.edges.tolist() == [0, 1, 3]
    assert tree.sizes.tolist() == [2, 3, 2]
    assert tree.groups.tolist() == [0, 0, 0, 1, 1, 2]


def test_labels_grow_to_the_first_that_touches() -> None:
    labels = np.array([0, -1, -1, -1, 1, -1], dtype=np.int32)
    start, end = np.array([2, 3, 0, 1], dtype=np.int32), np.array([3, 4, 1, 2], dtype=np.int32)
    grown, joined = linkage.grow(labels, start, end)
    assert grown.tolist() == [0, 0, 1, 1, 1, -1]
    assert joined.tolist() == [-1, 2, 1, 1, -1, -1]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="depths 0"):
        cluster(np.zeros((3, 2), dtype=np.float32), depths=0)
    points = np.zeros((50, 2), dtype=np.float32)
    points[7, 1] = np.nan
    with pytest.raises(InputError, match="row 7"):
        cluster(points)
