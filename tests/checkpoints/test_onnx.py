"""The graph against transformers and plain numpy, and the export in a plain runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from gnomonic.checkpoints import onnx as onnx_module
from gnomonic.checkpoints.huggingface import read_config
from gnomonic.checkpoints.onnx import build_graph, export_onnx
from gnomonic.checkpoints.onnx_graph import InlineStore, MemoryStore
from gnomonic.checkpoints.tensors import expected_tensors, read_tensors
from gnomonic.errors import CheckpointError, ConfigError
from gnomonic.inference.batching import pad
from gnomonic.inference.engines.onnx import OnnxEngine
from gnomonic.models.config import NomicBertConfig
from tests.models.conftest import Pair
from tests.reference import centred_cosine, encode, pool

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "one head, one layer": {**SMALL, "num_layers": 1, "num_heads": 1},
    "narrow heads": {**SMALL, "num_heads": 8},
    "uneven sizes": {**SMALL, "vocab_size": 1, "hidden_size": 36, "num_heads": 3, "intermediate_size": 19},
    "deep": {**SMALL, "num_layers": 6, "rotary_base": 10_000.0, "layer_norm_eps": 1e-5},
    "published head": {**SMALL, "hidden_size": 128, "intermediate_size": 192},
}


def _random_tensors(config: NomicBertConfig, seed: int = 0, spread: float = 0.15) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_tensors(config).items():
        centre = 1.0 if name.endswith("weight") and len(shape) == 1 else 0.0
        tensors[name] = (centre + spread * rng.standard_normal(shape)).astype(np.float32)
    return tensors


def _engine(tensors: dict[str, NDArray[Any]], config: NomicBertConfig, precision: str = "fp32") -> OnnxEngine:
    return OnnxEngine(build_graph(tensors, config, precision=precision, store=InlineStore()), threads=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_fp32_agrees_with_transformers(shape: str) -> None:
    pair = Pair.make(**SHAPES[shape])
    engine = _engine(pair.weights(), pair.config)
    texts = pair.texts([1, 2, 3, 5, 17, 64, 255])
    padded = engine.run(pad([text.numpy() for text in texts]))
    np.testing.assert_allclose(padded, pair.native_pooled(texts), atol=1e-4, rtol=0)
    for text in pair.texts([1, 31, 512, 2048], seed=2):
        alone = engine.run(pad([text.numpy()]))
        np.testing.assert_allclose(alone, pair.native_pooled([text]), atol=1e-4, rtol=0)


def test_tokens_agree_and_rows_scale_by_their_own_length() -> None:
    config = NomicBertConfig(**SMALL, max_trained_positions=16, rotary_scaling_factor=2.0)
    tensors = _random_tensors(config)
    texts = [np.arange(length) % 97 for length in (4, 16, 17, 60)]
    session = ort.InferenceSession(build_graph(tensors, config, store=InlineStore()))
    (hidden,) = session.run(["last_hidden_state"], dict(pad(texts)))
    for row, text in zip(hidden, texts, strict=True):
        np.testing.assert_allclose(row[: len(text)], encode(tensors, config, text), atol=2e-5, rtol=0)


def test_8192_tokens_with_ntk_agree_with_the_formulas() -> None:
    config = NomicBertConfig(**SMALL, rotary_scaling_factor=2.0)
    tensors = _random_tensors(config)
    long = np.random.default_rng(4).integers(0, 97, 8192)
    engine = _engine(tensors, config)
    np.testing.assert_allclose(engine.run(pad([long]))[0], pool(tensors, config, long), atol=1e-4, rtol=0)
    # A padded batch of very different lengths: each row has its own tables.
    texts = [long[:3000], long[:40]]
    expected = np.stack([pool(tensors, config, text) for text in texts])
    np.testing.assert_allclose(engine.run(pad(texts)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("signed", [True, False])
def test_int8_is_close_and_its_two_ways_of_storing_are_the_same(signed: bool) -> None:
    config = NomicBertConfig(vocab_size=500, hidden_size=128, num_layers=3, num_heads=2, intermediate_size=256)
    tensors = _random_tensors(config, spread=0.02)
    rng = np.random.default_rng(5)
    texts = [rng.integers(0, 500, length) for length in rng.integers(4, 60, 32)]
    graph = build_graph(tensors, config, precision="int8", store=InlineStore(), signed=signed)
    pooled = OnnxEngine(graph, threads=1).run(pad(texts))
    exact = np.stack([pool(tensors, config, text) for text in texts])
    assert centred_cosine(pooled, exact).min() >= 0.99
    default = _engine(tensors, config, "int8").run(pad(texts))
    np.testing.assert_allclose(pooled, default, atol=1e-5)


def test_int8_survives_rows_and_tables_of_zeros() -> None:
    config = NomicBertConfig(**SMALL)
    tensors = _random_tensors(config)
    tensors["embeddings.word_embeddings.weight"][3] = -tensors["embeddings.token_type_embeddings.weight"][0]
    tensors["encoder.layers.0.mlp.fc11.weight"][:] = 0
    texts = [np.array([3, 3, 3]), np.arange(20)]
    exact = np.stack([pool(tensors, config, text) for text in texts])
    pooled = _engine(tensors, config, "int8").run(pad(texts))
    assert np.isfinite(pooled).all()
    np.testing.assert_allclose(pooled, exact, atol=0.3)


def test_float16_weights_are_widened() -> None:
    config = NomicBertConfig(**SMALL)
    halves = {name: values.astype(np.float16) for name, values in _random_tensors(config).items()}
    wide = {name: values.astype(np.float32) for name, values in halves.items()}
    feeds = pad([np.arange(20)])
    np.testing.assert_array_equal(_engine(halves, config).run(feeds), _engine(wide, config).run(feeds))


def test_weights_in_memory_and_in_the_model_are_the_same() -> None:
    config = NomicBertConfig(**SMALL)
    tensors = _random_tensors(config)
    store = MemoryStore()
    graph = build_graph(tensors, config, store=store)
    engine = OnnxEngine(graph, threads=1, weights=store.arrays)
    feeds = pad([np.arange(20)])
    np.testing.assert_array_equal(engine.run(feeds), _engine(tensors, config).run(feeds))


def _fingerprint(precision: str) -> str:
    """Digest of the operators: what they are, how they are joined, and their settings."""
    config = NomicBertConfig(**SMALL, rotary_scaling_factor=2.0)
    graph = build_graph(_random_tensors(config), config, precision=precision, store=MemoryStore())
    model = onnx.load_from_string(graph)
    nodes = [
        (
            node.op_type,
            list(node.input),
            sorted((item.name, str(onnx.helper.get_attribute_value(item))) for item in node.attribute),
        )
        for node in model.graph.node
    ]
    return hashlib.sha256(repr(nodes).encode()).hexdigest()[:12]


def test_a_changed_graph_has_a_new_version() -> None:
    """Graphs in users' caches are found by this version: raise it, then write the new digests here."""
    fingerprints = {precision: _fingerprint(precision) for precision in ("fp32", "int8")}
    assert (onnx_module.GRAPH_VERSION, fingerprints) == (
        2,
        {
            "fp32": "cd8aaa4ba3d6",
            "int8": "49ea5f0676e9",
        },
    )


