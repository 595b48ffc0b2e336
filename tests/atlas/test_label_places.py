"""Names of topics never lie over one another, at any zoom."""

from __future__ import annotations

import numpy as np
import pytest

from gnomonic.atlas.label_places import LabelPlace, place_labels, text_width
from gnomonic.atlas.tiles import Extent
from gnomonic.atlas.topics import Topic

_EXTENT = Extent(x=-5.0, y=-5.0, size=10.0)


def _topic(number: int, depth: int, x: float, y: float, **more: object) -> Topic:
    given = {"parent": None, "name": f"topic {number}", "count": 10, "exemplars": (), **more}
    return Topic(id=number, depth=depth, description="", keywords=(), x=x, y=y, **given)


def _box(label: LabelPlace, zoom: float) -> tuple[float, float, float, float]:
    size = (17, 15, 13)[min(label.depth, 3) - 1]
    width, height = text_width(label.name, size), 1.4 * size
    scale = 1000 * 2**zoom / _EXTENT.size
    return (label.x * scale - width / 2, label.y * scale - height / 2, width, height)


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(one[i] < other[i] + other[i + 2] and other[i] < one[i] + one[i + 2] for i in (0, 1))


def _random(n: int) -> list[Topic]:
    random = np.random.default_rng(n)
    return [
        _topic(
            i, 1 + (i > 8) + (i > 40), *random.uniform(-5, 5, 2), count=int(random.integers(1, 99)),
            parent=None if i <= 8 else i % 8, name="word " * int(random.integers(1, 4)),
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("n", [2, 30, 150])
def test_no_two_names_meet_at_any_zoom(n: int) -> None:
    labels = place_labels(_random(n), _EXTENT)
    assert len(labels) > 0.9 * n
    for zoom in np.arange(0, 14, 0.37):
        boxes = [_box(one, zoom) for one in labels if one.zoom <= zoom]
        assert not any(_meet(one, other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert sum(one.zoom == 0 for one in labels) >= min(n, 5)


def test_coarse_and_large_topics_come_first() -> None:
    labels = place_labels(_random(60), _EXTENT)
    zoom = {one.topic: one.zoom for one in labels}
    assert [(one.depth, -one.count) for one in labels] == sorted((one.depth, -one.count) for one in labels)
    assert all(zoom[one.topic] >= zoom[one.topic % 8] for one in labels if one.topic > 8)


def test_names_at_one_place() -> None:
    same = [_topic(i, 1, 1.0, 1.0, name="all equal") for i in range(3000)]
    (only,) = place_labels(same, _EXTENT)
    assert (only.topic, only.zoom) == (0, 0)
    # A child whose own place is its parent's stands at another of its rows.
    xy = np.float32([[0, 0], [1, 1], [1, 2]])
    parent, child = _topic(0, 1, 1.0, 1.0), _topic(1, 2, 1.0, 1.0, parent=0, exemplars=(1, 2))
    first, second = place_labels([parent, child], _EXTENT, xy)
    assert (second.x, second.y) == (1.0, 2.0)
    assert first.zoom <= second.zoom < 3


def test_a_map_without_topics() -> None:
    assert place_labels([], Extent(x=0.0, y=0.0, size=1.0)) == []


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 21), ("地図", 26), ("e\u0301", 7), ("\u202eab", 14), ("👍", 13)]
)
def test_widths_by_script(text: str, width: float) -> None:
    assert text_width(text, 13) == pytest.approx(width)
