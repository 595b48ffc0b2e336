from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic.errors import CheckpointError, ConfigError, GnomonicError, InputError, UnknownModelError
from gnomonic.inference import load as module
from gnomonic.inference.load import load
from tests.fakes import FakeEngine


@pytest.fixture
def opened_with(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put the fake engine in the place of every engine, and record what it was asked for."""
    asked: dict[str, Any] = {}

    def fake_open(folder: Path, config: Any, **options: Any) -> FakeEngine:
        asked.update(options, folder=folder)
        return FakeEngine(hidden_size=config.hidden_size, vocab_size=config.vocab_size)

    monkeypatch.setattr(module, "open_engine", fake_open)
    return asked


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "tiny-text")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_opened(tiny_checkpoint: Path, opened_with: dict[str, Any], kind: Callable[..., Any]) -> None:
    encoder = load(kind(tiny_checkpoint))
    assert encoder.spec.name == "tiny-text"
    assert len(encoder.encode(["a"])) == 1
    assert opened_with["folder"] == tiny_checkpoint


def test_the_bundled_model_is_opened_by_name(opened_with: dict[str, Any]) -> None:
    encoder = load("gnomonic-embed-text-mini")
    found = encoder.encode(["The quick brown fox jumps over the lazy dog."], dim=64)
    assert found.vectors.shape == (1, 64)
    assert found.model == "gnomonic-embed-text-mini"


def test_threads_come_from_the_caller_then_the_environment(
    tiny_checkpoint: Path, opened_with: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOMONIC_THREADS", "7")
    load(tiny_checkpoint)
    assert opened_with["threads"] == 7
    load(tiny_checkpoint, threads=3)
    assert opened_with["threads"] == 3


def test_threads_default_to_what_the_process_may_use(
    tiny_checkpoint: Path, opened_with: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "usable_cpus", lambda: 5)
    load(tiny_checkpoint)
    assert opened_with["threads"] == 5


@pytest.mark.parametrize("name", ["no-such-model", "", "nomic-embed-text-v9", "./absent", "x" * 10_000, "a\0b"])
def test_unknown_models_are_named(name: str) -> None:
    with pytest.raises(UnknownModelError):
        load(name)


@pytest.mark.parametrize("model", [None, 5, ["tiny"], b"tiny"])
def test_what_is_neither_name_nor_path_is_refused(model: Any) -> None:
    with pytest.raises(InputError, match="pass a name or the path of a folder"):
        load(model)


@pytest.mark.parametrize(
    "options",
    [{"device": "tpu"}, {"precision": "int4"}, {"threads": 0}, {"device": "mps", "precision": "int8"}],
)
def test_unusable_options_are_refused_before_the_model_is_looked_for(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        load("no-such-model", **options)
    assert not isinstance(caught.value, UnknownModelError)


def test_a_missing_tokenizer_is_named_before_the_weights_are_read(copy: Path, opened_with: dict[str, Any]) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor vocab\.txt"):
        load(copy)
    assert opened_with == {}


def test_a_config_value_that_is_not_implemented_is_refused(copy: Path, opened_with: dict[str, Any]) -> None:
    raw = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps({**raw, "activation_function": "gelu"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="activation_function"):
        load(copy)


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
@pytest.mark.parametrize("damage", ["truncated", "no header", "empty", "absent"])
def test_damaged_weights_are_a_checkpoint_error(copy: Path, damage: str, device: str) -> None:
    if device == "torch-cpu":
        pytest.importorskip("torch")
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    changed = {"truncated": content[:-100], "no header": b"\xff" * 64 + content[64:], "empty": b""}
    if damage == "absent":
        weights.unlink()
    else:
        weights.write_bytes(changed[damage])
    with pytest.raises(CheckpointError, match=r"safetensors"):
        load(copy, device=device, threads=1)


def test_a_cache_that_cannot_be_written_does_not_matter(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("GNOMONIC_CACHE", str(tmp_path / "file" / "cache"))
    with load(tiny_checkpoint, threads=1) as encoder:
        assert len(encoder.encode(["a"])) == 1


def test_every_error_is_one_of_ours(copy: Path) -> None:
    (copy / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(GnomonicError):
        load(copy)


def test_the_same_vectors_in_a_new_process(
    tiny_checkpoint: Path, tmp_path: Path, run_python: Callable[..., None]
) -> None:
    run_python(
        "import sys, numpy as np, gnomonic\n"
        "e = gnomonic.load(sys.argv[1], threads=1)\n"
        "np.save(sys.argv[2], e.encode(['the fox', 'a dog']).vectors)\n"
        "assert 'torch' not in sys.modules\n",
        tiny_checkpoint,
        tmp_path / "v.npy",
    )
    with load(tiny_checkpoint, threads=1) as encoder:
        found = encoder.encode(["the fox", "a dog"]).vectors
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), found, atol=1e-6)
