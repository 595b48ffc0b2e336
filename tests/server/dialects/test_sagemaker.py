from __future__ import annotations

import pytest

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.errors import InputError
from gnomonic.server.dialects import sagemaker
from gnomonic.types import EmbedRequest, TaskType
from tests.server.dialects.cases import PAIR, body_of, embedded, said


def test_what_nomics_client_sends() -> None:
    body = body_of(texts=["a"], binary=False, dimensionality=768, task_type="search_query")
    assert sagemaker.parse(body, {}) == EmbedRequest(
        texts=("a",), model=DEFAULT_TEXT_MODEL, task_type=TaskType.SEARCH_QUERY, dim=768,
        options={"shape": "nomic", "binary": False},
    )  # fmt: skip


def test_the_answer() -> None:
    request = sagemaker.parse(body_of(texts=["a", "b"]), {})
    assert sagemaker.render(request, embedded(PAIR)).body == b'{"embeddings":[[0.6,0.8],[1.0,0.0]]}'


def test_binary_vectors_are_zeros_and_ones() -> None:
    request = sagemaker.parse(body_of(texts=["a", "b"], binary=True), {})
    assert said(sagemaker.render(request, embedded(PAIR))) == {"embeddings": [[1, 1], [1, 0]]}


def test_teis_shape_gets_teis_answer() -> None:
    request = sagemaker.parse(body_of(inputs="a"), {})
    reply = sagemaker.render(request, embedded(PAIR[:1]))
    assert reply.body == b"[[0.6,0.8]]"
    assert reply.headers["x-compute-characters"] == "1"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (body_of(texts=["a"], inputs="a"), "inputs and texts exclude each other"),
        (body_of(texts=["a"], binary="yes"), "binary 'yes' is no switch"),
        (body_of(), "texts is missing"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        sagemaker.parse(body, {})
    reply = sagemaker.render_error(caught.value)
    assert reply.status == 400
    assert said(reply)["error"].startswith(message)


def test_no_texts_get_no_vectors() -> None:
    request = sagemaker.parse(body_of(texts=[]), {})
    assert said(sagemaker.render(request, embedded(PAIR[:0]))) == {"embeddings": []}


def test_ping_says_nothing() -> None:
    reply = sagemaker.render_ping()
    assert (reply.status, reply.body) == (200, b"{}")
