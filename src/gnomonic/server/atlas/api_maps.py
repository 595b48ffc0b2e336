"""Our own API: maps, the jobs that build them, their topics, duplicates, tags and files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Response

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.living import Living
from gnomonic.atlas.map_folder import current_map, set_current
from gnomonic.errors import DatasetError, DatasetNotFoundError, InputError
from gnomonic.server.atlas.api_datasets import dataset_of, tabled
from gnomonic.server.atlas.call import Call, data, said
from gnomonic.server.atlas.datasets import CURRENT
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.jobs import job_of, jobs_of
from gnomonic.server.atlas.organisations import check_uuid
from gnomonic.server.atlas.reading import flag, names, only, text, whole

__all__ = [
    "about", "add_tag", "build", "cancel_job", "delete", "duplicates", "file", "job", "list_jobs", "list_maps",
    "make_current", "map_of", "neighbors", "position_of", "remove_tag", "row", "tags", "topics", "unchanged",
]  # fmt: skip

_FILE = re.compile(r"(manifest\.json|columns\.json|(tiles|columns)(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,150}){1,6})")
_KINDS = {".json": "application/json", ".bin": "application/octet-stream"}
_FOREVER = "private, max-age=31536000, immutable"
_MAX_NEIGHBORS = 256


def map_of(desk: Desk, call: Call) -> AtlasMap:
    """Return the map of a path; "current" is the one that readers see.

    Raises:
        DatasetNotFoundError: there is none.
    """
    return desk.datasets.map_of(dataset_of(desk, call), call.params["map_id"])


def list_maps(desk: Desk, call: Call) -> Response:
    """GET …/maps: oldest first."""
    dataset = dataset_of(desk, call)
    current = current_map(dataset.home.maps)
    chosen = None if current is None else current.record.id
    return said(
        {"maps": [{**_brief(one), "current": one.id == chosen, "record": asdict(one.record)} for one in dataset.maps]}
    )


def build(desk: Desk, call: Call) -> Response:
    """POST …/maps: have a map built, or with "update" the current one brought up to date; answers the job."""
    dataset = dataset_of(desk, call)
    given = call.fields()
    only(
        given, "name", "indexed_field", "modality", "projection", "topics", "duplicates", "model", "neighbors", "seed",
        "update", "rebuild",
    )  # fmt: skip
    if given.get("update"):
        made = desk.rows_changed(dataset, rebuild=flag(given, "rebuild"))
        if made is None:
            raise DatasetError(f"dataset {dataset.identifier} has no map to bring up to date; leave out update")
        return said(made.shown(), status=202)
    arguments = {
        "name": text(given, "name", longest=200),
        "indexed_field": text(given, "indexed_field"),
        "modality": text(given, "modality"),
        "projection": _options(given, "projection"),
        "topic_model": _options(given, "topics"),
        "duplicate_detection": _options(given, "duplicates"),
        "embedding_model": _model(given),
        "neighbors": _options(given, "neighbors"),
        "seed": whole(given, "seed", 0, 0, 2**31 - 1),
    }
    if isinstance(arguments["topic_model"], dict) and "naming_url" in arguments["topic_model"]:
        raise InputError("topics.naming_url: this server calls no addresses that clients choose")
    return said(desk.build(dataset, {k: v for k, v in arguments.items() if v is not None}).shown(), status=202)


def _model(given: dict[str, Any]) -> dict[str, Any] | str | None:
    value = given.get("model")
    return value if isinstance(value, dict) else text(given, "model", longest=200)


def _options(given: dict[str, Any], name: str) -> dict[str, Any] | bool | None:
    value = given.get(name)
    if value is None or isinstance(value, dict) or (isinstance(value, bool) and name in ("topics", "duplicates")):
        return value
    raise InputError(f"{name} is a JSON {type(value).__name__}; send an object of settings")


def list_jobs(desk: Desk, call: Call) -> Response:
    """GET …/jobs: oldest first."""
    return said({"jobs": [one.shown() for one in jobs_of(dataset_of(desk, call).home.folder)]})


def job(desk: Desk, call: Call) -> Response:
    """GET …/jobs/{job_id}."""
    return said(job_of(dataset_of(desk, call).home.folder, check_uuid(call.params["job_id"], "job id")).shown())


def cancel_job(desk: Desk, call: Call) -> Response:
    """DELETE …/jobs/{job_id}: ask for its end; finished stages are kept for the next build."""
    folder = dataset_of(desk, call).home.folder
    return said(desk.queue.cancel(folder, check_uuid(call.params["job_id"], "job id")).shown(), status=202)


def about(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}: how it was made, and how far it can be trusted."""
    found = map_of(desk, call)
    return said({**_brief(found), "record": asdict(found.record), "rows_now": len(found.alive)})


