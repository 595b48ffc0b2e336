"""What holds for every dialect: fuzzed bodies, bad fields, the same vectors, errors of every class."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomonic.errors import EngineError, InputError
from gnomonic.inference.encoder import TextEncoder
from gnomonic.server.dialects.base import status_of
from gnomonic.types import EmbedRequest, LongTextMode, TaskType
from tests.server.dialects.cases import ERRORS, FRONTS, MODEL, Front, body_of, embedded, one_of, said, unit_vectors

untimed = settings(deadline=None)  # a busy machine stretches wall time
each = pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def _survives(front: Front, body: bytes) -> EmbedRequest | None:
    """Parse; the outcome is a sound request, or an InputError that renders."""
    try:
        request = front.parse(body, {})
    except InputError as error:
        reply = front.render_error(error)
        assert 400 <= reply.status < 500
        assert front.message_of(said(reply))
        return None
    assert all(isinstance(text, str) for text in request.texts)
    assert request.model
    assert request.dim is None or request.dim >= 1
    assert request.max_tokens_per_text >= 1
    assert isinstance(request.task_type, TaskType)
    assert isinstance(request.long_text_mode, LongTextMode)
    for ids in request.options.get("token_ids", []):
        assert ids
        assert all(type(item) is int and item >= 0 for item in ids)
    return request


# -- fuzzed bodies ------------------------------------------------------------------------------------------------


@each
@untimed
@given(body=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(front: Front, body: bytes) -> None:
    _survives(front, body)


@each
@untimed
@given(value=JSON)
def test_any_json_is_read_or_refused(front: Front, value: Any) -> None:
    _survives(front, json.dumps(value).encode())


@each
@untimed
@given(data=st.data())
def test_a_request_with_any_value_in_a_field_is_read_or_refused(front: Front, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*front.full, "model", "task_type", "long_text_mode", "inputs", "images"]))
    _survives(front, json.dumps({**front.full, name: data.draw(JSON)}).encode())


@each
@untimed
@given(data=st.data())
def test_a_damaged_request_is_read_or_refused(front: Front, data: st.DataObject) -> None:
    body = bytearray(json.dumps(front.full).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    _survives(front, bytes(body))


# -- what is read -------------------------------------------------------------------------------------------------


@each
def test_a_full_request_is_read(front: Front) -> None:
    request = _survives(front, body_of(**front.full))
    assert request is not None
    assert request.texts == ("a", "b")
    assert request.dim == front.full.get(front.dim)
    assert request.long_text_mode is LongTextMode.TRUNCATE


@each
def test_null_is_as_good_as_absent(front: Front) -> None:
    kept = {front.texts, "model"}
    nulls = {name: value if name in kept else None for name, value in front.full.items()}
    absent = {name: value for name, value in front.full.items() if name in kept}
    assert front.parse(body_of(**nulls), {}) == front.parse(body_of(**absent), {})


@each
def test_unknown_fields_are_ignored(front: Front) -> None:
    assert front.parse(body_of(**front.full, no_such_field=1), {}) == front.parse(body_of(**front.full), {})


@each
@pytest.mark.parametrize("mode", list(LongTextMode))
def test_every_dialect_takes_long_text_mode(front: Front, mode: LongTextMode) -> None:
    request = front.parse(body_of(**{**front.full, "long_text_mode": str(mode)}), {})
    assert request.long_text_mode is mode


@each
def test_the_task_is_chosen_in_order(front: Front) -> None:
    plain = {front.texts: ["a"], "model": MODEL}
    aliased = {**plain, "model": f"{MODEL}:clustering"}
    header = {"x-task-type": "classification"}
    field = {**aliased, "task_type": "search_query"}
    assert front.parse(body_of(**plain), {}).task_type is TaskType.SEARCH_DOCUMENT
    assert front.parse(body_of(**aliased), {}).task_type is TaskType.CLUSTERING
    assert front.parse(body_of(**aliased), header).task_type is TaskType.CLASSIFICATION
    assert front.parse(body_of(**field), header).task_type is TaskType.SEARCH_QUERY
    for name, query in front.native.items():
        native = {**aliased, "task_type": "classification", name: query}
        assert front.parse(body_of(**native), header).task_type is TaskType.SEARCH_QUERY


# -- bad fields ---------------------------------------------------------------------------------------------------

_NOT_TEXTS: list[Any] = [[None], [1.5], [True], [{}], ["a", 1], ["a", None], ["a", ["b"]], {}, 1, 1.5, True]
_NOT_SIZES: list[Any] = [0, -1, "64", 64.0, True, [], {}, 1e30, 10**30]
_NOT_MODELS: list[Any] = [
    "",
    "../../x",
    "a/b",
    "/etc",
    "nomic-ai/../x",
    "C:\\x",
    "m" * 10_000,
    "a\nb",
    "é",
    "nomic-ai/",
]


def _refused(front: Front, changes: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[int, str]:
    with pytest.raises(InputError) as caught:
        front.parse(json.dumps({**front.full, **changes}).encode(), headers or {})
    reply = front.render_error(caught.value)
    return reply.status, front.message_of(said(reply))


@each
@pytest.mark.parametrize("value", _NOT_TEXTS, ids=repr)
def test_texts_that_are_none_are_refused(front: Front, value: Any) -> None:
    status, message = _refused(front, {front.texts: value})
    assert status == front.bad_status
    assert message.startswith(front.texts)


@pytest.mark.parametrize(
    "dialect", sorted(FRONTS.keys() - {"ollama"})
)  # whose clients load a model by sending no input
@pytest.mark.parametrize("is_null", [True, False])
def test_texts_must_be_there(dialect: str, is_null: bool) -> None:
    front = FRONTS[dialect]
    body = {**front.full, front.texts: None}
    if not is_null:
        del body[front.texts]
    with pytest.raises(InputError) as caught:
        front.parse(body_of(**body), {})
    reply = front.render_error(caught.value)
    assert reply.status == front.bad_status
    assert front.message_of(said(reply)).startswith(("texts is ", f"{front.texts} is "))


@each
def test_a_bad_text_is_named_by_its_index_and_no_text_is_repeated(front: Front) -> None:
    _, message = _refused(front, {front.texts: ["sentinel", "sentinel", None]})
    assert message.startswith(f"{front.texts}[2] is null")
    assert "sentinel" not in message


@each
@pytest.mark.parametrize("value", _NOT_SIZES, ids=repr)
def test_sizes_that_are_none_are_refused(front: Front, value: Any) -> None:
    status, message = _refused(front, {front.dim: value})
    assert status == front.bad_status
    assert message.startswith(front.dim)


@each
@pytest.mark.parametrize("value", [1, 63, 64, 767, 768, 769, 10**9])
def test_any_positive_size_is_left_to_the_model(front: Front, value: int) -> None:
    assert front.parse(body_of(**{**front.full, front.dim: value}), {}).dim == value


@each
@pytest.mark.parametrize("name", _NOT_MODELS, ids=lambda name: repr(name[:12]))
def test_what_names_no_model_is_not_found(front: Front, name: str) -> None:
    status, message = _refused(front, {"model": name})
    assert status == 404
    assert "not found" in message
    assert len(message) < 250


@each
@pytest.mark.parametrize("value", [1, [], {}, True])
def test_a_model_that_is_no_string_is_refused(front: Front, value: Any) -> None:
    status, message = _refused(front, {"model": value})
    assert status == front.bad_status
    assert message.startswith("model is ")


@each
@pytest.mark.parametrize("name", ["task_type", "long_text_mode"])
@pytest.mark.parametrize("value", ["search_qeury", "", 1, []], ids=repr)
def test_an_unknown_task_or_mode_is_refused(front: Front, name: str, value: Any) -> None:
    unset = dict.fromkeys(front.native)
    status, message = _refused(front, {**unset, name: value})
    assert status == front.bad_status
    assert message.startswith(name)
    if (name, value) == ("task_type", "search_qeury"):
        assert "did you mean 'search_query'" in message
        assert "clustering" in message


@each
def test_an_unknown_task_in_the_header_is_refused(front: Front) -> None:
    unset = dict.fromkeys((*front.native, "task_type"))
    status, message = _refused(front, unset, {"x-task-type": "summarise"})
    assert status == front.bad_status
    assert "header x-task-type 'summarise' is unknown" in message


@each
@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "missing request body"),
        (b" \n", "missing request body"),
        (b"null", "is null"),
        (b"[]", "is a list"),
        (b'"sentinel"', "is a string"),
        (b'\xef\xbb\xbf{"texts": ["sentinel"]}', "byte order mark"),
        (b'{"texts": ["\xff sentinel"]}', "UTF-8"),
        (b'{"texts": ["\\ud800 sentinel"]}', "surrogate"),
        (b'{"texts": ["sentinel"], "x": NaN}', "not valid JSON"),
        (b'{"texts": ["sentinel"], "x": Infinity}', "not valid JSON"),
        (b'{"texts": ["sentinel"], "x": 1e999}', "infinity"),
        (b'{"texts": ["sentinel', "end of data"),
        (b'{"texts": ["sentinel"]} x', "unexpected content"),
        (b"[" * 100_000, "depth"),
        (b'{"a":' * 100_000, "depth"),
    ],
    ids=lambda value: repr(value[:16]),
)
def test_what_is_no_json_object_is_refused(front: Front, body: bytes, part: str) -> None:
    with pytest.raises(InputError) as caught:
        front.parse(body, {})
    reply = front.render_error(caught.value)
    assert reply.status == front.bad_status
    assert part in front.message_of(said(reply))
    assert b"sentinel" not in reply.body


@each
def test_of_a_name_that_stands_twice_the_last_counts(front: Front) -> None:
    body = body_of(**front.full)[:-1] + f', "{front.texts}": ["last"]}}'.encode()
    assert front.parse(body, {}).texts == ("last",)


# -- answers ------------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("dim", [1, 7, 64, 768])
def test_the_vectors_arrive_bit_for_bit(front: Front, dim: int) -> None:
    vectors = unit_vectors(2, dim)
    vectors[0, 0] = np.float32(1e-42)
    request = front.parse(body_of(**front.full), {})
    arrived = np.array(front.vectors_of(said(front.render(request, embedded(vectors)))), dtype=np.float32)
    assert arrived.tobytes() == vectors.tobytes()


@each
def test_a_view_of_larger_vectors_is_written_rightly(front: Front) -> None:
    wide = unit_vectors(4, 32)
    request = front.parse(body_of(**front.full), {})
    arrived = front.vectors_of(said(front.render(request, embedded(wide[::2, :5]))))
    assert np.array(arrived, dtype=np.float32).tobytes() == wide[::2, :5].tobytes()


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_never_sent(front: Front, bad: float) -> None:
    vectors = unit_vectors(2, 4)
    vectors[1, 2] = bad
    request = front.parse(body_of(**front.full), {})
    with pytest.raises(EngineError, match="not finite"):
        front.render(request, embedded(vectors))


@each
def test_cut_texts_and_the_task_stand_in_headers(front: Front) -> None:
    request = front.parse(body_of(**{front.texts: ["a", "b"], "model": MODEL}), {"x-task-type": "clustering"})
    cut = front.render(request, embedded(unit_vectors(2, 4), truncated=(0, 3))).headers
    whole = front.render(request, embedded(unit_vectors(2, 4))).headers
    assert (cut["x-gnomonic-truncated"], cut["x-gnomonic-truncated-count"]) == ("0,3", "2")
    assert not {"x-gnomonic-truncated", "x-gnomonic-truncated-count"} & whole.keys()
    assert whole["x-gnomonic-task"] == "clustering"


@each
def test_the_list_of_cut_texts_is_capped(front: Front) -> None:
    request = front.parse(body_of(**front.full), {})
    cut = front.render(request, embedded(unit_vectors(1, 4), truncated=tuple(range(2000)))).headers
    assert cut["x-gnomonic-truncated"] == ",".join(map(str, range(256)))
    assert cut["x-gnomonic-truncated-count"] == "2000"


# -- errors -------------------------------------------------------------------------------------------------------

# Where a dialect has a status of its own for ours.
_OWN_STATUS = {
    "nomic": {400: 422},
    "tei": {400: 422, 500: 424},
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("dialect", FRONTS)
def test_every_error_is_told_in_the_dialects_shape(dialect: str, name: str) -> None:
    front, error = FRONTS[dialect], one_of(ERRORS[name])
    reply = front.render_error(error)
    ours = status_of(error)
    expected = _OWN_STATUS.get(dialect, {}).get(ours, ours)
    if (dialect, name) == ("ollama", "OverloadedError"):
        expected = 503
    assert reply.status == expected
    assert front.message_of(said(reply)).endswith("it broke; do this.")
    assert reply.headers == ({"retry-after": "3"} if hasattr(error, "retry_after_s") else {})


@each
def test_the_encoders_errors_are_told_in_the_dialects_words(front: Front, fake_encoder: TextEncoder) -> None:
    with pytest.raises(InputError) as caught:
        fake_encoder.encode(["a"], dim=1000)
    message = front.message_of(said(front.render_error(caught.value)))
    ours = "dimensionality" if front.render_error.__module__.endswith("sagemaker") else front.dim
    assert message.startswith(f"{ours} 1000 is larger than the model's 32")


@each
def test_the_encoders_index_is_kept(front: Front, fake_encoder: TextEncoder) -> None:
    with pytest.raises(InputError) as caught:
        fake_encoder.encode(["a", "fox " * 50], long_text_mode="error", max_tokens_per_text=20)
    message = front.message_of(said(front.render_error(caught.value)))
    ours = "texts" if front.render_error.__module__.endswith("sagemaker") else front.texts
    assert f"{ours}[1] has 5" in message
