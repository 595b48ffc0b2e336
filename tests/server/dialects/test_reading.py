from __future__ import annotations

from typing import Any

import pytest

from gnomonic.catalog import known_models
from gnomonic.errors import InputError, UnknownModelError
from gnomonic.server.dialects.reading import (
    MODEL_ALIASES,
    choice,
    json_object,
    model_of,
    required,
    shown,
    split_model,
    texts_or_ids,
    token_limit,
)
from gnomonic.types import TaskType

V15 = "nomic-embed-text-v1.5"


@pytest.mark.parametrize(
    ("name", "model", "task"),
    [
        (V15, V15, None),
        (f"{V15}:latest", V15, None),
        (f"nomic-ai/{V15}", V15, None),
        ("nomic-embed-text", V15, None),
        ("nomic-embed-text:latest", V15, None),
        ("nomic-embed-text:v1.5", V15, None),
        ("nomic-ai/nomic-embed-text:v1.5", V15, None),
        (f"{V15}:query", V15, TaskType.SEARCH_QUERY),
        (f"{V15}:search_query", V15, TaskType.SEARCH_QUERY),
        (f"{V15}:document", V15, TaskType.SEARCH_DOCUMENT),
        (f"{V15}:classification", V15, TaskType.CLASSIFICATION),
        (f"{V15}:query:latest", V15, TaskType.SEARCH_QUERY),
        ("nomic-embed-text:latest:query", V15, TaskType.SEARCH_QUERY),
        ("nomic-embed-text:v1.5:clustering", V15, TaskType.CLUSTERING),
        ("mine", "mine", None),
        ("mine:2", "mine:2", None),
        ("query", "query", None),
    ],
)
def test_a_model_name_is_split(name: str, model: str, task: TaskType | None) -> None:
    assert split_model(name) == (model, task)


@pytest.mark.parametrize("name", [":query", "", ".", "..", "a..b", "a/b", "nomic-ai/a/b", "a" * 201, "~", "a b", "a\0"])
def test_what_could_be_a_path_is_no_model(name: str) -> None:
    with pytest.raises(UnknownModelError, match="not found"):
        split_model(name)


def test_aliases_mean_models_of_the_catalog() -> None:
    assert set(MODEL_ALIASES.values()) <= set(known_models())
    assert not set(MODEL_ALIASES) & set(known_models())


def test_every_model_of_the_catalog_can_be_named() -> None:
    assert [split_model(name) for name in known_models()] == [(name, None) for name in known_models()]


def test_the_name_as_written_is_kept_for_the_answer() -> None:
    written = "nomic-ai/nomic-embed-text:v1.5:query"
    assert model_of({"model": written}, default=None) == (V15, TaskType.SEARCH_QUERY, {"model_name": written})
    assert model_of({"model": None}, default="d") == ("d", None, {})
    with pytest.raises(InputError, match="model is missing"):
        model_of({}, default=None)


@pytest.mark.parametrize(
    ("value", "texts", "ids"),
    [
        ("a", ("a",), None),
        ("", ("",), None),
        ([], (), None),
        (["a", ""], ("a", ""), None),
        ([1, 2], (), [[1, 2]]),
        ([[1], [2, 3]], (), [[1], [2, 3]]),
        ([0, 2**31, 2**64 - 1], (), [[0, 2**31, 2**64 - 1]]),
    ],
)
def test_texts_and_token_ids_are_told_apart(value: Any, texts: tuple[str, ...], ids: list[list[int]] | None) -> None:
    assert texts_or_ids(value, "input") == (texts, ids)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, "a"], r"input\[1\] is a string among token ids"),
        ([1, True], r"input\[1\] is true or false among token ids"),
        ([1, 2.0], r"input\[1\] is a fraction among token ids"),
        ([1, -1], r"input\[1\] is -1; a token id is 0 or more"),
        ([[1], "a"], r"input\[1\] is a string among lists of token ids"),
        ([[1], []], r"input\[1\] is an empty list of token ids"),
        ([[]], r"input\[0\] is an empty list of token ids"),
        ([["a"]], r"input\[0\]\[0\] is a string among token ids"),
        ([[1], [2, None]], r"input\[1\]\[1\] is null among token ids"),
        (["a", 1], r"input\[1\] is a number; every text must be a string"),
        ([True], r"input\[0\] is true or false; every text must be a string"),
        ({}, "input is an object"),
        (None, "input is null"),
    ],
    ids=repr,
)
def test_what_is_neither_names_its_place(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        texts_or_ids(value, "input")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a" * 50, repr("a" * 40 + "…")),
        (1, "1"),
        (True, "true"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (1.5, "1.5"),
    ],
)
def test_values_are_shown_short(value: Any, text: str) -> None:
    assert shown(value) == text


def test_required_says_whether_a_field_is_null_or_missing() -> None:
    with pytest.raises(InputError, match=r"^texts is missing; "):
        required({}, "texts")
    with pytest.raises(InputError, match=r"^texts is null; "):
        required({"texts": None}, "texts")


def test_a_token_limit_is_8192_where_none_is_set() -> None:
    assert [token_limit({"n": value}, "n") for value in (None, 1, 8192, 8193)] == [8192, 1, 8192, 8193]
    with pytest.raises(InputError, match="n 0 is smaller than 1"):
        token_limit({"n": 0}, "n")


def test_a_choice_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'base64'\? choose one of float, base64"):
        choice({"encoding_format": "BASE64"}, "encoding_format", ("float", "base64"))


def test_a_thousand_levels_are_read_and_more_are_not() -> None:
    assert json_object(b'{"a":' * 1000 + b"1" + b"}" * 1000)
    with pytest.raises(InputError, match="depth"):
        json_object(b'{"a":' * 1100 + b"1" + b"}" * 1100)
