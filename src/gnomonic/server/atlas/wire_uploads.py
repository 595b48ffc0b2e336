"""The official client's uploads: shards of rows as Arrow files, and images before them."""

from __future__ import annotations

import time
from pathlib import Path

from fastapi import Response

from gnomonic.errors import GnomonicError, InputError
from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.uploads import keep_blobs, note_refusal, read_shard, take_blobs
from gnomonic.server.dialects.base import status_of
from gnomonic.server.dialects.nomic_image import form_parts

__all__ = ["add_arrow", "add_blobs"]


def add_arrow(desk: Desk, call: Call) -> Response:
    """POST /v1/project/data/add/arrow: add the rows of one shard; its schema's metadata names the dataset.

    Shards come in any order and two at a time. The client goes on after a refusal, so it is remembered and told when
    the index is asked for.
    """
    assert call.upload is not None
    shard = read_shard(call.upload, max_bytes=desk.options.max_upload_bytes)
    dataset = desk.datasets.by_id(call.organization, shard.metadata.get("project_id"))
    folder = dataset.home.folder
    on_conflict = "skip" if shard.metadata.get("on_id_conflict_ignore") == "true" else "error"
    try:
        blobs = take_blobs(folder, shard.table)
        dataset.add_data(shard.table, shard.vectors, blobs, on_conflict=on_conflict, update_maps=False)
    except GnomonicError as error:
        reason = f"{error}; {error.hint}" if error.hint else str(error)
        note_refusal(folder, len(shard.table), reason)
        # An object: of some texts alone the client would make something else.
        return said({"detail": reason}, status=max(400, status_of(error)))
    desk.rows_changed(dataset)
    return said({"result": "ok", "checkpoint": dataset.store.version, "latest_addition_timestamp": time.time()})


def add_blobs(desk: Desk, call: Call) -> Response:
    """POST /v1/project/data/add/blobs: keep images until their rows come; answers their hashes in order."""
    kind = call.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise InputError(f"Content-Type {kind[:80]!r} is no multipart/form-data")
    parts = form_parts(_body(call), kind)
    wanted = b"".join(parts.get("dataset_id", [])[:1]).decode("utf-8", "replace")
    dataset = desk.datasets.by_id(call.organization, wanted)
    return said({"hashes": keep_blobs(dataset.home.folder, parts.get("blobs", []))})


def _body(call: Call) -> bytes:
    path: Path | None = call.upload
    return call.body if path is None else path.read_bytes()
