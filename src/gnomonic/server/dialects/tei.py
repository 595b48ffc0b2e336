"""text-embeddings-inference's API: `/embed`, its alias `POST /`, `/info` and `/tokenize`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnomonic import __version__
from gnomonic.catalog import DEFAULT_TEXT_MODEL, ModelSpec
from gnomonic.errors import GnomonicError, InputError
from gnomonic.server.dialects.base import Reply, status_of
from gnomonic.server.dialects.reading import (
    flag,
    json_object,
    mode_of,
    model_of,
    required,
    shown,
    string,
    task_of,
    texts_or_ids,
    whole_number,
)
from gnomonic.server.dialects.rendering import answer, error_answer, float_rows, headers_of, told
from gnomonic.types import Embeddings, EmbedRequest, LongTextMode, TaskType

__all__ = [
    "Capacity",
    "Token",
    "TokenizeRequest",
    "parse",
    "parse_tokenize",
    "render",
    "render_error",
    "render_info",
    "render_tokenize",
    "request_of",
]

_NAMES = {"texts": "inputs", "dimensionality": "dimensions"}
_FIELDS = (
    "add_special_tokens", "long_text_mode", "model", "normalize", "prompt_name", "task_type", "truncate",
    "truncation_direction",
)  # fmt: skip
_EMPTY = "inputs is an empty list"
# Our status → the status and the type TEI has for it; it has no type for a wrong key.
_STATUSES = {
    400: (422, "Validation"),
    401: (401, "Unauthorized"),
    404: (404, "Validation"),
    413: (413, "Validation"),
    422: (422, "Validation"),
    429: (429, "Overloaded"),
    503: (503, "Unhealthy"),
    504: (504, "Backend"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What `/info` says about a server."""

    max_concurrent_requests: int
    max_batch_tokens: int
    max_client_batch_size: int
    """Texts per request."""
    tokenization_workers: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One token of a text."""

    id: int
    text: str
    special: bool = False
    start: int | None = None
    """First character in the text; None for special tokens."""
    stop: int | None = None
    """One past the last character; None for special tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizeRequest:
    """What `/tokenize` is asked for."""

    texts: tuple[str, ...]
    model: str
    task_type: TaskType | None
    """Whose prefix to put before the texts; None for none."""
    add_special_tokens: bool
    options: Mapping[str, Any]


def parse(body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
    """Read a request.

    `options` gets "token_ids" where the inputs are token ids and not texts.

    Raises:
        InputError: a field is missing or not usable, or the inputs are empty.
        UnknownModelError: no name of a model.
    """
    return request_of(json_object(body), headers)


def request_of(fields: Mapping[str, Any], headers: Mapping[str, str]) -> EmbedRequest:
    """Read a request whose JSON is read already.

    Raises:
        InputError: a field is missing or not usable, or the inputs are empty.
        UnknownModelError: no name of a model.
    """
    model, alias, options = model_of(fields, default=DEFAULT_TEXT_MODEL)
    texts, ids = _inputs(fields)
    if ids is not None:
        options["token_ids"] = ids
    if flag(fields, "normalize") is False:
        raise InputError("normalize false is not supported: vectors always have unit length; leave it out")
    direction = string(fields, "truncation_direction") or "right"
    if direction.lower() != "right":
        raise InputError(
            f"truncation_direction {shown(direction)} is not supported: texts are cut at their end; "
            "leave it out, or choose right"
        )
    cut = flag(fields, "truncate") is not False
    return EmbedRequest(
        texts=texts,
        model=model,
        task_type=task_of(("prompt_name",), fields, headers, alias),
        dim=whole_number(fields, "dimensions"),
        long_text_mode=mode_of(fields, LongTextMode.TRUNCATE if cut else LongTextMode.ERROR),
        options=options,
    )


def render(request: EmbedRequest, embeddings: Embeddings) -> Reply:
    """Write the answer: a list of vectors even for one input; the tokens and characters stand in headers.

    Raises:
        EngineError: a vector is not finite.
    """
    headers = {
        "x-compute-tokens": str(embeddings.usage.total_tokens),
        "x-compute-characters": str(sum(map(len, request.texts))),
        **headers_of(request, embeddings),
    }
    return Reply(body=float_rows(embeddings.vectors), headers=headers)


def render_error(error: GnomonicError) -> Reply:
    """Write `{"error", "error_type"}`: Validation 422, Empty 400, Overloaded 429, Backend 424, Unhealthy 503."""
    message = told(error, _NAMES, _FIELDS).message
    status, kind = _STATUSES.get(status_of(error), (424, "Backend"))
    if isinstance(error, InputError) and message.startswith(_EMPTY):
        status, kind = 400, "Empty"
    return error_answer(error, {"error": message, "error_type": kind}, status=status)


def render_info(spec: ModelSpec, capacity: Capacity, *, dtype: str = "float32") -> Reply:
    """Write what `/info` says.

    Args:
        spec: the server's default model.
        capacity: the server's limits.
        dtype: what the engine computes in.
    """
    value = {
        "model_id": spec.repo or spec.name,
        "model_sha": spec.revision or None,
        "model_dtype": dtype,
        "served_model_name": spec.name,
        "model_type": {"embedding": {"pooling": "mean"}},
        "max_concurrent_requests": capacity.max_concurrent_requests,
        "max_input_length": spec.max_tokens,
        "max_batch_tokens": capacity.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": capacity.max_client_batch_size,
        "auto_truncate": True,
        "tokenization_workers": capacity.tokenization_workers,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }
    return answer(value)


def parse_tokenize(body: bytes) -> TokenizeRequest:
    """Read a request of `/tokenize`.

    Raises:
        InputError: a field is missing or not usable, or the inputs are empty.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    model, alias, options = model_of(fields, default=DEFAULT_TEXT_MODEL)
    texts, ids = _inputs(fields)
    if ids is not None:
        raise InputError("inputs is token ids already; send a string or a list of strings")
    named = any(fields.get(name) is not None for name in ("prompt_name", "task_type"))
    return TokenizeRequest(
        texts=texts,
        model=model,
        task_type=task_of(("prompt_name",), fields, {}, alias) if named else alias,
        add_special_tokens=flag(fields, "add_special_tokens") is not False,
        options=options,
    )


def render_tokenize(texts: Sequence[Sequence[Token]]) -> Reply:
    """Write the tokens of each text."""
    return answer(texts)


def _inputs(fields: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[int]] | None]:
    value = required(fields, "inputs")
    if value == []:
        raise InputError(f"{_EMPTY}; send at least one text")
    return texts_or_ids(value, "inputs")
