"""Points in boxes and in shapes, against the plain rule applied point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomonic.atlas import shapes
from gnomonic.atlas.shapes import PlanePoints, as_box, as_polygon
from gnomonic.errors import InputError


def _inside(x: float, y: float, polygon: np.ndarray) -> bool:
    """Count the sides that a ray to the right meets."""
    met = 0
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if min(y0, y1) <= y < max(y0, y1):
            met += x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
    return met % 2 == 1


def _points(n: int, seed: int = 0) -> PlanePoints:
    xy = np.random.default_rng(seed).uniform(-3, 3, size=(n, 2)).astype(np.float32)
    return PlanePoints(xy[:, 0], xy[:, 1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-6, 6)] * 2), min_size=3, max_size=12),
    st.integers(0, 40),
)
def test_any_shape_even_one_that_crosses_itself(corners: list[tuple[int, int]], n: int) -> None:
    polygon = as_polygon([[x / 2, y / 2] for x, y in corners])
    points = _points(n)
    # Some points right on corners and sides' heights.
    x = np.append(points.x, np.float32([0, 0.5, -3])).astype(np.float32)
    y = np.append(points.y, np.float32([0, 0.5, -3])).astype(np.float32)
    found = PlanePoints(x, y).in_polygon(polygon)
    assert found.tolist() == [_inside(float(a), float(b), polygon) for a, b in zip(x, y, strict=True)]


def test_a_hole_is_outside() -> None:
    ring = [[-2, -2], [2, -2], [2, 2], [-2, 2], [-2, -2], [-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]
    points = PlanePoints(np.float32([0, 1.5, 0, 3]), np.float32([0, 0, -1.5, 0]))
    assert points.in_polygon(as_polygon(ring)).tolist() == [False, True, True, False]


def test_a_box_has_its_sides_and_takes_corners_in_any_order() -> None:
    points = PlanePoints(np.float32([0.1, 0.5, 0.2, 0.1]), np.float32([0.1, 0.1, 0.3, 0.31]))
    for box in ([0.1, 0.1, 0.2, 0.3], [0.2, 0.3, 0.1, 0.1], [0.2, 0.1, 0.1, 0.3]):
        assert points.in_box(as_box(box)).tolist() == [True, False, True, False]


def test_no_points_and_flat_shapes() -> None:
    nothing = _points(0)
    assert nothing.in_polygon(as_polygon([[0, 0], [1, 0], [0, 1]])).shape == (0,)
    assert not _points(50).in_polygon(as_polygon([[-5, 1], [5, 1], [0, 1]])).any()
    assert _points(50).in_polygon(as_polygon([[-9, -9], [9, -9], [9, 9], [-9, 9]])).all()


@pytest.mark.parametrize(
    "bad",
    [
        [], [[0, 0], [1, 1]], [[0, 0], [1, 1], [2]], [[0, 0], [1, 1], [math.nan, 2]], [[0, 0], [1, 1], ["a", 2]],
        [[0, 0], [1, 1], [math.inf, 2]], "abc", 5, None, [[0, 0, 0]] * 3, [0, 1, 2], [[0, 0], [1, 1], [1e300, 2]],
        [[0, 0]] * 10_001, [[True, False]] * 3, {"x": 1},
    ],
)  # fmt: skip
def test_what_is_no_polygon(bad: object) -> None:
    with pytest.raises(InputError, match="polygon must be a list of 3 to 10,000 corners"):
        as_polygon(bad)


@pytest.mark.parametrize("bad", [[], [1, 2, 3], [1, 2, 3, math.nan], [1, 2, 3, "4"], "1234", 5, [[1, 2, 3, 4]]])
def test_what_is_no_box(bad: object) -> None:
    with pytest.raises(InputError, match="box must be four finite numbers"):
        as_box(bad)


def test_a_shape_that_would_take_minutes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_MOST_STEPS", 1000)
    zigzag = [[i, (-1) ** i * 5] for i in range(100)]
    with pytest.raises(InputError, match="draw a simpler shape"):
        _points(50).in_polygon(as_polygon(zigzag))
