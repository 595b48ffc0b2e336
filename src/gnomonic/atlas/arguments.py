"""Small things that users give and get: lists, and names of columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from gnomonic.errors import InputError

__all__ = ["check_one_query", "free_name", "listed"]


def listed(values: Iterable[Any], what: str) -> list[Any]:
    """Return values as a list.

    Raises:
        InputError: they are one string, whose letters would be taken for values, or nothing to go through.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{what} is {values!r}; give a list")
    return list(values)


def check_one_query(**given: Any) -> None:
    """Check that one of a search's queries was given.

    Raises:
        InputError: none or several were; names them.
    """
    there = [name for name, value in given.items() if value is not None]
    if len(there) != 1:
        raise InputError(f"give one of {', '.join(given)}, not {' and '.join(there) or 'none'}")


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a name for a column that is made here: with a line before it for as long as a user's column has it."""
    while name in taken:
        name = f"_{name}"
    return name
