"""Whose datasets a request may see: those of its key's organisation, and no others."""

from __future__ import annotations

import re

from gnomonic.errors import DatasetNotFoundError, InputError

__all__ = ["LOCAL", "check_organization", "check_slug", "check_uuid", "organization_of"]

LOCAL = "local"
"""The organisation of keys that name none, of servers without keys, and of datasets made without a server."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def organization_of(scope: object) -> str:
    """Return the organisation of a request, as the check of its key left it in the ASGI scope."""
    state = scope.get("state", {}) if isinstance(scope, dict) else {}
    return str(state.get("organization", LOCAL))


def check_slug(slug: str) -> str:
    """Return a slug that may stand in a path.

    Raises:
        DatasetNotFoundError: it is none, so nothing has this name.
    """
    if not _SLUG.fullmatch(slug):
        raise DatasetNotFoundError(f"there is no dataset {slug[:100]!r}; names have letters a to z, digits and hyphens")
    return slug


def check_uuid(value: object, what: str) -> str:
    """Return an id that may stand in a path.

    Raises:
        InputError: it is no UUID.
    """
    found = str(value).lower() if isinstance(value, str) else ""
    if not _UUID.fullmatch(found):
        raise InputError(f"{what} {str(value)[:60]!r} is no id of 32 hexadecimal digits with hyphens")
    return found


def check_organization(own: str, asked: str) -> None:
    """Let a request name its own organisation only.

    Raises:
        DatasetNotFoundError: it names another, whose datasets do not exist for it.
    """
    if asked != own:
        raise DatasetNotFoundError(
            f"there is no organisation {asked[:100]!r} for this API key", hint=f"its own is {own!r}"
        )
