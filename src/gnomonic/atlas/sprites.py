"""Small pictures of many rows in one file, and what kind of picture a file holds."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

__all__ = ["CELL", "CELLS_A_ROW", "SHEET_ROWS", "image_type", "sprite_sheet"]

CELL = 64
"""Pixels of a side of a cell."""
CELLS_A_ROW = 32
SHEET_ROWS = 1024
"""Pictures on a sheet at most."""
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded; other formats that pillow knows start other programs or run scripts."""
_MOST_PIXELS = 64_000_000
"""Of a picture; larger ones are left out."""
_SHEET_PIXELS = 1_500_000_000
"""Of all pictures of a sheet, as they are decoded, which takes a minute or so; the cells of those beyond stay clear.
Small files can hold many pixels, and whoever asks for a sheet keeps a thread of the server's until it is drawn."""


def image_type(data: bytes) -> str | None:
    """Return the media type of a picture that browsers show and that cannot hold scripts, by its first bytes.

    Returns:
        image/png, image/jpeg, image/webp or image/gif; None for anything else.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def sprite_sheet(images: Iterable[bytes | None], count: int) -> tuple[bytes, str]:
    """Draw pictures side by side, 32 cells of 64 pixels a row.

    A cell is left clear where there is no picture, or one that cannot be read or is too large.

    Args:
        images: files, in order; they are read one at a time.
        count: how many there are, 1,024 at most.

    Returns:
        the sheet and its media type: WebP, or PNG where pillow was built without it.
    """
    from PIL import Image, features

    rows = max(1, -(-min(count, SHEET_ROWS) // CELLS_A_ROW))
    sheet = Image.new("RGBA", (CELL * min(CELLS_A_ROW, max(1, count)), CELL * rows))
    room = _SHEET_PIXELS
    for place, data in enumerate(images):
        if place >= SHEET_ROWS:
            break
        cell, pixels = (None, 0) if data is None else _cell(data, min(room, _MOST_PIXELS))
        room -= pixels
        if cell is not None:
            row, column = divmod(place, CELLS_A_ROW)
            left = (CELL - cell.width) // 2 + CELL * column
            sheet.paste(cell, (left, (CELL - cell.height) // 2 + CELL * row))
    stream = io.BytesIO()
    if features.check("webp"):
        sheet.save(stream, "WEBP", quality=80, method=2)
        return stream.getvalue(), "image/webp"
    sheet.save(stream, "PNG")
    return stream.getvalue(), "image/png"


def _cell(data: bytes, most: int) -> tuple[Any, int]:
    """Return a picture within a cell, upright, or None where it cannot be read; and how many pixels were decoded.

    Args:
        data: the file.
        most: pixels that it may have.
    """
    from PIL import Image, ImageOps

    pixels = 0
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > most:
                return None, 0
            image.draft("RGB", (2 * CELL, 2 * CELL))
            pixels = image.width * image.height
            image.thumbnail((CELL, CELL), Image.Resampling.BILINEAR, reducing_gap=2.0)
            return ImageOps.exif_transpose(image).convert("RGBA"), pixels
    except Exception:  # noqa: BLE001 - decoders raise many kinds for damaged files, and one row must not hide others
        return None, pixels
