"""The container contract of SageMaker: `GET /ping` and `POST /invocations`, with Nomic's body or TEI's."""

from __future__ import annotations

from collections.abc import Mapping

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import GnomonicError, InputError
from gnomonic.server.dialects import tei
from gnomonic.server.dialects.base import Reply, status_of
from gnomonic.server.dialects.reading import (
    flag,
    json_object,
    mode_of,
    model_of,
    required,
    strings,
    task_of,
    token_limit,
    whole_number,
)
from gnomonic.server.dialects.rendering import answer, bit_rows, error_answer, headers_of, json_rows, told
from gnomonic.types import Embeddings, EmbedRequest, LongTextMode

__all__ = ["parse", "render", "render_error", "render_ping"]

_FIELDS = (
    "binary", "dimensionality", "dimensions", "inputs", "long_text_mode", "max_tokens_per_text", "model", "normalize",
    "prompt_name", "task_type", "texts", "truncate", "truncation_direction",
)  # fmt: skip


def parse(body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
    """Read `{"texts", "binary", "dimensionality", "task_type"}`, or TEI's request where there are `inputs`.

    `options` gets "shape", "nomic" or "tei", and for Nomic's "binary".

    Raises:
        InputError: a field is missing or not usable.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    if "inputs" in fields:
        if "texts" in fields:
            raise InputError("inputs and texts exclude each other; send one of them")
        request = tei.request_of(fields, headers)
        request.options["shape"] = "tei"
        return request
    model, alias, options = model_of(fields, default=DEFAULT_TEXT_MODEL)
    options |= {"shape": "nomic", "binary": flag(fields, "binary") is True}
    return EmbedRequest(
        texts=strings(required(fields, "texts"), "texts"),
        model=model,
        task_type=task_of((), fields, headers, alias),
        dim=whole_number(fields, "dimensionality"),
        long_text_mode=mode_of(fields, LongTextMode.TRUNCATE),
        max_tokens_per_text=token_limit(fields, "max_tokens_per_text"),
        options=options,
    )


def render(request: EmbedRequest, embeddings: Embeddings) -> Reply:
    """Write the answer in the shape of the request; binary vectors are lists of 0 and 1.

    Raises:
        EngineError: a vector is not finite.
    """
    if request.options.get("shape") == "tei":
        return tei.render(request, embeddings)
    rows = bit_rows(embeddings.vectors) if request.options.get("binary") else json_rows(embeddings.vectors)
    return answer({"embeddings": rows}, headers=headers_of(request, embeddings))


def render_error(error: GnomonicError) -> Reply:
    """Write `{"error": str}`."""
    return error_answer(error, {"error": told(error, {}, _FIELDS).message}, status=status_of(error))


def render_ping() -> Reply:
    """Write the answer that means healthy."""
    return Reply(body=b"{}")
