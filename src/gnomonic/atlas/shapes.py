"""Which points of the plane lie in a box or in a shape that somebody drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import InputError

__all__ = ["PlanePoints", "as_box", "as_polygon"]

_CORNERS = 10_000
_MOST_STEPS = 1_000_000_000
"""Points compared with sides, all in all; about five seconds. What people draw takes a thousandth."""


@dataclass(frozen=True)
class PlanePoints:
    """Points, and what makes looking among them fast."""

    x: NDArray[np.float32]
    """[n] float32."""
    y: NDArray[np.float32]
    """[n] float32."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, those of the order by y included."""
        return 2 * self.x.nbytes + 2 * self.y.nbytes + 4 * len(self.x)

    @cached_property
    def _by_height(self) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        order = np.argsort(self.y, kind="stable").astype(np.int32)
        return order, self.x[order], self.y[order]

    def in_box(self, box: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points lie in a box or on its sides, [n] bool.

        Args:
            box: [4] float64: x0, y0, x1, y1; either corner may come first.
        """
        # In the points' own precision, so that one that lies on a side is not rounded out of the box.
        corners = box.astype(np.float32)
        left, right = sorted((corners[0], corners[2]))
        low, high = sorted((corners[1], corners[3]))
        inside: NDArray[np.bool_] = (self.x >= left) & (self.x <= right) & (self.y >= low) & (self.y <= high)
        return inside

    def in_polygon(self, polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points lie in a shape, [n] bool.

        They are those from which a ray to the right meets an odd number of sides (Shimrat 1962), so a shape may cross
        itself and have holes. A side is met only by rays of points between the heights of its ends, which are one run
        of the points ordered by y.

        Args:
            polygon: [m, 2] float64 corners, in order; the last is joined to the first.

        Raises:
            InputError: the shape has so many long sides that comparing them would take minutes.
        """
        order, x, y = self._by_height
        found = np.zeros(len(x), dtype=np.bool_)
        at = np.searchsorted(y, polygon[:, 1])
        ends = np.roll(np.arange(len(polygon)), -1)
        first, last = np.minimum(at, at[ends]), np.maximum(at, at[ends])
        if int((last - first).sum()) > _MOST_STEPS:
            raise InputError("the polygon has too many long sides; draw a simpler shape")
        for side in np.flatnonzero(last > first).tolist():
            (x0, y0), (x1, y1) = polygon[side], polygon[ends[side]]
            run = slice(int(first[side]), int(last[side]))
            meets = x0 + (y[run].astype(np.float64) - y0) * ((x1 - x0) / (y1 - y0))
            found[run] ^= x[run] < meets
        inside = np.empty_like(found)
        inside[order] = found
        return inside


def as_box(given: Any) -> NDArray[np.float64]:
    """Return a box as numbers, [4] float64.

    Raises:
        InputError: it is not four finite numbers.
    """
    found = _numbers(given)
    if found is None or found.shape != (4,):
        raise InputError("box must be four finite numbers: [x0, y0, x1, y1], in the units of the map")
    return found


def as_polygon(given: Any) -> NDArray[np.float64]:
    """Return the corners of a shape, [m, 2] float64.

    Raises:
        InputError: they are not 3 to 10,000 pairs of finite numbers.
    """
    count = len(given) if isinstance(given, Sequence) else 0
    found = _numbers(given) if 3 <= count <= _CORNERS else None
    if found is None or found.ndim != 2 or found.shape[1] != 2:
        raise InputError(
            f"polygon must be a list of 3 to {_CORNERS:,} corners [x, y] of finite numbers, in the units of the map"
        )
    return found


def _numbers(given: Any) -> NDArray[np.float64] | None:
    try:
        found = np.array(given)
    except (TypeError, ValueError):
        return None
    if found.dtype.kind not in "iuf":
        return None
    found = found.astype(np.float64)
    # Beyond these float32 has no numbers, and there is no map there.
    return found if np.isfinite(found).all() and (np.abs(found) < 1e37).all() else None
