"""The official client's indices: asked for, watched while they are built, and their topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import orjson
from fastapi import Response

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.options import DuplicateOptions, ProjectionOptions, TopicOptions
from gnomonic.atlas.planning import BLOB_FIELD
from gnomonic.atlas.topics import Topic
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError
from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.jobs import JobRecord, job_of, jobs_of
from gnomonic.server.atlas.organisations import check_uuid
from gnomonic.server.atlas.uploads import take_refusals

__all__ = ["about_map", "create_index", "find_job", "job", "progress"]

_STAGES = {"completed": "Completed", "failed": "Failed", "cancelled": "Cancelled", "waiting": "Waiting"}


def create_index(desk: Desk, call: Call) -> Response:
    """POST /v1/project/index/create: have a map built; its ids are known at once."""
    given = call.fields()
    dataset = desk.datasets.by_id(call.organization, given.get("project_id"))
    refused = take_refusals(dataset.home.folder)
    if refused is not None:
        raise DatasetError(refused)
    made = desk.build(dataset, _arguments(given, dataset))
    headers = {} if made.warning is None else {"x-atlaswarning": made.warning}
    return said({"job_id": made.id, "index_id": made.index_id, "projection_id": made.map_id}, headers=headers)


def job(desk: Desk, call: Call) -> Response:
    """GET /v1/project/index/job/{job_id}: which index a job builds, and how far it is."""
    found = find_job(desk, call, "id", check_uuid(call.params["job_id"], "job id"))
    return said({**found.shown(), **_progress(found)})


def progress(desk: Desk, call: Call) -> Response:
    """GET /v1/project/index/job/progress/{index_id}: how far an index is."""
    index_id = check_uuid(call.params["index_id"], "index id")
    try:
        found = find_job(desk, call, "index_id", index_id)
    except DatasetNotFoundError:
        desk.datasets.map_by_index(call.organization, index_id)  # made without a server, or long ago
        return said({"index_id": index_id, "index_build_stage": "Completed", "result": 100})
    return said(_progress(found))


def about_map(desk: Desk, call: Call) -> Response:
    """GET /v1/project/{project_id}/index/projection/{map_id}: a map with its topics."""
    found = desk.datasets.map_by_id(call.organization, call.params["map_id"])
    record = found.record
    features = _features(found)
    models = [{"type": "FeatureCollection", "features": features}] if features else []
    return said(
        {
            "id": record.id,
            "project_id": found.dataset.id,
            "index_id": record.index_id,
            "projection_name": record.name,
            "ready": True,
            "created_timestamp": record.created,
            "topic_models": models,
            "topic_model_metadatas": [],
            "resources": [],
            "embedding_field": record.indexed_field,
            "embedding_model": record.model,
            "primary_projection_algorithm": "umap",
            "total_data_points": record.rows,
            "quality": record.quality,
        }
    )


def find_job(desk: Desk, call: Call, name: str, value: str) -> JobRecord:
    """Return the newest job of the organisation's with a value.

    Raises:
        DatasetNotFoundError: there is none.
    """
    homes = desk.datasets.homes(call.organization)
    if name == "id":
        for home in homes:
            if (home.folder / "jobs" / f"{value}.json").is_file():
                return job_of(home.folder, value)
    else:
        matching = [one for home in homes for one in jobs_of(home.folder) if getattr(one, name) == value]
        if matching:
            return matching[-1]
    raise DatasetNotFoundError(f"there is no job with the {name} {value}")


def _progress(found: JobRecord) -> dict[str, Any]:
    stage = _STAGES.get(found.state) or (found.stage or "Starting").capitalize()
    share = found.done / found.total if found.total else 0.0
    return {
        "index_id": found.index_id,
        "job_id": found.id,
        "index_build_stage": stage,
        "result": 100 if found.state == "completed" else round(100 * min(1.0, share), 1),
        "job_start_timestamp": found.started,
        "job_end_timestamp": found.finished,
        "error": found.error,
    }


def _arguments(given: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Return the arguments of `Dataset.create_index` that a request means."""
    field = given.get("indexed_field")
    if field == BLOB_FIELD and dataset.store.dim is not None:
        field = None  # the images came with their vectors
    modality = "embedding" if field is None else "image" if field == BLOB_FIELD else "text"
    topics = _settings(given, "topic_model_hyperparameters")
    topics["topic_label_field"] = topics.pop("community_description_target_field", None)
    duplicates = _settings(given, "duplicate_detection_hyperparameters")
    name, model = given.get("index_name"), given.get("model")
    if not isinstance(name, str | None) or not isinstance(field, str | None) or not isinstance(model, str | None):
        raise InputError("index_name, indexed_field and model must be texts or null")
    return {
        "name": name,
        "indexed_field": field,
        "modality": modality,
        "projection": _known(ProjectionOptions, _settings(given, "projection_hyperparameters")),
        "topic_model": _known(TopicOptions, topics),
        "duplicate_detection": _known(DuplicateOptions, duplicates),
        "embedding_model": model if modality != "embedding" else None,
        "reuse_embeddings_from_index": given.get("reuse_atoms_and_embeddings_from"),
    }


def _settings(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return settings that are JSON within JSON."""
    value = given.get(name)
    try:
        found = orjson.loads(value) if isinstance(value, str) else value or {}
    except orjson.JSONDecodeError:
        raise InputError(f"{name} is a text that is no JSON") from None
    if not isinstance(found, dict):
        raise InputError(f"{name} is no JSON object")
    return dict(found)


def _known(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that we know; those of the hosted service alone are passed over."""
    names = {item.name for item in fields(kind)} - {"naming_url", "naming_model"}
    return {name: value for name, value in settings.items() if name in names and value is not None}


def _features(found: AtlasMap) -> list[dict[str, Any]]:
    if not found.record.options.get("topics", {}).get("build_topic_model"):
        return []
    topics = found.topics.records
    by_id = {topic.id: topic for topic in topics}
    return [_feature(topic, by_id) for topic in topics]


def _feature(topic: Topic, by_id: Mapping[int, Topic]) -> dict[str, Any]:
    path: list[Topic] = [topic]
    while (parent := path[0].parent) is not None:
        path.insert(0, by_id[parent])
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [float(topic.x), float(topic.y)]},
        "properties": {
            "topic": topic.id,
            "depth": topic.depth,
            **{f"_topic_depth_{one.depth}": one.name for one in path},
            "topic_short_description": topic.name,
            "topic_description": topic.description,
            "count": topic.count,
        },
    }
