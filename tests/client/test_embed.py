from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic import embed
from gnomonic.client import local
from gnomonic.errors import ConfigError, InputError, UnknownModelError

FOX = "The quick brown fox jumps over the lazy dog."


def test_the_result_has_the_documented_keys(opened: list[Any]) -> None:
    found = embed.text([FOX, ""], dimensionality=16)
    assert list(found) == ["embeddings", "usage", "model", "inference_mode", "truncated"]
    assert found["embeddings"].shape == (2, 16)
    assert found["embeddings"].dtype == np.float32
    assert found["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    assert (found["model"], found["inference_mode"], found["truncated"]) == ("tiny-text", "local", [])


def test_no_texts_give_an_empty_array(opened: list[Any]) -> None:
    found = embed.text([])
    assert found["embeddings"].shape == (0, 32)
    assert found["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_options_reach_the_encoder(opened: list[Any]) -> None:
    found = embed.text([FOX * 20], task_type="clustering", max_tokens_per_text=32)
    assert found["truncated"] == [0]
    mean = embed.text([FOX * 20], task_type="clustering", max_tokens_per_text=32, long_text_mode="mean")
    assert mean["truncated"] == []
    assert np.abs(mean["embeddings"] - found["embeddings"]).max() > 1e-3


def test_the_model_is_opened_once(opened: list[Any]) -> None:
    embed.text(["a"])
    embed.text(["b"], model="gnomonic-embed-text-mini")
    assert opened == [("gnomonic-embed-text-mini", None, None)]
    embed.text(["b"], device="torch-cpu")
    assert len(opened) == 2


@pytest.mark.parametrize("mode", ["local", "dynamic"])
def test_without_a_server_local_and_dynamic_run_here_and_say_so(opened: list[Any], mode: str) -> None:
    assert embed.text(["a"], inference_mode=mode)["inference_mode"] == "local"


def test_remote_without_a_server_says_what_to_set(opened: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"GNOMONIC_API_URL is not set; set it, or use inference_mode 'local'"):
        embed.text(["a"], inference_mode="remote")
    assert opened == []


@pytest.mark.parametrize("mode", ["", "Local", None, 1])
def test_unknown_modes_are_refused(opened: list[Any], mode: Any) -> None:
    with pytest.raises(InputError, match=r"inference_mode .* is unknown; choose one of dynamic, local, remote"):
        embed.text(["a"], inference_mode=mode)


@pytest.mark.parametrize(
    "bad",
    [
        {"texts": "one string"},
        {"texts": ["a", None]},
        {"texts": ["\ud800"]},
        {"texts": ["a"], "task_type": "other"},
        {"texts": ["a"], "dimensionality": 0},
        {"texts": ["a"], "dimensionality": "64"},
        {"texts": ["a"], "dimensionality": True},
        {"texts": ["a"], "dimensionality": 33},
        {"texts": ["a"], "long_text_mode": "chunk"},
        {"texts": ["a"], "max_tokens_per_text": 0},
    ],
)
def test_bad_input_is_refused_and_the_next_call_works(opened: list[Any], bad: dict[str, Any]) -> None:
    texts = bad.pop("texts")
    with pytest.raises(InputError):
        embed.text(texts, **bad)
    assert len(embed.text(["a"])["embeddings"]) == 1


def test_a_size_below_the_trained_ones_warns_at_the_callers_line(opened: list[Any]) -> None:
    with pytest.warns(UserWarning, match="dimensionality 7 is below 8") as caught:
        embed.text(["a"], dimensionality=7)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("model", ["no-such-model", "", "../../x"])
def test_unknown_models_are_named(model: str) -> None:
    with pytest.raises(UnknownModelError):
        embed.text(["a"], model=model)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="pass a name or the path of a folder"):
        embed.text(["a"], model=None)  # type: ignore[arg-type]


def test_a_folder_works_where_a_name_does(tiny_checkpoint: Path) -> None:
    found = embed.text([FOX], model=tiny_checkpoint, dimensionality=8)
    again = embed.text([FOX], model=str(tiny_checkpoint), dimensionality=8)
    assert found["model"] == "tiny-text"
    np.testing.assert_allclose(found["embeddings"], again["embeddings"], atol=1e-6)
    embed.free()


def test_the_bundled_model_embeds_by_default_without_network_or_torch(run_python: Callable[..., None]) -> None:
    run_python(
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "from gnomonic import embed\n"
        "out = embed.text(['The quick brown fox jumps over the lazy dog.'], dimensionality=64)\n"
        "assert out['embeddings'].shape == (1, 64), out\n"
        "assert out['model'] == 'gnomonic-embed-text-mini'\n"
        "assert 'torch' not in sys.modules\n"
    )


def test_free_drops_the_models(opened: list[Any]) -> None:
    embed.text(["a"])
    embed.free()
    embed.text(["a"])
    assert len(opened) == 2
    assert local.text_encoder("gnomonic-embed-text-mini").spec.name == "tiny-text"
    assert len(opened) == 2
