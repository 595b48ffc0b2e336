"""Conditions that users write, with the columns' names put into the form that the store knows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from gnomonic.errors import InputError

__all__ = ["translate"]

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<text>'(?:[^']|'')*')
    | "(?P<double>(?:[^"]|"")*)"
    | `(?P<back>(?:[^`]|``)*)`
    | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign><=|>=|<>|!=|==|\|\||[-+*/%=<>(),.\[\]:])
    """,
    re.VERBOSE,
)

_ALWAYS = frozenset(
    {"and", "or", "not", "in", "is", "null", "like", "ilike", "between", "true", "false", "escape", "as"}
)
"""Words of SQL that are never columns; a column of such a name stands in quotes."""

_TYPES = frozenset(
    {
        "date", "time", "timestamp", "interval", "with", "zone", "boolean", "tinyint", "smallint", "int", "integer",
        "bigint", "unsigned", "float", "real", "double", "precision", "decimal", "numeric", "string", "text", "varchar",
        "char",
    }
)  # fmt: skip
"""Words that are SQL's before a text and after `as`, and columns everywhere else where there are such columns."""

_FUNCTIONS = frozenset(("cast", "try_cast", "extract", "position", "substring", "trim"))

_MOST_CHAINED = 100
"""Operators in one expression that is not divided by AND or OR. The engine nests a level for each, and some hundreds of
levels overrun its stack, which ends the process."""

_OPERATORS = frozenset({"is", "not", "in", "like", "ilike", "escape", "between"})
_OPEN, _CLOSE, _APART = ("sign", "("), ("sign", ")"), ("sign", ",")


def translate(predicate: str, columns: Mapping[str, str]) -> str:
    """Return a condition with every column's name replaced.

    A name is a word, or anything in "double quotes" or `backticks` with that quote doubled inside; 'single quotes' are
    for texts. Words are matched as written, then without regard to case where that leaves one column.

    Args:
        predicate: what may follow WHERE.
        columns: what to put for each name.

    Raises:
        InputError: a name is unknown, a character belongs to nothing, or too many operators follow one another.
    """
    tokens = _tokens(predicate)
    _check_chains(tokens)
    if not tokens:
        raise InputError("the condition is empty; write one such as \"year >= 2000 AND title LIKE '%map%'\"")
    made: list[str] = []
    place = 0
    while place < len(tokens):
        kind, text = tokens[place]
        if kind in ("double", "back"):
            made.append(columns[text] if text in columns else _unknown(text, columns))
        elif kind == "word":
            found, used = _word(tokens, place, columns)
            made.append(found)
            place += used - 1
        else:
            made.append("=" if text == "==" else text)
        place += 1
    return "".join(made)


def _tokens(predicate: str) -> list[tuple[str, str]]:
    found = []
    place = 0
    while place < len(predicate):
        match = _TOKEN.match(predicate, place)
        if match is None:
            rest = predicate[place : place + 20]
            what = f"the quote at {rest!r} is not closed" if rest[0] in "'\"`" else f"{rest[0]!r} cannot stand here"
            raise InputError(f"condition {predicate!r} cannot be read: {what}")
        kind = str(match.lastgroup)
        text = str(match[kind])
        quote = {"double": '"', "back": "`"}.get(kind)
        found.append((kind, text.replace(quote * 2, quote) if quote else text))
        place = match.end()
    return found if any(kind != "space" for kind, _ in found) else []


def _check_chains(tokens: list[tuple[str, str]]) -> None:
    """Refuse conditions that the engine would nest too deeply."""
    chained = peak = between = 0
    base = 0
    """Operators around the innermost open bracket."""
    outer: list[tuple[int, int, int]] = []
    for kind, text in tokens:
        word = text.lower() if kind == "word" else ""
        if (kind, text) == _OPEN:
            outer.append((base, peak, between))
            base, peak, between = chained, chained, 0
        elif (kind, text) == _CLOSE and outer:
            # What follows is put on top of the deepest that was inside.
            chained = peak
            base, peak, between = outer.pop()
        elif word == "and" and between:
            between -= 1
        elif word in ("and", "or") or (kind, text) == _APART:
            chained, between = base, 0
        elif (kind, text) != _CLOSE and (kind == "sign" or word in _OPERATORS):
            chained += 1
            between += word == "between"
        peak = max(peak, chained)
        if chained > _MOST_CHAINED:
            raise InputError(
                f"the condition has more than {_MOST_CHAINED} operators in one expression",
                hint="divide it with AND or OR, or list values with IN (…)",
            )


def _word(tokens: list[tuple[str, str]], place: int, columns: Mapping[str, str]) -> tuple[str, int]:
    """Return what a word becomes, and how many tokens it took."""
    word = tokens[place][1]
    before = _near(tokens, place, -1)
    after = _near(tokens, place, 1)
    if before == ("sign", "."):
        return f"`{word}`", 1  # a field of a struct
    for dotted, used in _dotted(tokens, place):
        if dotted in columns:
            return columns[dotted], used
    lower = word.lower()
    if lower in _ALWAYS or (after == ("sign", "(") and (word not in columns or lower in _FUNCTIONS)):
        return word, 1
    # `date '2020-01-01'` and `CAST(x AS date)` mean SQL's date even where a column has that name.
    sql = lower in _TYPES and (after[0] == "text" or (before[0] == "word" and before[1].lower() in ("as", *_TYPES)))
    if not sql and word in columns:
        return columns[word], 1
    if not sql and len(same := [name for name in columns if name.lower() == lower]) == 1:
        return columns[same[0]], 1
    if lower in _TYPES:
        return word, 1
    return _unknown(word, columns), 1


def _near(tokens: list[tuple[str, str]], place: int, step: int) -> tuple[str, str]:
    """Return the next token that way that is no space."""
    place += step
    while 0 <= place < len(tokens):
        if tokens[place][0] != "space":
            return tokens[place]
        place += step
    return ("", "")


def _dotted(tokens: list[tuple[str, str]], place: int) -> list[tuple[str, int]]:
    """Return the names of two or more words joined by dots that begin here, longest first, and their tokens."""
    name, used = tokens[place][1], 1
    found: list[tuple[str, int]] = []
    while tokens[place + used : place + used + 1] == [("sign", ".")] and place + used + 1 < len(tokens):
        kind, text = tokens[place + used + 1]
        if kind != "word":
            break
        name, used = f"{name}.{text}", used + 2
        found.insert(0, (name, used))
    return found


def _unknown(name: str, columns: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "the columns are: " + ", ".join(map(repr, columns))
    raise InputError(f"the condition names {name!r}, which is no column; {hint}", hint="texts stand in 'single quotes'")
