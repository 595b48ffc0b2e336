"""What is drawn: pictures of the page as arrays, and colours counted in them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["SIGHTS", "Picture", "apart", "changed", "colored", "count_of", "inside", "picture", "rgb"]

Picture = NDArray[np.uint8]
"""[height, width, 3]."""


SIGHTS = {
    "trichromat": np.eye(3),
    "deuteranope": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanope": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
"""What is left of a linear colour (Machado, Oliveira and Fernandes, 2009, at full severity)."""


def _lab(color: str, sight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a colour as it is seen, in CIELAB under D65."""
    plain = np.array(rgb(color)) / 255
    linear = np.where(plain <= 0.04045, plain / 12.92, ((plain + 0.055) / 1.055) ** 2.4)
    seen = np.clip(sight @ linear, 0, 1)
    wide = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(wide) @ seen / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one: str, other: str, sight: str) -> float:
    """Return how far apart two colours are seen: a step that is just noticed is about 2."""
    return float(np.linalg.norm(_lab(one, SIGHTS[sight]) - _lab(other, SIGHTS[sight])))


def picture(png: bytes) -> Picture:
    """Return a screenshot."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def rgb(color: str) -> tuple[int, int, int]:
    """Return the parts of a colour as style sheets write it: #rrggbb or rgb(r, g, b)."""
    if color.startswith("#"):
        return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
    red, green, blue = map(float, re.findall(r"[\d.]+", color)[:3])
    return round(red), round(green), round(blue)


def count_of(shot: Picture, color: str | Sequence[int], *, within: int = 24) -> int:
    """Return how many pixels are of a colour, every part of it off by at most `within`."""
    wanted = np.array(rgb(color) if isinstance(color, str) else color, dtype=np.int16)
    return int((np.abs(shot.astype(np.int16) - wanted) <= within).all(axis=2).sum())


def colored(shot: Picture) -> int:
    """Return how many pixels are not grey."""
    parts = shot.astype(np.int16)
    return int(((parts.max(axis=2) - parts.min(axis=2)) > 40).sum())


def changed(before: Picture, after: Picture, *, by: int = 24) -> int:
    """Return how many pixels differ."""
    return int((np.abs(before.astype(np.int16) - after.astype(np.int16)) > by).any(axis=2).sum())


def inside(shot: Picture, box: dict[str, float]) -> Picture:
    """Return the part of a picture in a box of the page."""
    left, top = round(box["x"]), round(box["y"])
    return shot[top : top + round(box["height"]), left : left + round(box["width"])]