def make_current(desk: Desk, call: Call) -> Response:
    """POST …/maps/{map_id}/current: have readers see this map."""
    found = map_of(desk, call)
    set_current(found.dataset.home.maps, found.id)
    return said({**_brief(found), "current": True})


def delete(desk: Desk, call: Call) -> Response:
    """DELETE …/maps/{map_id}."""
    found = map_of(desk, call)
    found.delete()
    return said({"deleted": found.id})


def topics(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/topics: coarse ones first; empty where none were looked for."""
    found = map_of(desk, call)
    if not found.record.options.get("topics", {}).get("build_topic_model"):
        return said({"topics": []})
    return said({"topics": [asdict(one) for one in found.topics.records]})


def duplicates(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/duplicates: the rows that say the same as others, for any cut-off."""
    found = map_of(desk, call)
    given = call.query.get("cutoff")
    try:
        table = found.duplicates.tb if given is None else found.duplicates.at_cutoff(float(given))
    except ValueError as error:
        raise InputError(str(error) if isinstance(error, InputError) else f"cutoff {given!r} is no number") from None
    classes = np.asarray(table["duplicate_class"].to_pylist(), dtype=object)
    kept = table.take(np.flatnonzero(classes != "singleton"))
    return tabled(call, kept, {"cutoff": given, "total": len(table)})


def row(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/rows/{position}: the row at a position of the map order."""
    found = map_of(desk, call)
    at, row_number = _at(found, call)
    values = found.dataset.store.take(np.array([row_number]), None).to_pylist()[0]
    x, y = (float(value) for value in found.folder.xy[at])
    return said({"position": int(call.params["position"]), "x": x, "y": y, "row": values})


def neighbors(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/neighbors/{position}: the rows nearest to a position's, as the map was made of."""
    from gnomonic.atlas.build import load_graph

    found = map_of(desk, call)
    at, _ = _at(found, call)
    k = call.number("k", 15, 1, _MAX_NEIGHBORS)
    graph = load_graph(found.folder)
    near, apart = np.asarray(graph.indices[at]), np.asarray(graph.distances[at])
    near, apart = near[near >= 0], apart[near >= 0]
    places = found.arrays.places[near]
    living = found.arrays.living()
    there = np.flatnonzero(np.ones(len(near), dtype=np.bool_) if living is None else living[places])[:k]
    ids = found.dataset.store.take(found.folder.rows[near[there]], [found.id_field], version=found.living.version)
    return said(
        {
            "metric": graph.metric,
            "neighbors": [
                {"id": id_, "position": position, "distance": distance}
                for id_, position, distance in zip(
                    ids.column(0).to_pylist(), places[there].tolist(), apart[there].tolist(), strict=True
                )
            ],
        }
    )


def tags(desk: Desk, call: Call) -> Response:
    """GET …/tags: with their sizes; the tags of a dataset are on all of its maps."""
    annotations = dataset_of(desk, call).annotations
    return said({"tags": [{"name": name, "rows": count} for name, count in annotations.tags().items()]})


def add_tag(desk: Desk, call: Call) -> Response:
    """POST …/tags: give a tag to rows."""
    dataset = dataset_of(desk, call)
    name, ids = _tagging(call)
    if ids is None:
        raise InputError("ids is missing; send the ids of the rows to tag")
    dataset.annotations.add(name, dataset.store.rows_of(typed_ids(dataset, ids)))
    return said({"name": name, "rows": len(dataset.annotations.rows_of(name))}, status=201)


def remove_tag(desk: Desk, call: Call) -> Response:
    """DELETE …/tags: take a tag from rows, or without ids from all, and the tag itself."""
    dataset = dataset_of(desk, call)
    name, ids = _tagging(call)
    if ids is None:
        dataset.annotations.delete(name)
        return said({"name": name, "rows": 0})
    dataset.annotations.remove(name, dataset.store.rows_of(typed_ids(dataset, ids)))
    return said({"name": name, "rows": len(dataset.annotations.rows_of(name))})


def file(desk: Desk, call: Call) -> Response:
    """GET …/maps/{map_id}/files/{path}: tiles and the columns beside them; they never change."""
    found = map_of(desk, call)
    wanted = call.params["path"]
    path = found.folder.folder / "tiles" / wanted
    kind = _KINDS.get(Path(wanted).suffix)
    if _FILE.fullmatch(wanted) is None or ".." in wanted or kind is None or not path.is_file():
        raise DatasetNotFoundError(f"the map has no file {wanted[:100]!r}; manifest.json and columns.json list them")
    cache = "no-cache" if call.params["map_id"] == CURRENT else _FOREVER
    # A map's files never change, so its id says which one this is.
    headers = {"cache-control": cache, "x-gnomonic-map": found.id, "etag": f'"{found.id}"'}
    if (same := unchanged(call, headers)) is not None:
        return same
    return data(path.read_bytes(), kind, headers)


def unchanged(call: Call, headers: Mapping[str, str]) -> Response | None:
    """Return the answer to a client that has this already, by the answer's etag; None where it has not."""
    known = [one.strip().removeprefix("W/") for one in call.headers.get("if-none-match", "").split(",")]
    if headers["etag"].removeprefix("W/") not in known and known != ["*"]:
        return None
    return Response(status_code=304, headers=dict(headers))


def _brief(found: AtlasMap) -> dict[str, Any]:
    record = found.record
    return {
        "id": record.id,
        "index_id": record.index_id,
        "name": record.name,
        "created": record.created,
        "rows": record.rows,
        "version": record.version,
        "modality": record.modality,
        "indexed_field": record.indexed_field,
        "model": record.model,
        "quality": record.quality,
        "grown_rows": record.grown_rows,
    }


def position_of(found: AtlasMap, call: Call, living: Living) -> int:
    """Return the position of the map order in an address.

    Raises:
        DatasetNotFoundError: there is none, or its row was deleted.
    """
    given = call.params["position"]
    if not given.isdecimal() or len(given) > 12 or int(given) >= found.record.rows:
        raise DatasetNotFoundError(f"position {given[:20]!r} is not on the map; it has {found.record.rows:,} rows")
    alive = found.arrays.living(living)
    if alive is not None and not alive[int(given)]:
        raise DatasetNotFoundError(f"the row at position {given} was deleted")
    return int(given)


def _at(found: AtlasMap, call: Call) -> tuple[int, int]:
    """Return the place in row order, and the store's number, of the row at a position in an address."""
    at = int(found.folder.order[position_of(found, call, found.living)])
    return at, int(found.folder.rows[at])


def _tagging(call: Call) -> tuple[str, list[Any] | None]:
    given = call.fields()
    only(given, "name", "ids")
    name = text(given, "name", longest=200)
    if not name or not name.strip():
        raise InputError("name is missing; send the tag's name")
    return name, names(given, "ids", numbers=True)
