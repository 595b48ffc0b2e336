from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from gnomonic.errors import GnomonicError, InputError, OverloadedError, UnknownModelError
from gnomonic.server.dialects import cohere
from gnomonic.server.dialects.rendering import ENCODINGS
from gnomonic.types import EmbedRequest, LongTextMode, TaskType
from tests.server.dialects.cases import MODEL, PAIR, body_of, embedded, said, unit_vectors


def test_what_coheres_client_sends() -> None:
    body = body_of(model=MODEL, input_type="search_query", texts=["a"], embedding_types=["float", "int8", "float"])
    assert cohere.parse(body, {}) == EmbedRequest(
        texts=("a",), model=MODEL, task_type=TaskType.SEARCH_QUERY,
        options={"model_name": MODEL, "embedding_types": ("float", "int8")},
    )  # fmt: skip


def test_the_answer() -> None:
    request = cohere.parse(body_of(model=MODEL, texts=["a", "b"]), {})
    request.options["request_id"] = "r-1"
    assert said(cohere.render(request, embedded(PAIR))) == {
        "id": "r-1",
        "embeddings": {"float": [[0.6, 0.8], [1.0, 0.0]]},
        "texts": ["a", "b"],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}},
        "response_type": "embeddings_by_type",
    }


def test_without_a_request_id_the_answer_gets_one() -> None:
    request = cohere.parse(body_of(model=MODEL, texts=["a", "b"]), {})
    assert UUID(said(cohere.render(request, embedded(PAIR)))["id"])


def test_every_type_at_once() -> None:
    request = cohere.parse(body_of(model=MODEL, texts=["a"], embedding_types=list(ENCODINGS)), {})
    rows = said(cohere.render(request, embedded(unit_vectors(2, 20))))["embeddings"]
    assert list(rows) == list(ENCODINGS)
    lengths = {kind: len(values[0]) for kind, values in rows.items() if kind != "base64"}
    assert lengths == {"float": 20, "int8": 20, "uint8": 20, "binary": 3, "ubinary": 3}
    bounds = {"int8": (-127, 127), "uint8": (1, 255), "binary": (-128, 127), "ubinary": (0, 255)}
    for kind, (low, high) in bounds.items():
        values = [value for row in rows[kind] for value in row]
        assert all(type(value) is int and low <= value <= high for value in values)


def test_cut_texts_are_a_warning() -> None:
    request = cohere.parse(body_of(model=MODEL, texts=["a"]), {})
    (few,) = said(cohere.render(request, embedded(PAIR, truncated=(0, 3))))["meta"]["warnings"]
    (many,) = said(cohere.render(request, embedded(PAIR, truncated=tuple(range(50)))))["meta"]["warnings"]
    assert few == "too long, and cut at the end: texts[0], texts[3]"
    assert many.endswith("texts[9] and 40 more")


@pytest.mark.parametrize(
    ("truncate", "mode"),
    [(None, LongTextMode.TRUNCATE), ("END", LongTextMode.TRUNCATE), ("NONE", LongTextMode.ERROR)],
)
def test_truncate(truncate: str | None, mode: LongTextMode) -> None:
    assert cohere.parse(body_of(model=MODEL, texts=["a"], truncate=truncate), {}).long_text_mode is mode


def test_inputs_of_text_are_read() -> None:
    def part(text: str) -> dict[str, str]:
        return {"type": "text", "text": text}

    body = body_of(model=MODEL, inputs=[{"content": [part("a")]}, {"content": [part("b"), part("c")]}])
    assert cohere.parse(body, {}).texts == ("a", "b\nc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": []}, "texts is an empty list"),
        ({"images": ["data:image/png;base64,"]}, "texts and images exclude each other"),
        ({"inputs": []}, "texts and inputs exclude each other"),
        ({"texts": None, "images": ["x"]}, "images is not supported here"),
        ({"texts": None, "inputs": []}, "inputs is an empty list"),
        ({"texts": None, "inputs": "sentinel"}, "inputs is a string"),
        ({"texts": None, "inputs": ["sentinel"]}, "inputs[0] has no list"),
        ({"texts": None, "inputs": [{"content": []}]}, "inputs[0] has no list"),
        ({"texts": None, "inputs": [{"content": ["sentinel"]}]}, "inputs[0].content[0] is of type null"),
        (
            {"texts": None, "inputs": [{"content": [{"type": "image_url", "image_url": {"url": "sentinel"}}]}]},
            "inputs[0].content[0] is of type 'image_url'",
        ),
        ({"texts": None, "inputs": [{"content": [{"type": "text", "text": 1}]}]}, "inputs[0].content[0].text is a num"),
        ({"input_type": "image"}, "input_type 'image' is not supported"),
        ({"input_type": "search"}, "input_type 'search' is unknown"),
        ({"embedding_types": ["float", "int4"]}, "embedding_types 'int4' is unknown"),
        ({"embedding_types": [None]}, "embedding_types holds null"),
        ({"embedding_types": "float"}, "embedding_types is a string"),
        ({"truncate": "START"}, "truncate 'START' is not supported: texts are cut at their end"),
        ({"truncate": "end"}, "truncate 'end' is unknown"),
        ({"max_tokens": 0}, "max_tokens 0 is smaller than 1"),
        ({"model": None}, "model is missing"),
    ],
    ids=repr,
)
def test_what_is_not_supported_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        cohere.parse(body_of(**{"model": MODEL, "texts": ["sentinel"], **changes}), {})
    reply = cohere.render_error(caught.value)
    assert reply.status == 400
    assert said(reply)["message"].startswith(message)
    assert b"sentinel" not in reply.body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("texts[0] is null"), 400),
        (UnknownModelError("model 'x' not found"), 404),
        (OverloadedError("full", retry_after_s=3), 429),
    ],
)
def test_errors(error: GnomonicError, status: int) -> None:
    reply = cohere.render_error(error)
    value = said(reply)
    assert reply.status == status
    assert value.pop("id")
    assert value == {"message": str(error)}
