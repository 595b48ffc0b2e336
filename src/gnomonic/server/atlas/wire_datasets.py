"""The official client's datasets: look up, create, remove; its rows by id."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa
from fastapi import Response

from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.map_folder import MapRecord, list_maps
from gnomonic.atlas.planning import BLOB_FIELD, modality_of
from gnomonic.errors import DatasetNotFoundError, InputError
from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.jobs import JobRecord, jobs_of
from gnomonic.server.atlas.uploads import VECTOR_FIELD

__all__ = ["about", "about_named", "create", "described", "get_rows", "organization", "remove", "sent_schema"]

_MAX_IDS = 10_000


def organization(_: Desk, call: Call) -> Response:
    """GET /v1/organization/{slug}: the id of the caller's own."""
    slug = call.params["slug"]
    if slug != call.organization:
        raise DatasetNotFoundError(f"there is no organisation {slug[:100]!r} for this API key")
    return said({"id": slug, "slug": slug, "organization_id": slug, "nickname": slug})


def about_named(desk: Desk, call: Call) -> Response:
    """GET /v1/project/{organization}/{slug}: what a dataset is.

    The client makes a dataset after every answer but 200 and 403, so another organisation's name is refused with 403.
    """
    if call.params["organization"] != call.organization:
        detail = f"this API key is of the organisation {call.organization!r} and sees no datasets of others"
        return said({"detail": detail}, status=403)
    return said(described(desk.datasets.open(call.organization, call.params["slug"])))


def about(desk: Desk, call: Call) -> Response:
    """GET /v1/project/{id}: what a dataset is."""
    return said(described(desk.datasets.by_id(call.organization, call.params["project_id"])))


def create(desk: Desk, call: Call) -> Response:
    """POST /v1/project/create: make a dataset, or find the one of that name; 201 in both cases."""
    given = call.fields()
    if str(given.get("organization_id")) != call.organization:
        raise DatasetNotFoundError("organization_id: this API key is of another organisation")
    name = given.get("project_name")
    id_field = given.get("unique_id_field")
    if not isinstance(name, str) or not isinstance(id_field, str | None):
        raise InputError("project_name must be a text, and unique_id_field a text or null")
    values = {
        "description": str(given.get("description") or "")[:10_000],
        "unique_id_field": id_field,
        "is_public": bool(given.get("is_public", False)),
    }
    made = desk.datasets.create(call.organization, name, values)
    known = made.home.record.unique_id_field
    if known != id_field:
        detail = f"dataset {made.identifier} exists with the id column {known!r}, not {id_field!r}"
        return said({"detail": detail}, status=409)
    return said({"project_id": made.id, "slug": made.slug}, status=201)


def remove(desk: Desk, call: Call) -> Response:
    """POST /v1/project/remove: delete a dataset."""
    dataset = desk.datasets.by_id(call.organization, call.fields().get("project_id"))
    for job in jobs_of(dataset.home.folder):
        if job.is_open:
            desk.queue.cancel(dataset.home.folder, job.id)
    desk.datasets.remove(dataset)
    return said({"project_id": dataset.id})


def get_rows(desk: Desk, call: Call) -> Response:
    """POST /v1/project/data/get: rows by id, in the order of the ids."""
    given = call.fields()
    ids = given.get("datum_ids")
    if not isinstance(ids, list) or len(ids) > _MAX_IDS:
        raise InputError(f"datum_ids must be a list of at most {_MAX_IDS:,} ids")
    dataset = desk.datasets.by_id(call.organization, given.get("project_id"))
    return said({"datums": dataset.get_data(typed_ids(dataset, ids))})


def described(dataset: Dataset) -> dict[str, Any]:
    """Return what the official client wants to know of a dataset."""
    record = dataset.home.record
    store = dataset.store
    jobs = jobs_of(dataset.home.folder)
    schema = sent_schema(dataset)
    return {
        "id": record.id,
        "project_name": record.name,
        "slug": record.slug,
        "organization_slug": record.organization,
        "organization_name": record.organization,
        "description": record.description,
        "unique_id_field": record.unique_id_field,
        "modality": modality_of(store),
        "is_public": record.is_public,
        "privacy": "private",
        "access_role": "OWNER",
        "created_timestamp": record.created,
        "total_datums_in_project": store.count(),
        # Ids that were made here are no column of the client's, but it may read them.
        "project_fields": _fields(dataset),
        "schema": None if schema is None else base64.b64encode(schema.serialize()).decode(),
        "insert_update_delete_lock": any(job.is_open for job in jobs),
        "atlas_indices": _indices(dataset, jobs),
    }


def sent_schema(dataset: Dataset) -> pa.Schema | None:
    """Return the schema that further uploads must have, None before the first rows.

    It holds what the client itself sent: no ids that were made here, but the vectors.
    """
    store = dataset.store
    if not store.count():
        return None
    made = None if dataset.home.record.unique_id_field else store.unique_id_field
    fields = [item for item in store.schema if item.name != made]
    if store.dim is not None:
        kind = pa.from_numpy_dtype(store.vector_dtype)
        fields.append(pa.field(VECTOR_FIELD, pa.list_(kind, store.dim)))
    return pa.schema(fields)


def _fields(dataset: Dataset) -> list[str]:
    names = list(dataset.store.schema.names)
    if dataset.store.has_blobs and BLOB_FIELD not in names:
        names.append(BLOB_FIELD)
    return names


def _indices(dataset: Dataset, jobs: list[JobRecord]) -> list[dict[str, Any]]:
    """Return the newest map of each index, and the maps that are being built."""
    newest: dict[str, MapRecord] = {one.record.index_id: one.record for one in list_maps(dataset.home.maps)}
    found = [
        _index(dataset, (one.index_id, one.id, one.name), one.indexed_field, one.created, ready=True)
        for one in newest.values()
    ]
    for job in jobs:
        if job.is_open and job.index_id is not None and job.map_id is not None and job.index_id not in newest:
            ids = (job.index_id, job.map_id, job.map_name)
            found.append(_index(dataset, ids, job.indexed_field, job.created, ready=False))
    return found


def _index(
    dataset: Dataset, ids: tuple[str, str, str], indexed_field: str | None, created: str, *, ready: bool
) -> dict[str, Any]:
    index_id, map_id, name = ids
    projection = {
        "id": map_id,
        "projection_name": name,
        "ready": ready,
        "created_timestamp": created,
        "updated_timestamp": created,
    }
    return {
        "id": index_id,
        "project_id": dataset.id,
        "index_name": name,
        "indexed_field": indexed_field,
        "created_timestamp": created,
        "updated_timestamp": created,
        "projections": [projection],
    }
