"""Strict reading of JSON requests: every field has its type, its range and a message that says so.

Messages begin with the field's name as the caller wrote it; `rendering.told` finds it there again. They show names
and numbers, never a text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gnomonic.errors import InputError, UnknownModelError
from gnomonic.types import LongTextMode, TaskType

__all__ = [
    "MODEL_ALIASES",
    "choice",
    "flag",
    "json_object",
    "kind_of",
    "mode_of",
    "model_of",
    "required",
    "shown",
    "split_model",
    "string",
    "strings",
    "task_of",
    "texts_or_ids",
    "token_limit",
    "whole_number",
]

MODEL_ALIASES: Mapping[str, str] = {
    "nomic-embed-text": "nomic-embed-text-v1.5",
    "nomic-embed-text:v1.5": "nomic-embed-text-v1.5",
    "nomic-embed-text:137m-v1.5-fp16": "nomic-embed-text-v1.5",
}
"""What other servers call a model of the catalog."""

# What other interfaces call our tasks; "text-matching" compares texts as clustering does.
_TASKS: Mapping[str, TaskType] = {
    **{str(task): task for task in TaskType},
    "query": TaskType.SEARCH_QUERY,
    "document": TaskType.SEARCH_DOCUMENT,
    "passage": TaskType.SEARCH_DOCUMENT,
    "retrieval.query": TaskType.SEARCH_QUERY,
    "retrieval.passage": TaskType.SEARCH_DOCUMENT,
    "separation": TaskType.CLUSTERING,
    "text-matching": TaskType.CLUSTERING,
}

_MAX_TOKENS = 8192
_MAX_NAME = 200
_SHOWN = 40
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*")
_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; of a name that stands twice, the last value counts.

    Raises:
        InputError: no body, no JSON (NaN, a byte order mark, invalid UTF-8, a lone surrogate, more than 1000
            levels), or JSON that is no object.
    """
    if not body.strip():
        raise InputError("missing request body: send a JSON object")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the request body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"the request body is {kind_of(value)}; send a JSON object")
    return value


def kind_of(value: object) -> str:
    """Return what a JSON value is, in words."""
    return _KINDS[type(value)]


def shown(value: object) -> str:
    """Return a short form of a field's value for a message; of a list or an object only that it is one."""
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else kind_of(value)


def required(body: Mapping[str, Any], name: str) -> Any:
    """Return a field that must be there and not null.

    Raises:
        InputError: it is not.
    """
    if body.get(name) is None:
        raise InputError(f"{name} is {'null' if name in body else 'missing'}; the request needs it")
    return body[name]


def string(body: Mapping[str, Any], name: str) -> str | None:
    """Return an optional string; null is as good as absent.

    Raises:
        InputError: it is something else.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} is {kind_of(value)}; it must be a string")
    return value


def flag(body: Mapping[str, Any], name: str) -> bool | None:
    """Return an optional true or false; null is as good as absent.

    Raises:
        InputError: it is something else.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{name} {shown(value)} is no switch; it must be true or false")
    return value


