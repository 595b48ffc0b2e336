"""Nomic's embedding API: `POST /v1/embedding/text` and `GET /v1/user`."""

from __future__ import annotations

from collections.abc import Mapping

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import GnomonicError
from gnomonic.server.dialects.base import Reply, status_of
from gnomonic.server.dialects.reading import (
    json_object,
    mode_of,
    model_of,
    required,
    strings,
    task_of,
    token_limit,
    whole_number,
)
from gnomonic.server.dialects.rendering import (
    answer,
    error_answer,
    headers_of,
    json_rows,
    model_name,
    told,
    usage_of,
)
from gnomonic.types import Embeddings, EmbedRequest, LongTextMode

__all__ = ["parse", "render", "render_error", "render_user"]

_NAMES = {
    name: name for name in ("dimensionality", "long_text_mode", "max_tokens_per_text", "model", "task_type", "texts")
}
_USER = "gnomonic"


def parse(body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
    """Read a request; over-long texts are averaged unless it says otherwise, as Nomic's server does.

    Raises:
        InputError: a field is missing or not usable.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    model, alias, options = model_of(fields, default=DEFAULT_TEXT_MODEL)
    return EmbedRequest(
        texts=strings(required(fields, "texts"), "texts"),
        model=model,
        task_type=task_of((), fields, headers, alias),
        dim=whole_number(fields, "dimensionality"),
        long_text_mode=mode_of(fields, LongTextMode.MEAN),
        max_tokens_per_text=token_limit(fields, "max_tokens_per_text"),
        options=options,
    )


def render(request: EmbedRequest, embeddings: Embeddings) -> Reply:
    """Write the answer; `model` is the name as it was asked for, which Nomic's client insists on.

    Raises:
        EngineError: a vector is not finite.
    """
    value = {
        "embeddings": json_rows(embeddings.vectors),
        "usage": usage_of(embeddings),
        "model": model_name(request, embeddings),
    }
    return answer(value, headers=headers_of(request, embeddings))


def render_error(error: GnomonicError) -> Reply:
    """Write `{"detail": [{"loc", "msg", "type"}]}` with 422 for what the caller must mend, else `{"detail": str}`."""
    status = status_of(error)
    said = told(error, _NAMES)
    if status != 400:
        return error_answer(error, {"detail": said.message}, status=status)
    problem = {"loc": ["body", *said.path], "msg": said.message, "type": "value_error"}
    return error_answer(error, {"detail": [problem]}, status=422)


def render_user(organization: str = "local", *, warning: str | None = None) -> Reply:
    """Write who the caller is: the owner of one organization; Nomic's client asks before everything else.

    Args:
        organization: the slug of the key's organization, which is its id too.
        warning: what that client is to log.
    """
    about = {
        "organization_id": organization,
        "slug": organization,
        "user_id": _USER,
        "access_role": "OWNER",
    }
    headers = {} if warning is None else {"x-atlaswarning": warning}
    told = {"sub": _USER, "default_organization": organization, "organizations": [about]}
    return answer(told, headers=headers)
