"""OpenAI's embedding API: `POST /v1/embeddings`, `GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomonic.catalog import ModelSpec
from gnomonic.errors import GnomonicError, InputError, UnknownModelError
from gnomonic.server.dialects.base import Reply, status_of
from gnomonic.server.dialects.reading import (
    choice,
    flag,
    json_object,
    mode_of,
    model_of,
    required,
    shown,
    task_of,
    texts_or_ids,
    token_limit,
    whole_number,
)
from gnomonic.server.dialects.rendering import (
    Told,
    answer,
    base64_rows,
    error_answer,
    finite,
    headers_of,
    model_name,
    told,
    usage_of,
)
from gnomonic.types import Embeddings, EmbedRequest, LongTextMode

__all__ = ["parse", "render", "render_error", "render_model", "render_models"]

_NAMES = {"texts": "input", "dimensionality": "dimensions"}
_FIELDS = (
    "encoding_format", "input_type", "long_text_mode", "max_tokens_per_text", "model", "task", "task_type", "truncate",
)  # fmt: skip
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
# How Cohere, Jina and others spell the same switch.
_TRUNCATE = {"end": LongTextMode.TRUNCATE, "none": LongTextMode.ERROR, "error": LongTextMode.ERROR}


def parse(body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
    """Read a request; fields that are not known are ignored.

    `options` gets "encoding_format", and "token_ids" where the input is token ids and not texts.

    Raises:
        InputError: a field is missing or not usable, or the input is empty.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    model, alias, options = model_of(fields, default=None)
    value = required(fields, "input")
    if value in ("", []):
        raise InputError(f"input is {'an empty string' if value == '' else 'an empty list'}; send at least one text")
    texts, ids = texts_or_ids(value, "input")
    if ids is not None:
        options["token_ids"] = ids
    options["encoding_format"] = choice(fields, "encoding_format", ("float", "base64")) or "float"
    return EmbedRequest(
        texts=texts,
        model=model,
        task_type=task_of(("input_type", "task"), fields, headers, alias),
        dim=whole_number(fields, "dimensions"),
        long_text_mode=mode_of(fields, _truncate(fields)),
        max_tokens_per_text=token_limit(fields, "max_tokens_per_text"),
        options=options,
    )


def render(request: EmbedRequest, embeddings: Embeddings) -> Reply:
    """Write the answer, vectors as numbers or as base64 of little-endian float32.

    Raises:
        EngineError: a vector is not finite.
    """
    rows: Sequence[Any]
    if request.options.get("encoding_format") == "base64":
        rows = base64_rows(embeddings.vectors)
    else:
        rows = list(finite(embeddings.vectors))
    value = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": model_name(request, embeddings),
        "usage": usage_of(embeddings),
    }
    return answer(value, headers=headers_of(request, embeddings))


def render_error(error: GnomonicError) -> Reply:
    """Write `{"error": {"message", "type", "param", "code"}}`; `param` is the field that is wrong."""
    status = status_of(error)
    said = told(error, _NAMES, _FIELDS)
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    value = {
        "message": said.message,
        "type": kind,
        "param": str(said.path[0]) if said.path else None,
        "code": _code(error, status, said),
    }
    return error_answer(error, {"error": value}, status=status)


def render_models(models: Sequence[ModelSpec], *, created: int = 0) -> Reply:
    """Write the list of models.

    Args:
        models: those served.
        created: since when, in seconds of the Unix epoch.
    """
    return answer({"object": "list", "data": [_model(spec, spec.name, created) for spec in models]})


def render_model(spec: ModelSpec, *, name: str | None = None, created: int = 0) -> Reply:
    """Write one model.

    Args:
        spec: the model.
        name: what the caller called it; None for its own name.
        created: since when it is served, in seconds of the Unix epoch.
    """
    return answer(_model(spec, name or spec.name, created))


def _model(spec: ModelSpec, name: str, created: int) -> dict[str, Any]:
    owner = spec.repo.partition("/")[0] or "gnomonic"
    return {"id": name, "object": "model", "created": created, "owned_by": owner, "max_model_len": spec.max_tokens}


def _code(error: GnomonicError, status: int, said: Told) -> str | None:
    if isinstance(error, UnknownModelError):
        return "model_not_found"
    return "context_length_exceeded" if said.too_long else _CODES.get(status)


def _truncate(fields: Mapping[str, Any]) -> LongTextMode:
    value = fields.get("truncate")
    if not isinstance(value, str):
        return LongTextMode.ERROR if flag(fields, "truncate") is False else LongTextMode.TRUNCATE
    if value.lower() not in _TRUNCATE:
        raise InputError(
            f"truncate {shown(value)} is not supported; true or 'END' cuts the end of a text that is too long, "
            "false or 'NONE' refuses it"
        )
    return _TRUNCATE[value.lower()]
