"""Ollama's API: `/api/embed`, the older `/api/embeddings`, and what its clients ask about models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gnomonic import __version__
from gnomonic.catalog import ModelSpec
from gnomonic.errors import GnomonicError, InputError, OverloadedError, UnknownModelError
from gnomonic.server.dialects.base import Reply, status_of
from gnomonic.server.dialects.reading import (
    MODEL_ALIASES,
    flag,
    json_object,
    kind_of,
    mode_of,
    model_of,
    string,
    strings,
    task_of,
    whole_number,
)
from gnomonic.server.dialects.rendering import (
    answer,
    error_answer,
    headers_of,
    json_rows,
    model_name,
    told,
)
from gnomonic.types import Embeddings, EmbedRequest, LongTextMode

__all__ = [
    "parse",
    "parse_prompt",
    "parse_show",
    "render",
    "render_error",
    "render_prompt",
    "render_ps",
    "render_root",
    "render_show",
    "render_tags",
    "render_version",
]

_NAMES = {"texts": "input", "dimensionality": "dimensions", "max_tokens_per_text": "options.num_ctx"}
_FIELDS = ("long_text_mode", "model", "options", "prompt", "task_type", "truncate")
_ARCHITECTURE = "nomic-bert"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What Ollama itself says of a model that it never unloads.
_NEVER = "2318-01-01T00:00:00Z"
_MAX_NUM_CTX = 8192


def parse(body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
    """Read a request of `/api/embed`; without input it asks for nothing, and `texts` is empty.

    Raises:
        InputError: a field is missing or not usable.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    value = fields.get("input")
    if isinstance(value, list):
        texts = strings(value, "input")
    elif value is None or isinstance(value, str):
        texts = (value,) if value else ()
    else:
        raise InputError(f"input is {kind_of(value)}, an invalid input type; send a string or a list of strings")
    return _request(fields, headers, texts)


def parse_prompt(body: bytes, headers: Mapping[str, str]) -> EmbedRequest:
    """Read a request of `/api/embeddings`; without prompt it asks for nothing, and `texts` is empty.

    Raises:
        InputError: a field is missing or not usable.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    prompt = string(fields, "prompt")
    return _request(fields, headers, (prompt,) if prompt else ())


def parse_show(body: bytes) -> str:
    """Read a request of `/api/show` and return the model's name in the catalog.

    Raises:
        InputError: no model is named.
        UnknownModelError: no name of a model.
    """
    fields = json_object(body)
    if "model" not in fields and "name" in fields:  # older clients
        fields["model"] = fields["name"]
    return model_of(fields, default=None)[0]


def render(request: EmbedRequest, embeddings: Embeddings) -> Reply:
    """Write the answer of `/api/embed`; the service gives "total_ns" and "load_ns" in the request's options.

    Raises:
        EngineError: a vector is not finite.
    """
    value = {
        "model": model_name(request, embeddings),
        "embeddings": json_rows(embeddings.vectors),
        "total_duration": request.options.get("total_ns", 0),
        "load_duration": request.options.get("load_ns", 0),
        "prompt_eval_count": embeddings.usage.prompt_tokens,
    }
    return answer(value, headers=headers_of(request, embeddings))


def render_prompt(request: EmbedRequest, embeddings: Embeddings) -> Reply:
    """Write the answer of `/api/embeddings`: one vector, of unit length; an empty list where there was no prompt.

    Raises:
        EngineError: a vector is not finite.
    """
    vector = json_rows(embeddings.vectors[0]) if len(embeddings) else []
    return answer({"embedding": vector}, headers=headers_of(request, embeddings))


def render_error(error: GnomonicError) -> Reply:
    """Write `{"error": str}`; a full queue is 503, as Ollama has it."""
    said = told(error, _NAMES, _FIELDS)
    message = said.message
    if isinstance(error, UnknownModelError) and "not found" not in message:
        message = f"model not found: {message}"
    if said.too_long:
        message = f"the input length exceeds the context length: {message}"
    status = 503 if isinstance(error, OverloadedError) else status_of(error)
    return error_answer(error, {"error": message}, status=status)


def render_tags(models: Sequence[ModelSpec], *, modified_at: datetime = _EPOCH) -> Reply:
    """Write the list of models: each by its own name and by those that Ollama has for it.

    Args:
        models: those served.
        modified_at: since when, with a time zone.
    """
    entries = [
        {"name": tag, "model": tag, "modified_at": _time(modified_at), **_files(spec)}
        for spec in models
        for tag in _tags(spec.name)
    ]
    return answer({"models": entries})


def render_show(spec: ModelSpec, *, modified_at: datetime = _EPOCH) -> Reply:
    """Write what is known of a model; clients read its longest sequence from `model_info`.

    Args:
        spec: the model.
        modified_at: since when it is served, with a time zone.
    """
    info = {
        "general.architecture": _ARCHITECTURE,
        "general.basename": spec.name,
        "general.parameter_count": spec.parameters,
        f"{_ARCHITECTURE}.context_length": spec.max_tokens,
        f"{_ARCHITECTURE}.embedding_length": spec.hidden_size,
        f"{_ARCHITECTURE}.pooling_type": 1,
    }
    value = {
        "license": spec.license,
        "modelfile": f"# {spec.description}\nFROM {spec.name}\n",
        "parameters": f"num_ctx {spec.max_tokens}",
        "template": "{{ .Prompt }}",
        "details": _details(spec),
        "model_info": info,
        "capabilities": ["embedding"],
        "modified_at": _time(modified_at),
    }
    return answer(value)


def render_ps(models: Sequence[ModelSpec]) -> Reply:
    """Write the list of the models that are loaded."""
    entries = [
        {
            "name": f"{spec.name}:latest",
            "model": f"{spec.name}:latest",
            **_files(spec),
            "expires_at": _NEVER,
            "size_vram": 0,
            "context_length": spec.max_tokens,
        }
        for spec in models
    ]
    return answer({"models": entries})


def render_version() -> Reply:
    """Write this package's version."""
    return answer({"version": __version__})


