"""Cohere's embedding API, version 2: `POST /v2/embed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from gnomonic.errors import GnomonicError, InputError
from gnomonic.server.dialects.base import Reply, status_of
from gnomonic.server.dialects.reading import (
    choice,
    json_object,
    kind_of,
    mode_of,
    model_of,
    required,
    shown,
    strings,
    task_of,
    token_limit,
    whole_number,
)
from gnomonic.server.dialects.rendering import ENCODINGS, answer, error_answer, headers_of, told
from gnomonic.types import Embeddings, EmbedRequest, LongTextMode

__all__ = ["parse", "render", "render_error"]

_NAMES = {"dimensionality": "output_dimension", "max_tokens_per_text": "max_tokens"}
_FIELDS = ("embedding_types", "images", "input_type", "inputs", "long_text_mode", "model", "task_type", "texts",
           "truncate")  # fmt: skip
_TRUNCATE = {"NONE": LongTextMode.ERROR, "END": LongTextMode.TRUNCATE}
_MOST_NAMED = 10


def parse(body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
    """Read a request; `options` gets "embedding_types".

    Raises:
        InputError: a field is missing or not usable, or the request is about images.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    model, alias, options = model_of(fields, default=None)
    options["embedding_types"] = _embedding_types(fields.get("embedding_types"))
    if fields.get("input_type") == "image":
        raise InputError("input_type 'image' is not supported here; send texts")
    return EmbedRequest(
        texts=_texts(fields),
        model=model,
        task_type=task_of(("input_type",), fields, headers, alias),
        dim=whole_number(fields, "output_dimension"),
        long_text_mode=mode_of(fields, _truncate(fields)),
        max_tokens_per_text=token_limit(fields, "max_tokens"),
        options=options,
    )


def render(request: EmbedRequest, embeddings: Embeddings) -> Reply:
    """Write the answer: the vectors in every type asked for; `meta.warnings` names the texts that were cut.

    Raises:
        EngineError: a vector is not finite.
    """
    kinds = request.options.get("embedding_types", ("float",))
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "billed_units": {"input_tokens": embeddings.usage.total_tokens},
    }
    if embeddings.truncated:
        meta["warnings"] = [_cut(embeddings.truncated)]
    value = {
        "id": str(request.options.get("request_id") or uuid4()),
        "embeddings": {kind: ENCODINGS[kind](embeddings.vectors) for kind in kinds},
        "texts": request.texts,
        "meta": meta,
        "response_type": "embeddings_by_type",
    }
    return answer(value, headers=headers_of(request, embeddings))


def render_error(error: GnomonicError) -> Reply:
    """Write `{"id", "message"}`."""
    value = {"id": str(uuid4()), "message": told(error, _NAMES, _FIELDS).message}
    return error_answer(error, value, status=status_of(error))


def _texts(fields: Mapping[str, Any]) -> tuple[str, ...]:
    given = [name for name in ("texts", "inputs", "images") if fields.get(name) is not None]
    if len(given) > 1:
        raise InputError(f"{given[0]} and {given[1]} exclude each other; send one of them")
    if given == ["images"]:
        raise InputError("images is not supported here; send texts")
    name = given[0] if given else "texts"
    value = required(fields, name)
    if value == []:
        raise InputError(f"{name} is an empty list; send at least one text")
    if name == "texts":
        return strings(value, name)
    if not isinstance(value, list):
        raise InputError(f"inputs is {kind_of(value)}; send a list of objects with content")
    return tuple(_input(item, f"inputs[{index}]") for index, item in enumerate(value))


def _input(item: object, place: str) -> str:
    """Return the text of one input; several parts become lines of one text."""
    content = item.get("content") if isinstance(item, dict) else None
    if not isinstance(content, list) or not content:
        raise InputError(f'{place} has no list "content"; send {{"content": [{{"type": "text", "text": …}}]}}')
    return "\n".join(_part(part, f"{place}.content[{index}]") for index, part in enumerate(content))


def _part(part: object, place: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind != "text":
        raise InputError(f"{place} is of type {shown(kind)}; only parts of type 'text' are supported here")
    text = part.get("text")
    if not isinstance(text, str):
        raise InputError(f"{place}.text is {kind_of(text)}; it must be a string")
    return text


def _embedding_types(value: object) -> tuple[str, ...]:
    if value is None or value == []:
        return ("float",)
    if not isinstance(value, list):
        raise InputError(f'embedding_types is {kind_of(value)}; send a list such as ["float"]')
    for kind in value:
        if choice({"embedding_types": kind}, "embedding_types", tuple(ENCODINGS)) is None:
            raise InputError(f"embedding_types holds null; choose from {', '.join(ENCODINGS)}")
    return tuple(dict.fromkeys(value))


def _truncate(fields: Mapping[str, Any]) -> LongTextMode:
    value = choice(fields, "truncate", ("NONE", "START", "END")) or "END"
    if value == "START":
        raise InputError("truncate 'START' is not supported: texts are cut at their end; choose END, or NONE to refuse")
    return _TRUNCATE[value]


def _cut(truncated: tuple[int, ...]) -> str:
    named = ", ".join(f"texts[{index}]" for index in truncated[:_MOST_NAMED])
    more = len(truncated) - _MOST_NAMED
    return f"too long, and cut at the end: {named}" + (f" and {more} more" if more > 0 else "")
