"""Fields of JSON bodies, each checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gnomonic.errors import InputError

__all__ = ["flag", "names", "number", "only", "text", "whole"]

_MAX_TEXT = 100_000
_MAX_NAMES = 10_000


def only(given: Mapping[str, Any], *allowed: str) -> None:
    """Refuse fields that mean nothing here.

    Raises:
        InputError: there is one; names those there are.
    """
    for name in given:
        if name not in allowed:
            raise InputError(f"field {str(name)[:60]!r} is unknown; the fields are {', '.join(allowed)}")


def text(given: Mapping[str, Any], name: str, default: str | None = None, *, longest: int = _MAX_TEXT) -> str | None:
    """Return a text, the default where it is absent or null.

    Raises:
        InputError: it is no text, or too long.
    """
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise InputError(f"{name} is a JSON {type(value).__name__}; send a text")
    if len(value) > longest:
        raise InputError(f"{name} has {len(value):,} characters; send at most {longest:,}")
    return value


def whole(given: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """Return a whole number within a range.

    Raises:
        InputError: it is none, or outside.
    """
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} {str(value)[:40]} is not a whole number from {low} to {high}")
    return value


def number(given: Mapping[str, Any], name: str) -> float | None:
    """Return a finite number, None where it is absent or null.

    Raises:
        InputError: it is none.
    """
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} {str(value)[:40]!r} is no finite number")
    return float(value)


def flag(given: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """Return true or false.

    Raises:
        InputError: it is neither.
    """
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"{name} {str(value)[:40]} is neither true nor false")
    return value


def names(given: Mapping[str, Any], name: str, *, numbers: bool = False) -> list[Any] | None:
    """Return a list of texts, or with `numbers` of texts and whole numbers; None where it is absent.

    Raises:
        InputError: it is none, or too long.
    """
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > _MAX_NAMES:
        raise InputError(f"{name} must be a list of at most {_MAX_NAMES:,} values")
    for one in value:
        fits = isinstance(one, str) or (numbers and isinstance(one, int) and not isinstance(one, bool))
        if not fits:
            raise InputError(f"{name} holds {str(one)[:60]!r}, which is no {'name or number' if numbers else 'text'}")
    return value
