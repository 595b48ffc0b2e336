"""The shape of errors on the Atlas routes, the official client's and our own: `{"detail": "…"}`."""

from __future__ import annotations

from dataclasses import replace

from gnomonic.errors import GnomonicError
from gnomonic.server.dialects.base import Reply, status_of
from gnomonic.server.dialects.rendering import error_answer, told

__all__ = ["render_error"]


def render_error(error: GnomonicError) -> Reply:
    """Write `{"detail": "what is wrong; what to do"}` with the error's own status, and its class in a header."""
    reply = error_answer(error, {"detail": told(error, {}).message}, status=status_of(error))
    return replace(reply, headers={**reply.headers, "x-gnomonic-error": type(error).__name__})
