"""Large answers of JSON, packed for clients that unpack."""

from __future__ import annotations

import gzip

from fastapi import Response

from gnomonic.server.atlas.call import Call

__all__ = ["packed"]

_SMALL = 1024
"""Bytes below which packing gains nothing."""
_LEVEL = 4


def packed(call: Call, answer: Response) -> Response:
    """Return an answer packed where it is large, of JSON, and the client takes gzip; else as it is."""
    body = getattr(answer, "body", b"")
    if len(body) < _SMALL or answer.headers.get("content-type") != "application/json":
        return answer
    answer.headers["vary"] = "accept-encoding"
    if not _takes_gzip(call.headers.get("accept-encoding", "")):
        return answer
    answer.body = gzip.compress(bytes(body), _LEVEL, mtime=0)
    answer.headers["content-encoding"] = "gzip"
    answer.headers["content-length"] = str(len(answer.body))
    if (etag := answer.headers.get("etag")) is not None:
        # The same in other bytes, which is what a weak tag says.
        answer.headers["etag"] = f"W/{etag}"
    return answer


def _takes_gzip(accepted: str) -> bool:
    for one in accepted.lower().split(","):
        name, _, rest = one.partition(";")
        if name.strip() == "gzip":
            return rest.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
