"""The official client's searches by vector."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

from gnomonic.errors import InputError
from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids

__all__ = ["by_embedding", "by_id", "topic_shares", "vectors_of"]

_MAX_QUERIES = 256
_MAX_K = 128


def by_embedding(desk: Desk, call: Call) -> Response:
    """POST …/nearest_neighbors/by_embedding: the rows nearest to vectors."""
    given = call.fields()
    found = desk.datasets.map_by_index(call.organization, given.get("atlas_index_id"))
    neighbors, distances = found.embeddings.vector_search(queries=vectors_of(given.get("queries")), k=_k(given, 5))
    return said({"neighbors": neighbors, "distances": distances})


def by_id(desk: Desk, call: Call) -> Response:
    """POST …/nearest_neighbors/by_id: the rows nearest to rows."""
    given = call.fields()
    ids = given.get("datum_ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= _MAX_QUERIES:
        raise InputError(f"datum_ids must be a list of 1 to {_MAX_QUERIES} ids")
    found = desk.datasets.map_by_index(call.organization, given.get("atlas_index_id"))
    neighbors, distances = found.embeddings.vector_search(ids=typed_ids(found.dataset, ids), k=_k(given, 5))
    return said({"neighbors": neighbors, "distances": distances})


def topic_shares(desk: Desk, call: Call) -> Response:
    """POST …/embedding/topic: how the rows nearest to vectors spread over topics."""
    given = call.fields()
    found = desk.datasets.map_by_index(call.organization, given.get("atlas_index_id"))
    depth = given.get("depth", 3)
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise InputError("depth must be a whole number")
    return said(found.topics.vector_search_topics(vectors_of(given.get("queries")), k=_k(given, 32), depth=depth))


def vectors_of(given: object) -> NDArray[Any]:
    """Return the array that a client wrote with numpy's `save` and in base64.

    Raises:
        InputError: it is none, or not [m, dim] of finite numbers with m at most 256.
    """
    if not isinstance(given, str):
        raise InputError("queries must be a numpy array as numpy.save writes it, in base64")
    try:
        raw = base64.b64decode(given, validate=True)
        # An .npy file alone, and no archive of them, which could hold far more than was sent.
        if not raw.startswith(b"\x93NUMPY"):
            raise ValueError("it does not begin as a .npy file does")
        found = _loaded(raw)
    except (binascii.Error, ValueError, EOFError, OSError) as error:
        raise InputError(f"queries are no numpy array: {error}") from None
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise InputError("queries must be an array [m, dim] of numbers")
    if not 1 <= len(found) <= _MAX_QUERIES:
        raise InputError(f"queries: {len(found)} vectors; send 1 to {_MAX_QUERIES} at a time")
    if not np.isfinite(found).all():
        raise InputError("queries hold numbers that are not finite")
    return found


def _loaded(raw: bytes) -> NDArray[Any]:
    """Return the array of a .npy file whose head promises no more than it holds."""
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if math.prod(shape) * dtype.itemsize > len(raw):
        raise ValueError("it ends before its last number")
    stream.seek(0)
    loaded: NDArray[Any] = np.load(stream, allow_pickle=False)
    return loaded


def _k(given: Mapping[str, Any], default: int) -> int:
    k = given.get("k", default)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MAX_K:
        raise InputError(f"k {str(k)[:40]!r} is not a whole number from 1 to {_MAX_K}")
    return k
