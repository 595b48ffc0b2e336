from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from gnomonic.catalog import known_models
from gnomonic.errors import (
    AuthenticationError,
    EngineError,
    GnomonicError,
    InputError,
    OverloadedError,
    UnavailableError,
    UnknownModelError,
)
from gnomonic.inference.encoder import TextEncoder
from gnomonic.server.dialects import openai
from gnomonic.types import EmbedRequest, LongTextMode, TaskType
from tests.server.dialects.cases import MODEL, PAIR, body_of, embedded, said


def test_what_openais_client_sends() -> None:
    body = body_of(input="a", model="nomic-embed-text:query", encoding_format="base64", user="u" * 1_000_000)
    assert openai.parse(body, {}) == EmbedRequest(
        texts=("a",), model=MODEL, task_type=TaskType.SEARCH_QUERY,
        options={"model_name": "nomic-embed-text:query", "encoding_format": "base64"},
    )  # fmt: skip


def test_the_answer_in_numbers() -> None:
    request = openai.parse(body_of(input=["a", "b"], model=MODEL), {})
    assert openai.render(request, embedded(PAIR)).body == (
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.6,0.8]},'
        b'{"object":"embedding","index":1,"embedding":[1.0,0.0]}],"model":"nomic-embed-text-v1.5",'
        b'"usage":{"prompt_tokens":7,"total_tokens":7}}'
    )


def test_the_answer_in_base64() -> None:
    request = openai.parse(body_of(input=["a", "b"], model=MODEL, encoding_format="base64"), {})
    data = said(openai.render(request, embedded(PAIR)))["data"]
    assert [item["index"] for item in data] == [0, 1]
    assert base64.b64decode(data[1]["embedding"]) == np.array([1, 0], dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("value", "message"), [("", "input is an empty string"), ([], "input is an empty list"), (None, "input is null")]
)
def test_no_input_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        openai.parse(body_of(input=value, model=MODEL), {})


def test_an_empty_text_among_others_is_embedded() -> None:
    assert openai.parse(body_of(input=["a", ""], model=MODEL), {}).texts == ("a", "")


@pytest.mark.parametrize(("value", "ids"), [([5, 6], [[5, 6]]), ([[5], [6, 7]], [[5], [6, 7]])])
def test_token_ids_are_put_aside(value: Any, ids: list[list[int]]) -> None:
    request = openai.parse(body_of(input=value, model=MODEL), {})
    assert (request.texts, request.options["token_ids"]) == ((), ids)


def test_a_model_must_be_named() -> None:
    with pytest.raises(InputError, match="model is missing"):
        openai.parse(body_of(input="a"), {})


@pytest.mark.parametrize("value", ["BASE64", "int8", "", 1])
def test_an_unknown_encoding_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^encoding_format "):
        openai.parse(body_of(input="a", model=MODEL, encoding_format=value), {})


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (None, LongTextMode.TRUNCATE),
        (True, LongTextMode.TRUNCATE),
        ("END", LongTextMode.TRUNCATE),
        (False, LongTextMode.ERROR),
        ("NONE", LongTextMode.ERROR),
        ("error", LongTextMode.ERROR),
    ],
)
def test_truncate_in_every_spelling(value: Any, mode: LongTextMode) -> None:
    assert openai.parse(body_of(input="a", model=MODEL, truncate=value), {}).long_text_mode is mode


@pytest.mark.parametrize("value", ["START", "", 1, []])
def test_truncate_otherwise_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^truncate "):
        openai.parse(body_of(input="a", model=MODEL, truncate=value), {})


@pytest.mark.parametrize(
    ("name", "value", "task"),
    [
        ("input_type", "passage", TaskType.SEARCH_DOCUMENT),
        ("input_type", "clustering", TaskType.CLUSTERING),
        ("task", "retrieval.query", TaskType.SEARCH_QUERY),
        ("task", "text-matching", TaskType.CLUSTERING),
        ("task_type", "classification", TaskType.CLASSIFICATION),
    ],
)
def test_the_task_in_other_interfaces_words(name: str, value: str, task: TaskType) -> None:
    assert openai.parse(body_of(input="a", model=MODEL, **{name: value}), {}).task_type is task


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        (InputError("texts[3] is null; mend it"), 400, "invalid_request_error", "input", None),
        (InputError("dimensionality 9 is too large"), 400, "invalid_request_error", "dimensions", None),
        (InputError("the request body is null"), 400, "invalid_request_error", None, None),
        (UnknownModelError("model 'x' not found"), 404, "invalid_request_error", "model", "model_not_found"),
        (AuthenticationError("no key"), 401, "authentication_error", None, "invalid_api_key"),
        (OverloadedError("full", retry_after_s=1), 429, "rate_limit_error", None, "rate_limit_exceeded"),
        (EngineError("it failed"), 500, "server_error", None, None),
        (UnavailableError("ending"), 503, "server_error", None, None),
    ],
)
def test_errors(error: GnomonicError, status: int, kind: str, param: str | None, code: str | None) -> None:
    reply = openai.render_error(error)
    assert reply.status == status
    told = said(reply)["error"]
    assert told.keys() == {"message", "type", "param", "code"}
    assert (told["type"], told["param"], told["code"]) == (kind, param, code)


def test_a_text_that_is_too_long_has_openais_code(fake_encoder: TextEncoder) -> None:
    with pytest.raises(InputError) as caught:
        fake_encoder.encode(["fox " * 50], long_text_mode="error", max_tokens_per_text=20)
    told = said(openai.render_error(caught.value))["error"]
    assert (told["param"], told["code"]) == ("input", "context_length_exceeded")


def test_the_models() -> None:
    spec = known_models()[MODEL]
    entry = {
        "id": MODEL, "object": "model", "created": 5, "owned_by": "nomic-ai", "max_model_len": 8192,
    }  # fmt: skip
    assert said(openai.render_models([spec], created=5)) == {"object": "list", "data": [entry]}
    assert said(openai.render_model(spec, created=5)) == entry
    assert said(openai.render_model(spec, name="nomic-embed-text"))["id"] == "nomic-embed-text"
    assert said(openai.render_model(known_models()["gnomonic-embed-text-mini"]))["owned_by"] == "gnomonic"
