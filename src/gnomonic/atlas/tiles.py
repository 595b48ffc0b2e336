"""The points of a map as a quadtree of small files, coarse ones first: docs/reference/formats.md.

A tile's points are a uniform random sample of what its quarter of the map holds, so the root alone shows the whole map
and every further level only adds to it. The order of the points in the tiles, "map order", is that of all files beside
them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.progress import OnProgress, Progress, no_progress
from gnomonic.errors import DatasetError, InputError

__all__ = ["Extent", "Manifest", "Tile", "read_manifest", "read_tile", "write_tiles"]

FORMAT = "gnomonic-tiles-1"

_DEPTH = 24
"""Levels that divide the plane; below them tiles divide what they hold by count. Finer than float32 can tell apart."""

_STEPS = 65_535
"""Steps a side of a tile: positions in it are 16-bit numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """A square: the whole map's or a tile's."""

    x: float
    """Left side, in the map's units; values grow to the right."""
    y: float
    """Lower side; values grow upwards."""
    size: float
    """Length of a side, above 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One tile: its place in the quadtree and its points' place in map order."""

    z: int
    """Level, 0 for the root."""
    x: int
    """Column, 0 to 2**z - 1 from the left."""
    y: int
    """Row, 0 to 2**z - 1 from below."""
    offset: int
    """Map position of its first point."""
    count: int

    @property
    def key(self) -> str:
        """Return "z/x/y", the path of its files."""
        return f"{self.z}/{self.x}/{self.y}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All tiles of a map, in map order: level by level, the root first."""

    count: int
    extent: Extent
    tiles: tuple[Tile, ...]
    _by_key: dict[str, Tile] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {tile.key: tile for tile in self.tiles})

    def tile(self, key: str) -> Tile:
        """Return the tile of that key, such as "2/1/3".

        Raises:
            DatasetError: the map has no such tile.
        """
        found = self._by_key.get(key)
        if found is None:
            raise DatasetError(
                f"the map has no tile {key!r}",
                hint=f"manifest.json lists its {len(self.tiles)} tiles; 0/0/0 is the root",
            )
        return found

    def extent_of(self, tile: Tile) -> Extent:
        """Return the square that a tile's 16-bit positions divide."""
        size = self.extent.size / 2**tile.z
        return Extent(x=self.extent.x + tile.x * size, y=self.extent.y + tile.y * size, size=size)


def write_tiles(
    folder: Path,
    xy: NDArray[np.float32],
    *,
    seed: int = 0,
    tile_points: int = 65_536,
    on_progress: OnProgress = no_progress,
) -> NDArray[np.int64]:
    """Write `manifest.json` and `tiles/{z}/{x}/{y}.bin`.

    Args:
        folder: where they go; it is made if need be.
        xy: [n, 2] float32 positions in row order, finite.
        seed: of the samples.
        tile_points: the most points a tile holds, 2 or more. A quarter with more keeps three quarters as many in its
            own tile and leaves the rest to those below it.
        on_progress: told of the points written.

    Returns:
        order [n] int64: order[p] is the row at map position p. Within a tile it is random too, so the first points of a
        tile are a uniform sample of it.

    Raises:
        InputError: positions are not [n, 2] or not finite, or tile_points is below 2.
    """
    if tile_points < 2:
        raise InputError(f"tile_points {tile_points} is smaller than 2; a tile holds two points or more")
    points = np.asarray(xy, dtype=np.float32)
    extent = _extent(points)
    tiles: list[Tile] = []
    order = np.empty(len(points), dtype=np.int64)
    done = 0
    for (z, x, y), rows in _divide(points, extent, seed, tile_points):
        tile = Tile(z=z, x=x, y=y, offset=done, count=len(rows))
        order[done : done + len(rows)] = rows
        tiles.append(tile)
        done += len(rows)
    manifest = Manifest(count=len(points), extent=extent, tiles=tuple(tiles))
    for tile in tiles:
        rows = order[tile.offset : tile.offset + tile.count]
        path = _path(folder, tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode(points[rows], manifest.extent_of(tile)))
        on_progress(Progress(stage="tiles", done=tile.offset + tile.count, total=len(points)))
    (folder / "manifest.json").write_text(_render(manifest), encoding="utf-8")
    return order