def test_an_unknown_precision_is_refused() -> None:
    config = NomicBertConfig(**SMALL)
    with pytest.raises(ConfigError, match="'int4' has no ONNX graph; choose fp32 or int8"):
        build_graph(_random_tensors(config), config, precision="int4", store=InlineStore())


# -- export -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "name"), [("fp32", "onnx/model.onnx"), ("int8", "onnx/model_quantized.onnx")])
def test_an_export_runs_in_a_plain_runtime(tiny_checkpoint: Path, tmp_path: Path, precision: str, name: str) -> None:
    config = read_config(tiny_checkpoint)
    written = export_onnx(tiny_checkpoint, config, tmp_path / "out", precision=precision)
    assert written == tmp_path / "out" / name
    onnx.checker.check_model(str(written))
    session = ort.InferenceSession(written)
    assert [value.name for value in session.get_inputs()] == ["input_ids", "attention_mask"]
    texts = [np.arange(9), np.arange(30)]
    hidden, pooled = session.run(["last_hidden_state", "sentence_embedding"], dict(pad(texts)))
    np.testing.assert_allclose(pooled[0], hidden[0, :9].mean(axis=0), atol=1e-6)
    tensors = read_tensors(tiny_checkpoint, config)
    exact = np.stack([pool(tensors, config, text) for text in texts])
    np.testing.assert_allclose(pooled, exact, atol=1e-5 if precision == "fp32" else 0.3)


def test_an_export_is_a_whole_model_folder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    export_onnx(tiny_checkpoint, read_config(tiny_checkpoint), tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "config.json", "gnomonic.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "onnx/model.onnx"
    }  # fmt: skip
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "nomic_bert"


def test_a_model_too_large_for_one_file_gets_two(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(tiny_checkpoint)
    one = export_onnx(tiny_checkpoint, config, tmp_path / "one")
    monkeypatch.setattr(onnx_module, "_LARGEST_SINGLE_FILE", 1000)
    two = export_onnx(tiny_checkpoint, config, tmp_path / "two")
    assert {path.name for path in two.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    feeds = dict(pad([np.arange(30)]))
    results = [ort.InferenceSession(path).run(["sentence_embedding"], feeds)[0] for path in (one, two)]
    np.testing.assert_array_equal(*results)


def test_a_failed_export_leaves_the_earlier_one(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_checkpoint()
    config = read_config(folder)
    before = export_onnx(folder, config, tmp_path).read_bytes()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        export_onnx(folder, config, tmp_path)
    assert (tmp_path / "onnx" / "model.onnx").read_bytes() == before
    assert len(list((tmp_path / "onnx").iterdir())) == 1


def test_a_place_that_cannot_be_written_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        export_onnx(tiny_checkpoint, read_config(tiny_checkpoint), tmp_path / "file")


def test_a_precision_without_export_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose fp32 or int8"):
        export_onnx(tiny_checkpoint, read_config(tiny_checkpoint), tmp_path, precision="bf16")
