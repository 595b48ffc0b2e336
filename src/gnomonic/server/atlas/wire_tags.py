"""The official client's view of tags."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.dataset import Dataset
from gnomonic.errors import DatasetNotFoundError
from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk

__all__ = ["all_tags", "tag_bits", "tag_status"]


def all_tags(desk: Desk, call: Call) -> Response:
    """GET /v1/project/projection/tags/get/all: every tag of the dataset."""
    dataset = desk.datasets.by_id(call.organization, call.query.get("project_id"))
    tags = [
        {
            "tag_id": _tag_id(dataset, name),
            "tag_definition_id": _definition(dataset, name),
            "tag_name": name,
            "project_id": dataset.id,
            "projection_id": call.query.get("projection_id"),
        }
        for name in dataset.annotations.tags()
    ]
    return said(tags)


def tag_status(desk: Desk, call: Call) -> Response:
    """GET /v1/project/projection/tags/status: tags are ready at once."""
    dataset = desk.datasets.by_id(call.organization, call.query.get("project_id"))
    wanted = call.query.get("tag_id")
    return said({"is_complete": any(_tag_id(dataset, name) == wanted for name in dataset.annotations.tags())})


def tag_bits(found: AtlasMap, definition: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for rows of the map, in row order, whether they have the tag.

    Raises:
        DatasetNotFoundError: no tag has this definition now.
    """
    dataset = found.dataset
    for name in dataset.annotations.tags():
        if _definition(dataset, name) == definition:
            return np.isin(found.folder.rows[rows], dataset.annotations.rows_of(name))
    raise DatasetNotFoundError("there is no tag with this definition, or its rows have changed")


def _tag_id(dataset: Dataset, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(dataset.id), name))


def _definition(dataset: Dataset, name: str) -> str:
    """Return a name for what is tagged now: the client keeps the rows of a definition for good."""
    rows = np.sort(dataset.annotations.rows_of(name)).astype("<i8")
    return hashlib.sha256(name.encode() + b"\0" + rows.tobytes()).hexdigest()[:32]