def render_root() -> Reply:
    """Write the sentence by which clients know that something is there."""
    return Reply(body=b"Ollama is running", media_type="text/plain; charset=utf-8")


def _request(fields: Mapping[str, Any], headers: Mapping[str, str], texts: tuple[str, ...]) -> EmbedRequest:
    model, alias, options = model_of(fields, default=None)
    cut = flag(fields, "truncate") is not False
    return EmbedRequest(
        texts=texts,
        model=model,
        task_type=task_of((), fields, headers, alias),
        dim=whole_number(fields, "dimensions"),
        long_text_mode=mode_of(fields, LongTextMode.TRUNCATE if cut else LongTextMode.ERROR),
        max_tokens_per_text=_num_ctx(fields.get("options")),
        options=options,
    )


def _num_ctx(options: object) -> int:
    """Return the longest sequence; clients send every option, most of them null or of no meaning here."""
    if options is None:
        return _MAX_NUM_CTX
    if not isinstance(options, dict):
        raise InputError(f"options is {kind_of(options)}; it must be an object")
    limit = whole_number({"options.num_ctx": options.get("num_ctx")}, "options.num_ctx")
    return _MAX_NUM_CTX if limit is None else min(limit, _MAX_NUM_CTX)


def _tags(name: str) -> list[str]:
    aliases = [alias for alias, meant in MODEL_ALIASES.items() if meant == name]
    return [known if ":" in known else f"{known}:latest" for known in (name, *aliases)]


def _files(spec: ModelSpec) -> dict[str, Any]:
    name = f"{spec.name}@{spec.revision}".encode()
    digest = spec.files.get("model.safetensors") or hashlib.sha256(name).hexdigest()
    return {"size": 4 * spec.parameters, "digest": digest, "details": _details(spec)}


def _details(spec: ModelSpec) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": _ARCHITECTURE,
        "families": [_ARCHITECTURE],
        "parameter_size": f"{spec.parameters / 1e6:.0f}M" if spec.parameters else "",
        "quantization_level": "F32",
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
