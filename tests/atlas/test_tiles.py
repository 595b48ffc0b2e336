"""Tiles: every point in exactly one, each a sample of its quarter, positions to half a step."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gnomonic.atlas.progress import Progress
from gnomonic.atlas.tiles import Manifest, Tile, read_manifest, read_tile, write_tiles
from gnomonic.errors import DatasetError, InputError


def _clusters(n, seed=1):
    random = np.random.default_rng(seed)
    middles = random.normal(size=(20, 2)) * 10
    return (middles[random.integers(0, 20, n)] + random.normal(size=(n, 2)) * 0.3).astype(np.float32)


def _decoded(folder, manifest: Manifest):
    return np.concatenate([read_tile(folder, tile, manifest) for tile in manifest.tiles])


@pytest.mark.parametrize("n", [0, 1, 2, 14, 5000])
def test_every_point_is_in_one_tile_and_near_its_place(tmp_path, n) -> None:
    xy = _clusters(n)
    order = write_tiles(tmp_path, xy, tile_points=256)
    manifest = read_manifest(tmp_path)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(n))
    assert manifest.count == n
    assert all(tile.count <= 256 for tile in manifest.tiles)
    assert manifest.tiles[0] == manifest.tile("0/0/0")
    files = {str(path.relative_to(tmp_path / "tiles").with_suffix("")) for path in (tmp_path / "tiles").rglob("*.bin")}
    assert files == {tile.key for tile in manifest.tiles}
    for tile in manifest.tiles:
        box = manifest.extent_of(tile)
        original = xy[order[tile.offset : tile.offset + tile.count]]
        assert (original >= np.array([box.x, box.y]) - 1e-5).all()
        assert (original <= np.array([box.x, box.y]) + box.size + 1e-5).all()
        found = read_tile(tmp_path, tile)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, original, atol=0.51 * box.size / 65_535 + 4e-6, rtol=0)


def test_a_childs_points_lie_below_its_parent_and_levels_come_in_order(tmp_path) -> None:
    write_tiles(tmp_path, _clusters(5000), tile_points=256)
    manifest = read_manifest(tmp_path)
    keys = {tile.key for tile in manifest.tiles}
    levels = [tile.z for tile in manifest.tiles]
    assert max(levels) >= 3
    assert levels == sorted(levels)
    for tile in manifest.tiles[1:]:
        assert f"{tile.z - 1}/{tile.x // 2}/{tile.y // 2}" in keys


def test_the_root_and_its_first_points_are_uniform_samples(tmp_path) -> None:
    middles = np.repeat(np.arange(4), [8000, 4000, 2000, 2000])
    random = np.random.default_rng(0)
    xy = np.stack([middles * 10, middles % 2 * 10], axis=1) + random.normal(size=(16_000, 2))
    order = write_tiles(tmp_path, xy.astype(np.float32), tile_points=4000)
    root = read_manifest(tmp_path).tiles[0]
    assert root.count == 3000
    for first in (3000, 1500):
        shares = np.bincount(middles[order[:first]], minlength=4) / first
        # Six standard deviations of the share of a sample of that size.
        np.testing.assert_allclose(shares, [0.5, 0.25, 0.125, 0.125], atol=6 * 0.5 / np.sqrt(first))
    # A child is a sample of its quarter as well, row numbers being independent of the place within a group.
    child = next(tile for tile in read_manifest(tmp_path).tiles[1:] if tile.count == 3000)
    rows = order[child.offset : child.offset + child.count]
    assert abs(rows[rows < 8000].mean() - 4000) < 6 * 8000 / np.sqrt(12 * 1000)


def test_equal_points_end(tmp_path) -> None:
    xy = np.full((600, 2), 7.25, dtype=np.float32)
    order = write_tiles(tmp_path, xy, tile_points=4)
    manifest = read_manifest(tmp_path)
    assert sorted(order) == list(range(600))
    assert 24 < max(tile.z for tile in manifest.tiles) < 40
    assert all(tile.count <= 4 for tile in manifest.tiles)
    np.testing.assert_allclose(_decoded(tmp_path, manifest), 7.25, atol=1e-5)


def test_positions_far_from_zero_and_an_outlier_keep_their_place(tmp_path) -> None:
    xy = _clusters(2000) + np.float32(5000)
    xy[17] = 90_000
    order = write_tiles(tmp_path, xy, tile_points=64)
    manifest = read_manifest(tmp_path)
    deepest = manifest.tiles[-1]
    rows = order[deepest.offset : deepest.offset + deepest.count]
    np.testing.assert_allclose(read_tile(tmp_path, deepest), xy[rows], atol=2e-3)


def test_it_repeats_for_a_seed(tmp_path) -> None:
    xy = _clusters(3000)
    first, again, other = (
        write_tiles(tmp_path / name, xy, seed=seed, tile_points=256) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    np.testing.assert_array_equal(first, again)
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()
    assert (first != other).any()


def test_progress_ends_at_the_whole(tmp_path) -> None:
    told: list[Progress] = []
    write_tiles(tmp_path, _clusters(1000), tile_points=256, on_progress=told.append)
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert (told[-1].stage, told[-1].done, told[-1].total) == ("tiles", 1000, 1000)


def test_the_layout_of_a_file_is_all_x_then_all_y(tmp_path) -> None:
    order = write_tiles(tmp_path, np.array([[0, 0], [4, 0], [4, 2]], dtype=np.float32))
    raw = np.frombuffer((tmp_path / "tiles/0/0/0.bin").read_bytes(), dtype="<u2")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["extent"] == {"x": 0.0, "y": -1.0, "size": 4.0}
    assert manifest["tiles"] == [{"z": 0, "x": 0, "y": 0, "offset": 0, "count": 3}]
    assert raw[:3].tolist() == [[0, 65_535, 65_535][row] for row in order]
    assert raw[3:].tolist() == [[16_384, 16_384, 49_151][row] for row in order]


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_tile_is_named(tmp_path, damage) -> None:
    write_tiles(tmp_path, _clusters(100))
    path = tmp_path / "tiles/0/0/0.bin"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    else:
        path.unlink()
    with pytest.raises(DatasetError, match=r"0\.bin cannot be read") as caught:
        read_tile(tmp_path, read_manifest(tmp_path).tiles[0])
    assert "build the map again" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": "gnomonic-tiles-1"}', None],
    ids=["empty", "cut", "a list", "without tiles", "gone"],
)
def test_a_damaged_manifest_is_named(tmp_path, text) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json cannot be read"):
        read_manifest(tmp_path)


def test_a_manifest_that_contradicts_itself_is_refused(tmp_path) -> None:
    write_tiles(tmp_path, _clusters(100))
    path = tmp_path / "manifest.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "format": "gnomonic-tiles-9"}))
    with pytest.raises(DatasetError, match="format is 'gnomonic-tiles-9'"):
        read_manifest(tmp_path)
    path.write_text(json.dumps({**told, "count": 101}))
    with pytest.raises(DatasetError, match="do not hold its 101 points"):
        read_manifest(tmp_path)


def test_what_is_not_there_or_not_usable_is_refused(tmp_path) -> None:
    write_tiles(tmp_path, _clusters(10))
    with pytest.raises(DatasetError, match="no tile '1/0/0'"):
        read_manifest(tmp_path).tile("1/0/0")
    with pytest.raises(InputError, match="row 1 is not finite"):
        write_tiles(tmp_path, np.array([[0, 0], [np.inf, 1]], dtype=np.float32))
    with pytest.raises(InputError, match=r"\[n, 2\]"):
        write_tiles(tmp_path, np.zeros((4, 3), dtype=np.float32))
    with pytest.raises(InputError, match="tile_points 1"):
        write_tiles(tmp_path, _clusters(10), tile_points=1)
    assert Tile(z=3, x=1, y=2, offset=0, count=1).key == "3/1/2"
