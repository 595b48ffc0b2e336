from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gnomonic import __version__
from gnomonic.catalog import known_models
from gnomonic.errors import InputError, UnknownModelError
from gnomonic.inference.encoder import TextEncoder
from gnomonic.server.dialects import ollama
from gnomonic.types import EmbedRequest, LongTextMode, TaskType
from tests.server.dialects.cases import MODEL, PAIR, body_of, embedded, said

SPEC = known_models()[MODEL]


def test_what_ollamas_clients_send() -> None:
    options = dict.fromkeys(("num_ctx", "num_gpu", "temperature", "mirostat"))
    body = body_of(model="nomic-embed-text:latest", input="a", truncate=True, options=options, keep_alive="5m")
    expected = EmbedRequest(texts=("a",), model=MODEL, options={"model_name": "nomic-embed-text:latest"})
    assert ollama.parse(body, {}) == expected
    assert ollama.parse_prompt(body_of(model="nomic-embed-text:latest", prompt="a"), {}) == expected


def test_the_answer() -> None:
    request = ollama.parse(body_of(model="nomic-embed-text", input=["a", "b"]), {})
    request.options.update(total_ns=900, load_ns=20)
    assert ollama.render(request, embedded(PAIR)).body == (
        b'{"model":"nomic-embed-text","embeddings":[[0.6,0.8],[1.0,0.0]],"total_duration":900,"load_duration":20,'
        b'"prompt_eval_count":7}'
    )


def test_the_answer_has_durations_without_the_service() -> None:
    value = said(ollama.render(ollama.parse(body_of(model=MODEL, input="a"), {}), embedded(PAIR)))
    assert (value["total_duration"], value["load_duration"]) == (0, 0)


def test_the_older_route_answers_one_vector() -> None:
    request = ollama.parse_prompt(body_of(model=MODEL, prompt="a"), {})
    reply = ollama.render_prompt(request, embedded(PAIR[:1], truncated=(0,)))
    assert reply.body == b'{"embedding":[0.6,0.8]}'
    assert reply.headers["x-gnomonic-truncated"] == "0"


@pytest.mark.parametrize("fields", [{"input": ""}, {"input": []}, {"input": None}, {}], ids=repr)
def test_no_input_gets_no_vectors(fields: dict[str, Any]) -> None:
    request = ollama.parse(body_of(model=MODEL, **fields), {})
    assert request.texts == ()
    reply = ollama.render(request, embedded(PAIR[:0], tokens=0))
    assert (reply.status, said(reply)["embeddings"]) == (200, [])


@pytest.mark.parametrize("fields", [{"prompt": ""}, {"prompt": None}, {}], ids=repr)
def test_no_prompt_gets_an_empty_vector(fields: dict[str, Any]) -> None:
    request = ollama.parse_prompt(body_of(model=MODEL, **fields), {})
    assert request.texts == ()
    assert said(ollama.render_prompt(request, embedded(PAIR[:0]))) == {"embedding": []}


def test_an_empty_text_in_a_list_is_embedded() -> None:
    assert ollama.parse(body_of(model=MODEL, input=[""]), {}).texts == ("",)


@pytest.mark.parametrize("value", [["a"], 1, {}])
def test_a_prompt_is_one_string(value: Any) -> None:
    with pytest.raises(InputError, match=r"^prompt is "):
        ollama.parse_prompt(body_of(model=MODEL, prompt=value), {})


@pytest.mark.parametrize("value", [5, {"a": 1}, True])
def test_other_inputs_have_ollamas_words(value: Any) -> None:
    with pytest.raises(InputError, match="invalid input type"):
        ollama.parse(body_of(model=MODEL, input=value), {})


def test_token_ids_are_no_input() -> None:
    with pytest.raises(InputError, match=r"input\[0\] is a number; every text must be a string"):
        ollama.parse(body_of(model=MODEL, input=[1, 2]), {})


@pytest.mark.parametrize(("num_ctx", "limit"), [(None, 8192), (512, 512), (8192, 8192), (131072, 8192)])
def test_num_ctx_limits_the_tokens(num_ctx: int | None, limit: int) -> None:
    body = body_of(model=MODEL, input="a", options={"num_ctx": num_ctx})
    assert ollama.parse(body, {}).max_tokens_per_text == limit


