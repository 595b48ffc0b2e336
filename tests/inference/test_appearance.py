from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gnomonic.errors import InputError
from gnomonic.inference.appearance import APPEARANCE_DIM, encode_appearance


def _picture(colour: str, shape: str, *, size: int = 96, form: str = "PNG") -> bytes:
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    box = (size // 4, size // 4, 3 * size // 4, 3 * size // 4)
    draw.ellipse(box, fill=colour) if shape == "disc" else draw.rectangle(box, fill=colour)
    out = io.BytesIO()
    image.save(out, form, quality=80)
    return out.getvalue()


def test_the_same_picture_in_another_size_and_format_is_near() -> None:
    red, same, other, blue = encode_appearance(
        [
            _picture("red", "disc"),
            _picture("red", "disc", size=200, form="JPEG"),
            _picture("red", "square"),
            _picture("blue", "square"),
        ]
    )
    assert red @ same > 0.98
    assert red @ blue < red @ other < red @ same - 0.1
    assert np.linalg.norm(red) == pytest.approx(1, abs=1e-5)


def test_a_row_without_image_is_zeros() -> None:
    made = encode_appearance([None, _picture("green", "disc")])
    assert made.shape == (2, APPEARANCE_DIM)
    assert not made[0].any()


def test_one_colour_has_no_edges_and_is_finite() -> None:
    out = io.BytesIO()
    Image.new("L", (1, 1), 128).save(out, "PNG")
    assert np.isfinite(encode_appearance([out.getvalue()])).all()


@pytest.mark.parametrize("data", [b"", b"no image", _picture("red", "disc")[:60]])
def test_what_is_no_image_is_refused_by_its_place(data: bytes) -> None:
    with pytest.raises(InputError, match="image 1 cannot be decoded"):
        encode_appearance([_picture("red", "disc"), data])
