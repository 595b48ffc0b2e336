"""The access log: one line of JSON for each request, on the logger `gnomonic.access`; never a text, never a key.

The line is the whole message, so that a handler with the format `%(message)s` writes a file that `jq` reads.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnomonic.server.routes.embeddings import Exchange

__all__ = ["fields_of", "write"]

logger = logging.getLogger("gnomonic.access")

_LONGEST = 200
"""Characters of what a client chose: a path or a model's name."""


def write(
    scope: Mapping[str, Any],
    exchange: Exchange,
    status: int,
    seconds: float,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Log one request.

    Args:
        scope: of the ASGI request.
        exchange: what was noted of it.
        status: of the answer.
        seconds: it took.
        clock: seconds since 1970, at the request's end.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    ended = datetime.fromtimestamp(clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # ASCII: whatever a client puts into a name, the line stays one line.
    logger.info(json.dumps({"time": ended, **fields_of(scope, exchange, status, seconds)}, ensure_ascii=True))


def fields_of(scope: Mapping[str, Any], exchange: Exchange, status: int, seconds: float) -> dict[str, Any]:
    """Return what may be told of a request.

    Args:
        scope: of the ASGI request; its query is left out, since people put keys there.
        exchange: what was noted of it.
        status: of the answer.
        seconds: it took.
    """
    client = scope.get("client")
    return {
        "request_id": exchange.request_id,
        "client": client[0] if client else "",
        "method": scope["method"],
        "path": scope["path"][:_LONGEST],
        "dialect": exchange.dialect,
        "model": exchange.model[:_LONGEST],
        "task": exchange.task,
        "texts": exchange.texts,
        "tokens": exchange.tokens,
        "truncated": exchange.truncated,
        "status": status,
        "duration_ms": round(1000 * seconds, 2),
        "phases_ms": {phase: round(1000 * spent_s, 2) for phase, spent_s in exchange.phases.items()},
        "key_id": exchange.key_id,
    }