def read_manifest(folder: Path) -> Manifest:
    """Return what `write_tiles` wrote.

    Raises:
        DatasetError: it is absent, damaged or of another format.
    """
    path = folder / "manifest.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        form = told["format"]
        manifest = Manifest(
            count=int(told["count"]),
            extent=Extent(**{name: float(told["extent"][name]) for name in ("x", "y", "size")}),
            tiles=tuple(Tile(**{name: int(tile[name]) for name in Tile.__slots__}) for tile in told["tiles"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if form != FORMAT:
        raise _damaged(path, f"its format is {form!r} and not {FORMAT!r}")
    ends = [0, *(tile.offset + tile.count for tile in manifest.tiles)]
    if [tile.offset for tile in manifest.tiles] != ends[:-1] or ends[-1] != manifest.count:
        raise _damaged(path, f"its tiles do not hold its {manifest.count} points one after another")
    return manifest


def read_tile(folder: Path, tile: Tile, manifest: Manifest | None = None) -> NDArray[np.float32]:
    """Return a tile's positions [count, 2] float32, in map order, to within half a step of its square.

    Args:
        folder: where `write_tiles` wrote.
        tile: which; of the manifest.
        manifest: the map's, read if not given.

    Raises:
        DatasetError: its file is absent or has not the length it should.
    """
    box = (manifest or read_manifest(folder)).extent_of(tile)
    path = _path(folder, tile)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _damaged(path, error) from error
    if len(raw) != 4 * tile.count:
        raise _damaged(path, f"it has {len(raw)} bytes, and {tile.count} points take {4 * tile.count}")
    steps = np.frombuffer(raw, dtype="<u2").reshape(2, tile.count).T
    return (np.array([box.x, box.y]) + steps * (box.size / _STEPS)).astype(np.float32)


def _path(folder: Path, tile: Tile) -> Path:
    return folder / "tiles" / f"{tile.key}.bin"


def _damaged(path: Path, reason: object) -> DatasetError:
    return DatasetError(f"{path} cannot be read: {reason}", hint="build the map again")


def _extent(points: NDArray[np.float32]) -> Extent:
    """Return the square around all points."""
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"positions have the shape {points.shape}; give [n, 2]")
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise InputError(f"the position of row {int(bad.argmax())} is not finite; project the map again")
    if not len(points):
        return Extent(x=0.0, y=0.0, size=1.0)
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    # Of a map that is one point, a square that its coordinates can tell apart.
    size = float((high - low).max()) or max(1.0, float(np.abs(low).max()) / 1000)
    corner = (low + high - size) / 2
    return Extent(x=float(corner[0]), y=float(corner[1]), size=size)


def _divide(
    points: NDArray[np.float32], extent: Extent, seed: int, tile_points: int
) -> Iterator[tuple[tuple[int, int, int], NDArray[np.int64]]]:
    """Yield each tile's place and its rows, level by level."""
    codes = _morton(points, extent)
    rows = np.argsort(codes, kind="stable")
    codes = codes[rows]
    # Who has the lowest numbers is a uniform sample of any part of the map, and so is who has the next lowest.
    lots = np.random.default_rng(seed).permutation(len(points))[rows]
    waiting = deque([((0, 0, 0), np.arange(len(points)))])
    while waiting:
        (z, x, y), inside = waiting.popleft()
        if len(inside) <= tile_points:
            yield (z, x, y), rows[inside[np.argsort(lots[inside])]]
            continue
        keep = 3 * tile_points // 4
        chosen = np.argpartition(lots[inside], keep - 1)[:keep]
        chosen = chosen[np.argsort(lots[inside[chosen]])]
        yield (z, x, y), rows[inside[chosen]]
        left = np.delete(inside, chosen)
        if z < _DEPTH:
            quarters = (codes[left] >> np.uint64(2 * (_DEPTH - z - 1))) & np.uint64(3)
            ends = np.searchsorted(quarters, np.arange(1, 4, dtype=np.uint64))
        else:
            ends = len(left) * np.arange(1, 4) // 4
        for quarter, part in enumerate(np.split(left, ends)):
            if len(part):
                waiting.append(((z + 1, 2 * x + (quarter & 1), 2 * y + (quarter >> 1)), part))


def _morton(points: NDArray[np.float32], extent: Extent) -> NDArray[np.uint64]:
    """Return the path of each point down the quadtree, two bits a level, the root's first: x low, y high."""
    cells = (points - np.array([extent.x, extent.y])) * (2.0**_DEPTH / extent.size)
    cells = np.clip(np.floor(cells), 0, 2**_DEPTH - 1).astype(np.uint64)
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        cells = (cells | (cells << np.uint64(shift))) & np.uint64(mask)
    spread: NDArray[np.uint64] = cells[:, 0] | (cells[:, 1] << np.uint64(1))
    return spread


def _encode(points: NDArray[np.float32], box: Extent) -> bytes:
    """Return all x and then all y, each 16 bits, little-endian."""
    steps = (points - np.array([box.x, box.y])) * (_STEPS / box.size)
    planar: NDArray[np.uint16] = np.clip(np.rint(steps), 0, _STEPS).astype("<u2").T
    return planar.tobytes()


def _render(manifest: Manifest) -> str:
    extent = manifest.extent
    told: dict[str, Any] = {
        "format": FORMAT,
        "count": manifest.count,
        "extent": {"x": extent.x, "y": extent.y, "size": extent.size},
        "tiles": [{name: getattr(tile, name) for name in Tile.__slots__} for tile in manifest.tiles],
    }
    return json.dumps(told, separators=(",", ":"))
