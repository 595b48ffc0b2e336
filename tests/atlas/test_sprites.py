"""Sheets of small pictures, whatever the files hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gnomonic.atlas import sprites
from gnomonic.atlas.sprites import image_type, sprite_sheet

_SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


def _file(colour: str, kind: str = "PNG", size: tuple[int, int] = (90, 30), **more: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind, **more)
    return stream.getvalue()


def _drawn(sheet: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sheet)).convert("RGBA")).astype(int)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_pictures_are_known_by_their_first_bytes(kind: str) -> None:
    assert image_type(_file("red", kind.upper())) == f"image/{kind}"


@pytest.mark.parametrize("other", [b"", _SVG, b"<html>", b"RIFFxxxxWAVE", b"GIF88a", b"\x89PNG", b"BM", b"%PDF-1.7"])
def test_other_files_are_none(other: bytes) -> None:
    assert image_type(other) is None


def test_a_cell_each_in_order() -> None:
    images = [None] * 40
    images[1], images[33] = _file("red"), _file("blue", "JPEG", (40, 400))
    sheet, kind = sprite_sheet(images, 40)
    assert kind == "image/webp"
    drawn = _drawn(sheet)
    assert drawn.shape == (128, 2048, 4)
    red, blue = drawn[32, 64 + 32], drawn[64 + 32, 64 + 32]
    assert red[0] > 200
    assert red[1] + red[2] < 100
    assert blue[2] > 200
    assert drawn[32, 32, 3] == 0  # no picture
    assert drawn[2, 64 + 32, 3] == 0  # beside one that is wide
    assert drawn[64 + 32, 64 + 2, 3] == 0  # beside one that is high


def test_broken_pictures_leave_their_cells_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "_MOST_PIXELS", 1000)
    bad = [b"", b"nonsense", _SVG, _file("red")[:60], _file("red", size=(40, 40)), _file("red", size=(10, 10))]
    drawn = _drawn(sprite_sheet(bad, len(bad))[0])
    seen = [bool(drawn[:, 64 * i : 64 * (i + 1), 3].any()) for i in range(len(bad))]
    assert seen == [False] * 5 + [True]


def test_pictures_beyond_the_pixels_of_a_sheet_leave_their_cells_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "_SHEET_PIXELS", 2 * 90 * 30 + 200)
    broken = _file("red")[:60]
    drawn = _drawn(sprite_sheet([_file("red")] * 3 + [broken, _file("red", size=(10, 10))], 5)[0])
    assert [bool(drawn[:, 64 * i : 64 * (i + 1), 3].any()) for i in range(5)] == [True, True, False, False, True]


def test_postscript_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    assert not _drawn(sprite_sheet([eps], 1)[0]).any()


def test_pictures_stand_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    drawn = _drawn(sprite_sheet([_file("red", "JPEG", (80, 20), exif=exif)], 1)[0])
    assert drawn[4, 32, 3] > 0
    assert drawn[32, 4, 3] == 0


def test_no_pictures_and_more_than_fit() -> None:
    assert _drawn(sprite_sheet([], 0)[0]).shape == (64, 64, 4)
    assert _drawn(sprite_sheet([None] * 2000, 2000)[0]).shape == (2048, 2048, 4)
