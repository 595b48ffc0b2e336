from __future__ import annotations

import json
from typing import Any

import pytest

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import AuthenticationError, InputError, OverloadedError, TooLargeError, UnknownModelError
from gnomonic.server.dialects import nomic
from gnomonic.types import EmbedRequest, LongTextMode, TaskType
from tests.server.dialects.cases import MODEL, PAIR, body_of, embedded, said


def test_what_nomics_client_sends() -> None:
    body = json.dumps(
        {"texts": ["a"], "model": MODEL, "task_type": "search_query", "dimensionality": None,
         "long_text_mode": "truncate"}
    ).encode()  # fmt: skip
    assert nomic.parse(body, {"user-agent": "py-nomic/3.9.0"}) == EmbedRequest(
        texts=("a",), model=MODEL, task_type=TaskType.SEARCH_QUERY, options={"model_name": MODEL}
    )


def test_the_defaults_are_those_of_nomics_server() -> None:
    assert nomic.parse(body_of(texts=["a"], max_tokens_per_text=None), {}) == EmbedRequest(
        texts=("a",), model=DEFAULT_TEXT_MODEL, long_text_mode=LongTextMode.MEAN, max_tokens_per_text=8192
    )


def test_no_texts_get_no_vectors() -> None:
    request = nomic.parse(body_of(texts=[], model=MODEL), {})
    assert request.texts == ()
    assert said(nomic.render(request, embedded(PAIR[:0], tokens=0)))["embeddings"] == []


def test_the_answer() -> None:
    request = nomic.parse(body_of(texts=["a", "b"], model="nomic-ai/nomic-embed-text-v1.5"), {})
    reply = nomic.render(request, embedded(PAIR, truncated=(1,)))
    assert reply.body == (
        b'{"embeddings":[[0.6,0.8],[1.0,0.0]],"usage":{"prompt_tokens":7,"total_tokens":7},'
        b'"model":"nomic-ai/nomic-embed-text-v1.5"}'
    )
    assert reply.status == 200
    assert reply.headers == {
        "x-gnomonic-task": "search_document", "x-gnomonic-truncated": "1", "x-gnomonic-truncated-count": "1",
    }  # fmt: skip


def test_the_answer_names_the_model_where_the_caller_did_not() -> None:
    request = nomic.parse(body_of(texts=["a"]), {})
    assert said(nomic.render(request, embedded(PAIR)))["model"] == MODEL


@pytest.mark.parametrize(
    ("message", "loc"),
    [
        ("texts[3] is null; every text must be a string", ["body", "texts", 3]),
        ("dimensionality 0 is smaller than 1; it must be 1 or more", ["body", "dimensionality"]),
        ("the request body is null; send a JSON object", ["body"]),
    ],
)
def test_what_the_caller_must_mend_is_a_list_as_fastapi_writes_it(message: str, loc: list[Any]) -> None:
    reply = nomic.render_error(InputError(message))
    assert reply.status == 422
    assert said(reply) == {"detail": [{"loc": loc, "msg": message, "type": "value_error"}]}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownModelError("model 'x' not found"), 404),
        (TooLargeError("texts is too long"), 413),
        (AuthenticationError("no key"), 401),
        (OverloadedError("the queue is full", retry_after_s=2), 429),
    ],
)
def test_other_errors_are_a_sentence(error: Any, status: int) -> None:
    reply = nomic.render_error(error)
    assert (reply.status, said(reply)) == (status, {"detail": str(error)})


def test_the_user_has_what_nomics_client_reads() -> None:
    user = said(nomic.render_user())
    (organization,) = user["organizations"]
    assert user["default_organization"] == organization["organization_id"]
    assert {"slug", "user_id", "access_role"} <= organization.keys()
    assert user["sub"] == organization["user_id"]
