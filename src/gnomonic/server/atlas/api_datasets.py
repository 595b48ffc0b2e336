"""Our own API: datasets and their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from fastapi import Response

from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.home import slug_of
from gnomonic.atlas.map_folder import current_map
from gnomonic.atlas.rows import split_embeddings, to_table
from gnomonic.errors import InputError, TooLargeError
from gnomonic.server.atlas.call import ARROW_STREAM, Call, data, json_of, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.jobs import JobRecord, jobs_of
from gnomonic.server.atlas.reading import names, only, text, whole
from gnomonic.server.atlas.uploads import read_shard, take_blobs

__all__ = [
    "about", "append_rows", "change_rows", "create", "dataset_of", "delete", "delete_rows", "find_rows", "list_all",
    "read_rows", "tabled",
]  # fmt: skip

_MAX_ROWS = 10_000
_BLOB = "_blob"
_MAX_JSON_BYTES = 64 << 20
_ARROW_KINDS = ("application/vnd.apache.arrow.file", ARROW_STREAM, "application/octet-stream")


def dataset_of(desk: Desk, call: Call) -> Dataset:
    """Return the dataset of a path.

    Raises:
        DatasetNotFoundError: it does not exist, or belongs to others.
    """
    return desk.datasets.open(call.organization, call.params["slug"], call.params["organization"])


def list_all(desk: Desk, call: Call) -> Response:
    """GET /v1/datasets."""
    homes = desk.datasets.homes(call.organization)
    return said({"datasets": [_about(desk.datasets.open(call.organization, home.record.slug)) for home in homes]})


def create(desk: Desk, call: Call) -> Response:
    """POST /v1/datasets: 201 for a new one, 200 for one that was there."""
    given = call.fields()
    only(given, "name", "description", "unique_id_field")
    name = text(given, "name", longest=200)
    if name is None:
        raise InputError("name is missing; it becomes the dataset's address")
    is_new = not (desk.datasets.root / "datasets" / call.organization / slug_of(name)).is_dir()
    id_field = text(given, "unique_id_field", longest=1000)
    values = {"description": text(given, "description", "", longest=10_000), "unique_id_field": id_field}
    made = desk.datasets.create(call.organization, name, values)
    known = made.home.record.unique_id_field
    if known != id_field:
        detail = f"dataset {made.identifier} exists with the id column {known!r}, not {id_field!r}"
        return said({"detail": detail}, status=409)
    return said(_about(made), status=201 if is_new else 200)


def about(desk: Desk, call: Call) -> Response:
    """GET /v1/datasets/{organization}/{slug}."""
    return said(_about(dataset_of(desk, call)))


def delete(desk: Desk, call: Call) -> Response:
    """DELETE /v1/datasets/{organization}/{slug}: with its maps and jobs."""
    dataset = dataset_of(desk, call)
    for job in jobs_of(dataset.home.folder):
        if job.is_open:
            desk.queue.cancel(dataset.home.folder, job.id)
    desk.datasets.remove(dataset)
    return said({"deleted": dataset.identifier})


def append_rows(desk: Desk, call: Call) -> Response:
    """POST …/rows: add rows, all or none, from Arrow or JSON; the current map follows."""
    dataset = dataset_of(desk, call)
    on_conflict = call.query.get("on_conflict", "error")
    if on_conflict not in ("error", "skip", "replace"):
        raise InputError(f"on_conflict {on_conflict[:40]!r} is unknown; choose error, skip or replace")
    assert call.upload is not None
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    vectors: Any = None
    blobs: list[bytes | None] | None = None
    if kind in _ARROW_KINDS:
        shard = read_shard(call.upload, max_bytes=desk.options.max_upload_bytes)
        table, vectors = shard.table, shard.vectors
        table, blobs = _own_blobs(table)
    else:
        if call.upload.stat().st_size > _MAX_JSON_BYTES:
            raise TooLargeError(f"rows as JSON take at most {_MAX_JSON_BYTES:,} bytes; send Arrow, or fewer at a time")
        table, vectors = _from_json(call.upload.read_bytes())
    blobs = take_blobs(dataset.home.folder, table) if blobs is None else blobs
    ids = dataset.add_data(table, vectors, blobs, on_conflict=on_conflict, update_maps=False)
    job = _followed(desk, call, dataset) if ids else None
    return said({"added": len(ids), "ids": ids, "job_id": None if job is None else job.id}, status=201)


def read_rows(desk: Desk, call: Call) -> Response:
    """GET …/rows: by id, or a page in row order."""
    dataset = dataset_of(desk, call)
    columns = _columns(call)
    if (given := call.query.get("ids")) is not None:
        ids = given.split(",")
        if len(ids) > _MAX_ROWS:
            raise InputError(f"ids: {len(ids):,} are more than {_MAX_ROWS:,}; ask several times")
        return tabled(call, dataset.store.get(typed_ids(dataset, ids), columns))
    offset = call.number("offset", 0, 0, 2**53)
    limit = call.number("limit", 100, 1, _MAX_ROWS)
    return tabled(call, _page(dataset, columns, offset, limit))


def find_rows(desk: Desk, call: Call) -> Response:
    """POST …/rows/read: by id, or a page in row order; of one version, so that pages fit together."""
    dataset = dataset_of(desk, call)
    given = call.fields()
    only(given, "ids", "offset", "limit", "columns", "version")
    columns = names(given, "columns")
    if (ids := names(given, "ids", numbers=True)) is not None:
        return tabled(call, dataset.store.get(typed_ids(dataset, ids), columns))
    offset = whole(given, "offset", 0, 0, 2**53)
    limit = whole(given, "limit", 100, 1, _MAX_ROWS)
    version = whole(given, "version", dataset.store.version, 0, 2**53)
    return tabled(call, _page(dataset, columns, offset, limit, version))


def change_rows(desk: Desk, call: Call) -> Response:
    """PATCH …/rows: change columns of rows by id."""
    dataset = dataset_of(desk, call)
    if call.headers.get("content-type", "") == ARROW_STREAM:
        table = _stream(call.body)
    else:
        given = call.fields()
        only(given, "rows")
        table = _rows(given)
    changed = dataset.update_data(table, update_maps=False)
    job = _followed(desk, call, dataset) if changed else None
    return said({"changed": changed, "job_id": None if job is None else job.id})


def delete_rows(desk: Desk, call: Call) -> Response:
    """DELETE …/rows: by id; unknown ids are passed over."""
    dataset = dataset_of(desk, call)
    given = call.fields()
    only(given, "ids")
    ids = names(given, "ids", numbers=True)
    if ids is None:
        raise InputError("ids is missing; send a list of ids")
    deleted = dataset.delete_data(typed_ids(dataset, ids))
    job = _followed(desk, call, dataset) if deleted else None
    return said({"deleted": deleted, "job_id": None if job is None else job.id})


def tabled(call: Call, table: pa.Table, more: dict[str, Any] | None = None) -> Response:
    """Return a table as the client accepts it: an Arrow stream, else JSON rows."""
    if ARROW_STREAM in call.headers.get("accept", ""):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return data(sink.getvalue().to_pybytes(), ARROW_STREAM)
    return said({**(more or {}), "rows": table.to_pylist()})


def _about(dataset: Dataset) -> dict[str, Any]:
    record = dataset.home.record
    store = dataset.store
    current = current_map(dataset.home.maps)
    return {
        "id": record.id,
        "organization": record.organization,
        "slug": record.slug,
        "name": record.name,
        "description": record.description,
        "unique_id_field": store.unique_id_field,
        "created": record.created,
        "rows": store.count(),
        "version": store.version,
        "modality": dataset.modality,
        "dimensions": store.dim,
        "columns": [{"name": item.name, "type": str(item.type)} for item in store.schema],
        "current_map": None if current is None else current.record.id,
    }


def _columns(call: Call) -> list[str] | None:
    given = call.query.get("columns")
    return None if given is None else given.split(",")


def _page(dataset: Dataset, columns: list[str] | None, offset: int, limit: int, version: int | None = None) -> pa.Table:
    """Return rows `offset` to `offset + limit` in row order; the numbers of rows alone are read before them."""
    found: list[np.ndarray[Any, Any]] = []
    seen = 0
    version = dataset.store.version if version is None else version
    for batch in dataset.store.scan(["_row"], version=version):
        if seen >= offset + limit:
            break
        part = batch.column(0).to_numpy()[max(0, offset - seen) : max(0, offset + limit - seen)]
        found.append(part)
        seen += batch.num_rows
    rows = np.concatenate([np.empty(0, dtype=np.int64), *found])
    return dataset.store.take(rows, columns, version=version)


def _followed(desk: Desk, call: Call, dataset: Dataset) -> JobRecord | None:
    """Have the current map follow, unless the client will ask for that itself."""
    return None if call.query.get("update_maps") == "false" else desk.rows_changed(dataset)


def _own_blobs(table: pa.Table) -> tuple[pa.Table, list[bytes | None] | None]:
    """Take the column `_blob`, images' bytes beside their rows, out of a table that has it."""
    if _BLOB not in table.column_names:
        return table, None
    column = table[_BLOB]
    if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type):
        raise InputError(f"{_BLOB} holds {column.type}; send the bytes of an image, or null, a row")
    return table.drop_columns([_BLOB]), column.to_pylist()


