"""Writing answers: vectors in every encoding, headers, and errors in the caller's words.

Whatever the encoding, what a text's vector becomes depends on that vector alone, never on the others of its request.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gnomonic.errors import EngineError, GnomonicError
from gnomonic.server.dialects.base import Reply, retry_after
from gnomonic.types import Embeddings, EmbedRequest

__all__ = [
    "ENCODINGS",
    "Told",
    "answer",
    "base64_rows",
    "binary_rows",
    "bit_rows",
    "error_answer",
    "finite",
    "float_rows",
    "headers_of",
    "int8_range",
    "int8_rows",
    "json_rows",
    "model_name",
    "told",
    "ubinary_rows",
    "uint8_rows",
    "usage_of",
]

_MOST_INDICES = 256
_RANGE = 10.0
_SUBJECT = re.compile(r"([a-z][a-z0-9_]*)((?:\[\d+\]|\.[a-z][a-z0-9_]*)*)(?= )")
_TOO_LONG = re.compile(r"\S+ has \d+ tokens\b.*\bmore than \d+")


def finite(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors in one piece, which orjson needs, and sure to be numbers.

    Args:
        vectors: [n, dim] float32.

    Raises:
        EngineError: a value is not finite, which JSON has no word for.
    """
    if not np.isfinite(vectors).all():
        raise EngineError("the vectors hold values that are not finite; nothing was sent")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def float_rows(vectors: NDArray[np.float32]) -> bytes:
    """Write vectors as a JSON array of arrays; each number is the shortest that reads back as the same float32.

    Args:
        vectors: [n, dim] float32.

    Raises:
        EngineError: a value is not finite.
    """
    return orjson.dumps(finite(vectors), option=orjson.OPT_SERIALIZE_NUMPY)


def json_rows(vectors: NDArray[np.float32]) -> orjson.Fragment:
    """Return `float_rows` as a part of a larger answer."""
    return orjson.Fragment(float_rows(vectors))


def base64_rows(vectors: NDArray[np.float32]) -> list[str]:
    """Write each vector as base64 of its little-endian float32 values, 4 · dim bytes.

    Args:
        vectors: [n, dim] float32.

    Raises:
        EngineError: a value is not finite.
    """
    rows = finite(vectors).astype("<f4", copy=False)
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in rows]


def int8_range(dim: int) -> float:
    """Return the value that int8 127 stands for: min(1, 10 / sqrt(dim)).

    The values of a unit vector have a root mean square of 1 / sqrt(dim), so a fixed share of the range would waste
    most of the 8 bits. Ten times that is above the outliers that text models have in a few dimensions (up to 9 times
    in the bundled model, where clipping at 4, the best for a normal distribution, costs up to 0.03 of cosine); the
    rounding left is about 0.00025 of cosine. It depends on the dimension only, so vectors of different requests are
    comparable: x ≈ int8 · range / 127.
    """
    return min(1.0, _RANGE / math.sqrt(max(dim, 1)))


def int8_rows(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Round to 8 bits: clip(round(x · 127 / int8_range(dim)), -127, 127).

    Args:
        vectors: [n, dim] float32, rows of unit length.

    Returns:
        [n, dim] int8.
    """
    scaled = np.rint(finite(vectors).astype(np.float64) * (127.0 / int8_range(vectors.shape[1])))
    return np.clip(scaled, -127, 127).astype(np.int8)


def uint8_rows(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to 8 bits: `int8_rows` + 128, so 128 is zero.

    Args:
        vectors: [n, dim] float32, rows of unit length.

    Returns:
        [n, dim] uint8, 1 to 255.
    """
    return (int8_rows(vectors).astype(np.int16) + 128).astype(np.uint8)


def bit_rows(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Keep the sign only: 1 where a value is above zero.

    Args:
        vectors: [n, dim] float32.

    Returns:
        [n, dim] uint8 of 0 and 1.
    """
    return (finite(vectors) > 0).astype(np.uint8)


def ubinary_rows(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pack the signs, eight to a byte, the first in the highest bit; the last byte is filled with zero bits.

    Args:
        vectors: [n, dim] float32.

    Returns:
        [n, ceil(dim / 8)] uint8.
    """
    return np.packbits(bit_rows(vectors), axis=1)


def binary_rows(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Pack the signs as `ubinary_rows` does, less 128, as sentence-transformers does.

    Args:
        vectors: [n, dim] float32.

    Returns:
        [n, ceil(dim / 8)] int8.
    """
    return (ubinary_rows(vectors).astype(np.int16) - 128).astype(np.int8)


ENCODINGS: Mapping[str, Callable[[NDArray[np.float32]], Any]] = {
    "float": json_rows,
    "int8": int8_rows,
    "uint8": uint8_rows,
    "binary": binary_rows,
    "ubinary": ubinary_rows,
    "base64": base64_rows,
}
"""Every encoding by its name on the wire."""


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Make an answer of JSON; numpy arrays in it become lists."""
    return Reply(body=orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status=status, headers=headers or {})


def error_answer(error: GnomonicError, value: Any, *, status: int) -> Reply:
    """Make an answer of an error in the dialect's shape, with Retry-After where the error has one."""
    return answer(value, status=status, headers=retry_after(error))


def headers_of(request: EmbedRequest, embeddings: Embeddings) -> dict[str, str]:
    """Return what every dialect says in headers: the task applied, and the texts that were cut.

    `x-gnomonic-truncated` holds the first 256 indices, `x-gnomonic-truncated-count` how many there are; both are
    absent when nothing was cut.
    """
    headers = {"x-gnomonic-task": str(request.task_type)}
    if embeddings.truncated:
        headers["x-gnomonic-truncated"] = ",".join(map(str, embeddings.truncated[:_MOST_INDICES]))
        headers["x-gnomonic-truncated-count"] = str(len(embeddings.truncated))
    return headers


def model_name(request: EmbedRequest, embeddings: Embeddings) -> str:
    """Return the model's name as the caller wrote it, or the model's own where none was named."""
    name: str = request.options.get("model_name", embeddings.model)
    return name


def usage_of(embeddings: Embeddings) -> dict[str, int]:
    """Return the tokens of a request in the shape that OpenAI and Nomic share."""
    return {"prompt_tokens": embeddings.usage.prompt_tokens, "total_tokens": embeddings.usage.total_tokens}


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An error in the caller's words."""

    message: str
    """What is wrong and the hint, the field named as the dialect names it."""
    path: tuple[str | int, ...] = ()
    """The field and the indices inside it, such as ("input", 3); empty when it is about no field."""
    too_long: bool = False
    """Whether a text has more tokens than the model or the caller allows."""


def told(error: GnomonicError, names: Mapping[str, str], fields: Sequence[str] = ()) -> Told:
    """Say an error in the dialect's words: the field its message begins with gets the dialect's name.

    Args:
        error: raised by a parser, the service or the encoder, whose messages begin with the name of the argument.
        names: our name of an argument → the field of the dialect.
        fields: further fields of the dialect.
    """
    text = str(error)
    if error.hint:
        text += f" {error.hint}" if text.endswith((".", "!", "?")) else f"; {error.hint}"
    found = _SUBJECT.match(text)
    known = {**{name: name for name in (*names.values(), *fields)}, **names}
    if found is None or found[1] not in known:
        return Told(message=text)
    field = known[found[1]]
    parts = re.findall(r"\d+|[a-z][a-z0-9_]*", found[2])
    path = (*field.split("."), *(int(part) if part.isdigit() else part for part in parts))
    message = field + text[len(found[1]) :]
    return Told(message=message, path=path, too_long=_TOO_LONG.match(message) is not None)
