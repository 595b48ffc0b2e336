"""Ids as clients send them, in the type that the dataset's column of ids has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gnomonic.atlas.dataset import Dataset
from gnomonic.errors import InputError

__all__ = ["typed_ids"]


def typed_ids(dataset: Dataset, ids: Sequence[Any]) -> list[Any]:
    """Return ids in the type of the column: texts of digits where it holds whole numbers, and the other way round.

    Raises:
        InputError: an id is neither text nor whole number, or does not fit the column.
    """
    for given in ids:
        if isinstance(given, bool) or not isinstance(given, str | int):
            raise InputError(f"ids: {str(given)[:60]!r} is neither a text nor a whole number")
    schema = dataset.store.schema
    name = dataset.unique_id_field
    whole = name in schema.names and pa.types.is_integer(schema.field(name).type)
    if not whole:
        return [str(given) for given in ids]
    try:
        return [int(given) for given in ids]
    except ValueError:
        raise InputError(f"ids: the column {name!r} holds whole numbers; one of the ids is none") from None
