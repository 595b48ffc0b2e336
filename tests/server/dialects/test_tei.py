from __future__ import annotations

from typing import Any

import pytest

from gnomonic.catalog import DEFAULT_TEXT_MODEL, known_models
from gnomonic.errors import (
    DeadlineError,
    EngineError,
    GnomonicError,
    InputError,
    OverloadedError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)
from gnomonic.server.dialects import tei
from gnomonic.types import EmbedRequest, LongTextMode, TaskType
from tests.server.dialects.cases import MODEL, PAIR, body_of, embedded, said


def test_what_the_hubs_client_sends() -> None:
    body = body_of(inputs="a", normalize=True, prompt_name="query", truncate=True, truncation_direction="Right")
    assert tei.parse(body, {}) == EmbedRequest(texts=("a",), model=DEFAULT_TEXT_MODEL, task_type=TaskType.SEARCH_QUERY)
    assert tei.parse(body_of(inputs="a"), {}) == EmbedRequest(texts=("a",), model=DEFAULT_TEXT_MODEL)


def test_the_answer_is_a_list_even_for_one() -> None:
    request = tei.parse(body_of(inputs=["é", "bcd"]), {})
    reply = tei.render(request, embedded(PAIR))
    assert reply.body == b"[[0.6,0.8],[1.0,0.0]]"
    assert reply.headers["x-compute-tokens"] == "7"
    assert reply.headers["x-compute-characters"] == "4"
    assert tei.render(tei.parse(body_of(inputs="a"), {}), embedded(PAIR[:1])).body == b"[[0.6,0.8]]"


@pytest.mark.parametrize(
    ("truncate", "mode"), [(None, LongTextMode.TRUNCATE), (True, LongTextMode.TRUNCATE), (False, LongTextMode.ERROR)]
)
def test_truncate(truncate: bool | None, mode: LongTextMode) -> None:
    assert tei.parse(body_of(inputs="a", truncate=truncate), {}).long_text_mode is mode


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalize": False}, "normalize false is not supported: vectors always have unit length"),
        ({"normalize": "no"}, "normalize 'no' is no switch"),
        ({"truncate": "END"}, "truncate 'END' is no switch"),
        ({"truncation_direction": "Left"}, "truncation_direction 'Left' is not supported"),
        ({"truncation_direction": 1}, "truncation_direction is a number"),
        ({"prompt_name": "sts"}, "prompt_name 'sts' is unknown"),
    ],
)
def test_what_is_not_supported_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        tei.parse(body_of(inputs="a", **changes), {})
    reply = tei.render_error(caught.value)
    assert reply.status == 422
    assert said(reply)["error"].startswith(message)
    assert said(reply)["error_type"] == "Validation"


def test_an_empty_batch_has_a_type_of_its_own() -> None:
    with pytest.raises(InputError) as caught:
        tei.parse(body_of(inputs=[]), {})
    reply = tei.render_error(caught.value)
    assert (reply.status, said(reply)["error_type"]) == (400, "Empty")
    assert tei.parse(body_of(inputs=""), {}).texts == ("",)


def test_token_ids_are_put_aside() -> None:
    assert tei.parse(body_of(inputs=[[5], [6, 7]]), {}).options == {"token_ids": [[5], [6, 7]]}


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InputError("inputs[0] is null"), 422, "Validation"),
        (UnknownModelError("model 'x' not found"), 404, "Validation"),
        (TooLargeError("inputs has 9 texts"), 413, "Validation"),
        (OverloadedError("full", retry_after_s=3), 429, "Overloaded"),
        (EngineError("it failed"), 424, "Backend"),
        (DeadlineError("too late"), 504, "Backend"),
        (UnavailableError("ending"), 503, "Unhealthy"),
    ],
)
def test_errors(error: GnomonicError, status: int, kind: str) -> None:
    reply = tei.render_error(error)
    assert reply.status == status
    assert said(reply) == {"error": str(error), "error_type": kind}


def test_info_has_the_real_limits() -> None:
    capacity = tei.Capacity(max_concurrent_requests=9, max_batch_tokens=8, max_client_batch_size=7)
    value = said(tei.render_info(known_models()[MODEL], capacity))
    assert value["model_id"] == "nomic-ai/nomic-embed-text-v1.5"
    assert value["served_model_name"] == MODEL
    assert value["model_sha"] == known_models()[MODEL].revision
    assert value["max_input_length"] == 8192
    assert value["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (value["max_concurrent_requests"], value["max_batch_tokens"], value["max_client_batch_size"]) == (9, 8, 7)
    assert said(tei.render_info(known_models()[DEFAULT_TEXT_MODEL], capacity))["model_sha"] is None


@pytest.mark.parametrize(
    ("fields", "task", "special"),
    [
        ({}, None, True),
        ({"add_special_tokens": False}, None, False),
        ({"prompt_name": "query"}, TaskType.SEARCH_QUERY, True),
        ({"task_type": "clustering"}, TaskType.CLUSTERING, True),
        ({"model": f"{MODEL}:query"}, TaskType.SEARCH_QUERY, True),
    ],
    ids=repr,
)
def test_tokenize_is_read(fields: dict[str, Any], task: TaskType | None, special: bool) -> None:
    request = tei.parse_tokenize(body_of(inputs=["a", "b"], **fields))
    assert (request.texts, request.task_type, request.add_special_tokens) == (("a", "b"), task, special)


@pytest.mark.parametrize("inputs", [[], [1, 2], None, 1])
def test_tokenize_needs_texts(inputs: Any) -> None:
    with pytest.raises(InputError, match=r"^inputs "):
        tei.parse_tokenize(body_of(inputs=inputs))


def test_tokens_are_written() -> None:
    reply = tei.render_tokenize(
        [[tei.Token(id=101, text="[CLS]", special=True), tei.Token(id=5, text="a", start=0, stop=1)], []]
    )
    assert said(reply) == [
        [
            {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None},
            {"id": 5, "text": "a", "special": False, "start": 0, "stop": 1},
        ],
        [],
    ]
