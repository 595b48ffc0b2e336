"""A desk without a server: routes' functions are called as the server calls them, jobs run in this process."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import Response
from pyarrow import feather

from gnomonic.atlas.embedding import EncodedChunk
from gnomonic.atlas.options import EmbedOptions
from gnomonic.server.atlas import job as jobs_process
from gnomonic.server.atlas.call import Call
from gnomonic.server.atlas.desk import Desk, DeskOptions
from gnomonic.server.atlas.jobs import JobQueue, JobRecord

__all__ = ["MODEL", "ask", "desk_in", "encode", "feather_of", "read_feather", "run_jobs", "said"]

MODEL = "words"


def encode(name: str, values: list[Any], options: EmbedOptions) -> EncodedChunk:
    """Embed texts by their words, so that texts with the same words are near."""
    vectors = np.full((len(values), 16), 0.01, dtype=np.float32)
    for row, text in enumerate(values):
        for word in str(text).lower().split():
            vectors[row, zlib.crc32(word.encode()) % 16] += 1
    return EncodedChunk(vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def desk_in(root: Path, **options: Any) -> Desk:
    """Return a desk on an empty data folder."""
    given = DeskOptions(**{"root": root, "sources": {MODEL: MODEL, "other": "other"}, **options})
    return Desk(given, JobQueue(root), encode)


def ask(
    desk: Desk, function: Any, body: Any = None, *, organization: str = "local", upload: Path | None = None, **more: Any
) -> Response:
    """Call a route's function; `more` holds params, query and headers."""
    given = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return function(desk, Call(organization=organization, body=given, upload=upload, **more))


def said(answer: Response) -> Any:
    """Return the JSON of an answer."""
    return json.loads(bytes(answer.body))


def feather_of(table: pa.Table, path: Path, **metadata: str) -> Path:
    """Write a shard as the official client does."""
    feather.write_feather(table.replace_schema_metadata(metadata), path, compression="zstd")
    return path


def read_feather(answer: Response) -> pa.Table:
    """Return the table of an answer."""
    return feather.read_table(io.BytesIO(bytes(answer.body)))


def run_jobs(desk: Desk) -> list[JobRecord]:
    """Run what waits, one after another."""
    done = []
    for entry in list(desk.queue.entries()):
        done.append(jobs_process.run(entry.folder, entry.job_id, desk.options.root, lambda: desk.encoders))
        desk.queue.close(entry)
    return done
