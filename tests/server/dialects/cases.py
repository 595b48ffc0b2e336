"""What the tests of every dialect share: vectors, results, and the dialects in one shape."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnomonic import errors
from gnomonic.errors import GnomonicError
from gnomonic.server.dialects import cohere, nomic, ollama, openai, sagemaker, tei
from gnomonic.server.dialects.base import Reply
from gnomonic.types import Embeddings, EmbedRequest, Usage

MODEL = "nomic-embed-text-v1.5"


def unit_vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """[n, dim] float32 of unit length, drawn at random."""
    drawn = np.random.default_rng(seed).standard_normal((n, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def embedded(vectors: np.ndarray, *, truncated: tuple[int, ...] = (), tokens: int = 7) -> Embeddings:
    """A result with these vectors."""
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens)
    return Embeddings(vectors=vectors.astype(np.float32), model=MODEL, usage=usage, truncated=truncated)


PAIR = np.array([[0.6, 0.8], [1.0, 0.0]], dtype=np.float32)


def body_of(**fields: Any) -> bytes:
    """A JSON body."""
    return json.dumps(fields).encode()


def said(reply: Reply) -> Any:
    """An answer's JSON; its Content-Type must be the one that every client takes."""
    assert reply.media_type == "application/json"
    return json.loads(reply.body)


def one_of(cls: type[GnomonicError], message: str = "it broke", hint: str = "do this.") -> GnomonicError:
    """An error of any class, whatever its constructor asks for."""
    error = cls.__new__(cls)
    GnomonicError.__init__(error, message, hint=hint)
    if "retry_after_s" in inspect.signature(cls).parameters:
        error.retry_after_s = 2.6  # type: ignore[attr-defined]
    return error


ERRORS: dict[str, type[GnomonicError]] = {name: getattr(errors, name) for name in errors.__all__}


def _unpacked(rows: list[str]) -> np.ndarray:
    return np.stack([np.frombuffer(base64.b64decode(row), dtype="<f4") for row in rows])


@dataclass(frozen=True, kw_only=True)
class Front:
    """One dialect as a client sees it."""

    parse: Callable[[bytes, Mapping[str, str]], EmbedRequest]
    render: Callable[[EmbedRequest, Embeddings], Reply]
    render_error: Callable[[GnomonicError], Reply]
    full: dict[str, Any]
    """A request for two texts with every field set."""
    vectors_of: Callable[[Any], Any]
    message_of: Callable[[Any], str]
    texts: str = "texts"
    """The field that holds the texts."""
    dim: str = "dimensions"
    bad_status: int = 400
    native: dict[str, str] = field(default_factory=dict)
    """The dialect's own fields for the task → the search_query value."""


def _nomic_message(value: Any) -> str:
    detail = value["detail"]
    return str(detail if isinstance(detail, str) else detail[0]["msg"])


_OLLAMA = {
    "model": MODEL, "input": ["a", "b"], "truncate": True, "dimensions": 64, "keep_alive": "5m",
    "options": {"num_ctx": 4096, "temperature": None}, "task_type": "search_query",
}  # fmt: skip
_TEI = {
    "inputs": ["a", "b"], "truncate": True, "truncation_direction": "right", "prompt_name": "query",
    "normalize": True, "dimensions": 64,
}  # fmt: skip

FRONTS: dict[str, Front] = {
    "nomic": Front(
        parse=nomic.parse, render=nomic.render, render_error=nomic.render_error,
        full={"texts": ["a", "b"], "model": MODEL, "task_type": "search_query", "dimensionality": 64,
              "long_text_mode": "truncate", "max_tokens_per_text": 512},
        vectors_of=lambda value: value["embeddings"], message_of=_nomic_message, dim="dimensionality", bad_status=422,
    ),
    "openai": Front(
        parse=openai.parse, render=openai.render, render_error=openai.render_error,
        full={"input": ["a", "b"], "model": MODEL, "encoding_format": "float", "dimensions": 64, "user": "u",
              "truncate": True, "input_type": "query"},
        vectors_of=lambda value: [item["embedding"] for item in value["data"]],
        message_of=lambda value: value["error"]["message"], texts="input",
        native={"input_type": "query", "task": "retrieval.query"},
    ),
    "openai base64": Front(
        parse=openai.parse, render=openai.render, render_error=openai.render_error,
        full={"input": ["a", "b"], "model": MODEL, "encoding_format": "base64", "dimensions": 64},
        vectors_of=lambda value: _unpacked([item["embedding"] for item in value["data"]]),
        message_of=lambda value: value["error"]["message"], texts="input",
    ),
    "ollama": Front(
        parse=ollama.parse, render=ollama.render, render_error=ollama.render_error, full=_OLLAMA,
        vectors_of=lambda value: value["embeddings"], message_of=lambda value: value["error"], texts="input",
    ),
    "tei": Front(
        parse=tei.parse, render=tei.render, render_error=tei.render_error, full=_TEI,
        vectors_of=lambda value: value, message_of=lambda value: value["error"], texts="inputs", bad_status=422,
        native={"prompt_name": "query"},
    ),
    "cohere": Front(
        parse=cohere.parse, render=cohere.render, render_error=cohere.render_error,
        full={"texts": ["a", "b"], "model": MODEL, "input_type": "search_query", "embedding_types": ["float"],
              "output_dimension": 64, "truncate": "END", "max_tokens": 512, "priority": 0},
        vectors_of=lambda value: value["embeddings"]["float"], message_of=lambda value: value["message"],
        dim="output_dimension", native={"input_type": "search_query"},
    ),
    "cohere base64": Front(
        parse=cohere.parse, render=cohere.render, render_error=cohere.render_error,
        full={"texts": ["a", "b"], "model": MODEL, "embedding_types": ["base64"]},
        vectors_of=lambda value: _unpacked(value["embeddings"]["base64"]),
        message_of=lambda value: value["message"], dim="output_dimension",
    ),
    "sagemaker": Front(
        parse=sagemaker.parse, render=sagemaker.render, render_error=sagemaker.render_error,
        full={"texts": ["a", "b"], "binary": False, "dimensionality": 64, "task_type": "search_query"},
        vectors_of=lambda value: value["embeddings"], message_of=lambda value: value["error"], dim="dimensionality",
    ),
    "sagemaker inputs": Front(
        parse=sagemaker.parse, render=sagemaker.render, render_error=sagemaker.render_error, full=_TEI,
        vectors_of=lambda value: value, message_of=lambda value: value["error"], texts="inputs",
        native={"prompt_name": "query"},
    ),
}  # fmt: skip
