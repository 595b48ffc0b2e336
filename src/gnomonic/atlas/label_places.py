"""From what zoom on each topic's name can be drawn so that no two names ever lie over each other.

A name keeps its size on the screen while places move apart, so two names that are clear of each other stay so at every
deeper zoom. Names are placed in order, coarse topics and large ones first; each appears at the first zoom at which it
is clear of all those before it (Been, Daiches and Yap, "Dynamic Map Labeling", 2006).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.tiles import Extent
from gnomonic.atlas.topics import Topic

__all__ = ["LabelPlace", "place_labels", "text_width"]

_SCREEN = 1000.0
"""Pixels across which the root's side lies at zoom 0."""
_SIZES = (17.0, 15.0, 13.0)
"""Pixels of the letters, by depth; the last for all deeper ones."""
_WIDTH = 7.0 / 13.0
"""Of a character, as a share of its height."""
_LINE = 1.4
_GAP = (10.0, 4.0)
"""Pixels between names, sideways and upwards."""
_DEEPEST = 22.0
"""A name that has no room before this is left out: float32 positions are not told apart much further."""
_MOST = 5_000
"""Names that are tried at most; maps have about 1,500."""
_WORTH_MOVING = 0.5
"""Zoom levels that another place must gain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelPlace:
    """A topic's name on the map."""

    topic: int
    depth: int
    name: str
    x: float
    y: float
    """The middle of the name, in the plane's units."""
    zoom: float
    """It may be drawn wherever at most 1 / 2**zoom of the root's side is seen across 1000 pixels; 0 or more."""
    count: int
    """Rows of the topic."""


def place_labels(topics: Sequence[Topic], extent: Extent, xy: NDArray[np.float32] | None = None) -> list[LabelPlace]:
    """Return the names that find room, the most important first.

    Args:
        topics: the map's.
        extent: the square of the root.
        xy: [n, 2] float32 positions in row order; with them a name that would lie over its parent's may stand at
            one of its topic's exemplars instead.
    """
    order = sorted(topics, key=lambda one: (one.depth, -one.count, one.id))[:_MOST]
    middles = np.empty((len(order), 2))
    halves = np.empty((len(order), 2))
    zooms = np.empty(len(order))
    by_id: dict[int, float] = {}
    made: list[LabelPlace] = []
    for topic in order:
        half = _half_size(topic)
        done = len(made)
        least = by_id.get(topic.parent, 0.0) if topic.parent is not None else 0.0
        others = middles[:done], halves[:done], zooms[:done]
        spots = _spots(topic, xy)
        places = (spots - np.array([extent.x, extent.y])) / extent.size
        tried = _first_zooms(places, half, others, least)
        # A name leaves its own place only for one that shows it clearly sooner.
        best = int(np.argmin(tried + _WORTH_MOVING * (np.arange(len(tried)) > 0)))
        first = float(tried[best])
        if not first <= _DEEPEST:
            continue
        # Rounded up: rounded down it could touch another again.
        zoom = float(np.ceil(first * 1000) / 1000)
        middles[done], halves[done], zooms[done] = places[best], half, zoom
        by_id[topic.id] = zoom
        x, y = (float(value) for value in spots[best])
        made.append(
            LabelPlace(topic=topic.id, depth=topic.depth, name=topic.name, x=x, y=y, zoom=zoom, count=topic.count)
        )
    return made


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is drawn, in pixels.

    Args:
        text: in any script.
        size: height of its letters in pixels.
    """
    units = 0.0
    for letter in text:
        if unicodedata.combining(letter) or unicodedata.category(letter) in ("Cf", "Mn", "Me"):
            continue
        units += 1.0 if unicodedata.east_asian_width(letter) in "WF" else _WIDTH
    return units * size


def _half_size(topic: Topic) -> NDArray[np.float64]:
    size = _SIZES[min(topic.depth, len(_SIZES)) - 1]
    width, height = text_width(topic.name, size) + _GAP[0], _LINE * size + _GAP[1]
    return np.array([width, height]) / 2


def _spots(topic: Topic, xy: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Return where a name may stand, its own place first: [places, 2]."""
    own = np.array([[topic.x, topic.y]], dtype=np.float64)
    if xy is None or not topic.exemplars:
        return own
    return np.concatenate([own, np.asarray(xy[list(topic.exemplars)], dtype=np.float64)])


def _first_zooms(
    places: NDArray[np.float64],
    half: NDArray[np.float64],
    others: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    least: float,
) -> NDArray[np.float64]:
    """Return from what zoom on a name at each of some places is clear of those before it.

    Args:
        places: [places, 2] in sides of the root.
        half: [2] half its width and height in pixels.
        others: [m, 2] their places, [m, 2] half their sizes, [m] from where on they are drawn.
        least: the zoom of its parent.
    """
    middles, halves, zooms = others
    room = (halves + half) / _SCREEN
    with np.errstate(divide="ignore"):
        sideways = room[:, 0] / np.abs(places[:, :1] - middles[:, 0])
        upwards = room[:, 1] / np.abs(places[:, 1:] - middles[:, 1])
        clear = np.log2(np.minimum(sideways, upwards))
    # Those that come only when the two are clear of each other already do not matter.
    return np.asarray(np.where(clear > zooms, clear, 0.0).max(axis=1, initial=least))
