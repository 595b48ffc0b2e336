"""The OpenAPI document: what each route takes and gives, as JSON Schema."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gnomonic.server.routes.atlas_schemas import operation as atlas_operation
from gnomonic.types import LongTextMode, TaskType

__all__ = ["describe"]

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_MAYBE_COUNT: Schema = {"type": ["integer", "null"], "minimum": 1}
_MAYBE_FLAG: Schema = {"type": ["boolean", "null"]}
_TEXTS: Schema = {"type": "array", "items": _STRING}
_TEXT_OR_TEXTS: Schema = {"anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1}]}
_MODEL: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 200,
    "description": "A served model; NAME:query and NAME:document carry a task.",
}
_TASK: Schema = {"enum": [*(str(task) for task in TaskType), None], "description": "Which prefix the text gets."}
_MODE: Schema = {"enum": [*(str(mode) for mode in LongTextMode), None]}
_ROWS: Schema = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
_TOKENS: Schema = {"type": "integer", "minimum": 0}
_USAGE: Schema = {"type": "object", "properties": {"prompt_tokens": _TOKENS, "total_tokens": _TOKENS}}


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


_NOMIC = _object(
    {
        "texts": _TEXTS,
        "model": _MODEL,
        "task_type": _TASK,
        "dimensionality": _MAYBE_COUNT,
        "long_text_mode": _MODE,
        "max_tokens_per_text": _MAYBE_COUNT,
    },
    "texts",
)
_IMAGES = _object({"model": _MODEL, "urls": _TEXTS})
_OPENAI = _object(
    {
        "input": _TEXT_OR_TEXTS,
        "model": _MODEL,
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": _COUNT,
        "user": _STRING,
        "task_type": _TASK,
        "truncate": _MAYBE_FLAG,
    },
    "input",
    "model",
)
_OLLAMA = _object(
    {
        "model": _MODEL,
        "input": {"anyOf": [_STRING, _TEXTS]},
        "truncate": _MAYBE_FLAG,
        "dimensions": _COUNT,
        "keep_alive": {},
        "options": {"type": ["object", "null"]},
        "task_type": _TASK,
    },
    "model",
)
_OLLAMA_PROMPT = _object({"model": _MODEL, "prompt": _STRING, "task_type": _TASK}, "model")
_TEI = _object(
    {
        "inputs": _TEXT_OR_TEXTS,
        "truncate": _MAYBE_FLAG,
        "prompt_name": _TASK,
        "normalize": {"enum": [True, None]},
        "dimensions": _COUNT,
    },
    "inputs",
)
_COHERE = _object(
    {
        "model": _MODEL,
        "texts": _TEXTS,
        "input_type": _TASK,
        "embedding_types": {
            "type": "array",
            "items": {"enum": ["float", "int8", "uint8", "binary", "ubinary", "base64"]},
        },
        "output_dimension": _COUNT,
        "truncate": {"enum": ["NONE", "END"]},
    },
    "model",
    "texts",
    "input_type",
)
_SAGEMAKER = {
    "anyOf": [
        _object({"texts": _TEXTS, "dimensionality": _MAYBE_COUNT, "task_type": _TASK, "binary": _MAYBE_FLAG}, "texts"),
        _TEI,
    ]
}
_TOKENIZE = _object({"inputs": _TEXT_OR_TEXTS, "add_special_tokens": _MAYBE_FLAG, "prompt_name": _TASK}, "inputs")

_NOMIC_ANSWER = _object({"embeddings": _ROWS, "usage": _USAGE, "model": _STRING}, "embeddings", "usage", "model")
_OPENAI_ITEM = _object(
    {"object": {"const": "embedding"}, "index": {"type": "integer"}, "embedding": {"type": ["array", "string"]}},
    "object",
    "index",
    "embedding",
)
_OPENAI_ANSWER = _object(
    {
        "object": {"const": "list"},
        "data": {"type": "array", "items": _OPENAI_ITEM},
        "model": _STRING,
        "usage": _USAGE,
    },
    "object",
    "data",
    "model",
    "usage",
)
_OLLAMA_ANSWER = _object({"model": _STRING, "embeddings": _ROWS}, "model", "embeddings")
_PROMPT_ANSWER = _object({"embedding": {"type": "array", "items": {"type": "number"}}}, "embedding")
_COHERE_ANSWER = _object({"id": _STRING, "embeddings": {"type": "object"}, "meta": {"type": "object"}}, "embeddings")

_DETAIL = _object({"detail": {"type": ["string", "array"]}}, "detail")
_NESTED = _object({"error": _object({"message": _STRING, "type": _STRING}, "message", "type")}, "error")
_PLAIN = _object({"error": _STRING}, "error")
_TYPED = _object({"error": _STRING, "error_type": _STRING}, "error", "error_type")
_MESSAGE = _object({"message": _STRING}, "message")

_EMBEDDING: dict[str, tuple[str, Schema, Schema, Schema]] = {
    "/v1/embedding/text": ("Nomic: embed texts", _NOMIC, _NOMIC_ANSWER, _DETAIL),
    "/v1/embedding/image": ("Nomic: embed images; no image model is served yet", _IMAGES, _NOMIC_ANSWER, _DETAIL),
    "/v1/embeddings": ("OpenAI: embed texts", _OPENAI, _OPENAI_ANSWER, _NESTED),
    "/embeddings": ("OpenAI: the same without /v1", _OPENAI, _OPENAI_ANSWER, _NESTED),
    "/api/embed": ("Ollama: embed texts", _OLLAMA, _OLLAMA_ANSWER, _PLAIN),
    "/api/embeddings": ("Ollama: embed one text, the older route", _OLLAMA_PROMPT, _PROMPT_ANSWER, _PLAIN),
    "/embed": ("TEI: embed texts", _TEI, _ROWS, _TYPED),
    "/": ("TEI: embed texts", _TEI, _ROWS, _TYPED),
    "/v2/embed": ("Cohere: embed texts", _COHERE, _COHERE_ANSWER, _MESSAGE),
    "/invocations": ("SageMaker: embed texts", _SAGEMAKER, {}, _PLAIN),
    "/tokenize": ("TEI: the tokens of texts", _TOKENIZE, {"type": "array"}, _TYPED),
    "/api/show": ("Ollama: about a model", _object({"model": _MODEL}, "model"), {"type": "object"}, _PLAIN),
}
_TELLING: dict[tuple[str, str], str] = {
    ("/health", "get"): "Embed a canary: 200 when the vectors are right, 503 and why when they are not",
    ("/ping", "get"): "SageMaker: the same, without words",
    ("/metrics", "get"): "Prometheus metrics",
    ("/v1/user", "get"): "Nomic: who the caller is",
    ("/v1/models", "get"): "OpenAI: the models served",
    ("/models", "get"): "OpenAI: the same without /v1",
    ("/v1/models/{name}", "get"): "OpenAI: one model",
    ("/api/tags", "get"): "Ollama: the models served",
    ("/api/ps", "get"): "Ollama: the models in memory",
    ("/api/version", "get"): "Ollama: the version",
    ("/", "get"): "Ollama: a sign of life",
    ("/", "head"): "Ollama: a sign of life",
    ("/info", "get"): "TEI: model and limits",
}
_FAILURES = {
    "400": "The request is not usable; the message names field, value and rule",
    "401": "No key, or not one of this server's",
    "404": "This model is not served here",
    "413": "More texts, tokens or bytes than this server takes at once",
    "422": "A field is not usable",
    "429": "Too much waits, or the key's requests are used up; see Retry-After",
    "500": "The engine failed",
    "503": "The worker or the model is away; see Retry-After",
    "504": "Not done in the time this server allows",
}


def describe(api: FastAPI) -> None:
    """Make the application's OpenAPI document say what the routes take and give."""

    def document() -> Schema:
        if api.openapi_schema is None:
            api.openapi_schema = _complete(
                get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
            )
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]


