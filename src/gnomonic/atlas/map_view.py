"""What the viewer is told of a map: its dataset, how it was made, its fields, and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomonic.atlas.columns import read_columns_index
from gnomonic.atlas.neighbors import effective_metric
from gnomonic.atlas.row_types import is_text

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap

__all__ = ["choose_fields", "map_view", "word_fields"]

_SAMPLE = 256
"""Rows that are read to choose the field of titles."""
_TITLES = ("title", "name", "headline", "label", "subject", "caption", "heading")
"""Names of columns that hold titles, the likeliest first."""
_LONGEST_TITLE = 120
"""Characters on average."""
_DISTINCT = 0.9
"""Least share of different values among those of a title."""


def map_view(
    found: AtlasMap,
    *,
    columns: Sequence[str] | None = None,
    semantic: bool = False,
    image: bool = False,
    edit: bool = True,
    images: bool | None = None,
) -> dict[str, Any]:
    """Return what `GET …/view` answers, as JSON can hold it.

    Args:
        found: the map.
        columns: the fields that are shown; default all. The id is always one.
        semantic: whether texts can be searched by meaning.
        image: whether pictures can be searched with.
        edit: whether rows can be tagged.
        images: whether rows have pictures that are shown; default whether the dataset has any.
    """
    schema = found.dataset.schema
    names = [name for name in schema.names if columns is None or name in columns or name == found.id_field]
    title, text = found.arrays.title_and_text(names)
    kinds = read_columns_index(found.folder.folder / "tiles")
    fields = [
        {"name": name, "type": str(schema.field(name).type), "kind": kinds[name].kind if name in kinds else "other"}
        for name in names
    ]
    can = {
        "semantic": semantic,
        "words": bool(word_fields(found, names)),
        "image": image,
        "edit": edit,
        "images": found.dataset.store.has_blobs if images is None else images,
    }
    return {
        "dataset": _dataset(found),
        "map": _map(found),
        "fields": fields,
        "title_field": title,
        "text_field": text,
        "can": can,
    }


def _dataset(found: AtlasMap) -> dict[str, Any]:
    dataset = found.dataset
    return {
        "organization": dataset.identifier.partition("/")[0],
        "slug": dataset.slug,
        "identifier": dataset.identifier,
        "description": dataset.description,
        "rows": dataset.total_datums,
        "id_field": found.id_field,
    }


def _map(found: AtlasMap) -> dict[str, Any]:
    record = found.record
    return {
        "id": record.id,
        "name": record.name,
        "created": record.created,
        "rows": record.rows,
        "rows_now": len(found.alive),
        "modality": record.modality,
        "indexed_field": record.indexed_field,
        "model": _base_name(record.model),
        "dim": record.dim,
        "metric": effective_metric(record.options.get("neighbors", {}).get("metric", "cosine"), record.dim),
        "quality": record.quality,
        "seed": record.seed,
        "options": _without_places(record.options),
        "stages": record.stages,
        "grown_rows": record.grown_rows,
        "version": record.version,
    }


def _without_places(options: dict[str, Any]) -> dict[str, Any]:
    """Return settings without addresses and folders of the machine on which the map was made."""
    told = {stage: dict(values) for stage, values in options.items()}
    told.get("topics", {}).pop("naming_url", None)
    if "model" in told.get("embed", {}):
        told["embed"]["model"] = _base_name(told["embed"]["model"])
    return told


def _base_name(model: str | None) -> str | None:
    return Path(model).name if model is not None and Path(model).is_absolute() else model


def word_fields(found: AtlasMap, names: Sequence[str] | None = None) -> list[str]:
    """Return the fields that are searched for words: the mapped one, or of vectors and images all that hold texts.

    Args:
        found: the map.
        names: the fields that may be; default all.
    """
    schema = found.dataset.schema
    names = schema.names if names is None else names
    if found.record.modality == "text" and found.record.indexed_field is not None:
        return [name for name in names if name == found.record.indexed_field]
    made = found.id_field if found.dataset.home.record.unique_id_field is None else None
    return [name for name in names if is_text(schema.field(name).type) and name != made]


def choose_fields(found: AtlasMap, names: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the field of titles and the one of texts; None where there is none.

    The text is the mapped field, or the column with the longest texts. The title is a short, mostly distinct other
    one: called so, as ids may be too, or else the first.

    Args:
        found: the map.
        names: the fields to choose from.
    """
    schema = found.dataset.schema
    readable = [name for name in names if is_text(schema.field(name).type)]
    named = [name for name in readable if name == found.id_field and _title_rank(name) < len(_TITLES)]
    texts = [name for name in readable if name != found.id_field]
    living = found.living
    alive = living.rows
    if not texts or not len(alive):
        mapped = found.record.indexed_field
        return None, mapped if mapped in texts else None
    picked = alive[np.unique(np.linspace(0, len(alive) - 1, min(_SAMPLE, len(alive))).astype(np.int64))]
    table = found.dataset.store.take(picked, texts, version=living.version)
    lengths = {name: _mean_length(table.column(name)) for name in texts}
    mapped = found.record.indexed_field
    text = mapped if mapped in texts else max(texts, key=lambda name: lengths[name])
    titles = named + [
        name
        for name in texts
        if name != text and 0 < lengths[name] <= _LONGEST_TITLE and _distinct_share(table.column(name)) >= _DISTINCT
    ]
    return min(titles, key=_title_rank, default=None), text


def _title_rank(name: str) -> int:
    lower = name.lower()
    for rank, word in enumerate(_TITLES):
        if lower == word:
            return rank
    for rank, word in enumerate(_TITLES, start=len(_TITLES)):
        if lower.endswith((f"_{word}", f" {word}", f"-{word}", f".{word}")):
            return rank
    return 2 * len(_TITLES)


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _mean_length(values: pa.ChunkedArray) -> float:
    found = pc.mean(pc.utf8_length(_plain(values))).as_py()
    return float(found or 0.0)


def _distinct_share(values: pa.ChunkedArray) -> float:
    there = len(values) - values.null_count
    return float(pc.count_distinct(_plain(values)).as_py()) / there if there else 0.0
