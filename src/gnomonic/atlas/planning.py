"""From the arguments of `create_index` to a plan that can be built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gnomonic.atlas.build import MapPlan
from gnomonic.atlas.embedding import Source
from gnomonic.atlas.encoders import Encoders
from gnomonic.atlas.map_folder import MapRecord
from gnomonic.atlas.options import DuplicateOptions, EmbedOptions, NeighborOptions, ProjectionOptions, TopicOptions
from gnomonic.atlas.row_types import is_text
from gnomonic.atlas.store import Store
from gnomonic.errors import InputError

__all__ = ["BLOB_FIELD", "modality_of", "plan_again", "plan_map"]

BLOB_FIELD = "_blob_hash"
"""The official client's name for the column of images."""

_MODALITIES = ("text", "image", "embedding")


def modality_of(store: Store) -> str | None:
    """Return what a dataset's rows are, by what came with them: vectors, images, or neither; None without rows."""
    if store.dim is not None:
        return "embedding"
    if store.has_blobs:
        return "image"
    return "text" if store.count() else None


def plan_map(
    store: Store,
    encoders: Encoders,
    *,
    name: str,
    indexed_field: str | None,
    modality: str | None,
    options: Mapping[str, Any],
    seed: int,
) -> MapPlan:
    """Return the plan of a map.

    Args:
        store: the rows.
        encoders: opens the model of a text or image map.
        name: the map's.
        indexed_field: the column to embed; None for given vectors or images.
        modality: "text", "image" or "embedding"; None to see it from the rows.
        options: `projection`, `topic_model`, `duplicate_detection`, `embedding_model`, `neighbors`, each as the
            official client takes it.
        seed: of every random choice.

    Raises:
        InputError: an argument is not usable; the message says which and what may stand there.
    """
    if not store.count():
        raise InputError("the dataset has no rows", hint="add some with add_data")
    modality = _modality(store, modality, indexed_field)
    embed = _embed_options(options.get("embedding_model"))
    source = _source(store, encoders, modality, indexed_field, embed)
    topics = _topic_options(options.get("topic_model", True), store, source)
    duplicates = options.get("duplicate_detection", True)
    projection = ProjectionOptions.read(options.get("projection"))
    neighbors = NeighborOptions.read(options.get("neighbors"))
    if projection.n_neighbors and projection.n_neighbors > neighbors.k:
        neighbors = replace(neighbors, k=projection.n_neighbors)
    return MapPlan(
        name=name,
        source=source,
        neighbors=neighbors,
        projection=projection,
        topics=topics,
        duplicates=(
            DuplicateOptions(tag_duplicates=False) if duplicates is False else DuplicateOptions.read(duplicates)
        ),
        seed=seed,
    )


def plan_again(record: MapRecord, encoders: Encoders) -> MapPlan:
    """Return the plan that a published map was built by."""
    given = record.options
    embed = EmbedOptions.read(given.get("embed"))
    encode = (
        None if record.modality == "embedding" else encoders.open(record.modality, replace(embed, model=record.model))
    )
    return MapPlan(
        name=record.name,
        source=Source(
            modality=record.modality, field=record.indexed_field, model=record.model, options=embed, encode=encode
        ),
        neighbors=NeighborOptions.read(given.get("neighbors")),
        projection=ProjectionOptions.read(given.get("projection")),
        topics=TopicOptions.read(_tuples(given.get("topics", {}))),
        duplicates=DuplicateOptions.read(given.get("duplicates")),
        seed=record.seed,
    )


def _tuples(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with lists as the tuples that JSON made lists of."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _modality(store: Store, modality: str | None, indexed_field: str | None) -> str:
    if modality is not None and modality not in _MODALITIES:
        raise InputError(f"modality {modality!r} is unknown; choose one of {', '.join(_MODALITIES)}")
    if indexed_field == BLOB_FIELD:
        return "image"
    if indexed_field is not None:
        return "text"
    found = modality or modality_of(store)
    assert found is not None
    return found


def _embed_options(given: Any) -> EmbedOptions:
    if isinstance(given, str):
        return EmbedOptions(model=given)
    return EmbedOptions.read(given)


def _source(store: Store, encoders: Encoders, modality: str, field: str | None, embed: EmbedOptions) -> Source:
    if modality == "embedding":
        if store.dim is None:
            raise InputError(
                "the rows have no vectors", hint="add them with add_data(embeddings=…), or index a text field"
            )
        return Source(modality=modality)
    if modality == "image":
        if not store.has_blobs:
            raise InputError("the rows have no images", hint="add them with add_data(data, blobs=…)")
        model = encoders.model_of("image", embed)
        embed = replace(embed, model=model)
        return Source(
            modality=modality, field=BLOB_FIELD, model=model, options=embed, encode=encoders.open("image", embed)
        )
    texts = [item.name for item in store.schema if is_text(item.type)]
    if field is None:
        raise InputError(
            "no field to index was named",
            hint=f"indexed_field= takes one of: {', '.join(texts) or 'no text column yet'}",
        )
    if field not in store.schema.names:
        raise InputError(f"there is no column {field!r} to index; the text columns are: {', '.join(texts)}")
    if field not in texts:
        raise InputError(
            f"column {field!r} holds {store.schema.field(field).type} and no texts; "
            f"the text columns are: {', '.join(texts)}"
        )
    model = encoders.model_of("text", embed)
    embed = replace(embed, model=model)
    return Source(modality="text", field=field, model=model, options=embed, encode=encoders.open("text", embed))


def _topic_options(given: Any, store: Store, source: Source) -> TopicOptions:
    options = TopicOptions(build_topic_model=False) if given is False else TopicOptions.read(given)
    label = options.topic_label_field
    if label is not None and label != BLOB_FIELD and label not in store.schema.names:
        raise InputError(f"topic_label_field {label!r} is no column; the columns are: {', '.join(store.schema.names)}")
    if label is None and source.modality == "text":
        options = replace(options, topic_label_field=source.field)
    return options
