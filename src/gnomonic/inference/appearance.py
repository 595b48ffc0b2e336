"""Vectors of images by what they look like: colours and edges, no model.

For layout and near-duplicates of images where no vision model is at hand. It knows nothing of what a picture shows, and
its vectors live in no space of texts.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gnomonic.errors import InputError

__all__ = ["APPEARANCE", "APPEARANCE_DIM", "encode_appearance"]

APPEARANCE = "appearance"
"""What stands where a model's name does."""

_SIDE = 32
_COLOUR_SIDE = 8
_CELLS = 4
_DIRECTIONS = 8
_EDGE_SHARE = 0.7
"""Weight of the edges against the colours; both halves have unit length before."""

APPEARANCE_DIM = 3 * _COLOUR_SIDE**2 + _DIRECTIONS * _CELLS**2


def encode_appearance(images: Sequence[bytes | None]) -> NDArray[np.float32]:
    """Describe images by a thumbnail of 8 × 8 colours and histograms of gradient directions (Dalal & Triggs 2005).

    Args:
        images: files in any format that pillow reads; None for a row without one.

    Returns:
        [n, 320] float32 with unit rows; a row of zeros for None.

    Raises:
        InputError: an image cannot be decoded; says which.
    """
    made = np.zeros((len(images), APPEARANCE_DIM), dtype=np.float32)
    for row, data in enumerate(images):
        if data is not None:
            made[row] = _describe(_pixels(data, row))
    return made


def _pixels(data: bytes, row: int) -> NDArray[np.float32]:
    """Return [32, 32, 3] float32 in YCbCr, 0 to 1."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            small = image.convert("RGBA").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"image {row} cannot be decoded: {error}") from error
    # What is transparent shows white, as in a browser.
    white = Image.new("RGBA", small.size, "white")
    white.alpha_composite(small)
    return np.asarray(white.convert("RGB").convert("YCbCr"), dtype=np.float32) / np.float32(255)


def _describe(pixels: NDArray[np.float32]) -> NDArray[np.floating]:
    block = _SIDE // _COLOUR_SIDE
    colours = pixels.reshape(_COLOUR_SIDE, block, _COLOUR_SIDE, block, 3).mean(axis=(1, 3)).ravel() - 0.5
    down, right = np.gradient(pixels[:, :, 0])
    strength = np.hypot(right, down)
    turn = np.mod(np.arctan2(down, right), np.pi) / np.pi * _DIRECTIONS
    direction = np.minimum(turn.astype(int), _DIRECTIONS - 1)
    cell = np.arange(_SIDE) // (_SIDE // _CELLS)
    place = (cell[:, None] * _CELLS + cell[None, :]) * _DIRECTIONS + direction
    edges = np.sqrt(np.bincount(place.ravel(), weights=strength.ravel(), minlength=_DIRECTIONS * _CELLS**2))
    made = np.concatenate([_unit(colours), _EDGE_SHARE * _unit(edges)])
    return _unit(made)


def _unit(values: NDArray[np.floating]) -> NDArray[np.floating]:
    length = float(np.linalg.norm(values))
    return values / length if length > 1e-9 else values
