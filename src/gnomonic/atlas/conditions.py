"""Which rows of a map pass conditions: all of those that are given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.column_values import FieldCondition
from gnomonic.errors import InputError

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap

__all__ = ["Conditions", "DuplicateCondition", "HeatCondition", "passing"]

_Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatCondition:
    """Rows that are near enough to something.

    Raises:
        InputError: the score is no number.
    """

    key: Hashable
    """Names the query."""
    query: Mapping[str, Any]
    """As `MapSearch.heat` takes it."""
    at_least: float
    """The score."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.at_least):
            raise InputError(f"at_least {self.at_least} is no finite number; send a score, such as 0.5")


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateCondition:
    """Rows of which another one is kept."""

    cutoff: float | None = None
    """How near duplicates are; None for the map's own."""
    keep: str = "first"
    by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What rows must be; None asks for nothing."""

    where: str | None = None
    """SQL-like."""
    topics: list[str | int] | None = None
    """Names or ids; a row in any of them passes."""
    tags: list[str] | None = None
    """A row with any of them passes."""
    ids: list[Any] | None = None
    positions: _Mask | None = None
    """[n] bool in map order."""
    fields: tuple[FieldCondition, ...] = ()
    polygon: NDArray[np.float64] | None = None
    """[m, 2] corners."""
    box: NDArray[np.float64] | None = None
    """[4] x0, y0, x1, y1."""
    heat: HeatCondition | None = None
    duplicates: DuplicateCondition | None = None
    invert: bool = False
    """The rows that do not pass, instead."""


def passing(found: AtlasMap, conditions: Conditions) -> _Mask:
    """Return which rows pass all conditions, [n] bool in map order; rows that are gone never do.

    Raises:
        InputError: a condition cannot be used.
        DatasetError: a tag or an id is unknown.
    """
    arrays = found.arrays
    masks = [*_of_rows(found, conditions), *_of_places(found, conditions)]
    if conditions.positions is not None:
        masks.append(conditions.positions)
    mask = np.ones(found.record.rows, dtype=np.bool_)
    for one in masks:
        mask &= one
    if conditions.invert:
        np.logical_not(mask, out=mask)
    living = arrays.living()
    if living is not None:
        mask &= living
    return mask


def _of_places(found: AtlasMap, conditions: Conditions) -> list[_Mask]:
    """Return masks by what the map itself knows."""
    arrays = found.arrays
    masks = [arrays.columns.passing(one) for one in conditions.fields]
    if conditions.polygon is not None:
        masks.append(arrays.points.in_polygon(conditions.polygon))
    if conditions.box is not None:
        masks.append(arrays.points.in_box(conditions.box))
    if conditions.topics is not None:
        masks.append(arrays.in_topics([_topic(found, one) for one in conditions.topics]))
    if (heat := conditions.heat) is not None:
        masks.append(arrays.scores(heat.key, **heat.query) >= heat.at_least)
    if (wanted := conditions.duplicates) is not None:
        cutoff = arrays.own_cutoff if wanted.cutoff is None else wanted.cutoff
        rows = arrays.groups(cutoff, wanted.keep, wanted.by).deletable
        masks.append(_marked(arrays.places[rows], found.record.rows))
    return masks


def _of_rows(found: AtlasMap, conditions: Conditions) -> list[_Mask]:
    """Return masks by what the dataset knows."""
    dataset = found.dataset
    numbers: list[NDArray[np.int64]] = []
    masks = []
    if (where := conditions.where) is not None:
        # The page asks for the same rows, and then for their counts.
        key = ("where", dataset.store.version, where)
        masks.append(found.arrays.kept(key, lambda: _of_numbers(found, dataset.store.where(where))))
    if conditions.tags is not None:
        tagged = [dataset.annotations.rows_of(tag) for tag in conditions.tags]
        numbers.append(np.concatenate([np.empty(0, dtype=np.int64), *tagged]))
    if conditions.ids is not None:
        numbers.append(dataset.store.rows_of(conditions.ids))
    return [*masks, *(_of_numbers(found, one) for one in numbers)]


def _of_numbers(found: AtlasMap, numbers: NDArray[np.int64]) -> _Mask:
    """Return which rows have one of some of the store's numbers."""
    at = found.folder.positions_of(numbers)
    return _marked(found.arrays.places[at[at >= 0]], found.record.rows)


def _marked(places: NDArray[np.int64], count: int) -> _Mask:
    found = np.zeros(count, dtype=np.bool_)
    found[places] = True
    return found


def _topic(found: AtlasMap, wanted: str | int) -> int:
    """Return the id of a topic.

    Raises:
        InputError: there is none of that name.
    """
    if not isinstance(wanted, str):
        return wanted
    by_name = {topic.name: topic.id for topic in found.arrays.topics.topics}
    if wanted not in by_name:
        near = difflib.get_close_matches(wanted, by_name, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"this map has {len(by_name)} topics"
        raise InputError(f"there is no topic {wanted[:100]!r} on this map; {hint}")
    return by_name[wanted]
