"""Conditions on the rows of a map, as JSON bodies hold them."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.column_values import FieldCondition
from gnomonic.atlas.conditions import Conditions, DuplicateCondition, HeatCondition, passing
from gnomonic.atlas.shapes import as_box, as_polygon
from gnomonic.errors import InputError
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.map_queries import QUERIES, query_of
from gnomonic.server.atlas.reading import flag, names, number, only, text

__all__ = ["CONDITIONS", "bits_of", "conditions_of", "has_conditions", "row_mask", "selected"]

CONDITIONS = (
    "where", "topics", "tags", "ids", "bits", "fields", "polygon", "box", "heat", "duplicates", "invert",
)  # fmt: skip
"""Fields of a body that are conditions."""
_MAX_BITS = 64 << 20
_MAX_FIELDS = 200
_MAX_CODES = 10_000


def selected(desk: Desk, found: AtlasMap, given: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which rows pass all the conditions of a body, [n] bool in map order; deleted rows never do.

    Raises:
        InputError: a condition is not usable.
        DatasetError: a tag or an id is unknown.
    """
    return passing(found, conditions_of(desk, found, given))


def row_mask(desk: Desk, found: AtlasMap, given: Mapping[str, Any]) -> NDArray[np.bool_] | None:
    """Return the same in row order; None where a body has no conditions.

    Raises:
        InputError: a condition is not usable.
        DatasetError: a tag or an id is unknown.
    """
    return found.arrays.by_row(selected(desk, found, given)) if has_conditions(given) else None


def has_conditions(given: Mapping[str, Any]) -> bool:
    """Tell whether a body asks for anything but all rows."""
    return any(given.get(name) not in (None, False) for name in CONDITIONS)


def conditions_of(desk: Desk, found: AtlasMap, given: Mapping[str, Any]) -> Conditions:
    """Return the conditions of a body.

    Raises:
        InputError: one is not usable.
    """
    ids = names(given, "ids", numbers=True)
    bits = text(given, "bits", longest=_MAX_BITS)
    polygon, box = given.get("polygon"), given.get("box")
    return Conditions(
        where=text(given, "where"),
        topics=names(given, "topics", numbers=True),
        tags=names(given, "tags"),
        ids=None if ids is None else typed_ids(found.dataset, ids),
        positions=None if bits is None else _unpacked(bits, found.record.rows),
        fields=_fields(given),
        polygon=None if polygon is None else as_polygon(polygon),
        box=None if box is None else as_box(box),
        heat=_heat(desk, found, given),
        duplicates=_duplicates(given),
        invert=flag(given, "invert") if given.get("invert") is not None else False,
    )


def bits_of(mask: NDArray[np.bool_]) -> bytes:
    """Return a mask as bits, the lowest first."""
    return np.packbits(mask, bitorder="little").tobytes()


def _fields(given: Mapping[str, Any]) -> tuple[FieldCondition, ...]:
    value = given.get("fields")
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_FIELDS:
        raise InputError(f"fields must be a list of at most {_MAX_FIELDS} conditions on columns")
    return tuple(map(_field, value))


def _field(given: Any) -> FieldCondition:
    if not isinstance(given, dict):
        raise InputError('fields must hold objects such as {"column": "year", "min": 1990, "max": null}')
    only(given, "column", "min", "max", "codes", "nulls")
    column = text(given, "column", longest=10_000)
    if column is None:
        raise InputError("fields: column is missing; name one of columns.json")
    codes = given.get("codes")
    if codes is not None:
        whole = isinstance(codes, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in codes)
        if not whole or len(codes) > _MAX_CODES:
            raise InputError(
                f"fields: codes of {column[:100]!r} must be a list of at most {_MAX_CODES:,} whole numbers"
            )
    return FieldCondition(
        column=column,
        low=number(given, "min"),
        high=number(given, "max"),
        codes=None if codes is None else tuple(codes),
        nulls=flag(given, "nulls") if given.get("nulls") is not None else False,
    )


def _heat(desk: Desk, found: AtlasMap, given: Mapping[str, Any]) -> HeatCondition | None:
    value = given.get("heat")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InputError('heat must be an object such as {"query": "a text", "at_least": 0.5}')
    only(value, *QUERIES, "at_least")
    least = number(value, "at_least")
    if least is None:
        raise InputError("heat: at_least is missing; send the least score that passes")
    asked = query_of(desk, found, value)
    return HeatCondition(key=asked.key, query=asked.query, at_least=least)


def _duplicates(given: Mapping[str, Any]) -> DuplicateCondition | None:
    value = given.get("duplicates")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InputError('duplicates must be an object such as {"cutoff": 0.1, "keep": "first"}')
    only(value, "cutoff", "keep", "by")
    return DuplicateCondition(
        cutoff=number(value, "cutoff"),
        keep=text(value, "keep", "first", longest=40) or "first",
        by=text(value, "by", longest=10_000),
    )


def _unpacked(bits: str, count: int) -> NDArray[np.bool_]:
    try:
        raw = np.frombuffer(base64.b64decode(bits, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"bits are no base64: {error}") from None
    if len(raw) != math.ceil(count / 8):
        raise InputError(f"bits have {len(raw):,} bytes; {count:,} rows take {math.ceil(count / 8):,}")
    return np.unpackbits(raw, count=count, bitorder="little").astype(np.bool_)
