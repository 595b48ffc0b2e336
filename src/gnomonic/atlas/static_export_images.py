"""Images of a static export, whole and as small ones side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.sprites import SHEET_ROWS, image_type, sprite_sheet
from gnomonic.atlas.tiles import Manifest

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.atlas.living import Living

__all__ = ["IMAGES_A_FOLDER", "ImageWriter"]

IMAGES_A_FOLDER = 4096
_READ = 64
"""Images that are in memory at a time."""
_ENDS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}


class ImageWriter:
    """Writes `images/` and `thumbs/`."""

    def __init__(self, found: AtlasMap, living: Living, folder: Path, there: NDArray[np.bool_]) -> None:
        """Begin.

        Args:
            found: the map.
            living: which of its rows are there, at the version that is exported.
            folder: where the files go.
            there: [n] bool in row order: the rows that are not gone.
        """
        self._folder = folder
        self._store = found.dataset.store
        self._rows = found.folder.rows
        self._order = found.folder.order
        self._there = there
        self._version = living.version

    def write(self, begin: int, end: int) -> list[str | None]:
        """Write the images at some positions; return what each file's name ends in, None where there is none."""
        ends: list[str | None] = []
        for position, data in enumerate(self._images(begin, end), start=begin):
            end_ = None if data is None else _ENDS.get(image_type(data) or "")
            ends.append(end_)
            if data is None or end_ is None:
                continue
            path = self._folder / "images" / str(position // IMAGES_A_FOLDER) / f"{position}.{end_}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return ends

    def write_sheets(self, manifest: Manifest) -> None:
        """Write a sheet of small images for each tile."""
        for tile in manifest.tiles:
            count = min(tile.count, SHEET_ROWS)
            sheet, _ = sprite_sheet(self._small(tile.offset, tile.offset + count), count)
            path = self._folder / "thumbs" / f"{tile.key}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sheet)

    def _images(self, begin: int, end: int) -> Iterator[bytes | None]:
        for first in range(begin, end, _READ):
            at = self._order[first : min(first + _READ, end)]
            there = self._there[at]
            read = iter(self._store.blobs(self._rows[at[there]], version=self._version))
            for one in there:
                yield next(read) if one else None

    def _small(self, begin: int, end: int) -> Iterator[bytes | None]:
        for first in range(begin, end, _READ):
            at = self._order[first : min(first + _READ, end)]
            there = self._there[at]
            rows = self._rows[at[there]]
            thumbs = self._store.thumbs(rows, version=self._version)
            absent = [place for place, thumb in enumerate(thumbs) if thumb is None]
            images = self._store.blobs(rows[absent], version=self._version) if absent else []
            for place, data in zip(absent, images, strict=True):
                thumbs[place] = data
            read = iter(thumbs)
            for one in there:
                yield next(read) if one else None
