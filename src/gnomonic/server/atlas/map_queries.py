"""What the rows of a map are compared with: a text, a vector, a row, a picture."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.atlas.atlas_map import AtlasMap
from gnomonic.atlas.options import EmbedOptions
from gnomonic.atlas.sprites import image_type
from gnomonic.errors import GnomonicError, InputError
from gnomonic.server.atlas.desk import Desk
from gnomonic.server.atlas.identifiers import typed_ids
from gnomonic.server.atlas.reading import text

__all__ = [
    "QUERIES", "MapQuery", "check_model", "place_of", "query_of", "searches_images", "searches_texts", "vector_of",
]  # fmt: skip

QUERIES = ("query", "vector", "id", "position", "image")
"""Fields of a body, of which one is the query."""
_MAX_DIM = 65_536
_MAX_IMAGE = 32 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class MapQuery:
    """What rows are compared with."""

    key: Hashable
    """Names it."""
    query: Mapping[str, Any]
    """As `MapSearch.heat` takes it."""


def query_of(desk: Desk, found: AtlasMap, given: Mapping[str, Any]) -> MapQuery:
    """Return the query of a body.

    Raises:
        InputError: there is none, there are several, or it is not usable on this map.
    """
    asked = [name for name in QUERIES if given.get(name) is not None]
    if len(asked) != 1:
        raise InputError(f"give one of {', '.join(QUERIES)}, not {' and '.join(asked) or 'none'}")
    (name,) = asked
    if name == "query":
        words = text(given, "query") or ""
        check_model(desk, found)
        return MapQuery(key=("query", words), query={"text": words})
    if name == "id":
        (id_,) = typed_ids(found.dataset, [given["id"]])
        return MapQuery(key=("id", id_), query={"id": id_})
    if name == "position":
        row = int(found.folder.order[place_of(found, given["position"])])
        vector = np.asarray(found.search_engine.index.vectors[row], dtype=np.float32)
        return MapQuery(key=("position", given["position"]), query={"vector": vector})
    vector = _pictured(desk, found, given) if name == "image" else vector_of(given, found)
    return MapQuery(key=(name, hashlib.sha256(vector.tobytes()).digest()), query={"vector": vector})


def place_of(found: AtlasMap, given: Any) -> int:
    """Return a position of the map order.

    Raises:
        InputError: it is none.
    """
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < found.record.rows:
        raise InputError(f"position {str(given)[:40]} is not on the map; it has {found.record.rows:,} rows, from 0 on")
    return given


def vector_of(given: Mapping[str, Any], found: AtlasMap) -> NDArray[np.float32]:
    """Return the vector of a body.

    Raises:
        InputError: it is no list of finite numbers, or not as long as the map's.
    """
    value = given["vector"]
    try:
        if not isinstance(value, list) or len(value) > _MAX_DIM:
            raise TypeError
        vector = np.array(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError("vector must be a list of numbers") from None
    if vector.shape != (found.record.dim,) or not np.isfinite(vector).all():
        raise InputError(f"vector must have {found.record.dim} finite numbers; it has the shape {vector.shape}")
    return vector


def searches_texts(desk: Desk, found: AtlasMap) -> bool:
    """Tell whether texts can be compared with the rows: the map's model is offered, and is on this machine."""
    try:
        name = _model_of(desk, found)
    except GnomonicError:
        return False
    return name is not None and desk.options.why_absent(name) is None


def check_model(desk: Desk, found: AtlasMap) -> None:
    """Check that texts are not compared with the vectors of another model.

    Raises:
        InputError: the map's model is not offered here.
    """
    if found.record.modality == "text" and _model_of(desk, found) is None:
        raise InputError(
            f"the map was made with {found.record.model!r}, which is not served here",
            hint="search by words, or with a row",
        )


def _model_of(desk: Desk, found: AtlasMap) -> str | None:
    """Return the name of the offered model that made the map; None where another one stands in for it."""
    model = found.record.model
    if found.record.modality != "text" or model is None:
        return None
    name = desk.models.resolve(model)
    is_same = name == model.removeprefix("nomic-ai/") or desk.models.sources.get(name) == model
    return name if is_same else None


def searches_images(desk: Desk, found: AtlasMap) -> bool:
    """Tell whether pictures can be compared with the rows."""
    if found.record.modality != "image":
        return False
    try:
        return desk.encoders.model_of("image", _options(found)) == found.record.model
    except GnomonicError:
        return False


def _options(found: AtlasMap) -> EmbedOptions:
    return EmbedOptions.read({**found.record.options.get("embed", {}), "model": found.record.model})


def _pictured(desk: Desk, found: AtlasMap, given: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return the vector of a picture.

    Raises:
        InputError: it is none, or the map is not one of pictures.
    """
    if found.record.modality != "image":
        raise InputError(
            f"this map was made from {found.record.modality}s, so pictures cannot be compared with its rows",
            hint="search with a text, or with a row",
        )
    if not searches_images(desk, found):
        raise InputError(f"the map's pictures were embedded with {found.record.model!r}, which is not served here")
    encoded = text(given, "image", longest=_MAX_IMAGE) or ""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"image is no base64: {error}") from None
    if image_type(raw) is None:
        raise InputError("image is no PNG, JPEG, WebP or GIF file")
    vector = np.asarray(desk.encoders.open("image", _options(found))([raw]).vectors[0], dtype=np.float32)
    if vector.shape != (found.record.dim,):
        raise InputError(f"the picture's vector has {len(vector)} numbers and the map's {found.record.dim}")
    return vector
