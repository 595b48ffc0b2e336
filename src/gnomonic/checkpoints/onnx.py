"""From a checkpoint to an ONNX model: the graph the CPU engine runs, and the same graph as an export.

No torch is involved: the graph is written from the safetensors, operator by operator.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.checkpoints.onnx_encoder import EncoderGraph
from gnomonic.checkpoints.onnx_graph import FileStore, GraphWriter, InlineStore, WeightStore
from gnomonic.checkpoints.onnx_linear import Float32Linear, Int8Linear, Linear
from gnomonic.checkpoints.tensors import expected_tensors, read_tensors
from gnomonic.errors import CheckpointError, ConfigError
from gnomonic.models.config import NomicBertConfig

__all__ = ["GRAPH_VERSION", "build_graph", "export_onnx"]

GRAPH_VERSION = 2
"""Raised whenever the same checkpoint gives a different graph; cached graphs of other versions are not used."""

# A protobuf message ends at 2 GiB; the operators themselves take well under this margin.
_LARGEST_SINGLE_FILE = 2**31 - 2**24
# What runtimes for the browser and sentence-transformers look for in a model folder.
_FILE_NAMES = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}
_COMPANIONS = (
    "config.json", "gnomonic.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
)  # fmt: skip


def build_graph(
    tensors: Mapping[str, NDArray[Any]],
    config: NomicBertConfig,
    *,
    precision: str = "fp32",
    store: WeightStore,
    signed: bool = True,
) -> bytes:
    """Write a NomicBERT encoder with mean pooling as an ONNX model.

    Inputs `input_ids` and `attention_mask`, [batch, seq] int64; outputs `last_hidden_state`
    [batch, seq, hidden_size] and `sentence_embedding` [batch, hidden_size] float32: the mean over the mask,
    neither layer-normed nor scaled to unit length. Rows do not influence each other.

    Args:
        tensors: weights by their published names, float16 or float32.
        config: the model's shape.
        precision: "fp32", or "int8": 8-bit weights with one scale per output, activations with one per token.
        store: where the weights go.
        signed: with int8, store weights as int8 rather than uint8; see `Int8Linear`.

    Returns:
        The model file, with or without the weights inside, as the store decides.

    Raises:
        ConfigError: the precision is not implemented.
    """
    graph = GraphWriter(store)
    linear: Linear
    if precision == "fp32":
        linear = Float32Linear(graph)
    elif precision == "int8":
        linear = Int8Linear(graph, signed=signed)
    else:
        raise ConfigError(f"precision {precision!r} has no ONNX graph; choose fp32 or int8")
    EncoderGraph(graph, linear, config, tensors).write()
    return graph.serialize(
        {name: (np.int64, ["batch", "seq"]) for name in ("input_ids", "attention_mask")},
        {
            "last_hidden_state": (np.float32, ["batch", "seq", config.hidden_size]),
            "sentence_embedding": (np.float32, ["batch", config.hidden_size]),
        },
        {
            "gnomonic.precision": precision,
            "gnomonic.vocab_size": str(config.vocab_size),
            "gnomonic.graph_version": str(GRAPH_VERSION),
        },
    )


def export_onnx(
    folder: str | os.PathLike[str],
    config: NomicBertConfig,
    out: str | os.PathLike[str],
    *,
    precision: str = "fp32",
) -> Path:
    """Write a checkpoint as an ONNX model folder: `onnx/model.onnx`, or `onnx/model_quantized.onnx` for int8.

    Configuration and tokenizer files go beside it, so the folder loads where such folders are expected. Models of
    2 GB and more get a second file, `….onnx.data`, for their weights. An existing model is replaced at once, when
    the new one is complete. The weights of int8 are stored unsigned: exact on every CPU and in the browser.

    Returns:
        The model file.

    Raises:
        CheckpointError: the weights are absent, damaged or do not fit, or the folder cannot be written.
        ConfigError: the precision is not implemented.
    """
    if precision not in _FILE_NAMES:
        raise ConfigError(f"precision {precision!r} cannot be exported to ONNX; choose {' or '.join(_FILE_NAMES)}")
    folder, out = Path(folder), Path(out)
    tensors = read_tensors(folder, config)
    target = out / "onnx" / _FILE_NAMES[precision]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as unfinished:
            files = _write(Path(unfinished) / target.name, tensors, config, precision)
            # Weights first: a model file never refers to weights that are not there yet.
            for file in reversed(files):
                file.replace(target.parent / file.name)
        for name in _COMPANIONS:
            if (folder / name).is_file() and folder.resolve() != out.resolve():
                shutil.copyfile(folder / name, out / name)
    except OSError as error:
        raise CheckpointError(f"{target}: the ONNX model cannot be written: {error.strerror or error}") from error
    return target


def _write(path: Path, tensors: Mapping[str, NDArray[Any]], config: NomicBertConfig, precision: str) -> list[Path]:
    """Write the model and, when it does not fit one file, its weights; return the files."""
    size = sum(int(np.prod(shape)) for shape in expected_tensors(config).values())
    size *= 4 if precision == "fp32" else 1
    if size < _LARGEST_SINGLE_FILE:
        _write_synced(path, build_graph(tensors, config, precision=precision, store=InlineStore(), signed=False))
        return [path]
    data = path.with_name(f"{path.name}.data")
    with FileStore(data) as store:
        model = build_graph(tensors, config, precision=precision, store=store, signed=False)
    _write_synced(path, model)
    return [path, data]


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
