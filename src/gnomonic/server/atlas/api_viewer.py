"""Our own API: what the page of a map shows beside its tiles."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.explain import (
    EXPLAINED_CHARACTERS,
    EXPLAINED_ROWS,
    central_rows,
    draw_rows,
    field_shares,
    phrase_shares,
    topic_shares,
)
from gnomonic.atlas.map_view import map_view
from gnomonic.errors import InputError
from gnomonic.server.atlas.api_conditions import CONDITIONS, bits_of, selected
from gnomonic.server.atlas.api_maps import map_of
from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.map_queries import place_of, searches_images, searches_texts
from gnomonic.server.atlas.reading import flag, names, only, text, whole
from gnomonic.server.atlas.row_values import read_short, shorten

__all__ = ["counts", "duplicate_groups", "explain", "labels", "rows_at", "tag_rows", "view"]

_MAX_ROWS = 1000
_MAX_CHARACTERS = 1_000_000
"""Of one column's values in an answer, all rows together."""
_MAX_COLUMNS = 500
_SAMPLED_ROWS = 20_000
"""Rows of a selection whose vectors are read."""
_MAX_GROUPS = 500
_MAX_MEMBERS = 100
"""Positions of a group that are sent; a million equal rows are one group."""


def view(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/view: what the map is, its fields, and what can be done with it."""
    found = map_of(desk, call)
    made = map_view(found, semantic=searches_texts(desk, found), image=searches_images(desk, found))
    return said(made)


def labels(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/labels: topics' names, each with the zoom from which on it lies over no other."""
    return said({"labels": [asdict(one) for one in map_of(desk, call).arrays.labels]})


def rows_at(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/rows-at: rows by position, their values cut short; null for those that were deleted."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, "positions", "columns", "longest")
    places = _places(found, given)
    columns = names(given, "columns")
    longest = whole(given, "longest", 400, 0, _MAX_CHARACTERS // max(1, len(places)))
    living = found.living
    alive = found.arrays.living(living)
    there = places if alive is None else places[alive[places]]
    rows = found.folder.order[there]
    numbers = found.folder.rows[rows]
    ids = shorten(found.dataset.store.take(numbers, [found.id_field], version=living.version).column(0), 10_000)
    xy = np.asarray(found.folder.xy[rows], dtype=np.float64)
    made: dict[int, dict[str, Any]] = {}
    values = read_short(found, numbers, columns, longest, version=living.version)
    for place, id_, at, trust, (fields, cut) in zip(
        there.tolist(), ids, xy.tolist(), found.trust_of(rows).tolist(), values, strict=True
    ):
        one = {"position": place, "id": id_[0], "x": at[0], "y": at[1], "trust": round(trust, 4)}
        made[place] = {**one, "values": fields, "cut": cut}
    return said({"rows": [made.get(place) for place in places.tolist()]})


def counts(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/counts: how often each value of some columns is there among the rows that pass."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, "columns", *CONDITIONS)
    columns = names(given, "columns")
    if columns is None or len(columns) > _MAX_COLUMNS:
        raise InputError(f"columns must be a list of at most {_MAX_COLUMNS} names")
    mask = selected(desk, found, given)
    total = int(np.count_nonzero(mask))
    counted = {name: found.arrays.columns.counts(name, None if total == len(mask) else mask) for name in columns}
    return said({"total": total, "counts": counted})


def explain(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/explain: what sets the rows that pass apart from all others."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, *CONDITIONS)
    arrays = found.arrays
    inside = selected(desk, found, given)
    living = arrays.living()
    outside = ~inside if living is None else living & ~inside
    by_row = arrays.by_row(inside)
    near, far = central_rows(
        found.search_engine.index.vectors,
        draw_rows(by_row, _SAMPLED_ROWS),
        cosine=found.search_engine.index.cosine,
    )
    names_own = (found.id_field, *(name for name in arrays.columns.infos if name.startswith("_topic_depth_")))
    return said(
        {
            "count": int(np.count_nonzero(inside)),
            "words": [asdict(one) for one in phrase_shares(_texts(found, inside), _texts(found, outside))],
            "fields": [asdict(one) for one in field_shares(arrays.columns, inside, outside, skip=names_own)],
            "exemplars": arrays.places[near].tolist(),
            "outliers": arrays.places[far].tolist(),
            "topics": [asdict(one) for one in topic_shares(arrays.topics, by_row, arrays.by_row(outside))],
        }
    )


def tag_rows(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/tags: give a tag to the rows that pass, or take it from them; tells which that changed."""
    found = map_of(desk, call)
    given = call.fields()
    only(given, "name", "remove", *CONDITIONS)
    name = text(given, "name", longest=200)
    if not name or not name.strip():
        raise InputError("name is missing; send the tag's name")
    rows = found.folder.rows[found.folder.order[np.flatnonzero(selected(desk, found, given))]]
    annotations = found.dataset.annotations
    change = annotations.take if given.get("remove") is not None and flag(given, "remove") else annotations.give
    changed = np.zeros(found.record.rows, dtype=np.bool_)
    changed[found.arrays.places[found.folder.positions_of(change(name, rows))]] = True
    bits = base64.b64encode(bits_of(changed)).decode()
    return said({"name": name, "rows": annotations.tags().get(name, 0), "changed": bits})


def duplicate_groups(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/duplicate-groups: rows that say the same, the largest groups first."""
    found = map_of(desk, call)
    keep, by = call.query.get("keep") or "first", call.query.get("by") or None
    cutoff = _cutoff(found, call.query)
    groups = found.arrays.groups(cutoff, keep, by)
    offset = call.number("offset", 0, 0, 2**53)
    limit = call.number("limit", 50, 0, _MAX_GROUPS)
    page = []
    for number in range(offset, min(offset + limit, groups.count)):
        rows = groups.group(number)
        places = found.arrays.places[rows[:_MAX_MEMBERS]].tolist()
        page.append({"positions": places, "keep": places[0], "size": len(rows)})
    total = len(groups.rows)
    told = {"cutoff": cutoff, "groups": groups.count, "rows": total, "deletable": total - groups.count}
    return said({**told, "page": page})


def _places(found: AtlasMap, given: Mapping[str, Any]) -> NDArray[np.int64]:
    value = given.get("positions")
    if not isinstance(value, list) or len(value) > _MAX_ROWS:
        raise InputError(f"positions must be a list of at most {_MAX_ROWS:,} whole numbers")
    return np.array([place_of(found, one) for one in value], dtype=np.int64)


def _cutoff(found: AtlasMap, query: Mapping[str, str]) -> float:
    value = query.get("cutoff")
    if not value:
        return found.arrays.own_cutoff
    try:
        return float(value)
    except ValueError:
        raise InputError(f"cutoff {value[:40]!r} is no number") from None


def _texts(found: AtlasMap, mask: NDArray[np.bool_]) -> list[str]:
    """Return the beginnings of the texts of some of the rows of a mask."""
    name = found.arrays.text_field
    if name is None:
        return []
    living = found.living
    places = draw_rows(mask, EXPLAINED_ROWS)
    alive = found.arrays.living(living)
    numbers = found.folder.rows[found.folder.order[places if alive is None else places[alive[places]]]]
    texts = read_short(found, numbers, [name], EXPLAINED_CHARACTERS, version=living.version)
    return [str(values[name]) for values, _ in texts if values[name] is not None]