@pytest.mark.parametrize("options", [{"num_ctx": 0}, {"num_ctx": "512"}, {"num_ctx": 1.5}, [], "x"], ids=repr)
def test_options_of_no_use_are_refused(options: Any) -> None:
    with pytest.raises(InputError, match=r"^options") as caught:
        ollama.parse(body_of(model=MODEL, input="a", options=options), {})
    assert ollama.render_error(caught.value).status == 400


def test_truncate_false_refuses_long_texts() -> None:
    assert ollama.parse(body_of(model=MODEL, input="a", truncate=False), {}).long_text_mode is LongTextMode.ERROR


def test_errors_have_the_words_that_clients_look_for(fake_encoder: TextEncoder) -> None:
    with pytest.raises(UnknownModelError) as unknown:
        ollama.parse(body_of(model="", input="a"), {})
    assert said(ollama.render_error(unknown.value))["error"].startswith("model '' not found")
    elsewhere = ollama.render_error(UnknownModelError("model 'x' is not served"))
    assert (elsewhere.status, said(elsewhere)) == (404, {"error": "model not found: model 'x' is not served"})
    with pytest.raises(InputError) as too_long:
        fake_encoder.encode(["fox " * 50], long_text_mode="error", max_tokens_per_text=20)
    message = said(ollama.render_error(too_long.value))["error"]
    assert message.startswith("the input length exceeds the context length: input[0] has ")


def test_a_limit_has_ollamas_name_in_messages(fake_encoder: TextEncoder) -> None:
    with pytest.raises(InputError) as caught:
        fake_encoder.encode(["a"], max_tokens_per_text=2)
    assert said(ollama.render_error(caught.value))["error"].startswith("options.num_ctx 2 leaves no room")


def test_tags_list_each_model_under_every_name_a_client_may_look_for() -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    models = said(ollama.render_tags([SPEC, known_models()["nomic-embed-text-v1"]], modified_at=since))["models"]
    names = [entry["model"] for entry in models]
    assert names[0] == "nomic-embed-text-v1.5:latest"
    assert {"nomic-embed-text:latest", "nomic-embed-text:v1.5", "nomic-embed-text-v1:latest"} <= set(names)
    assert len(set(names)) == len(names)
    first = models[0]
    assert first["name"] == first["model"]
    assert first["modified_at"] == "2026-01-02T02:04:05Z"
    assert first["digest"] == SPEC.files["model.safetensors"]
    assert first["size"] == 4 * SPEC.parameters
    assert first["details"]["parameter_size"] == "137M"
    assert first["details"].keys() == {
        "parent_model", "format", "family", "families", "parameter_size", "quantization_level",
    }  # fmt: skip
    assert all(ollama.parse_show(body_of(model=entry["model"])) in known_models() for entry in models)


def test_a_model_without_files_has_a_digest_too() -> None:
    (entry,) = said(ollama.render_tags([known_models()["gnomonic-embed-text-mini"]]))["models"]
    assert len(bytes.fromhex(entry["digest"])) == 32


def test_show_tells_the_context_length() -> None:
    value = said(ollama.render_show(SPEC))
    (length,) = [number for key, number in value["model_info"].items() if key.endswith(".context_length")]
    assert length == 8192
    assert value["capabilities"] == ["embedding"]
    assert datetime.fromisoformat(value["modified_at"]) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("fields", [{"model": "nomic-embed-text"}, {"name": "nomic-embed-text:v1.5:query"}])
def test_show_takes_any_name_of_a_model(fields: dict[str, str]) -> None:
    assert ollama.parse_show(body_of(**fields)) == MODEL


def test_show_needs_a_name() -> None:
    with pytest.raises(InputError, match="model is missing"):
        ollama.parse_show(b"{}")


def test_ps_version_and_root() -> None:
    (entry,) = said(ollama.render_ps([SPEC]))["models"]
    assert (entry["name"], entry["context_length"]) == ("nomic-embed-text-v1.5:latest", 8192)
    assert datetime.fromisoformat(entry["expires_at"]) > datetime(2100, 1, 1, tzinfo=UTC)
    assert said(ollama.render_version()) == {"version": __version__}
    root = ollama.render_root()
    assert (root.body, root.media_type) == (b"Ollama is running", "text/plain; charset=utf-8")


def test_the_task_comes_with_the_name() -> None:
    request = ollama.parse(body_of(model="nomic-embed-text:query", input="a"), {})
    assert (request.model, request.task_type) == (MODEL, TaskType.SEARCH_QUERY)