def _stream(body: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(body) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"the body is no Arrow IPC stream: {error}") from None


def _rows(given: dict[str, Any]) -> pa.Table:
    rows = given.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError("rows must be a list of at least one JSON object")
    return to_table(rows)


def _from_json(body: bytes) -> tuple[pa.Table, Any]:
    """Return the rows and vectors of `{"rows": […], "embeddings": […]}`, or of a JSON object a line."""
    try:
        given = json_of(body)
    except InputError:
        given = {"rows": [_line(line) for line in body.splitlines() if line.strip()]}
    if "rows" not in given and "embeddings" not in given:
        given = {"rows": [given]}
    only(given, "rows", "embeddings")
    embeddings = given.get("embeddings")
    if embeddings is not None and not isinstance(embeddings, list):
        raise InputError("embeddings must be a list of vectors, one a row")
    vectors = None if embeddings is None else _vectors(embeddings)
    if "rows" not in given:
        return pa.table({}), vectors
    table, own = split_embeddings(_rows(given))
    return table, own if vectors is None else vectors


def _vectors(given: list[Any]) -> Any:
    try:
        return np.array(given, dtype=np.float32)
    except (ValueError, TypeError):
        raise InputError("embeddings must be lists of numbers, all of one length") from None


def _line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the rows are neither a JSON object nor one a line: {error}") from None