def _complete(found: Schema) -> Schema:
    paths = {path.replace(":path", ""): operations for path, operations in found["paths"].items()}
    for path, operations in paths.items():
        for method, operation in operations.items():
            if path.startswith("/v1/datasets"):
                operation.update(atlas_operation(method.upper(), path))
                continue
            if method == "post":
                summary, asked, given, failure = _EMBEDDING[path]
                form = "application/x-www-form-urlencoded" if path == "/v1/embedding/image" else "application/json"
                operation["requestBody"] = {"required": True, "content": {form: {"schema": asked}}}
                operation["responses"] = _responses(given, failure)
            else:
                summary = _TELLING[(path, method)]
                operation["responses"] = _telling(path)
            operation["summary"] = summary
    found["paths"] = paths
    found["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    found["security"] = [{}, {"key": []}]
    return found


def _responses(given: Schema, failure: Schema) -> Schema:
    answers = {"200": {"description": "Done", "content": {"application/json": {"schema": given}}}}
    for status, meaning in _FAILURES.items():
        answers[status] = {"description": meaning, "content": {"application/json": {"schema": failure}}}
    return answers


def _telling(path: str) -> Schema:
    plain = {"/": "text/plain", "/metrics": "text/plain"}
    media_type = plain.get(path, "application/json")
    answers: Schema = {"200": {"description": "Done", "content": {media_type: {"schema": {}}}}}
    for status in ("401", "404", "429", "503"):
        answers[status] = {"description": _FAILURES[status], "content": {"application/json": {"schema": {}}}}
    return answers
