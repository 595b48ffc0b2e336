"""A request on one of the Atlas routes, away from HTTP, and the answers to it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from fastapi import Response

from gnomonic.errors import InputError

__all__ = ["ARROW_STREAM", "Call", "data", "json_bytes", "json_of", "said"]

ARROW_STREAM = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What a request asks for."""

    organization: str
    """Whose key it carries."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Parts of the path."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    body: bytes = b""
    """Empty where the body is in `upload`."""
    upload: Path | None = None
    """The body in a file that goes when the answer is made."""

    def fields(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            InputError: it is none.
        """
        return json_of(self.upload.read_bytes() if self.upload is not None else self.body)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number of the query.

        Raises:
            InputError: it is none, or out of range.
        """
        given = self.query.get(name)
        if given is None:
            return default
        try:
            found = int(given)
        except ValueError:
            raise InputError(f"{name} {given[:40]!r} is not a whole number") from None
        if not low <= found <= high:
            raise InputError(f"{name} {found} is out of range; choose {low} to {high}")
        return found


def json_of(body: bytes) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        InputError: the body is none.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the request body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"the request body is a JSON {type(found).__name__}; send an object")
    return found


def said(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer of JSON: bytes in it become base64, what JSON has no form for becomes text."""
    return Response(json_bytes(value), status_code=status, media_type="application/json", headers=dict(headers or {}))


def json_bytes(value: Any) -> bytes:
    """Return any value as JSON: bytes in it become base64, what JSON has no form for becomes text."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def data(
    body: bytes, media_type: str = "application/octet-stream", headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer of bytes."""
    return Response(body, headers={"content-type": media_type, **(headers or {})})


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset):
        return list(value)
    return str(value)
