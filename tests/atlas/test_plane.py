"""Nearest neighbours on the plane: exact, ties by row, whatever the points."""

from __future__ import annotations

import numpy as np
import pytest

from gnomonic.atlas import plane
from gnomonic.atlas.kernels import library
from gnomonic.atlas.plane import plane_neighbors
from gnomonic.errors import InputError


def _brute(xy, k):
    away = xy[:, None].astype(np.float64) - xy
    squared = (away * away).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    distances = np.sqrt(np.take_along_axis(squared, order, axis=1)).astype(np.float32)
    order[np.isinf(distances)] = -1
    wide = max(0, k - order.shape[1])
    return np.pad(order, ((0, 0), (0, wide)), constant_values=-1), np.pad(
        distances, ((0, 0), (0, wide)), constant_values=np.inf
    )


def _cases():
    random = np.random.default_rng(3)
    clumps = random.normal(size=(500, 2)) * 10.0 ** random.integers(-6, 3, size=(500, 1))
    return {
        "clumps of every density": clumps,
        "a lattice, all ties": np.stack(np.meshgrid(np.arange(16), np.arange(16)), axis=-1).reshape(-1, 2),
        "many equal": random.integers(0, 4, size=(700, 2)),
        "all equal": np.full((300, 2), 2.5),
        "a line": np.stack([random.normal(size=500), np.zeros(500)], axis=1),
        "far apart": random.normal(size=(400, 2)) * 1e30,
        "three": random.normal(size=(3, 2)),
        "one": np.zeros((1, 2)),
        "none": np.zeros((0, 2)),
    }


@pytest.fixture(params=["kernel", "numpy"])
def form(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(plane, "run_kernel", lambda *_: False)
    elif library() is None:
        pytest.skip("no compiled kernels")


@pytest.mark.parametrize("name", _cases())
@pytest.mark.parametrize("k", [1, 7])
def test_it_finds_what_comparing_all_pairs_finds(form, name, k) -> None:
    xy = _cases()[name].astype(np.float32)
    indices, distances = plane_neighbors(xy, k)
    expected, lengths = _brute(xy, k)
    assert indices.dtype == np.int32
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, lengths, rtol=1e-6)


def test_very_many_equal_points_take_no_quadratic_time(form) -> None:
    xy = np.zeros((30_000, 2), dtype=np.float32)
    xy[-5:] = 1.0
    indices, distances = plane_neighbors(xy, 3)
    assert indices[:5].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert indices[-1].tolist() == [29_995, 29_996, 29_997]
    assert (distances == 0).all()


def test_bad_positions_are_named(form) -> None:
    with pytest.raises(InputError, match="row 2 is not finite"):
        plane_neighbors(np.array([[0, 0], [1, 1], [np.nan, 0]], dtype=np.float32), 1)
    with pytest.raises(InputError, match=r"\[n, 2\]"):
        plane_neighbors(np.zeros((3, 3), dtype=np.float32), 1)
    with pytest.raises(InputError, match="k 0"):
        plane_neighbors(np.zeros((3, 2), dtype=np.float32), 0)
