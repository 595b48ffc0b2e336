"""What the official client may ask for and this server does not do."""

from __future__ import annotations

from fastapi import Response

from gnomonic.server.atlas.call import Call, said
from gnomonic.server.atlas.desk import Desk

__all__ = ["not_here", "refresh"]


def not_here(desk: Desk, call: Call) -> Response:  # noqa: ARG001 - every route's function takes both
    """Answer 501: documents are not parsed here, and there are no hosted data streams."""
    detail = "this server makes embeddings and maps; it parses no documents and hosts no data streams"
    return said({"detail": detail}, status=501)


def refresh(desk: Desk, call: Call) -> Response:  # noqa: ARG001
    """Answer 404: keys of this server do not expire."""
    detail = "keys of this server begin with nk- and are not refreshed; `nomic login nk-…` keeps one"
    return said({"detail": detail}, status=404)
