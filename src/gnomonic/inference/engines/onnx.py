"""The CPU engine: ONNX Runtime on a graph written from the checkpoint. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import EngineError, InputError
from gnomonic.inference.engines.base import BatchBudget, Feeds

if TYPE_CHECKING:
    import onnxruntime as ort

    from gnomonic.models.config import NomicBertConfig

__all__ = ["OnnxEngine"]

_PRECISIONS = ("fp32", "int8")
_OUTPUT = "sentence_embedding"
# Measured (docs/decisions/0002-cpu-engine.md): beyond this the activations between two products no longer fit the
# caches, and every elementwise step waits for memory. Attention is blocked, so its cells take no memory.
_BUDGET = BatchBudget(max_tokens=512, max_cells=512 * 512)
# A run this much larger than usual gives its memory back; doing so after every run would cost each of them.
_LARGE_RUN_TOKENS = 4 * _BUDGET.max_tokens


class OnnxEngine:
    """Runs a graph of `checkpoints.onnx`; implements `Engine`."""

    name = "onnx"
    budget = _BUDGET

    def __init__(
        self,
        graph: Path | bytes,
        *,
        threads: int,
        weights: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        """Start the runtime.

        Args:
            graph: a model file, or its contents.
            threads: CPU threads of one run.
            weights: the values of a graph that was built over a `MemoryStore`.

        Raises:
            EngineError: the runtime cannot load the graph, or it is not one of ours.
        """
        import onnxruntime as ort

        self._failures = _failures()
        options = _options(ort, threads)
        if weights:
            values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
            options.add_external_initializers(list(weights), values)
        # The runtime reads these arrays in place for as long as the session lives.
        self._weights = weights
        source = graph if isinstance(graph, bytes) else str(graph)
        try:
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            raise EngineError(f"ONNX Runtime {ort.__version__} cannot load the graph: {error}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        if not {"gnomonic.precision", "gnomonic.vocab_size"} <= metadata.keys() or _OUTPUT not in outputs:
            raise EngineError(
                f"the graph has the outputs {', '.join(outputs)} and is not one that Gnomonic wrote",
                hint="write it from the checkpoint with: gnomonic export MODEL --format onnx",
            )
        self.precision = metadata["gnomonic.precision"]
        self.hidden_size = int(outputs[_OUTPUT][-1])
        self._vocab_size = int(metadata["gnomonic.vocab_size"])
        self._release = ort.RunOptions()
        self._release.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @classmethod
    def open(
        cls,
        folder: Path,
        config: NomicBertConfig,
        *,
        precision: str = "fp32",
        threads: int,
        cache_dir: Path,
    ) -> OnnxEngine:
        """Start the engine on a checkpoint, building its graph the first time.

        Where the cache cannot be written the graph is built in memory each time, after a warning.

        Args:
            folder: the checkpoint.
            config: its configuration.
            precision: "fp32", "int8", or "auto": fp32.
            threads: CPU threads of one run.
            cache_dir: where built graphs are kept.

        Raises:
            InputError: the precision is not one of these.
            CheckpointError: the weights are absent, damaged or do not fit.
            EngineError: the runtime cannot start.
        """
        from gnomonic.inference.engines.graph_cache import cached_graph, multiplies_signed_exactly

        resolved = "fp32" if precision == "auto" else precision
        if resolved not in _PRECISIONS:
            raise InputError(
                f"precision {precision!r} is not one of the ONNX engine's; choose {' or '.join(_PRECISIONS)}"
            )
        model = cached_graph(folder, config, precision=resolved, cache_dir=cache_dir)
        if model is not None:
            return cls(model, threads=threads)
        from gnomonic.checkpoints.onnx import build_graph
        from gnomonic.checkpoints.onnx_graph import MemoryStore
        from gnomonic.checkpoints.tensors import read_tensors

        store = MemoryStore()
        graph = build_graph(
            read_tensors(folder, config),
            config,
            precision=resolved,
            store=store,
            signed=multiplies_signed_exactly(),
        )
        return cls(graph, threads=threads, weights=store.arrays)

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Encode and mean-pool one padded batch; see `Engine.run`.

        Raises:
            EngineError: a token id is outside the vocabulary, a row is empty, memory ran out, or the runtime
                failed. The engine stays usable.
        """
        if self._session is None:
            raise EngineError("the engine is closed")
        checked = _checked(feeds, self._vocab_size)
        shape = checked["input_ids"].shape
        if not shape[0]:
            return np.empty((0, self.hidden_size), dtype=np.float32)
        release = self._release if checked["input_ids"].size >= _LARGE_RUN_TOKENS else None
        try:
            outputs = self._session.run([_OUTPUT], checked, release)
        except self._failures as error:
            raise EngineError(f"ONNX Runtime failed on a batch of shape {list(shape)}: {error}") from error
        pooled: NDArray[np.float32] = outputs[0]
        return pooled

    def close(self) -> None:
        """Free the session and its memory; closing twice is allowed."""
        self._session = None
        self._weights = None


def _checked(feeds: Feeds, vocab_size: int) -> dict[str, NDArray[np.int64]]:
    """Return the feeds as the graph takes them, with 0 for every padding id.

    Raises:
        EngineError: a row is empty, or an id is outside the vocabulary.
    """
    mask = np.asarray(feeds["attention_mask"]).astype(np.int64)
    ids = np.where(mask == 1, feeds["input_ids"], 0).astype(np.int64)
    lengths = mask.sum(axis=1)
    if not lengths.all():
        raise EngineError(f"row {int(np.argmin(lengths))} of the batch has no tokens")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise EngineError(f"token ids go from {ids.min()} to {ids.max()}; the model knows 0 to {vocab_size - 1}")
    return {"input_ids": ids, "attention_mask": mask}


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # Errors are raised as well as logged; once is enough.
    options.log_severity_level = 4
    # The graph is written the way it should run. Above this level the runtime fuses Add and LayerNormalization
    # into an operator whose CPU implementation is several times slower than the two.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Idle threads sleep instead of spinning on a core that another process could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _failures() -> tuple[type[BaseException], ...]:
    """Return the runtime's exceptions; they share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    named = (
        "EPFail",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return (*(getattr(state, name) for name in named), RuntimeError, ValueError, MemoryError)