def whole_number(body: Mapping[str, Any], name: str, *, least: int = 1) -> int | None:
    """Return an optional whole number; null is as good as absent, and 64.0 or true is none.

    Raises:
        InputError: it is something else, or smaller than `least`.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} {shown(value)} is not a whole number; it must be {least} or more")
    if value < least:
        raise InputError(f"{name} {value} is smaller than {least}; it must be {least} or more")
    return value


def token_limit(body: Mapping[str, Any], name: str) -> int:
    """Return the caller's limit of tokens per text, 8192 where it sets none; the model's own applies as well.

    Raises:
        InputError: it is not a whole number of 1 or more.
    """
    limit = whole_number(body, name)
    return _MAX_TOKENS if limit is None else limit


def choice(body: Mapping[str, Any], name: str, choices: Sequence[str]) -> str | None:
    """Return an optional string that is one of a few; null is as good as absent.

    Raises:
        InputError: it is something else; names the closest.
    """
    value = string(body, name)
    if value is not None and value not in choices:
        raise InputError(f"{name} {shown(value)} is unknown; {_suggestion(value, choices)}")
    return value


def strings(value: object, name: str) -> tuple[str, ...]:
    """Check a list of texts.

    Raises:
        InputError: no list, or an entry that is no string; names its index and not its content.
    """
    if isinstance(value, str):
        raise InputError(f"{name} is one string; send a list of strings")
    if not isinstance(value, list):
        raise InputError(f"{name} is {kind_of(value)}; send a list of strings")
    for index, item in enumerate(value):
        if type(item) is not str:
            raise InputError(f"{name}[{index}] is {kind_of(item)}; every text must be a string")
    return tuple(value)


def texts_or_ids(value: object, name: str) -> tuple[tuple[str, ...], list[list[int]] | None]:
    """Read what OpenAI and TEI take as input: a text, a list of texts, token ids, or a list of lists of token ids.

    Returns:
        The texts, and the token ids of each input or None where there are texts.

    Raises:
        InputError: anything else, or a mixture; names the index.
    """
    if isinstance(value, str):
        return (value,), None
    if not isinstance(value, list):
        raise InputError(f"{name} is {kind_of(value)}; send a string or a list of strings")
    first = value[0] if value else ""
    if type(first) is int:
        return (), [_token_ids(value, name)]
    if type(first) is list:
        return (), [_token_ids(ids, f"{name}[{index}]") for index, ids in enumerate(value)]
    return strings(value, name), None


def split_model(name: str) -> tuple[str, TaskType | None]:
    """Split a model's name into the name of the catalog and the task it asks for.

    `NAME:search_query`, `NAME:query`, `NAME:document` and so on carry a task; `:latest` and a leading `nomic-ai/`
    say nothing; `MODEL_ALIASES` are resolved. Whether the model is served is not looked at.

    Raises:
        UnknownModelError: no name of a model: empty, longer than 200 characters, or a path.
    """
    bare = name.removeprefix("nomic-ai/")
    if len(name) > _MAX_NAME or ".." in bare or not _NAME.fullmatch(bare):
        raise UnknownModelError(
            f"model {shown(name)} not found; a name has 1 to {_MAX_NAME} letters, digits and . _ : + - "
            "and is never a path"
        )
    bare = bare.removesuffix(":latest")
    base, _, last = bare.rpartition(":")
    task = _TASKS.get(last) if base else None
    if task is not None:
        bare = base.removesuffix(":latest")
    return MODEL_ALIASES.get(bare, bare), task


def model_of(body: Mapping[str, Any], *, default: str | None) -> tuple[str, TaskType | None, dict[str, Any]]:
    """Read `model`.

    Args:
        body: the request.
        default: the model where none is named; None where one must be.

    Returns:
        The name of the catalog, the task the name carries, and the start of `EmbedRequest.options`: "model_name",
        the name as the caller wrote it, to be echoed; absent when none was named, so that a server may put its
        own default in place.

    Raises:
        InputError: it is missing, or no string.
        UnknownModelError: no name of a model.
    """
    name = string(body, "model")
    if name is None:
        if default is None:
            raise InputError("model is missing; name one that this server serves")
        return default, None, {}
    model, task = split_model(name)
    return model, task, {"model_name": name}


def task_of(
    native: Sequence[str], body: Mapping[str, Any], headers: Mapping[str, str], alias: TaskType | None
) -> TaskType:
    """Choose the task: a field of the dialect, `task_type`, the header `x-task-type`, the model's name, in this order.

    Args:
        native: the dialect's own fields for it, the first that is set counts.
        body: the request.
        headers: lower-case names.
        alias: what the model's name said.

    Raises:
        InputError: a field or the header names no task.
    """
    for name in (*native, "task_type"):
        value = string(body, name)
        if value is not None:
            return _task(value, name)
    if "x-task-type" in headers:
        return _task(headers["x-task-type"], "header x-task-type")
    return alias or TaskType.SEARCH_DOCUMENT


def mode_of(body: Mapping[str, Any], otherwise: LongTextMode) -> LongTextMode:
    """Return `long_text_mode`, which every dialect takes, or what the dialect's own fields say.

    Raises:
        InputError: no such mode.
    """
    value = choice(body, "long_text_mode", list(LongTextMode))
    return otherwise if value is None else LongTextMode(value)


def _task(value: str, field: str) -> TaskType:
    task = _TASKS.get(value)
    if task is None:
        raise InputError(f"{field} {shown(value)} is unknown; {_suggestion(value, list(TaskType))}")
    return task


def _suggestion(value: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(value[:_SHOWN].lower(), choices, n=1)
    meant = f"did you mean {str(near[0])!r}? " if near else ""
    return f"{meant}choose one of {', '.join(choices)}"


def _token_ids(value: object, name: str) -> list[int]:
    if not isinstance(value, list):
        raise InputError(f"{name} is {kind_of(value)} among lists of token ids; send only texts or only token ids")
    if not value:
        raise InputError(f"{name} is an empty list of token ids; send at least one")
    for index, item in enumerate(value):
        if type(item) is not int:
            raise InputError(f"{name}[{index}] is {_number_kind(item)} among token ids; each is a whole number")
        if item < 0:
            raise InputError(f"{name}[{index}] is {item}; a token id is 0 or more")
    return value


def _number_kind(value: object) -> str:
    return "a fraction" if isinstance(value, float) else kind_of(value)
