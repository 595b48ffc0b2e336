"""What every dialect is: three pure functions between bytes and our types, and what they share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gnomonic.errors import (
    AuthenticationError,
    DatasetError,
    DatasetNotFoundError,
    DeadlineError,
    GnomonicError,
    InputError,
    OverloadedError,
    RateLimitError,
    SchemaError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)
from gnomonic.types import Embeddings, EmbedRequest

__all__ = ["Dialect", "Reply", "retry_after", "status_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An HTTP answer."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beyond Content-Type and Content-Length; lower-case names."""
    media_type: str = "application/json"


class Dialect(Protocol):
    """One wire format. Modules of this folder satisfy it."""

    def parse(self, body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
        """Read a request.

        Args:
            body: as it came, decompressed.
            headers: lower-case names.

        Raises:
            InputError: the body is not what the dialect asks for; the message names field, value and rule.
        """
        ...

    def render(self, request: EmbedRequest, embeddings: Embeddings) -> Reply:
        """Write the answer to a request that `parse` read."""
        ...

    def render_error(self, error: GnomonicError) -> Reply:
        """Write an error in the dialect's own shape, with its status."""
        ...


# The first that fits counts, so a class stands before those it derives from.
_STATUSES: tuple[tuple[type[GnomonicError], int], ...] = (
    (UnknownModelError, 404),
    (TooLargeError, 413),
    (InputError, 400),
    (AuthenticationError, 401),
    (RateLimitError, 429),
    (OverloadedError, 429),
    (UnavailableError, 503),
    (DeadlineError, 504),
    (DatasetNotFoundError, 404),
    (SchemaError, 422),
    (DatasetError, 400),
)


def status_of(error: GnomonicError) -> int:
    """Return the HTTP status of an error; 500 for what is the server's own fault."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def retry_after(error: GnomonicError) -> dict[str, str]:
    """Return the Retry-After header of an error that says when to come again, in whole seconds of at least 1."""
    seconds = getattr(error, "retry_after_s", None)
    return {} if seconds is None else {"retry-after": str(max(1, math.ceil(seconds)))}
