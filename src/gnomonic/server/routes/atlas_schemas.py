"""What our own Atlas routes take and give, for the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["ATLAS", "operation"]

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_ID: Schema = {"type": ["string", "integer"]}
_IDS: Schema = {"type": "array", "items": _ID}
_OBJECT: Schema = {"type": "object"}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_BYTES: Schema = {"type": "string", "format": "binary"}
_SETTINGS: Schema = {"type": "object", "description": "Settings of this stage; what is left out is chosen."}


def _pair(size: int) -> Schema:
    return {"type": "array", "items": {"type": "number"}, "minItems": size, "maxItems": size}


def _fields(properties: Schema, *required: str) -> Schema:
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required)} if required else made


_DATASET = _fields({"name": _TEXT, "description": _TEXT, "unique_id_field": {"type": ["string", "null"]}}, "name")
_ROWS: Schema = {
    "type": "object",
    "properties": {"rows": {"type": "array", "items": _OBJECT}, "embeddings": {"type": "array", "items": _NUMBERS}},
}
_BUILD = _fields(
    {
        "name": _TEXT,
        "indexed_field": {**_TEXT, "description": "The text column to embed; left out for rows with vectors."},
        "modality": {"enum": ["text", "image", "embedding"]},
        "projection": _SETTINGS,
        "topics": {"anyOf": [_SETTINGS, {"type": "boolean"}]},
        "duplicates": {"anyOf": [_SETTINGS, {"type": "boolean"}]},
        "neighbors": _SETTINGS,
        "model": {"anyOf": [_TEXT, _SETTINGS], "description": "A served model; or model, task_type, dimensionality."},
        "seed": {"type": "integer", "minimum": 0},
        "update": {"type": "boolean", "description": "Bring the current map up to date instead."},
        "rebuild": {"type": "boolean", "description": "With update: from the start, laid onto the old one."},
    }
)
_NUMBER: Schema = {"type": ["number", "null"]}
_KEEP: Schema = {"enum": ["first", "longest", "newest", "central"]}
_QUERY: Schema = {
    "query": _TEXT,
    "vector": _NUMBERS,
    "id": _ID,
    "position": {"type": "integer", "minimum": 0},
    "image": {**_TEXT, "description": "Base64 of a PNG, JPEG, WebP or GIF file."},
}
_CONDITIONS: Schema = {
    "where": {**_TEXT, "description": "SQL-like: year >= 2000 AND kind = 'book'"},
    "topics": {"type": "array", "items": _ID},
    "tags": _TEXTS,
    "ids": _IDS,
    "bits": {**_TEXT, "description": "Base64 of a bit a row in map order, lowest bit first."},
    "fields": {
        "type": "array",
        "description": "By the columns beside the map: a range, ends included, dates in ms; or codes of a category.",
        "items": _fields(
            {
                "column": _TEXT,
                "min": _NUMBER,
                "max": _NUMBER,
                "codes": {"type": ["array", "null"], "items": {"type": "integer"}},
                "nulls": {"type": "boolean", "description": "Rows without a value pass."},
            },
            "column",
        ),
    },
    "polygon": {
        "type": "array",
        "items": _pair(2),
        "minItems": 3,
        "maxItems": 10_000,
        "description": "Corners in the plane; inside is where a ray meets an odd number of sides.",
    },
    "box": {**_pair(4), "description": "x0, y0, x1, y1."},
    "heat": _fields({**_QUERY, "at_least": {"type": "number", "description": "The least score."}}, "at_least"),
    "duplicates": _fields({"cutoff": _NUMBER, "keep": _KEEP, "by": {"type": ["string", "null"]}}),
    "invert": {"type": "boolean", "description": "The rows that do not pass instead."},
}
_K: Schema = {"type": "integer", "minimum": 1, "maximum": 1000}
_SEARCH = _fields(
    {
        **{name: _QUERY[name] for name in ("query", "vector", "id")},
        "k": _K,
        "mode": {"enum": ["semantic", "words", "hybrid"]},
        **_CONDITIONS,
        "columns": _TEXTS,
    }
)
_FIND = _fields(
    {
        "mode": {"enum": ["semantic", "words", "hybrid", "id", "like", "image"]},
        **{name: _QUERY[name] for name in ("query", "position", "image")},
        "k": _K,
        **_CONDITIONS,
    }
)
_ROWS_AT = _fields(
    {
        "positions": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 1000},
        "columns": {"type": ["array", "null"], "items": _TEXT},
        "longest": {"type": "integer", "minimum": 0, "description": "Characters of a value; more are cut."},
    },
    "positions",
)
_COUNTS = _fields({"columns": _TEXTS, **_CONDITIONS}, "columns")
_TAG_ROWS = _fields({"name": _TEXT, "remove": {"type": "boolean"}, **_CONDITIONS}, "name")
_HEAT = _fields({**_QUERY, "dtype": {"enum": ["float16", "uint8"]}})
_EXPORT = _fields({**_CONDITIONS, "columns": _TEXTS, "format": {"enum": ["parquet", "jsonl", "csv", "ids"]}})
_CHANGES = _fields({"rows": _ROWS["properties"]["rows"]})
_READ_ROWS = _fields(
    {
        "ids": _IDS,
        "offset": {"type": "integer", "minimum": 0},
        "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "columns": _TEXTS,
        "version": {"type": "integer", "description": "Of the rows; default the newest."},
    }
)
_READ_PART = _fields(
    {
        "part": {"enum": ["ids", "data", "positions", "trust", "vectors", "topics", "duplicates", "tags"]},
        "offset": {"type": "integer", "minimum": 0, "description": "In row order, rows that were deleted counted."},
        "limit": {"type": "integer", "minimum": 1, "maximum": 100_000},
        "columns": {**_TEXTS, "description": "Of data."},
        "cutoff": {"type": "number", "description": "Of duplicates."},
    },
    "part",
)
_QUERIES: Schema = {"queries": {"type": "array", "items": _NUMBERS}, "k": {"type": "integer", "minimum": 1}}
_NEAREST = _fields({**_QUERIES, "ids": _IDS})
_SHARES = _fields({**_QUERIES, "depth": {"type": "integer", "minimum": 1}}, "queries")
_TAG = _fields({"name": _TEXT, "ids": _IDS}, "name")

_ONE = "/v1/datasets/{organization}/{slug}"
_MAP = f"{_ONE}/maps/{{map_id}}"
_PAGE: Schema = {
    "ids": "Ids, with commas between.",
    "offset": "Rows to pass over.",
    "limit": "Rows at most.",
    "columns": "Columns, with commas between.",
}

_GROUPS: Schema = {
    "cutoff": "How near they are; default the map's own.",
    "keep": "Which row is kept: first, longest, newest, central.",
    "by": "The column for longest or newest.",
    "offset": "Groups to pass over.",
    "limit": "Groups at most.",
}
_FOLLOW: Schema = {"update_maps": "false: the current map does not follow yet."}
_ADDING: Schema = {"on_conflict": "error, skip, replace", **_FOLLOW}

# (method, path): what it does, body, parameters of the query, status of success.
ATLAS: dict[tuple[str, str], tuple[str, Schema | None, Schema, int]] = {
    ("GET", "/v1/datasets"): ("Datasets: all of the key's organisation", None, {}, 200),
    ("POST", "/v1/datasets"): ("Datasets: make one", _DATASET, {}, 201),
    ("GET", _ONE): ("Datasets: about one", None, {}, 200),
    ("DELETE", _ONE): ("Datasets: delete one with its maps", None, {}, 200),
    ("POST", f"{_ONE}/rows"): ("Rows: add some, as JSON or Arrow", _ROWS, _ADDING, 201),
    ("GET", f"{_ONE}/rows"): ("Rows: by id, or a page", None, _PAGE, 200),
    ("PATCH", f"{_ONE}/rows"): ("Rows: change columns by id", _CHANGES, _FOLLOW, 200),
    ("DELETE", f"{_ONE}/rows"): ("Rows: delete by id", _fields({"ids": _IDS}, "ids"), _FOLLOW, 200),
    ("POST", f"{_ONE}/rows/read"): ("Rows: by id, or a page, of one version", _READ_ROWS, {}, 200),
    ("GET", f"{_ONE}/maps"): ("Maps: all of a dataset", None, {}, 200),
    ("POST", f"{_ONE}/maps"): ("Maps: have one built; answers the job", _BUILD, {}, 202),
    ("GET", f"{_ONE}/jobs"): ("Jobs: all of a dataset", None, {}, 200),
    ("GET", f"{_ONE}/jobs/{{job_id}}"): ("Jobs: stage, rate, time left, error", None, {}, 200),
    ("DELETE", f"{_ONE}/jobs/{{job_id}}"): ("Jobs: cancel one", None, {}, 202),
    ("GET", f"{_ONE}/tags"): ("Tags: with their sizes", None, {}, 200),
    ("POST", f"{_ONE}/tags"): ("Tags: give one to rows", _TAG, {}, 201),
    ("DELETE", f"{_ONE}/tags"): ("Tags: take one from rows, or from all", _TAG, {}, 200),
    ("GET", _MAP): ("Maps: how one was made, and its quality", None, {}, 200),
    ("DELETE", _MAP): ("Maps: delete one", None, {}, 200),
    ("POST", f"{_MAP}/current"): ("Maps: have readers see this one", None, {}, 200),
    ("POST", f"{_MAP}/read"): ("Maps: a page of its rows, one part of it", _READ_PART, {}, 200),
    ("POST", f"{_MAP}/nearest"): ("Maps: the rows nearest to vectors or rows", _NEAREST, {}, 200),
    ("POST", f"{_MAP}/topic-shares"): ("Maps: topics of the rows nearest to vectors", _SHARES, {}, 200),
    ("POST", f"{_MAP}/search"): ("Maps: search by text, vector or row", _SEARCH, {}, 200),
    ("GET", f"{_MAP}/view"): ("Maps: what its page shows, and what can be done", None, {}, 200),
    ("GET", f"{_MAP}/labels"): ("Maps: topics' names that lie over no other, by zoom", None, {}, 200),
    ("POST", f"{_MAP}/rows-at"): ("Maps: rows by position, cut short", _ROWS_AT, {}, 200),
    ("POST", f"{_MAP}/find"): ("Maps: positions of the rows that are asked for", _FIND, {}, 200),
    ("POST", f"{_MAP}/counts"): ("Maps: how often each value is there among rows that pass", _COUNTS, {}, 200),
    ("POST", f"{_MAP}/explain"): ("Maps: what sets rows apart", _fields(_CONDITIONS), {}, 200),
    ("POST", f"{_MAP}/tags"): ("Maps: give a tag to the rows that pass, or take it", _TAG_ROWS, {}, 200),
    ("GET", f"{_MAP}/duplicate-groups"): ("Maps: groups of rows that say the same", None, _GROUPS, 200),
    ("GET", f"{_MAP}/thumbs/{{z}}/{{x}}/{{y}}"): ("Maps: a sheet of a tile's pictures", None, {}, 200),
    ("GET", f"{_MAP}/thumbs/{{position}}"): ("Maps: the picture of a row, small", None, {}, 200),
    ("GET", f"{_MAP}/images/{{position}}"): ("Maps: the picture of a row", None, {}, 200),
    ("POST", f"{_MAP}/filter"): ("Maps: which rows pass, a bit each in map order", _fields(_CONDITIONS), {}, 200),
    ("POST", f"{_MAP}/heat"): ("Maps: nearness of every row in map order", _HEAT, {}, 200),
    ("POST", f"{_MAP}/export"): ("Maps: the rows that pass, as a file", _EXPORT, {}, 200),
    ("GET", f"{_MAP}/topics"): ("Maps: topics", None, {}, 200),
    ("GET", f"{_MAP}/duplicates"): ("Maps: rows that say the same", None, {"cutoff": "Another cut-off."}, 200),
    ("GET", f"{_MAP}/rows/{{position}}"): ("Maps: the row at a position", None, {}, 200),
    ("GET", f"{_MAP}/neighbors/{{position}}"): ("Maps: the nearest rows", None, {"k": "How many."}, 200),
    ("GET", f"{_MAP}/files/{{path}}"): ("Maps: tiles and the columns beside them", None, {}, 200),
}

_BINARY = frozenset({"filter", "heat", "export", "{path}", "{y}"})
_REFUSALS = {
    "400": "Something in the request is not usable; the detail says what",
    "401": "No key, or not one of this server's",
    "404": "It does not exist, or belongs to another organisation",
    "408": "The body did not arrive in time",
    "409": "It exists with other settings",
    "413": "The upload is too large",
    "422": "A value does not fit its column",
    "429": "Too much waits; see Retry-After",
    "500": "The server failed; its log says why",
    "503": "A model is away; see Retry-After",
    "504": "The upload or the embedding took too long",
}


def operation(method: str, path: str) -> Schema:
    """Return the OpenAPI operation of one of our routes."""
    summary, body, query, status = ATLAS[method, path]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in re.findall(r"{(\w+)}", path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": _TEXT, "description": meaning}
        for name, meaning in query.items()
    ]
    made: Schema = {"summary": summary, "parameters": parameters, "responses": _responses(path, status)}
    if body is not None:
        kinds: Schema = {"application/json": {"schema": body}}
        if path.endswith("/rows") and method in ("POST", "PATCH"):
            kinds["application/vnd.apache.arrow.file"] = {"schema": _BYTES}
            kinds["application/vnd.apache.arrow.stream"] = {"schema": _BYTES}
        made["requestBody"] = {"required": True, "content": kinds}
    return made


def _responses(path: str, status: int) -> Schema:
    content: Schema = {"application/json": {"schema": _OBJECT}}
    last = path.rpartition("/")[2]
    if last in _BINARY or "/images/" in path:
        kinds = ["application/octet-stream"] if last in ("filter", "heat", "{path}") else []
        kinds += (
            ["application/vnd.apache.parquet", "application/x-ndjson", "text/csv", "text/plain"]
            if last == "export"
            else []
        )
        content = {kind: {"schema": _BYTES} for kind in kinds}
        if "/thumbs/" in path or "/images/" in path:
            content = {f"image/{kind}": {"schema": _BYTES} for kind in ("webp", "png", "jpeg", "gif")}
        if last == "{path}":
            content["application/json"] = {"schema": _OBJECT}
    elif last in ("rows", "read", "search", "duplicates"):
        content["application/vnd.apache.arrow.stream"] = {"schema": _BYTES}
    done = {str(status): {"description": "Done", "content": content}}
    if (status, last) == (201, "datasets"):
        done["200"] = {"description": "It was there", "content": content}
    detail: Schema = {"type": "object", "properties": {"detail": _TEXT}, "required": ["detail"]}
    for code, meaning in _REFUSALS.items():
        done[code] = {"description": meaning, "content": {"application/json": {"schema": detail}}}
    return done
