"""New rows on a plane that stands, and planes laid on each other."""

from __future__ import annotations

import numpy as np
import pytest

from gnomonic.atlas import fuzzy
from gnomonic.atlas.placement import align, place
from gnomonic.errors import InputError


def _two_groups() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.concatenate([random.normal(0, 0.1, (10, 2)), random.normal(30, 0.1, (10, 2))]).astype(np.float32)


def test_a_row_goes_among_its_neighbors() -> None:
    xy = _two_groups()
    before = xy.copy()
    indices = np.array([[0, 1, 2, 3], [10, 11, 12, 13]], dtype=np.int32)
    distances = np.tile(np.array([0.1, 0.2, 0.2, 0.3], dtype=np.float32), (2, 1))
    placed = place(indices, distances, xy)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed, [xy[:4].mean(axis=0), xy[10:14].mean(axis=0)], atol=0.2)
    assert np.array_equal(xy, before)


@pytest.mark.parametrize("near", [2, 3, 4, 5, 6])
def test_a_row_between_two_groups_goes_to_one(near: int) -> None:
    xy = _two_groups()
    indices = np.array([[*range(near), *range(10, 18 - near)]], dtype=np.int32)
    distances = np.linspace(0.2, 0.3, 8, dtype=np.float32)[None]
    x = float(place(indices, distances, xy)[0, 0])
    assert min(abs(x), abs(x - 30.0)) < 0.5
    weights = fuzzy.neighbor_weights(indices, distances)[0]
    assert (x < 15) == (weights[:near].sum() > weights[near:].sum())


def test_a_twin_goes_to_its_twin() -> None:
    xy = (np.random.default_rng(0).standard_normal((60, 2)) * 5).astype(np.float32)
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    indices = np.argsort(apart, axis=1)[:, :8].astype(np.int32)
    distances = np.take_along_axis(apart, indices.astype(np.int64), axis=1).astype(np.float32)
    away = np.linalg.norm(place(indices, distances, xy) - xy, axis=1)
    assert np.median(away) < np.median(apart[np.arange(60), indices[:, 4]])


def test_the_same_new_row_twice_is_two_points_and_a_seed_repeats() -> None:
    xy = np.zeros((5, 2), dtype=np.float32)
    xy[3:] = 9.0
    indices, distances = np.zeros((4, 1), dtype=np.int32), np.zeros((4, 1), dtype=np.float32)
    placed = place(indices, distances, xy, seed=2)
    assert len(np.unique(placed, axis=0)) == 4
    assert np.abs(placed).max() < 0.01
    assert np.array_equal(placed, place(indices, distances, xy, seed=2))
    assert not np.array_equal(placed, place(indices, distances, xy, seed=3))


def test_rows_with_fewer_neighbors_or_none() -> None:
    xy = _two_groups()
    indices = np.array([[3, -1, -1], [-1, -1, -1]], dtype=np.int32)
    distances = np.array([[0.5, np.inf, np.inf], [np.inf] * 3], dtype=np.float32)
    placed = place(indices, distances, xy)
    np.testing.assert_allclose(placed, [xy[3], xy.mean(axis=0)], atol=0.05)


def test_nothing_to_place_and_nothing_to_place_by() -> None:
    none, nothing = np.empty((0, 4), dtype=np.int32), np.empty((0, 4), dtype=np.float32)
    assert place(none, nothing, _two_groups()).shape == (0, 2)
    alone = place(np.empty((3, 0), dtype=np.int32), np.empty((3, 0), dtype=np.float32), np.empty((0, 2), np.float32))
    assert np.array_equal(alone, np.zeros((3, 2)))


def test_numpy_alone_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    xy = _two_groups()
    random = np.random.default_rng(0)
    indices = random.integers(0, 20, (50, 6)).astype(np.int32)
    distances = np.sort(random.random((50, 6), dtype=np.float32), axis=1)
    placed = place(indices, distances, xy)
    monkeypatch.setattr(fuzzy, "library", lambda: None)
    np.testing.assert_allclose(place(indices, distances, xy), placed, atol=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="neighbour 20 is none of the 20"):
        place(np.array([[20]], dtype=np.int32), np.zeros((1, 1), np.float32), _two_groups())
    with pytest.raises(InputError, match="differ"):
        place(np.zeros((2, 3), np.int32), np.zeros((2, 2), np.float32), _two_groups())
    with pytest.raises(InputError, match="for 2 rows"):
        align(_two_groups(), _two_groups(), np.array([0, 1]))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_plane_comes_back(mirrored: bool) -> None:
    xy = _two_groups()
    turn = np.array([[np.cos(2.0), -np.sin(2.0)], [np.sin(2.0), np.cos(2.0)]])
    if mirrored:
        turn[0] *= -1.0
    turned = (3.5 * xy @ turn + [100.0, -7.0]).astype(np.float32)
    rows = np.array([1, 4, 12, 15, 19])
    np.testing.assert_allclose(align(turned, xy[rows], rows), xy, atol=1e-3)


def test_the_best_similarity_leaves_a_small_rest() -> None:
    xy, rows = _two_groups(), np.arange(20)
    onto = (xy[:, ::-1] * 2 + np.random.default_rng(1).normal(0, 0.05, xy.shape)).astype(np.float32)
    best = ((align(xy, onto, rows) - onto) ** 2).sum()
    for factor, angle in ((1.01, 0.0), (0.99, 0.0), (1.0, 0.01), (1.0, -0.01)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        other = align(xy, onto, rows)
        other = (other - other.mean(axis=0)) @ turn * factor + other.mean(axis=0)
        assert ((other - onto) ** 2).sum() > best


def test_planes_that_say_little() -> None:
    xy = _two_groups()
    assert np.array_equal(align(xy, np.empty((0, 2), np.float32), np.empty(0, np.int64)), xy)
    np.testing.assert_allclose(
        align(xy, np.array([[5, 6]], dtype=np.float32), np.array([3])), xy - xy[3] + [5, 6], atol=1e-4
    )
    on_a_spot = align(xy, np.full((20, 2), 4.0, np.float32), np.arange(20))
    np.testing.assert_allclose(on_a_spot, xy - xy.mean(axis=0) + 4.0, atol=1e-4)
